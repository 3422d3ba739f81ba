"""The files of golden vectors: schema, manifest, size, and what happens when a byte of them is changed."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from q8a8_golden import schema
from q8a8_golden.document import FORMAT, from_json, to_json
from q8a8_golden.generate.store import compare, generate
from q8a8_golden.load import DATA, MANIFEST, SCHEMA, CorruptVectorsError, load_cases, read_manifest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from q8a8_golden.generate.agree import Witnesses
    from q8a8_golden.generate.store import Killer

    Edit = Callable[[str, Callable[[dict[str, Any]], object]], None]

TWO_MEGABYTES = 2_000_000


def case_files() -> list[Path]:
    """Give the shipped files of cases."""
    return sorted(path for path in DATA.rglob("*.json") if path.name not in {SCHEMA, MANIFEST})


def test_all_vectors_are_what_the_builders_and_the_three_truths_make(truths: Witnesses) -> None:
    """Regenerate everything in memory: every file, byte for byte, is what is on disk."""
    assert compare(DATA, truths) == []


def test_the_vectors_stay_small() -> None:
    """They ship in the wheel: two megabytes at most, schema and manifest included."""
    assert sum(path.stat().st_size for path in DATA.rglob("*") if path.is_file()) <= TWO_MEGABYTES


def test_the_schema_holds_for_every_file() -> None:
    """JSON Schema 2020-12: the schema is one, and no file breaks it."""
    assert schema.violations(DATA) == []


def test_the_manifest_has_every_file_and_its_hash() -> None:
    """Each file once, with its SHA-256, its size and how many cases it has; the sums are right."""
    manifest = read_manifest(DATA)
    assert sorted(manifest["files"]) == [path.relative_to(DATA).as_posix() for path in case_files()]
    for name, entry in manifest["files"].items():
        data = (DATA / name).read_bytes()
        cases = sum(len(case["functions"]) for case in json.loads(data)["cases"])
        assert entry == {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "cases": cases}
    total = len(load_cases())
    assert manifest["format"] == FORMAT
    assert (
        manifest["cases"]
        == sum(manifest["functions"].values())
        == sum(manifest["outcomes"].values())
        == total
    )
    assert manifest["schema"] == hashlib.sha256((DATA / SCHEMA).read_bytes()).hexdigest()


def test_cases_survive_the_way_to_json_and_back() -> None:
    """A case read, written and read again is the same, and the JSON is the file's."""
    for path in case_files():
        for document in json.loads(path.read_text())["cases"]:
            cases = from_json(document)
            one = replace(cases[0], id=document["id"])
            kills = {case.function: case.kills for case in cases}
            assert to_json(one, kills) == document


def test_loading_twice_gives_the_same_cases() -> None:
    """The shipped cases are read once a process; another folder is read each time."""
    assert load_cases() is load_cases()
    assert load_cases(DATA) == load_cases()


@pytest.mark.parametrize("name", ["quantize/zero.json", "quantize/unspecified.json", "dot/v2.json"])
def test_any_changed_byte_of_a_case_file_is_noticed(small: Path, name: str) -> None:
    """Forty places in a file, one bit each: loading refuses and names the file."""
    data = (small / name).read_bytes()
    for at in range(0, len(data), len(data) // 40):
        (small / name).write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(CorruptVectorsError, match=rf"{name}: SHA-256"):
            load_cases(small)
    (small / name).write_bytes(data + b" ")
    with pytest.raises(CorruptVectorsError, match=rf"{name}: SHA-256"):
        load_cases(small)


@pytest.mark.parametrize("name", [MANIFEST, SCHEMA])
def test_a_changed_byte_of_manifest_or_schema_fails_the_check(
    small: Path, truths: Witnesses, killer: Killer, name: str
) -> None:
    """A space too many, which changes no meaning, is a change: `check` compares bytes and hashes."""
    assert compare(small, truths, killer) == []
    (small / name).write_bytes((small / name).read_bytes() + b" ")
    problems = compare(small, truths, killer)
    assert problems
    assert all(name in problem or MANIFEST in problem for problem in problems)


def test_check_names_the_case_that_changed(
    small: Path, truths: Witnesses, killer: Killer, edit: Edit
) -> None:
    """A wrong bit with a right hash: only regenerating finds it."""
    cases = json.loads((small / "quantize/zero.json").read_text())["cases"]
    changed = next(case["id"] for case in cases if "y" in case["outputs"])

    def flip(document: dict[str, Any]) -> None:
        case = next(case for case in document["cases"] if case["id"] == changed)
        case["outcome"]["written"]["y"][0]["bytes"] = [
            {"hex": "0080", "times": 1},
            {"hex": "00", "times": 32},
        ]

    edit("quantize/zero.json", flip)
    document = json.loads((small / "quantize/zero.json").read_text())
    lines = [json.dumps(case, separators=(",", ":")) for case in document["cases"]]
    head = '{"format": 2, "topic": "quantize/zero", "cases": [\n'
    (small / "quantize/zero.json").write_text(head + ",\n".join(lines) + "\n]}\n")
    problems = compare(small, truths, killer)
    assert any("quantize/zero.json" in one and changed in one for one in problems)


def test_check_finds_missing_and_stray_files(small: Path, truths: Witnesses, killer: Killer) -> None:
    """A file of no topic, and a topic without its file."""
    (small / "dot/v2.json").rename(small / "dot/v3.json")
    problems = compare(small, truths, killer)
    assert any("v3.json: no builder makes this file" in problem for problem in problems)
    assert any("v2.json: missing" in problem for problem in problems)


def test_check_without_a_killer_takes_kills_and_choice_as_they_are(
    small: Path, truths: Witnesses, killer: Killer, edit: Edit
) -> None:
    """A wrong kill, or a case that is missing, is seen with a killer; a wrong outcome without one as well."""
    assert compare(small, truths) == compare(small, truths, killer) == []

    def tamper(document: dict[str, Any]) -> None:
        case = document["cases"][0]
        case["kills"] = {name: ["no-such-mutant"] for name in case["functions"]}

    rewrite(small, edit, tamper)
    assert compare(small, truths) == []
    assert any("quantize/zero.json: line 2" in problem for problem in compare(small, truths, killer))
    rewrite(
        small, edit, lambda document: document["cases"][0].update(why="Another reason than the builder's.")
    )
    assert any("quantize/zero.json: line 2" in problem for problem in compare(small, truths))


def rewrite(small: Path, edit: Edit, how: Callable[[dict[str, Any]], object]) -> None:
    """Change the zero blocks' file, and write it, and the manifest, as the generator would."""
    edit("quantize/zero.json", how)
    path = small / "quantize/zero.json"
    document = json.loads(path.read_text())
    lines = [json.dumps(case, separators=(",", ":"), ensure_ascii=False) for case in document["cases"]]
    head = json.dumps({"format": FORMAT, "topic": "quantize/zero"})[:-1]
    path.write_text(head + ', "cases": [\n' + ",\n".join(lines) + "\n]}\n")
    manifest = json.loads((small / MANIFEST).read_text())
    data = path.read_bytes()
    manifest["files"]["quantize/zero.json"].update(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
    (small / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")


def test_generate_repairs_whatever_was_done(small: Path, truths: Witnesses, killer: Killer) -> None:
    """It writes what differs, removes what is of no topic, and leaves no temporary file."""
    before = {path: path.read_bytes() for path in sorted(small.rglob("*.json"))}
    (small / "quantize/zero.json").write_text("{}")
    (small / "dot/stray.json").write_text("{}")
    assert generate(small, truths, killer) == ["quantize/zero.json", "dot/stray.json"]
    assert {path: path.read_bytes() for path in sorted(small.rglob("*")) if path.is_file()} == before
    assert generate(small, truths, killer) == []


MALFORMED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no-why": (lambda case: case.pop("why"), "KeyError: 'why'"),
    "no-function": (lambda case: case.update(functions=[]), "names no function"),
    "unknown-function": (lambda case: case.update(functions=["f"]), "KeyError: 'f'"),
    "odd-hex": (lambda case: case["inputs"].update(x=[{"hex": "0", "times": 1}]), "run 0"),
    "upper-hex": (lambda case: case["inputs"].update(x=[{"hex": "AB", "times": 1}]), "lowercase hex"),
    "no-run": (lambda case: case["inputs"].update(x=[{"hex": "00"}]), "run 0 is not of the form"),
    "not-runs": (lambda case: case["inputs"].update(x="00"), "run 0 is not of the form"),
    "times-zero": (lambda case: case["inputs"].update(x=[{"hex": "00", "times": 0}]), "positive integer"),
    "bad-id": (lambda case: case.update(id="Not an id"), "is not an id"),
    "bad-kind": (lambda case: case["outcome"].update(kind="maybe"), "'maybe' is not a kind"),
    "outside": (lambda case: case["outcome"]["written"]["y"][0].update(offset=9), "leaves the buffer"),
    "no-kills": (lambda case: case.pop("kills"), "KeyError: 'kills'"),
    "kills-of-another": (lambda case: case.update(kills={"f": []}), "KeyError: 'quantize_row_q8_a8'"),
    "kills-no-list": (lambda case: case["kills"].update(quantize_row_q8_a8="x"), "'x' is no list of slugs"),
    "before-too-short": (
        lambda case: case.update(before={"y": [{"hex": "00", "times": 3}]}),
        "before the call y holds 3 bytes, it has",
    ),
    "before-of-another": (
        lambda case: case.update(before={"s": [{"hex": "00", "times": 3}]}),
        "before the call s holds 3 bytes, it has None",
    ),
    "other-buffer": (lambda case: case["outcome"].update(written={"z": []}), "the buffers are"),
}


@pytest.mark.parametrize("fault", MALFORMED)
def test_a_malformed_case_is_named(small: Path, edit: Edit, fault: str) -> None:
    """File, case and what is wrong with it, although the hash is right."""
    change, message = MALFORMED[fault]
    cases = json.loads((small / "quantize/zero.json").read_text())["cases"]
    number = next(i for i, case in enumerate(cases) if "y" in case["outputs"])
    identity = cases[number]["id"]
    edit("quantize/zero.json", lambda document: change(document["cases"][number]))
    with pytest.raises(CorruptVectorsError) as caught:
        load_cases(small)
    text = str(caught.value)
    assert "quantize/zero.json: case " in text
    assert (identity if fault != "bad-id" else "Not an id") in text
    assert message in text


def test_a_result_outside_of_s_is_named(small: Path, edit: Edit) -> None:
    """The same for the floats of a bound."""

    def move(document: dict[str, Any]) -> None:
        case = next(case for case in document["cases"] if case["outcome"]["kind"] == "bound")
        case["outcome"]["results"][0]["offset"] = 4

    edit("dot/v2.json", move)
    with pytest.raises(CorruptVectorsError, match=r"dot/v2.json: case dot/v2/rounding-1: .*leaves s"):
        load_cases(small)


def test_two_cases_with_one_id_are_refused(small: Path, edit: Edit) -> None:
    """An id is a name: it must name one case."""
    edit("quantize/zero.json", lambda document: document["cases"].append(document["cases"][0]))
    with pytest.raises(CorruptVectorsError, match="two cases have the id quantize/zero/"):
        load_cases(small)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"format": 99}', "format 99, this program reads format 2"),
        ('{"format": 2}', "no list of files"),
    ],
)
def test_an_unusable_manifest_is_named(tmp_path: Path, text: str, message: str) -> None:
    """Each fault with the manifest's path."""
    with pytest.raises(CorruptVectorsError, match=r"manifest.json: No such file"):
        load_cases(tmp_path)
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(CorruptVectorsError, match=rf"manifest.json: .*{message}"):
        load_cases(tmp_path)


def test_the_first_format_is_refused_with_the_cure(tmp_path: Path) -> None:
    """Files without kills, of format 1: the error says which version, and what to do."""
    (tmp_path / MANIFEST).write_text('{"format": 1, "files": {}}')
    with pytest.raises(
        CorruptVectorsError, match=r"format 1, this program reads format 2: take .* from one release"
    ):
        load_cases(tmp_path)


def test_a_file_that_holds_no_cases_is_named(small: Path, edit: Edit) -> None:
    """Another format version in a file, or no list."""
    edit("dot/v2.json", lambda document: document.update(format=1))
    with pytest.raises(CorruptVectorsError, match=r"dot/v2.json: not a file of cases in format 2"):
        load_cases(small)


def test_the_schema_finds_what_it_should(small: Path, edit: Edit) -> None:
    """A rule id of another form, a sentence without its end, an unknown key: each with file and case."""

    def spoil(document: dict[str, Any]) -> None:
        document["cases"][0]["rules"] = ["QNT-1"]
        document["cases"][1]["why"] = "no sentence"
        document["cases"][2]["note"] = "x"

    edit("quantize/zero.json", spoil)
    found = schema.violations(small)
    names = [case["id"] for case in json.loads((small / "quantize/zero.json").read_text())["cases"][:3]]
    assert len(found) == 3
    for name in names:
        assert any("quantize/zero.json" in one and f"case {name}:" in one for one in found)


def test_without_jsonschema_the_schema_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is an extra: its absence is an error with the cure in it."""
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    with pytest.raises(schema.SchemaUnavailableError, match="pip install"):
        schema.violations(DATA)
