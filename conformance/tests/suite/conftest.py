"""What the tests of the suite share: running ``q8a8 test`` as a user would, with its report read back."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from q8a8_conformance.cli import main
from q8a8_conformance.protocol import deadline
from q8a8_conformance.report.schema import read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    Options = Callable[..., list[str]]
    Started = Callable[..., AbstractContextManager[subprocess.Popen[str]]]

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Tested:
    """What one run of ``q8a8 test`` left: exit status, JSON report (empty if none), both outputs."""

    status: int
    report: dict[str, Any]
    out: str
    err: str

    def rules(self, *statuses: str) -> set[str]:
        """Return the short ids of the rules with one of these statuses."""
        return {
            rule["id"].removeprefix("Q8A8-") for rule in self.report["rules"] if rule["status"] in statuses
        }

    def causes(self, function: str) -> list[str]:
        """Return the causes that the diagnosis names for a function."""
        return [f["cause"] for f in self.report["diagnosis"] if f["function"] == function]


@pytest.fixture
def q8a8_test(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Tested]:
    """Return a function that runs ``q8a8 test`` here; the kernels beside this file can be named."""
    monkeypatch.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    # What is found is asked here, not how soon: a slow machine finds the same.
    monkeypatch.setattr(deadline, "slowness", 2.5)

    def run(sut: str, *flags: str) -> Tested:
        path = tmp_path / "report.json"
        path.unlink(missing_ok=True)
        capfd.readouterr()
        # One process: another takes as long to start as many of these runs.
        status = main(["test", sut, "--jobs", "1", *flags, "--json", str(path)])
        out, err = capfd.readouterr()
        # Whatever a run was about, its report fits the published schema.
        report = read(path) if path.exists() else {}
        return Tested(status, report, out, err)

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an empty folder, a working directory."""
    path = tmp_path / "folder"
    path.mkdir()
    return path


@pytest.fixture
def report_options(folder: Path) -> Options:
    """Return a function of options that write reports into the folder, under the options' names."""
    return lambda *kinds: [word for kind in kinds for word in (f"--{kind}", str(folder / kind))]


@pytest.fixture
def started(folder: Path) -> Started:
    """Return a context that runs a module of Python in the folder, with the kernels beside this file."""

    @contextmanager
    def start(*words: str, **more: Any) -> Iterator[subprocess.Popen[str]]:  # noqa: ANN401 (Popen's)
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "Q8A8_MARK": str(folder.parent / "mark")}
        environment["PYTHONPATH"] = os.pathsep.join([str(HERE), *sys.path])
        running = subprocess.Popen(
            [sys.executable, "-m", *words],
            cwd=folder,
            env=environment,
            text=True,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more},
        )
        with running:
            try:
                yield running
            finally:
                running.kill()

    return start
