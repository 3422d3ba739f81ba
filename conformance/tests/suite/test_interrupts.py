"""Runs that are interrupted: the verdict and every report show it, and a call that hangs is ended."""

from __future__ import annotations

import json
import os
import signal
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

from q8a8_conformance import report
from q8a8_conformance.cli import main
from q8a8_conformance.suite.interrupts import Interrupts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Options, Started


HERE = Path(__file__).parent
MUTANTS = "py:q8a8_conformance.mutants"
FILES = ("json", "junitxml", "markdown", "html", "badge", "statement", "write-known-failures")
JUDGEMENTS = {"badge", "statement", "write-known-failures"}


def check_interrupted(folder: Path, out: str, left: str = "the run was interrupted") -> None:
    """Check that every report shows the interrupt, and that nothing certifies a verdict."""
    written = {path.name for path in folder.iterdir()}
    assert written == set(FILES) - JUDGEMENTS
    document = json.loads((folder / "json").read_text("utf-8"))
    assert document["verdict"] == "interrupted"
    assert not document["complete"]
    assert all(rule["reason"] for rule in document["rules"] if rule["status"] == "not-run")
    assert left in {rule["reason"] for rule in document["rules"]} | set(document["not_run"])
    assert out.splitlines()[-1].startswith("interrupted: ")
    root = ET.parse(folder / "junitxml").getroot()  # noqa: S314 (our own)
    assert root.find("testsuite[@name='run']/testcase/error[@message]") is not None
    assert (folder / "markdown").read_text("utf-8").startswith("## ❌ interrupted: ")
    assert "<b>interrupted</b>" in (folder / "html").read_text("utf-8")


def wait_for(path: Path) -> None:
    """Wait until a file appears."""
    deadline = time.monotonic() + 300
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert path.exists()


class Once:
    """Raises KeyboardInterrupt the first times that it is called; then calls what it replaces."""

    def __init__(self, instead_of: Any, times: int = 1, kind: str = "") -> None:  # noqa: ANN401 (a function)
        self.left = times
        self._instead_of = instead_of
        self._kind = kind

    def __call__(self, *args: Any, **keywords: Any) -> Any:  # noqa: ANN401 (as the function)
        """Raise, or call."""
        if self.left and (not self._kind or self._kind in args):
            self.left -= 1
            raise KeyboardInterrupt
        return self._instead_of(*args, **keywords)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("q8a8_conformance.suite.dot_checks.scalar_bits", ""),
        ("q8a8_conformance.diagnosis.diagnose", ""),
        ("q8a8_conformance.suite.run.judge_records", ""),
        ("q8a8_conformance.report.write", "json"),
        ("q8a8_conformance.report.write", "statement"),
        ("q8a8_conformance.report.render", "text"),
    ],
)
def test_an_interrupt_is_a_verdict(
    name: str,
    kind: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    report_options: Options,
) -> None:
    """An interrupt in a check, in the diagnosis or while reports are written makes all reports say so."""
    module, _, attribute = name.rpartition(".")
    monkeypatch.setattr(name, Once(getattr(import_module(module), attribute), kind=kind))
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    status = main(["test", "ref", "--case", "dot/exact/blocks-3", *report_options(*FILES)])
    out, err = capfd.readouterr()
    assert status == 130
    check_interrupted(folder, out)
    assert "--badge" in err
    assert "not written: the run is interrupted" in err


def test_a_second_interrupt_ends_the_reports(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    report_options: Options,
) -> None:
    """Where reports are interrupted twice, some are missing, none is half, and the status is 130."""
    monkeypatch.setattr(report, "write", Once(report.write, times=2, kind="html"))
    assert main(["test", "ref", "--rules", "DOT-5", *report_options(*FILES)]) == 130
    assert "some are missing" in capfd.readouterr().err
    assert {path.name for path in folder.iterdir()} == {"json", "junitxml", "markdown"}
    assert json.loads((folder / "json").read_text("utf-8"))["verdict"] == "interrupted"


def test_an_interrupt_of_another_command(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Elsewhere, too, an interrupt is exit status 130 and no traceback."""
    monkeypatch.setattr("q8a8_conformance.commands.rules.command", Once(None))
    assert main(["rules"]) == 130
    assert capfd.readouterr().err == "q8a8: interrupted\n"


@pytest.fixture
def handlers() -> Iterator[None]:
    """Leave the handlers of signals as they were."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
def test_signals_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Held, a signal waits; one soon after another raises nothing, a later one does; ignored ones stay so."""
    now = 5.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with Interrupts() as interrupts:
        interrupts.hold()
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGHUP)
        assert interrupts.count == 1
        with pytest.raises(KeyboardInterrupt):
            interrupts.release()
        signal.raise_signal(signal.SIGINT)
        now += 1.5
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert interrupts.count == 4
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with Interrupts(last=True):
        pass
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


@pytest.mark.parametrize("numbers", [[signal.SIGTERM], [signal.SIGINT] * 3])
def test_signals_end_a_call_that_does_not_return(
    folder: Path,
    numbers: list[signal.Signals],
    report_options: Options,
    started: Started,
) -> None:
    """A signal, or several, in the middle of a call: verdict, reports, status 130, and no process is left."""
    words = ["test", "py:partial_kernels:Waiting", "--rules", "DEQ-*", "--timeout", "60"]
    with started("q8a8_conformance.cli", *words, *report_options(*FILES)) as running:
        wait_for(folder.parent / "mark")
        for number in numbers:
            running.send_signal(number)
            time.sleep(0.02)
        out, err = running.communicate(timeout=120)
    assert running.returncode == 130, err
    assert "Traceback" not in err
    check_interrupted(folder, out)
    worker = int((folder.parent / "mark").read_text("ascii"))
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


def test_a_signal_ends_a_kernel_that_another_command_calls(folder: Path, started: Started) -> None:
    """SIGTERM ends every command with its worker, in the middle of a call that would take a minute more."""
    words = ["fingerprint", "py:partial_kernels:Waiting", "--timeout", "60"]
    with started("q8a8_conformance.cli", *words) as running:
        wait_for(folder.parent / "mark")
        begun = time.monotonic()
        running.send_signal(signal.SIGTERM)
        out, err = running.communicate(timeout=120)
    assert (running.returncode, err) == (130, "q8a8: interrupted\n"), out
    assert time.monotonic() - begun < 30
    with pytest.raises(ProcessLookupError):
        os.kill(int((folder.parent / "mark").read_text("ascii")), 0)


def test_a_signal_ends_every_process(folder: Path, report_options: Options, started: Started) -> None:
    """The processes that share the cases end with the run, and their workers, in the middle of calls."""
    words = ["test", "py:partial_kernels:Waiting", "--rules", "DEQ-*", "--timeout", "60", "--jobs", "2"]
    with started("q8a8_conformance.cli", *words, *report_options(*FILES)) as running:
        for _ in range(1200):
            marks = list(folder.parent.glob("mark-*"))
            if len(marks) == 2:
                break
            time.sleep(0.05)
        running.send_signal(signal.SIGTERM)
        out, err = running.communicate(timeout=120)
    assert running.returncode == 130, err
    assert "Traceback" not in err
    check_interrupted(folder, out)
    assert len(marks) == 2
    for mark in marks:
        with pytest.raises(ProcessLookupError):
            os.kill(int(mark.name.removeprefix("mark-")), 0)


def test_a_signal_ends_the_plugin(folder: Path, started: Started) -> None:
    """SIGTERM ends a session of pytest as Ctrl-C does: reports are written, and show it."""
    kinds = [word for kind in FILES[:-1] for word in (f"--report-{kind}", str(folder / kind))]
    kinds += ["--write-known-failures", str(folder / "write-known-failures")]
    words = ["pytest", "-p", "q8a8_conformance.plugin", "-p", "no:cacheprovider"]
    words += ["--pyargs", "q8a8_conformance", "--sut", "py:partial_kernels:Waiting", "--call-timeout", "60"]
    with started(*words, "--rules", "DEQ-*", *kinds) as running:
        wait_for(folder.parent / "mark")
        running.send_signal(signal.SIGTERM)
        out, err = running.communicate(timeout=120)
    assert running.returncode == pytest.ExitCode.INTERRUPTED, out + err
    check_interrupted(folder, next(line for line in out.splitlines() if line.startswith("interrupted: ")))
