"""How much ``q8a8 test`` prints, and what it prints for GitHub Actions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from q8a8_conformance.cli import main

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

WRONG = (
    "test",
    "py:q8a8_conformance.mutants:round_half_even",
    "--rules",
    "QNT-4,LAY-1",
    "--case",
    "quantize/ties/*",
)


def test_amounts(capsys: pytest.CaptureFixture[str]) -> None:
    """-q prints the verdict, -v every failure, --only-failed fewer rules; failures follow the table."""
    texts = {}
    for option in ("-q", "-v", "--only-failed"):
        assert main([*WRONG, option]) == 1
        texts[option] = capsys.readouterr().out
    assert texts["-q"].count("\n") == 1
    assert texts["-q"].startswith("does-not-conform: ")
    assert texts["-v"].count("FAIL ") > texts["--only-failed"].count("FAIL ")
    assert "  pass  " in texts["-v"]
    assert "  pass  " not in texts["--only-failed"]
    assert texts["-v"].index("Q8A8-QNT-4 ") < texts["-v"].index("FAIL ")


def test_github(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Annotations follow the text, and the report goes to the summary; where it cannot, the status is 6."""
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    assert main([*WRONG, "--output", "github"]) == 1
    out = capsys.readouterr().out
    assert "\n::error title=QNT-4" in out
    assert "%0Aagain: q8a8 test" in out
    assert out.splitlines()[-1].startswith(
        "::error title=py%3Aq8a8_conformance.mutants%3Around_half_even::does"
    )
    assert summary.read_text().startswith("before\n## ❌")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    assert main(["test", "ref", "--rules", "LAY-1", "-q", "--output", "github"]) == 6
    captured = capsys.readouterr()
    assert "::notice title=ref::conforms: 1 rule judged" in captured.out
    assert "GITHUB_STEP_SUMMARY could not be written" in captured.err
    monkeypatch.delenv("GITHUB_STEP_SUMMARY")
    assert main(["test", "ref", "--rules", "LAY-1", "-q", "--output", "github"]) == 0
