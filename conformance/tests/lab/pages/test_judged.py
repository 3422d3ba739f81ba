"""The page with the verdict on each of our kernels, on each device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from q8a8_lab.devices import LEGS, Leg
from q8a8_lab.native_build import NativeError
from q8a8_lab.pages import judged
from q8a8_lab.peers import store

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE = Path(__file__).parents[4] / "docs" / "judged.md"

REPORT = {"verdict": "conforms", "rules": [{"id": "Q8A8-DOT-1", "status": "pass"}]}
REVEALED = [
    {"function": "quantize_row_q8_a8", "recipe": "design"},
    {"function": "ggml_vec_dot_q8_a8_q8_a8", "nrc": 1, "name": "scalar"},
    {"function": "ggml_vec_dot_q8_a8_q8_a8_real", "nrc": 1, "name": "scalar"},
    {"function": "mul_mat_q8_a8", "kind": "product", "names": ["order:scalar"], "batch_invariant": True},
]


def test_the_page_has_rows_of_legs() -> None:
    """The page is what the command writes: its head, and rows of known kernels, all of which conform."""
    head, _, table = PAGE.read_text(encoding="utf-8").partition(judged.HEAD)
    assert not head, f"run: {judged.COMMAND}"
    rows = table.splitlines()[2:]
    known = [f"| {leg.kernel} | {leg.where} | " for leg in LEGS]
    places = [next(number for number, start in enumerate(known) if row.startswith(start)) for row in rows]
    assert places == sorted(set(places))
    assert all("| conforms |" in row and "| yes |" in row for row in rows)
    assert len(rows) > 2


def test_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A kernel is revealed and judged, the result kept after each; what does not run is said."""

    def missing() -> str:
        raise NativeError("no compiler")

    def document(words: Sequence[str]) -> dict[str, Any]:
        assert words[1] == "exec:kernel"
        return {"functions": REVEALED} if words[0] == "reveal" else REPORT

    legs = (Leg("`one`", "here", lambda: "exec:kernel"), Leg("`two`", "nowhere", missing))
    monkeypatch.setattr(judged, "LEGS", legs)
    monkeypatch.setattr(judged, "_document", document)
    monkeypatch.setattr(store, "cache_folder", lambda: tmp_path)
    page = tmp_path / "page.md"
    assert judged.main(["--run", "--only", "one", "--markdown", str(page)]) == 0
    row = page.read_text(encoding="utf-8").splitlines()[-1]
    assert row.startswith(
        "| `one` | here | conforms | 1 pass | `scalar`; none; `scalar` | `order:scalar` | yes | 2"
    )
    assert judged.main(["--run"]) == 2
    assert "not run: two nowhere: no compiler" in capsys.readouterr().err
    (kept,) = json.loads((tmp_path / "judged.json").read_text(encoding="utf-8"))
    assert kept["kernel"] == "one"


def test_a_failed_rule_is_shown() -> None:
    """Rules that do not hold stand out."""
    wrong = judged.Judged(
        "OpenCL", "x", "crashed", {"crashed": 1}, ["Q8A8-ENV-4"], [""], [], False, "2026-01-01"
    )
    assert wrong.row() == (
        "| OpenCL | x | **crashed** | 1 crashed (ENV-4) | none | none | **no** | 2026-01-01 |\n"
    )


def test_no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that writes nothing is an error with what it said."""
    monkeypatch.setattr(judged, "TIMEOUT", "no number")
    with pytest.raises(RuntimeError, match="no number"):
        judged._document(["reveal", "ref"])
