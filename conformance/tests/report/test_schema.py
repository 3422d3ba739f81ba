"""What is said of a document that does not fit its schema."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from q8a8.install import how_to_install
from q8a8_conformance.cli import main
from q8a8_conformance.report.schema import ReportError, parse, violation

if TYPE_CHECKING:
    from pathlib import Path

SMOKE: dict[str, Any] = {
    "format": 1,
    "verdict": "conforms",
    "sut": "ref",
    "symbols": [],
    "init": None,
    "functions": ["quantize_row_q8_a8"],
    "stages": [{"stage": "starts", "status": "pass", "message": "yes", "hint": ""}],
    "seconds": 0.5,
}


def test_a_fitting_document_has_no_violation() -> None:
    """The document that the others are made from fits."""
    assert violation(SMOKE, "smoke") == ""
    assert parse(json.dumps(SMOKE).encode(), "a.json", "smoke") == SMOKE


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"format": 2}, "$.format: 1 was expected"),
        ({"stages": [{**SMOKE["stages"][0], "status": "good"}]}, "$.stages[0].status: 'good' is not one of"),
        ({"stages": [{"stage": "starts"}]}, "$.stages[0]: 'status' is a required property"),
        ({"seconds": "0.5"}, "$.seconds: '0.5' is not of type 'number'"),
        ({"seconds": True}, "$.seconds: True is not of type 'number'"),
        ({"seconds": float("inf")}, "$.seconds: inf is not of type 'number'"),
        ({"seconds": float("nan")}, "$.seconds: nan is not of type 'number'"),
        ({"seconds": -1}, "$.seconds: -1 is less than the minimum of 0"),
    ],
)
def test_a_violation_names_place_and_reason(changes: dict[str, Any], found: str) -> None:
    """The JSON path comes first; an infinity, and a truth value, are no numbers."""
    assert violation({**SMOKE, **changes}, "smoke").startswith(found)


def test_integers_are_python_integers() -> None:
    """1.0, an integer to JSON Schema, is none to the code that reads a report."""
    bench = {"format": 1, "kind": "bench-model", "model": "m", "file_bytes": 1.0}
    assert "$.file_bytes: 1.0 is not of type 'integer'" in violation(
        {**bench, "prompt": 2, "generate": 2, "rounds": 1, "schemes": []}, "bench-model"
    )


def test_a_long_value_is_cut() -> None:
    """A value of any length is quoted in part, and what is wrong with it stays."""
    text = violation({**SMOKE, "stages": "x" * 10_000}, "smoke")
    assert len(text) < 200
    assert text.endswith("is not of type 'array'")


@pytest.mark.parametrize("depth", [100, 500, 900])
def test_a_deep_document_is_refused(depth: int) -> None:
    """Depth is no trouble: refused by the file's name, whatever the parser and the validator make of it."""
    deep = b"[" * depth + b"]" * depth
    for data in (deep, json.dumps(SMOKE).replace('"ref"', deep.decode()).encode()):
        with pytest.raises(ReportError, match=r"^a\.json: "):
            parse(data, "a.json", "smoke")


def test_without_jsonschema(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Without the package nothing is accepted unchecked: the message names what to install."""
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    monkeypatch.setitem(sys.modules, "jsonschema.exceptions", None)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(SMOKE), encoding="utf-8")
    assert main(["compare", str(path), str(path)]) == 2
    assert capsys.readouterr().err == (
        f"q8a8: reading reports needs the package jsonschema: {how_to_install('suite')}\n"
    )
