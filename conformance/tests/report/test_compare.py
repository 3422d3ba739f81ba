"""Two reports side by side: what is the same, what is better, what is worse, and what cannot be compared."""

from __future__ import annotations

import copy
import json
import re
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from q8a8_conformance.cli import main
from q8a8_conformance.report import comparison, comparison_html, jsondoc
from q8a8_conformance.report.schema import ReportError, load_schema, read
from q8a8_conformance.results.comparison import compare
from q8a8_conformance.results.record import Record, Status
from q8a8_conformance.results.run import Request
from q8a8_conformance.results.verdict import Verdict, judge
from q8a8_conformance.spec.rules import load_rules

from .conftest import DOT, failed, finding, passed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from q8a8_conformance.results.run import Run


@pytest.fixture
def before(make_run: Callable[..., Run]) -> dict[str, Any]:
    """Return the report of a kernel with two mistakes."""
    records = [
        failed("DOT-1", "dot/a"),
        failed("DOT-1", "dot/b"),
        failed("DOT-7", "dot/c"),
        passed("DOT-4", "x"),
    ]
    return jsondoc.document(make_run(records, diagnosis=(finding("minus-128-sign"),)))


@pytest.fixture
def after(make_run: Callable[..., Run]) -> dict[str, Any]:
    """Return the report of the same kernel with one of them mended, and another made."""
    records = [
        failed("DOT-1", "dot/b"),
        failed("DOT-1", "dot/new"),
        passed("DOT-7", "dot/c"),
        Record("Q8A8-DOT-4", "x", DOT, Status.CRASHED, "died"),
    ]
    return jsondoc.document(make_run(records, diagnosis=(finding("scalar", ""),)))


def test_a_report_is_the_same_as_itself(before: dict[str, Any]) -> None:
    """Nothing differs, also where only time has passed."""
    later = copy.deepcopy(before)
    later["timing"]["seconds"] = 99.0
    found = compare(before, later)
    assert found.same
    assert comparison.text(found).splitlines()[-1] == comparison.conclusion(found)


def test_changes_have_a_direction(before: dict[str, Any], after: dict[str, Any]) -> None:
    """A rule that passes now is better, one that crashes is worse; cases that are new or mended are named."""
    found = compare(before, after)
    assert not found.same
    by_id = {rule.id: rule for rule in found.rules}
    assert {name: rule.change for name, rule in by_id.items()} == {
        "Q8A8-DOT-1": "other",
        "Q8A8-DOT-4": "worse",
        "Q8A8-DOT-7": "better",
    }
    assert by_id["Q8A8-DOT-1"].new_failures == ("dot/new",)
    assert by_id["Q8A8-DOT-1"].mended == ("dot/a",)
    assert found.diagnosis == {DOT: (("minus-128-sign",), ("scalar",))}
    text = comparison.text(found)
    assert "does-not-conform → crashed" in text
    assert "  - Q8A8-DOT-4" in text


def test_what_cannot_be_compared_is_warned_of(before: dict[str, Any], make_run: Callable[..., Run]) -> None:
    """Another profile, other vectors or selection: warned of, and rules of one side alone are let be."""
    run = make_run([passed("DOT-7", "dot/c")], request=Request("ref", profile="exact", rules="DOT-7"))
    other = jsondoc.document(run)
    other["rules"] = [rule for rule in other["rules"] if rule["id"] == "Q8A8-DOT-7"]
    other["suite"]["vectors_sha256"] = "0" * 64
    found = compare(before, other)
    assert len(found.warnings) == 3
    assert [rule.id for rule in found.rules] == ["Q8A8-DOT-7"]


def test_reports_without_a_judgement_do_not_agree(make_run: Callable[..., Run]) -> None:
    """Two interrupted runs show the same, which is nothing."""
    records = [passed("DOT-4", "x")]
    judgement = judge(records, load_rules(), ending=Verdict.INTERRUPTED)
    document = jsondoc.document(make_run(records, judgement=judgement, complete=False))
    found = compare(document, document)
    assert not found.same
    assert found.warnings == (
        "A does not judge its kernel: interrupted",
        "B does not judge its kernel: interrupted",
        "A stopped before its end",
        "B stopped before its end",
    )
    assert comparison.conclusion(found).startswith("nothing can be compared")


def test_the_command(
    before: dict[str, Any], after: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 0 for the same, 1 for different, 2 for no report; all formats say it."""
    a, b, out, markdown, page = (tmp_path / name for name in ("a.json", "b.json", "c.json", "c.md", "c.html"))
    a.write_text(json.dumps(before), encoding="utf-8")
    b.write_text(json.dumps(after), encoding="utf-8")
    assert main(["compare", str(a), str(a)]) == 0
    capsys.readouterr()
    written = ["--json", str(out), "--markdown", str(markdown), "--html", str(page)]
    assert main(["compare", str(a), str(b), *written]) == 1
    assert "the two differ" in capsys.readouterr().out
    document = json.loads(out.read_text(encoding="utf-8"))
    jsonschema.validate(document, load_schema("comparison"))
    assert document["same"] is False
    assert "| DOT-7 | fail (1) | pass | better | mended: dot/c |" in markdown.read_text(encoding="utf-8")
    html = page.read_text(encoding="utf-8")
    assert "the two differ: does-not-conform → crashed, 1 rule better" in html
    assert re.search(
        r'<span class="fail">fail \(1\)</span></td>\s*<td[^>]*><span class="pass">pass</span>', html
    )
    assert "mended: dot/c" in html
    assert main(["compare", str(a), str(tmp_path / "none")]) == 2
    assert main(["compare", str(a), str(markdown)]) == 2
    assert main(["compare", str(a), str(b), "--json", "/nowhere/c.json"]) == 2
    assert main(["compare", str(a), str(b), "--json", "/dev/full"]) == 6
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert str(markdown) in err


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda d: d["rules"][3].update(status="good"), "$.rules[3].status"),
        (lambda d: d["rules"][0].pop("id"), "$.rules[0]"),
        (lambda d: d.update(format=2), "$.format"),
        (lambda d: d["failures"][0]["evidence"]["inputs"]["vx"].update(hex="0g"), "inputs.vx.hex"),
        (lambda d: d["timing"].update(seconds=-1), "$.timing.seconds"),
        (lambda d: d["suite"].update(version=None), "$.suite.version"),
        (lambda d: d["timing"].update(calls=True), "$.timing.calls"),
    ],
)
def test_what_is_no_report_is_named(
    before: dict[str, Any], tmp_path: Path, change: Callable[[Any], object], place: str
) -> None:
    """A report that misses the schema is refused with its file and the place in it."""
    change(before)
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(before), encoding="utf-8")
    with pytest.raises(ReportError) as error:
        read(path)
    assert str(path) in str(error.value)
    assert place in str(error.value)


def test_a_report_cannot_steer_the_page(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Markup of a report is text in the comparison's page, and nothing is loaded or run."""
    before["sut"] = "lib:<script>alert(1)</script>"
    before["diagnosis"][0]["cause"] = "<b>"
    page = comparison_html.render(compare(before, after, "<a>", "b"))
    assert "&lt;script&gt;" in page
    assert not [word for word in ("<script", "<b>", "<a>", "url(", "http") if word in page]


def test_a_report_cannot_steer_the_terminal(before: dict[str, Any]) -> None:
    """Control characters of a report come out as question marks."""
    before["sut"] = "lib:\x1b[2J\r.so"
    assert "\x1b" not in comparison.text(compare(before, before))
