"""Parts that need not be on Linux do without the modules and calls that Windows and macOS lack.

(`exec:` needs pipes that can be polled, and process groups: macOS has them, Windows does not.)
"""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from q8a8_lab import big_endian

WORKER = Path(__file__).resolve().parents[3] / "docs" / "examples" / "minimal_worker.py"
BLOCKED = ("fcntl", "resource", "pwd", "grp", "termios")
# What Windows lacks, but for what subprocess itself needs on this machine.
ABSENT = {
    "os": "fork forkpty getuid geteuid getgid setsid sysconf sched_setaffinity sched_getaffinity sched_yield "
    "waitid mkfifo register_at_fork getloadavg memfd_create confstr chown fchmod O_NOFOLLOW O_DIRECTORY",
    "signal": "SIGHUP SIGALRM SIGQUIT SIGSTOP SIGCONT SIGUSR1 SIGUSR2 SIGCHLD SIGTRAP SIGSYS setitimer",
}
BLOCKER = f"""
import ctypes, os, signal, subprocess, sys
for name in ("CDLL", "PyDLL"):                  # Windows has no library without a name
    def named(path, *rest, loaded=getattr(ctypes, name), **options):
        assert path is not None, "ctypes: a library without a name"
        return loaded(path, *rest, **options)
    setattr(ctypes, name, named)
sys.modules.update(dict.fromkeys({BLOCKED!r}))
for module, names in {ABSENT!r}.items():
    for name in names.split():
        if hasattr(sys.modules[module], name):
            delattr(sys.modules[module], name)
"""
PARTS = {
    "reference": "import numpy, q8a8; assert q8a8.quantize_row(numpy.ones(32, 'f4')).shape == (1,)",
    # All modules of the commands, in one process: the parser with every command has imported them.
    "commands": "from q8a8_conformance.cli import COMMANDS, build_parser; import sys; "
    "build_parser(None, whole=True); assert all(one.module in sys.modules for one in COMMANDS.values())",
    "explain": "from q8a8_conformance.cli import main; assert main(['explain', 'QNT-3']) == 0; "
    "assert main(['explain', 'odd-block-lost']) == 0",
    "completion": "from q8a8_conformance.cli import main; assert main(['completion', 'bash']) == 0",
    "convert": "import numpy, os, tempfile; from q8a8_conformance.cli import main; "
    "os.chdir(tempfile.mkdtemp()); numpy.save('w.npy', numpy.ones((2, 64), 'f4')); "
    "assert main(['quantize', 'w.npy', 'q.npy']) == 0; assert main(['inspect', 'q.npy']) == 0",
    "golden": "from q8a8_golden import load_cases; assert load_cases()",
    "exec": f"from q8a8_conformance.cli import main; main(['smoke', 'exec:{sys.executable} {WORKER}'])",
}


@pytest.mark.parametrize("part", PARTS)
def test_without_posix(part: str) -> None:
    """A part imports, and does its first step, without the modules and calls of POSIX."""
    step = f"try:\n    exec({PARTS[part]!r})\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
    command = [sys.executable, "-c", f"{BLOCKER}\n{step}"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 0, run.stderr


def test_golden_vectors_here() -> None:
    """The check that a release runs on a big-endian machine passes on this one, and is given every vector."""
    calls, wrong = big_endian.check()
    assert wrong == []
    assert calls > 800


def test_as_a_module(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m q8a8` is the command."""
    monkeypatch.setattr(sys, "argv", ["q8a8", "rules", "LAY-1"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_module("q8a8", run_name="__main__")
    assert capsys.readouterr().out.startswith("Q8A8-LAY-1")
