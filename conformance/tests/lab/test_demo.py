"""The demo's screen: a kernel's lines, the exit status, and where the rules go."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from q8a8_lab import demo

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

STEPS = [
    demo.Step("a right one", ("ref", "--rules", "LAY-1"), must_conform=True),
    demo.Step("a wrong one", ("py:q8a8_conformance.mutants:round_half_even",), must_conform=False),
]
RULES = [{"status": "pass"}, {"status": "not-run"}, {"status": "pass"}]
RIGHT = {"verdict": "conforms", "diagnosis": [], "rules": RULES}
NAMED = {"function": "g", "cause": "recipe", "fix": ""}
WRONG = {
    "verdict": "does-not-conform",
    "diagnosis": [NAMED, {"function": "f", "cause": "c", "fix": "x" * 200}],
}


def test_one_screen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each kernel has verdict, time, command and first fact; why and what next end a screen of 40 lines."""
    reports = iter((RIGHT, WRONG))
    monkeypatch.setattr(demo, "everyday_steps", lambda: STEPS)
    monkeypatch.setattr(
        demo, "judge", lambda step, _: demo.Outcome(step, step is STEPS[1], next(reports), 3.2)
    )
    monkeypatch.chdir(tmp_path)  # the screen's width is without that of a path from the root
    assert demo.main(["--reports", "reports"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a right one: conforms (3 s)"
    assert lines[2] == "  2 rules pass"
    assert lines[3] == "a wrong one: does-not-conform (3 s)"
    assert lines[5].startswith("  f: c: xxx")
    assert lines[5].endswith("…")
    assert max(map(len, lines[:6])) == demo.WIDTH + 2
    assert max(map(len, lines)) <= demo.WIDTH + 2
    assert len(lines) < 40
    assert "new-kernel" in "".join(lines)


def test_rules_go_to_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What `q8a8 test` prints is a report file; a run without a report is named by its exit status."""

    def run(command: list[str], *, check: bool, stdout: object) -> subprocess.CompletedProcess[str]:
        assert command[:4] == [sys.executable, "-m", "q8a8_conformance.cli", "test"]
        print("rules", file=stdout)  # type: ignore[call-overload] # a file
        return subprocess.CompletedProcess(command, 2 + check)

    monkeypatch.setattr(subprocess, "run", run)
    outcome = demo.judge(STEPS[0], tmp_path)
    assert (tmp_path / "a-right-one.txt").read_text() == "$ q8a8 test ref --rules LAY-1\nrules\n"
    assert outcome.verdict == "exit 2"
    assert not outcome.acceptable
