"""Reports on standard output or that cannot be written, and what a run leaves behind."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from q8a8_conformance.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Started, Tested

HERE = Path(__file__).parent
MUTANTS = "py:q8a8_conformance.mutants"
FILES = ("json", "junitxml", "markdown", "html", "badge", "statement", "write-known-failures")
JUDGEMENTS = {"badge", "statement", "write-known-failures"}


def test_a_report_on_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    """``-`` and ``/dev/stdout`` are standard output; the text then goes to standard error."""
    for name in ("-", "/dev/stdout"):
        assert main(["test", "ref", "--rules", "DOT-5", "--json", name]) == 0
        out, err = capfd.readouterr()
        assert json.loads(out)["verdict"] == "conforms"
        assert "conforms: 1 rule judged" in err
    assert main(["smoke", "ref", "--json", "-"]) == 0
    assert json.loads(capfd.readouterr().out)["verdict"] == "conforms"


def test_a_report_that_cannot_be_written(
    q8a8_test: Callable[..., Tested], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is named, the others are written, and the status is 6, whatever the verdict is."""
    for sut, verdict in (("ref", "conforms"), (f"{MUTANTS}:s_added_if_finite", "does-not-conform")):
        words = ("--html", "/dev/full", "--badge", "/dev/full", "--markdown", str(tmp_path / "page.md"))
        tested = q8a8_test(sut, "--rules", "DOT-7", *words)
        assert (tested.status, tested.report["verdict"]) == (6, verdict)
        assert tested.err.count("could not be written: [Errno 28] No space left on device: '/dev/full'") == 2
        assert verdict in (tmp_path / "page.md").read_text("utf-8")
    assert Path("/dev/full").is_char_device()
    assert main(["smoke", "ref", "--json", "/dev/full"]) == 6
    assert "could not be written" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("sut", "out", "status"),
    [
        ("ref", "closed", 6),
        ("ref", "full", 6),
        ("ref", "left", 0),
        (f"{MUTANTS}:s_added_if_finite", "left", 1),
    ],
)
def test_standard_output_that_is_not_read(
    folder: Path,
    sut: str,
    out: str,
    status: int,
    started: Started,
) -> None:
    """Where the text cannot be written the status is 6; a reader that has gone leaves the verdict's."""
    words = ("q8a8_conformance.cli", "test", sut, "--rules", "DOT-7", "--json", "json")
    if out == "left":
        reads, writes = os.pipe()
        os.close(reads)
    else:
        writes = os.open("/dev/full" if out == "full" else os.devnull, os.O_WRONLY)
    more: dict[str, Any] = {"preexec_fn": lambda: os.close(1)} if out == "closed" else {}
    with started(*words, stdout=writes, **more) as running:
        os.close(writes)
        _, err = running.communicate(timeout=120)
    assert running.returncode == status, err
    assert "Traceback" not in err
    assert json.loads((folder / "json").read_text("utf-8"))["verdict"]


def test_an_error_of_ours_is_no_verdict(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """An exception that nobody expected is status 70, not 1, which Python would give it."""
    monkeypatch.setattr("q8a8_conformance.report.text.render", lambda *_, **__: 1 / 0)
    assert main(["test", "ref", "--rules", "DOT-5"]) == 70
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_nothing_is_left_behind(folder: Path) -> None:
    """A kernel that crashes, and one whose failures are minimized, leave no file in the working directory."""
    shutil.copy(HERE / "partial_kernels.py", folder / "mine.py")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPATH"] = os.pathsep.join([".", *sys.path])

    def allow_core_files() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)

    for sut in ("py:mine:Dying", f"{MUTANTS}:round_half_even"):
        words = [sys.executable, "-m", "q8a8_conformance.cli", "test", sut, "--rules", "DEQ-3,QNT-4", "-x"]
        words += ["--case", "properties/*"] if sut.startswith(MUTANTS) else []
        done = subprocess.run(
            words,
            cwd=folder,
            env=environment,
            capture_output=True,
            check=False,
            timeout=120,
            preexec_fn=allow_core_files,
        )
        assert done.returncode in (1, 3), done.stdout + done.stderr
        assert [path.name for path in folder.iterdir()] == ["mine.py"]


def test_progress_goes_on_through_the_diagnosis(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """On a terminal a line shows the start, the cases, and what is being explained; at the end it is gone."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    main(["test", f"{MUTANTS}:order_avx2", "--case", "dot/exact/blocks-3"])
    lines = capfd.readouterr().err.split("\r\x1b[K")
    assert lines[1] == "start"
    assert lines[2] == "1/1 dot/exact/blocks-3"
    assert any(line.startswith("diagnosis of ggml_vec_dot_q8_a8_q8_a8, call ") for line in lines)
    assert lines[-1] == ""
