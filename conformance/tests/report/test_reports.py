"""What the reports say of runs made by hand: few failures, whole files, pictures, a statement, a badge."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from fractions import Fraction
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest

from q8a8_conformance import report
from q8a8_conformance.protocol.messages import Hello
from q8a8_conformance.report import badge, choice, difference, htmlpage, jsondoc, plots, schema, statement
from q8a8_conformance.results.bound_use import Margins
from q8a8_conformance.results.record import CallData, Record, Status
from q8a8_conformance.results.run import Finding, Request, Smallest
from q8a8_conformance.results.verdict import KnownFailure, judge

from .conftest import DOT, QUANTIZE, block_call, dot_call, failed, finding, passed

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.results.run import Run

HOSTILE = "</pre><script>alert(1)</script> ```` | \x1b[31m &amp; \ud7ff"


class Page(HTMLParser):
    """Checks that tags are closed, and collects them with their text."""

    VOID = frozenset({"meta"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open a tag."""
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record a tag that closes itself."""
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """Close the tag that was opened last."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Keep the text."""
        self.text += data


def margins_of(*fractions: float) -> Any:  # noqa: ANN401 (BoundUse)
    """Return the use of the bound of results with these fractions; 2 is outside."""
    margins = Margins()
    for place, fraction in enumerate(fractions):
        margins.add(DOT, f"dot/{place}", Fraction(fraction), Fraction(1))
    return margins.by_function()


@pytest.fixture
def failing(make_run: Callable[..., Run]) -> Run:
    """Return a run with every kind of trouble, and with text that means something in each format."""
    records = [
        passed("DOT-4", "dot/a"),
        failed("DOT-1", "dot/b", HOSTILE),
        failed("QNT-4", "quantize/c", call=block_call()),
        Record("Q8A8-ENV-4", "env/d", DOT, Status.CRASHED, "killed by SIGSEGV", dot_call()),
        Record("Q8A8-MEM-1", "mem/e", DOT, Status.NOT_RUN, "no capability <guard>"),
        failed("DOT-7", "dot/known"),
    ]
    known = (
        KnownFailure("Q8A8-DOT-7", "dot/known", 3, "why"),
        KnownFailure("Q8A8-DOT-4", "dot/a", 4, "stale"),
    )
    from q8a8_conformance.spec.rules import load_rules  # noqa: PLC0415 -- for this fixture alone

    judgement = judge(records, [rule for rule in load_rules() if rule.subject == "kernel"], known)
    return make_run(
        records,
        judgement=judgement,
        diagnosis=(finding("fp16-scale-product"), finding("scalar", "")),
        bound=margins_of(0.5, -0.25, 2, 0),
        notes=(HOSTILE,),
    )


def test_the_json_report_fits_its_schema(failing: Run, make_run: Callable[..., Run]) -> None:
    """A run with every kind of trouble, and an empty one, fit the schema."""
    validator = jsonschema.Draft202012Validator(schema.load_schema("report"))
    for run in (failing, make_run([], hello=None, message="no CPU")):
        document = json.loads(jsondoc.render(run))
        validator.validate(document)


@pytest.mark.parametrize("kind", schema.KINDS)
def test_the_schemas_are_schemas(kind: str) -> None:
    """Each is a valid JSON Schema."""
    jsonschema.Draft202012Validator.check_schema(schema.load_schema(kind))


def test_html_is_whole_and_harmless(failing: Run) -> None:
    """Tags are closed, nothing is loaded or run, hostile text is text; rules link to their rows."""
    page = Page()
    page.feed(report.render(failing, "html"))
    assert page.open == []
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "img", "iframe", "object"}
    assert not [a for _, attrs in page.tags for a in attrs if a.startswith("on")]
    assert HOSTILE.partition(" ")[0] in page.text
    ids = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    targets = {str(attrs["href"])[1:] for tag, attrs in page.tags if tag == "a"}
    assert len(targets) == len(failing.judgement.rules)
    assert targets <= ids
    assert "url(" not in report.render(failing, "html")


def test_html_draws_bits_and_bound(failing: Run, make_run: Callable[..., Run]) -> None:
    """A failing run has the bits that differ and where in the bound its results lie; an empty one neither."""
    page = report.render(failing, "html")
    assert page.count('class="bits"') == 3
    assert page.count('class="plot"') == 1
    assert "1 outside" in page
    assert "<svg" not in report.render(make_run([passed("DOT-1", "dot/a")]), "html")


def test_markdown_keeps_its_fences(failing: Run) -> None:
    """No text of a worker ends a block of code or a row of a table."""
    text = report.render(failing, "markdown")
    assert len(re.findall(r"^````", text, re.MULTILINE)) == 2 * len(choice.choose(failing))
    rows = [line for line in text.splitlines() if line.startswith("| Q8A8-")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {7}


ROWS = {name: bytes.fromhex(f"003c{code}" + 31 * "00") for name, code in (("vx", "01"), ("vy", "02"))}
SMALLEST = Smallest(
    CallData(
        DOT,
        {"n": 32, "bs": 0, "bx": 0, "by": 0, "nrc": 1},
        ROWS,
        {"s": bytes.fromhex("00000040")},
        {"s": bytes.fromhex("00004040")},
    ),
    "32 elements; x: scales 1, codes all zero but [0] = 1; y: scales 1, codes all zero but [0] = 2",
)


def test_the_smallest_input_is_in_every_report(make_run: Callable[..., Run]) -> None:
    """All formats show the input in words and in numbers, and both results; HTML draws the bits."""
    unexplained = Finding(DOT, "unexplained", 0, 4, smallest=SMALLEST)
    run = make_run([failed("DOT-1", "dot/b")], diagnosis=(unexplained, finding("scalar", "")))
    markdown, page = report.render(run, "markdown"), report.render(run, "html")
    for shown in (markdown, page):
        assert f"{DOT}: the smallest input found that goes wrong" in shown
        assert SMALLEST.text in shown
        assert f"vx: scale 0x3c00 (1), codes 1{31 * ' 0'} (34 bytes)" in shown
        assert "want  s[0] = 0x40000000 (2)" in shown
        assert "got   s[0] = 0x40400000 (3)" in shown
    assert page.count('class="bits"') == 2
    assert SMALLEST.text in report.render(run, "text")
    assert json.loads(report.render(run, "json"))["diagnosis"][0]["smallest"] == {
        "function": DOT,
        "args": {"n": 32, "bs": 0, "bx": 0, "by": 0, "nrc": 1},
        "inputs": {"vx": "003c01" + 31 * "00", "vy": "003c02" + 31 * "00"},
        "expected": {"s": "00000040"},
        "actual": {"s": "00004040"},
        "text": SMALLEST.text,
    }


def test_the_smallest_deadly_input_has_no_results(make_run: Callable[..., Run]) -> None:
    """Where the kernel died there is the input alone."""
    smallest = Smallest(replace(SMALLEST.call, expected={}, actual={}), SMALLEST.text)
    run = make_run([], diagnosis=(Finding(DOT, "does-not-return", 1, 1, "return", smallest=smallest),))
    for kind in ("markdown", "html"):
        shown = report.render(run, kind)
        assert "the smallest input found that kills it" in shown
        assert "want" not in shown.partition("kills it")[2].partition("Rules")[0]


def test_few_failures_are_shown_each_with_its_own(make_run: Callable[..., Run]) -> None:
    """Of many failures, those with another cause or rule are shown, five at most; the rest are counted."""
    records = [failed("DOT-1", f"dot/a/{n}") for n in range(40)]
    run = make_run(records, diagnosis=(finding("half-sum"),))
    assert [record.case for record in choice.choose(run)] == ["dot/a/0"]
    assert choice.hidden(run, choice.choose(run)) == "39 more failed cases (DOT-1 39)"
    records += [failed(f"DOT-{n}", f"dot/b/{n}") for n in (2, 3, 5, 6, 7, 8)]
    records += [failed("QNT-4", "quantize/a", call=block_call())]
    run = make_run(records, diagnosis=(finding("half-sum"), finding("half-even", function=QUANTIZE)))
    shown = choice.choose(run)
    assert len(shown) == choice.SHOWN_FAILURES
    assert len({record.rule for record in shown}) == len(shown)
    # A cause of its own comes before another rule of the same cause.
    assert shown[1].case in {"dot/a/0", "quantize/a"}
    assert {"dot/a/0", "quantize/a"} <= {record.case for record in shown}
    out = report.render(run, "text")
    assert out.count("again: ") == choice.SHOWN_FAILURES
    assert "more failed cases" in out


def test_a_crash_is_shown_first(failing: Run) -> None:
    """A crash comes before all else."""
    assert choice.choose(failing)[0].status is Status.CRASHED


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (dot_call(), "float", "s[0]"),
        (block_call(), "int8", "weight_qs[5] of block 0"),
        (CallData(QUANTIZE, {}, {}, {"y": bytes(68)}, {"y": bytes(34) + b"\x01" + bytes(33)}), "half",
         "weight_scale of block 1"),
        (CallData("quantize_activation_q8_a8", {}, {}, {"scale": b"\0\x3c"}, {"scale": b"\1\x3c"}), "half",
         "scale"),
    ],
)  # fmt: skip
def test_the_first_number_that_differs(call: CallData, kind: str, words: str) -> None:
    """The number around the first wrong byte is found whole."""
    number = difference.first(call)
    assert number
    assert (number.kind, number.words) == (kind, words)
    assert len(number.want) == len(number.got) == {"float": 4, "half": 2, "int8": 1}[kind]


def test_nothing_differs_without_two_results() -> None:
    """A crash has no result, a buffer of another length no place."""
    assert difference.first(CallData(DOT)) is None
    assert difference.first(CallData(DOT, {}, {}, {"s": bytes(4)}, {"s": bytes(3)})) is None
    assert difference.first(CallData(DOT, {}, {}, {"s": b"\x01"}, {"s": b"\x02"})) is None


def test_bits_are_drawn_from_the_highest() -> None:
    """1.0 and -1.5 differ in the sign and the highest bit of the mantissa: two boxes in each row."""
    picture = plots.bits("float", bytes.fromhex("0000803f"), bytes.fromhex("0000c0bf"))
    root = ET.fromstring(picture)  # noqa: S314 (our own)
    boxes = [box.get("class") for box in root.iter("rect")]
    assert len(boxes) == 64
    assert [place for place, style in enumerate(boxes) if style == "bit differs"] == [0, 9, 32, 41]
    digits = [text.text for text in root.iter("text") if text.text in {"0", "1"}]
    assert "".join(digits[:32]) == f"{0x3F800000:032b}"
    assert root.get("aria-label") == "want 0x3f800000, got 0xbfc00000: 2 bits differ"


def test_the_bound_is_drawn_to_scale() -> None:
    """The part used is drawn where it lies; each result is in one bar; without results nothing is drawn."""
    (use,) = margins_of(0.5, -0.25, 0.5, 2)
    root = ET.fromstring(plots.bound(use))  # noqa: S314 (our own)
    (used,) = [box for box in root.iter("rect") if box.get("class") == "used"]
    start, width = float(used.get("x", "")), float(used.get("width", ""))
    span = plots.WIDTH - plots.LEFT - plots.RIGHT
    assert start == pytest.approx(plots.LEFT + span * 0.375)
    assert width == pytest.approx(span * 0.375)
    bars = [box for box in root.iter("rect") if box.get("class") == "bar"]
    assert sum(int(bar.findtext("title") or "0") for bar in bars) == 3
    (nothing,) = margins_of(2, 2)
    assert plots.bound(nothing) == ""
    (exact,) = margins_of(0, 0)
    assert 'class="bar"' in plots.bound(exact)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Request("ref"), "conforms"),
        (Request("ref", profile="exact"), "conforms (exact)"),
        (Request("ref", rules="QNT-*"), "conforms (in part)"),
    ],
)
def test_the_badge_says_what_was_judged(make_run: Callable[..., Run], request_: Request, words: str) -> None:
    """A badge is a whole SVG whose title has the verdict, and what was not as usual."""
    run = make_run([passed("DOT-1", "dot/a")], request=request_)
    root = ET.fromstring(badge.render(run))  # noqa: S314 (our own)
    assert root.get("aria-label") == f"Q8_A8: {words}"
    assert root.findtext("{http://www.w3.org/2000/svg}title") == f"Q8_A8: {words}"
    assert (
        badge.message(
            make_run([], judgement=judge([failed("DOT-1", "a")], [], [KnownFailure("DOT-1", "a", 1)]))
        )
        == "conforms except for 1 known failure"
    )


def test_the_statement_names_kernel_and_rules(failing: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash, CPU, flags, emulation, manifest, suite, profile, date, and every rule's status are there."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    text = statement.render(failing)
    assert text.startswith("# Statement of conformance to Q8_A8: crashed\n")
    for part in (
        "ab" * 32,
        "cd" * 32,
        "aarch64, emulated",
        "-O3 &lt;fast>",
        "gcc 12.2",
        "1970-01-02",
        "kernel",
    ):
        assert part in text
    rows = re.findall(r"^\| (Q8A8-\S+) \| \w+ \| ([\w-]+) \|", text, re.MULTILINE)
    assert dict(rows) == {rule.id: rule.status.value for rule in failing.judgement.rules}
    assert "Not judged here: " in text
    assert "50.00%" in text


def test_the_statement_names_what_is_not_known(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a worker did not report is named, and a part of the suite; an invalid epoch is ignored."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "soon")
    run = make_run([passed("DOT-1", "a")], hello=Hello("k"), request=Request("ref", rules="DOT-*"))
    text = statement.render(run)
    assert text.count(statement.NOT_TOLD) >= 5
    assert "Only a part of the suite" in text
    assert "2026-01-02" in text


def test_a_map_of_a_block_is_drawn() -> None:
    """The HTML report has a line for each element of x, with a point where a code of y is not counted."""
    assert htmlpage.map_lines([[1, 0], [0, 2]]) == ["x[ 0]  1·", "x[ 1]  ·2"]
