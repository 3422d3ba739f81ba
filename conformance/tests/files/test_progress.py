"""The progress bar of all commands: on a terminal, where tqdm is installed."""

from __future__ import annotations

import io
import sys
from functools import partial

import pytest
import tqdm

from q8a8_conformance.files.progress import progress_bar


class Terminal(io.StringIO):
    """A terminal that keeps what is written."""

    def isatty(self) -> bool:
        """Return that it is one."""
        return True


def stderr(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Make standard error a terminal, which tqdm writes to at every step."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(tqdm, "tqdm", partial(tqdm.tqdm, mininterval=0, miniters=0))
    return terminal


def test_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar starts at nothing, names what is worked on, shows what is done, and is taken away."""
    terminal = stderr(monkeypatch)
    with progress_bar("windows", 3) as progress:
        assert "0/3 [" in terminal.getvalue()
        progress(1, what="q8_a8")
        progress(3)
    assert "q8_a8" in terminal.getvalue()
    assert " windows" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r")


def test_a_total_that_is_known_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The work may tell the total itself; large numbers are shortened where that is asked for."""
    terminal = stderr(monkeypatch)
    with progress_bar("weights", scale=True) as progress:
        progress(2_100_000, 4_200_000, "blk.0")
    assert "2.10M/4.20M" in terminal.getvalue()


@pytest.mark.parametrize("without", ["terminal", "tqdm"])
def test_without(without: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Elsewhere, and without tqdm, nothing is shown, and calls are taken."""
    if without == "tqdm":
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
        monkeypatch.setitem(sys.modules, "tqdm", None)
    with progress_bar("windows", 3) as progress:
        progress(1, 3, "q8_a8")
        progress(2)
    assert capsys.readouterr().err == ""
