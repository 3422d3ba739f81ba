"""Whatever a file or a stream holds, our readers answer with what it says or with their own error.

Each test takes something whole, breaks it in a random place (a bit, a byte, a piece lost or doubled; in JSON
also a value of another kind) and reads it: nothing but the documented error may come out, and it names the
file. The frames of the worker protocol are broken likewise in the runner's tests, where the hostile workers
are.
"""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from q8a8_conformance.protocol.messages import Hello, Kernel
from q8a8_conformance.report import comparison, jsondoc, schema
from q8a8_conformance.results import verdict
from q8a8_conformance.results.bound_use import Margins
from q8a8_conformance.results.comparison import compare
from q8a8_conformance.results.record import CallData, Record, Status
from q8a8_conformance.results.run import Finding, Request, Run
from q8a8_conformance.spec.rules import load_rules
from q8a8_golden import load
from q8a8_lab.pages.rules_index import RuleSyntaxError, parse_page

DOCS = Path(__file__).parents[3] / "docs"
bounded = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
often = settings(bounded, max_examples=250)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["", "\ud800", "pass", 1 << 80, float("inf"), "Q8A8-DOT-1", "../x", "exact"]),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=6), children, max_size=3)
    ),
    max_leaves=6,
)


def broken_bytes(data: bytes) -> st.SearchStrategy[bytes]:
    """Draw bytes that were these, before something happened to them."""
    place = st.integers(0, max(len(data) - 1, 0))

    def cut(start: int, length: int, instead: bytes) -> bytes:
        return data[:start] + instead + data[start + length :]

    def doubled(start: int, length: int) -> bytes:
        return data[: start + length] + data[start:]

    return st.one_of(
        st.builds(cut, place, st.integers(0, 40), st.binary(max_size=6)),
        st.builds(doubled, place, st.integers(1, 40)),
        st.builds(lambda start: data[:start], place),
        st.builds(lambda at, bit: cut(at, 1, bytes([data[at] ^ 1 << bit])), place, st.integers(0, 7)),
    )


@st.composite
def broken_json(draw: st.DrawFn, document: Any) -> Any:  # noqa: ANN401 (JSON)
    """Draw a document that was this one: a value somewhere in it is another, missing, or there twice."""
    changed = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 2))):
        here = changed
        while True:
            keys = list(here) if isinstance(here, dict) else list(range(len(here)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(here[key], dict | list) and here[key] and draw(st.integers(0, 3)):
                here = here[key]
                continue
            match draw(st.sampled_from(["replace", "drop", "double", "near"])):
                case "replace":
                    here[key] = draw(JSON)
                case "drop":
                    del here[key]
                case "double" if isinstance(here, list):
                    here.append(copy.deepcopy(here[key]))
                case _ if isinstance(here[key], int):
                    here[key] += draw(st.sampled_from([-1, 1, 1 << 31, -(1 << 63)]))
                case _:
                    here[key] = draw(JSON)
            break
    return changed


def a_report() -> dict[str, Any]:
    """Return the JSON report of a run with a failure, a diagnosis and results in the bound."""
    margins = Margins()
    from fractions import Fraction  # noqa: PLC0415 -- for this alone

    margins.add("ggml_vec_dot_q8_a8_q8_a8", "dot/a", Fraction(1, 8), Fraction(1))
    call = CallData("ggml_vec_dot_q8_a8_q8_a8", {"n": 0}, {"vx": b"\1"}, {"s": bytes(4)}, {"s": b"\1" * 4})
    records = [
        Record("Q8A8-DOT-1", "dot/a", "ggml_vec_dot_q8_a8_q8_a8", Status.FAIL, "no", call),
        Record("Q8A8-DOT-2", "dot/b", "ggml_vec_dot_q8_a8_q8_a8", Status.NOT_RUN, "why"),
    ]
    run = Run(
        request=Request("ref"),
        judgement=verdict.judge(records, load_rules()[:20]),
        diagnosis=(Finding("ggml_vec_dot_q8_a8_q8_a8", "scalar", 1, 2),),
        hello=Hello("k", arch="x", kernel=Kernel("p", "0")),
        bound=margins.by_function(),
        manifest="0" * 64,
        records=records,
    )
    document: dict[str, Any] = json.loads(jsondoc.render(run))
    return document


REPORT = a_report()
REPORT_BYTES = json.dumps(REPORT).encode()


def compared(data: bytes) -> None:
    """Read a report and compare it; every way to write the comparison must work on what was read."""
    try:
        report = schema.parse(data, "some.json")
    except schema.ReportError as error:
        assert str(error).startswith("some.json: ")  # noqa: PT017 (other errors must come through)
        return
    found = compare(REPORT, report)
    for text in (comparison.text(found), comparison.markdown(found), comparison.as_json(found)):
        text.encode("utf-8")


@often
@given(broken_json(REPORT))
def test_reports_with_other_values(document: Any) -> None:  # noqa: ANN401 (JSON)
    """A report with a strange value is refused by its name, or compared."""
    compared(json.dumps(document).encode("utf-8", "surrogatepass"))


@often
@given(broken_bytes(REPORT_BYTES))
def test_reports_with_broken_bytes(data: bytes) -> None:
    """So is one whose bytes are broken."""
    compared(data)


@pytest.mark.parametrize(
    "data", [b"", b"[", b"[" * 100_000, b"9" * 10_000, b"\xff", b'"\\ud800"', b"NaN", b"{}", b"\x00"]
)
def test_files_that_are_no_reports(data: bytes) -> None:
    """Nothing, too deep, too long a number, no UTF-8, no text: refused."""
    with pytest.raises(schema.ReportError, match=r"^some\.json: "):
        schema.parse(data, "some.json")


@pytest.mark.parametrize("data", [b"", b"[" * 100_000, b"9" * 10_000, b"\xff", b"[]", b"{}", b"null"])
def test_files_that_are_no_vectors(golden: Path, data: bytes) -> None:
    """The same for the golden cases: refused, with the file's name."""
    name = smallest_file()
    (golden / name).write_bytes(data)
    sign(golden, name)
    with pytest.raises(load.CorruptVectorsError, match=name):
        load.load_cases(golden)
    (golden / load.MANIFEST).write_bytes(data)
    with pytest.raises(load.CorruptVectorsError, match=load.MANIFEST):
        load.load_cases(golden)


KNOWN = b"# known\nDOT-1 dot/a*  # why\nQ8A8-QNT-4 quantize/[ab]/?\n\n"


@often
@given(broken_bytes(KNOWN) | st.binary(max_size=60))
def test_known_failures(tmp_path: Path, data: bytes) -> None:
    """A known-failures file is read, or refused with its name; entries can be asked about any case."""
    path = tmp_path / "known"
    path.write_bytes(data)
    try:
        entries = verdict.read_known_failures(path)
    except verdict.KnownFailuresError as error:
        assert str(path) in str(error)  # noqa: PT017 (other errors must come through)
        return
    for entry in entries:
        entry.covers(Record("Q8A8-DOT-1", "dot/a", "", Status.FAIL))


PAGE = (DOCS / "spec/dequantization.md").read_bytes()


@bounded
@given(broken_bytes(PAGE))
def test_pages_of_rules(data: bytes) -> None:
    """A page of rules is read, or refused by the page's name."""
    try:
        parse_page("spec/page.md", data.decode("utf-8", "replace"))
    except RuleSyntaxError as error:
        assert "spec/page.md" in str(error) or "Q8A8-" in str(error)  # noqa: PT017 (other errors must come through)


def smallest_file() -> str:
    """Return the name of the smallest file of golden cases."""
    files: dict[str, Any] = load.read_manifest(load.DATA)["files"]
    return min(files, key=lambda name: (load.DATA / name).stat().st_size)


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    """Return a folder with a manifest of one small file of cases."""
    name = smallest_file()
    (tmp_path / name).parent.mkdir(parents=True)
    shutil.copy(load.DATA / name, tmp_path / name)
    sign(tmp_path, name)
    assert load.load_cases(tmp_path)
    return tmp_path


def sign(folder: Path, name: str) -> None:
    """Write a manifest that vouches for a file, so that what is in it gets read."""
    manifest = load.read_manifest(load.DATA)
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    manifest["files"] = {name: {**manifest["files"][name], "sha256": digest}}
    (folder / load.MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def loaded(folder: Path) -> None:
    """Load the cases of a folder, and use what was loaded; or take the error that names the folder."""
    try:
        cases = load.load_cases(folder)
    except load.CorruptVectorsError as error:
        assert str(folder) in str(error)  # noqa: PT017 (other errors must come through)
        return
    for case in cases:
        case.poisoned()


CASES = json.loads((load.DATA / smallest_file()).read_text(encoding="utf-8"))
CASES["cases"] = CASES["cases"][:2]


@often
@given(broken_json(CASES))
def test_golden_cases_with_other_values(golden: Path, document: Any) -> None:  # noqa: ANN401 (JSON)
    """A file of cases with a strange value is read, or refused by its name."""
    name = smallest_file()
    (golden / name).write_bytes(json.dumps(document).encode("utf-8", "surrogatepass"))
    sign(golden, name)
    loaded(golden)


@bounded
@given(broken_bytes(json.dumps(CASES).encode()))
def test_golden_cases_with_broken_bytes(golden: Path, data: bytes) -> None:
    """So is one whose bytes are broken."""
    name = smallest_file()
    (golden / name).write_bytes(data)
    sign(golden, name)
    loaded(golden)


@pytest.mark.parametrize("files", [{"a": None}, {"a\0b": {}}, {"\ud800": {}}, {"": {}}, {"..": {}}, []])
def test_manifests_with_strange_files(golden: Path, files: object) -> None:
    """A manifest whose files have no entries, or no names that a file can have, is refused."""
    whole = json.loads((golden / load.MANIFEST).read_text(encoding="utf-8"))
    (golden / load.MANIFEST).write_text(json.dumps({**whole, "files": files}), encoding="utf-8")
    with pytest.raises(load.CorruptVectorsError):
        load.load_cases(golden)


@often
@given(st.data())
def test_golden_manifests(golden: Path, data: st.DataObject) -> None:
    """A manifest that is broken is refused by its name, or the cases are those it vouches for."""
    whole = json.loads((golden / load.MANIFEST).read_text(encoding="utf-8"))
    sign(golden, smallest_file())
    changed = data.draw(broken_json(whole))
    (golden / load.MANIFEST).write_bytes(json.dumps(changed).encode("utf-8", "surrogatepass"))
    try:
        loaded(golden)
    finally:
        sign(golden, smallest_file())
