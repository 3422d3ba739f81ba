"""Fixtures of the certifier's tests: kernels in Python with one wrong result, and the command."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from q8a8_conformance.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent


@pytest.fixture
def wrong_kernels(monkeypatch: pytest.MonkeyPatch) -> str:
    """Make ``py:wrong_kernels:...`` importable, here and in child processes; return the module's name."""
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)
    return "wrong_kernels"


@pytest.fixture
def certify(tmp_path: Path) -> Callable[..., tuple[int, dict[str, Any]]]:
    """Return a function that runs ``q8a8 certify`` and returns its exit status and the certificate."""

    def run(*words: str) -> tuple[int, dict[str, Any]]:
        path = tmp_path / "certificate.json"
        path.unlink(missing_ok=True)
        status = main(["certify", *words, "--json", str(path)])
        return status, json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    return run
