"""``q8a8 completion``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from q8a8_conformance.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


def test_script(capsys: pytest.CaptureFixture[str], need: Callable[[object, str], None]) -> None:
    """The script has the commands and their options."""
    try:
        import shtab  # noqa: F401, PLC0415 (an extra)
    except ImportError:
        need(None, "no shtab")
    assert main(["completion", "bash"]) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("bench-model", "--only-failed", "new-kernel"))


def test_missing_package(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without shtab the command names what to install."""
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "zsh"]) == 2
    assert "completion needs the package shtab: pip install -e '.[completion]'" in capsys.readouterr().err
