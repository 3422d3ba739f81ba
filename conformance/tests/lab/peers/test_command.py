"""The command ``python -m q8a8_lab.peers``, on little data."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from q8a8_lab.peers import __main__ as command
from q8a8_lab.peers import build, families, legs
from q8a8_lab.peers.kernels import QUANTIZE_REF

if TYPE_CHECKING:
    from pathlib import Path

LITTLE = ("--blocks", "200", "--dots", "50", "--no-verdicts")


@pytest.fixture(autouse=True)
def _no_builds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Leave what a release check found on this machine out of it."""
    monkeypatch.setattr(command, "results_file", lambda: tmp_path / "none.json")


def test_it_writes_json_and_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each peer that is there is in both files, and exit status 0 says that nothing differs."""
    gguf = [leg for leg in legs.LEGS if leg.name == "gguf-py"]
    monkeypatch.setattr(legs, "LEGS", gguf)
    if reason := legs.missing(gguf[0]):
        pytest.skip(reason)
    data, text = tmp_path / "a.json", tmp_path / "a.md"
    assert command.main([*LITTLE, "--json", str(data), "--markdown", str(text)]) == 0
    found = json.loads(data.read_text(encoding="utf-8"))
    assert [leg["name"] for leg in found["legs"]] == ["gguf-py"]
    assert {count["family"] for count in found["legs"][0]["families"]} == set(families.FAMILIES)
    assert "`gguf.quants.quantize`" in text.read_text(encoding="utf-8")


def test_a_missing_peer_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2, with the reason."""
    monkeypatch.setattr(legs, "missing", lambda leg: f"no {leg.name} here")
    assert command.main(list(LITTLE)) == 2
    assert "no gguf-py here" in capsys.readouterr().err


def test_a_difference_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit status 1 where a leg is held against another recipe than its own."""
    wrong = legs.Leg("gguf-py", "gguf-py", {QUANTIZE_REF: "ggml-neon"})
    if reason := legs.missing(wrong):
        pytest.skip(reason)
    monkeypatch.setattr(legs, "LEGS", (wrong,))
    assert command.main(list(LITTLE)) == 1


def test_the_release_check_needs_a_known_name() -> None:
    """A build that is not in the table is a usage error."""
    with pytest.raises(SystemExit, match="2"):
        build.main(["--only", "icc-avx2"])
