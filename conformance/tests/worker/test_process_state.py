"""What a worker sees of its own process, where the system shows less than usual."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import pytest

from q8a8_conformance.worker import process_state
from q8a8_conformance.worker.process_state import ProcessState, few_descriptors, set_stack_limit


def test_a_removed_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory that no longer exists is a state too."""
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    before = ProcessState.read()
    folder.rmdir()
    after = ProcessState.read()
    assert before.changes(after) == {"working-directory": f"was {folder}, is removed"}


def test_a_system_without_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without /proc no descriptor and no thread is counted; a closed standard output has no text."""

    def refuse(path: Path) -> None:
        raise OSError(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    monkeypatch.setattr(sys, "stdout", None)
    state = ProcessState.read()
    assert (state.threads, state.descriptors) == (0, 0)


def test_signals_are_named() -> None:
    """A change of a mapping is described by the names of what differs."""
    before = ProcessState.read()
    handlers = dict(before.settings["signal-handlers"], SIGPIPE=0)  # type: ignore[call-overload]
    after = ProcessState({**before.settings, "signal-handlers": handlers}, 0, 0, 0)
    assert set(before.changes(after)) <= {"signal-handlers"}
    assert before.changes(after)["signal-handlers"] == "SIGPIPE"


@pytest.mark.parametrize("unlimited", [False, True])
def test_limits(monkeypatch: pytest.MonkeyPatch, unlimited: bool) -> None:
    """The limits of descriptors and stack are set to what is asked for, not above the hard ones."""
    limits = {resource.RLIMIT_NOFILE: (1024, 4096), resource.RLIMIT_STACK: (2**23, 2**22)}
    if unlimited:
        limits = dict.fromkeys(limits, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    monkeypatch.setattr(process_state, "count_descriptors", lambda: 10)
    monkeypatch.setattr(resource, "getrlimit", limits.__getitem__)
    monkeypatch.setattr(resource, "setrlimit", limits.__setitem__)
    usual = limits[resource.RLIMIT_NOFILE]
    with few_descriptors(64):
        assert limits[resource.RLIMIT_NOFILE] == (74, usual[1])
    assert limits[resource.RLIMIT_NOFILE] == usual
    set_stack_limit(2**23)
    assert limits[resource.RLIMIT_STACK][0] == (2**23 if unlimited else 2**22)
