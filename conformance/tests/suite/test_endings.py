"""Endings of a run besides a judgement: interrupted, never reached, broken, reports that are not written."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

from q8a8_conformance import report
from q8a8_conformance.cli import main
from q8a8_conformance.suite.interrupts import Interrupts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .conftest import Tested

HERE = Path(__file__).parent
MUTANTS = "py:q8a8_conformance.mutants"
FILES = ("json", "junitxml", "markdown", "html", "badge", "statement", "write-known-failures")
JUDGEMENTS = {"badge", "statement", "write-known-failures"}


def flags(folder: Path, *kinds: str) -> list[str]:
    """Return the options that write reports into a folder, under the names of their options."""
    return [word for kind in kinds for word in (f"--{kind}", str(folder / kind))]


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
    name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """An interrupt in a check, in the diagnosis or while reports are written makes all reports say so."""
    module, _, attribute = name.rpartition(".")
    monkeypatch.setattr(name, Once(getattr(import_module(module), attribute), kind=kind))
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    status = main(["test", "ref", "--case", "dot/exact/blocks-3", *flags(tmp_path, *FILES)])
    out, err = capfd.readouterr()
    assert status == 130
    check_interrupted(tmp_path, out)
    assert "--badge" in err
    assert "not written: the run is interrupted" in err


def test_a_second_interrupt_ends_the_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where reports are interrupted twice, some are missing, none is half, and the status is 130."""
    monkeypatch.setattr(report, "write", Once(report.write, times=2, kind="html"))
    assert main(["test", "ref", "--rules", "DOT-5", *flags(tmp_path, *FILES)]) == 130
    assert "some are missing" in capfd.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"json", "junitxml", "markdown"}
    assert json.loads((tmp_path / "json").read_text("utf-8"))["verdict"] == "interrupted"


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


@contextmanager
def started(*words: str, folder: Path, **more: Any) -> Iterator[subprocess.Popen[str]]:  # noqa: ANN401 (Popen's)
    """Run a module of Python in a folder, with the kernels beside this file."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "Q8A8_MARK": str(folder.parent / "mark")}
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE), *sys.path])
    running = subprocess.Popen(  # noqa: S603 (this Python, our own code)
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


def wait_for(path: Path) -> None:
    """Wait until a file appears."""
    deadline = time.monotonic() + 300
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert path.exists()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an empty folder, a working directory."""
    path = tmp_path / "folder"
    path.mkdir()
    return path


@pytest.mark.parametrize("numbers", [[signal.SIGTERM], [signal.SIGINT] * 3])
def test_signals_end_a_call_that_does_not_return(folder: Path, numbers: list[signal.Signals]) -> None:
    """A signal, or several, in the middle of a call: verdict, reports, status 130, and no process is left."""
    words = ["test", "py:partial_kernels:Waiting", "--rules", "DEQ-*", "--timeout", "60"]
    with started("q8a8_conformance.cli", *words, *flags(folder, *FILES), folder=folder) as running:
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


def test_a_signal_ends_the_plugin(folder: Path) -> None:
    """SIGTERM ends a session of pytest as Ctrl-C does: reports are written, and show it."""
    kinds = [word for kind in FILES[:-1] for word in (f"--report-{kind}", str(folder / kind))]
    kinds += ["--write-known-failures", str(folder / "write-known-failures")]
    words = ["pytest", "-p", "q8a8_conformance.plugin", "-p", "no:cacheprovider"]
    words += ["--pyargs", "q8a8_conformance", "--sut", "py:partial_kernels:Waiting", "--call-timeout", "60"]
    with started(*words, "--rules", "DEQ-*", *kinds, folder=folder) as running:
        wait_for(folder.parent / "mark")
        running.send_signal(signal.SIGTERM)
        out, err = running.communicate(timeout=120)
    assert running.returncode == pytest.ExitCode.INTERRUPTED, out + err
    check_interrupted(folder, next(line for line in out.splitlines() if line.startswith("interrupted: ")))


# Kernels that are not reached.


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        ("exit 255", "ssh and emulators end so"),
        ("exit 127", "there is no such program"),
        ("nowhere", "there is no such program"),
        ("exit 126", "is it executable"),
        ("exit 0", "does it implement the worker protocol?"),
        ("exit 3", "it ended while loading"),
        ("kill -KILL $$", "it ended while loading"),
        ("echo no protocol", "standard output is for frames only"),
        ("echo ssh: Could not resolve hostname >&2; exit 255", "is its name right"),
        ("echo 'x@y: Permission denied (publickey).' >&2; exit 255", "ssh is refused"),
        ("echo qemu: Could not open /lib/ld-linux-aarch64.so.1 >&2; exit 255", "pass -L"),
        ("echo qemu: Invalid ELF image for this architecture >&2; exit 255", "another architecture"),
    ],
)
def test_a_program_that_is_no_kernel(
    q8a8_test: Callable[..., Tested], folder: Path, command: str, hint: str
) -> None:
    """A program that ends before its hello breaks no rule: ``not-reached``, status 5, with a hint."""
    tested = q8a8_test(f'exec:sh -c "{command}"', *flags(folder, *FILES[1:]))
    assert (tested.status, tested.report["verdict"]) == (5, "not-reached")
    assert tested.rules("pass", "fail", "crashed") == set()
    assert {rule["reason"] for rule in tested.report["rules"]} == {"the kernel was not reached"}
    (stage,) = tested.report["setup"]
    assert (stage["stage"], stage["status"]) == ("start", "not-run")
    assert hint in stage["hint"]
    assert hint in tested.out
    assert tested.out.splitlines()[-1].startswith("not-reached: 0 rules judged")
    assert {path.name for path in folder.iterdir()} == {"junitxml", "markdown", "html"}
    assert all(hint in (folder / kind).read_text("utf-8") for kind in ("junitxml", "markdown"))
    assert main(["smoke", f'exec:sh -c "{command}"']) == 5
    assert main(["certify", f'exec:sh -c "{command}"']) == 5


def test_a_program_that_waits(q8a8_test: Callable[..., Tested], monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that sends nothing (a question for a password) is not reached."""
    monkeypatch.setattr("q8a8_conformance.suite.run.START_TIMEOUTS", {"exec": 0.2})
    tested = q8a8_test("exec:sleep 60", "--timeout", "0.2")
    assert (tested.status, tested.report["verdict"]) == (5, "not-reached")
    assert "password" in tested.report["setup"][0]["hint"]


RELAY = """
import os, sys, threading, subprocess
if os.path.exists(sys.argv[1]):
    sys.exit("ssh: connect to host board port 22: No route to host") if sys.argv[2] == "gone" else None
worker = subprocess.Popen([sys.executable, "-m", "q8a8_conformance.worker", "ref"], stdin=-1)
for _ in range(60):
    worker.stdin.write(os.read(0, 65536))
    worker.stdin.flush()
open(sys.argv[1], "w").close()
worker.kill()
sys.stderr.write("client_loop: send disconnect: Broken pipe\\n" if sys.argv[2] == "words" else "")
sys.stderr.flush()
os._exit(255)
"""
"""A program that reaches a kernel, until some calls were made."""


@pytest.mark.parametrize("how", ["words", "gone"])
def test_a_connection_that_breaks(q8a8_test: Callable[..., Tested], folder: Path, how: str) -> None:
    """A connection that breaks in the middle is no crash of the kernel: no rule is broken, and status 5."""
    relay, down = folder / "relay.py", folder / "down"
    relay.write_text(RELAY, encoding="utf-8")
    tested = q8a8_test(f"exec:{sys.executable} {relay} {down} {how}", "--case", "dot/*")
    assert (tested.status, tested.report["verdict"]) == (5, "connection-lost")
    assert tested.rules("fail", "crashed") == set()
    assert tested.report["setup"][-1]["stage"] == "connection"
    assert any("the connection was lost" in reason for reason in tested.report["not_run"])
    assert tested.out.splitlines()[-1].startswith("connection-lost: ")


def test_a_program_of_another_architecture(q8a8_test: Callable[..., Tested], folder: Path) -> None:
    """A file that the system cannot execute is not reached."""
    program = folder / "harness"
    program.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xb7\x00" + bytes(100))
    program.chmod(0o755)
    tested = q8a8_test(f"exec:{program}")
    assert (tested.status, tested.report["verdict"]) == (5, "not-reached")
    assert "another architecture" in tested.report["setup"][0]["hint"]


@pytest.fixture(scope="module")
def compiled(
    tmp_path_factory: pytest.TempPathFactory, need: Callable[[object, str], None]
) -> Callable[..., Path]:
    """Return a compiler of a dequantizer that is no good, with a constructor and flags."""
    compiler = shutil.which("cc")
    need(compiler, "no C compiler")
    source = tmp_path_factory.mktemp("endings") / "kernel.c"
    source.write_text(
        "#include <stdint.h>\n#include <stdlib.h>\n#include <unistd.h>\nint nowhere(void);\n"
        "__attribute__((constructor)) static void at_load(void) { AT_LOAD; }\n"
        "void dequantize_row_q8_a8(const void *x, float *y, int64_t k) { BODY; }\n"
        "void ggml_cpu_init(void) { for (;;) pause(); }\n",
        encoding="utf-8",
    )

    def compile_it(at_load: str = "", body: str = "", *more: str) -> Path:
        library = source.with_name(f"lib{len(list(source.parent.iterdir()))}.so")
        words = [f"-DAT_LOAD={at_load}", f"-DBODY={body}", *(more or ("-shared",)), "-fPIC"]
        command = [str(compiler), "-w", *words, "-o", str(library), str(source)]
        subprocess.run(command, check=True, timeout=60)  # noqa: S603 (the compiler, on our own file)
        return library

    return compile_it


def _of_aarch64(library: Path) -> None:
    data = bytearray(library.read_bytes())
    data[18:20] = b"\xb7\x00" if data[18] != 0xB7 else b"\x3e\x00"
    library.write_bytes(data)


def _no_library(library: Path) -> None:
    library.write_text("int main;\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("body", "more", "change", "message", "hint"),
    [
        ("", (), _of_aarch64, "is built for", "exec:'ssh HOST"),
        ("", (), _no_library, "is no shared library", "-shared"),
        ("", ("-c",), None, "is an object file", "-shared"),
        ("nowhere()", (), None, "undefined symbol: nowhere", "-lm"),
    ],
    ids=["architecture", "text", "object", "symbol"],
)
def test_a_library_that_cannot_be_loaded(
    q8a8_test: Callable[..., Tested],
    compiled: Callable[..., Path],
    body: str,
    more: tuple[str, ...],
    change: Callable[[Path], None] | None,
    message: str,
    hint: str,
) -> None:
    """A library for another machine, an object file, a text, a missing symbol: not reached, and why."""
    library = compiled("", body, *more)
    if change is not None:
        change(library)
    tested = q8a8_test(f"lib:{library}")
    assert (tested.status, tested.report["verdict"]) == (5, "not-reached")
    (stage,) = tested.report["setup"]
    assert message in stage["message"]
    assert hint in stage["hint"]
    assert main(["smoke", f"lib:{library}"]) == 5


@pytest.mark.parametrize("at_load", ["abort()", "exit(0)", "_exit(2)", 'write(2, "bye\\n", 4), _exit(2)'])
def test_a_kernel_that_crashes_while_it_is_loaded(
    q8a8_test: Callable[..., Tested], compiled: Callable[..., Path], at_load: str
) -> None:
    """The kernel was reached: it crashes, and breaks the rule that calls return."""
    tested = q8a8_test(f"lib:{compiled(at_load)}")
    assert (tested.status, tested.report["verdict"]) == (3, "crashed")
    assert tested.rules("crashed") == {"ENV-4"}
    assert "the kernel crashed while it was loaded" in {rule["reason"] for rule in tested.report["rules"]}


def test_a_kernel_that_hangs_in_its_init(
    q8a8_test: Callable[..., Tested], compiled: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An initializer that does not return is the kernel's, too."""
    monkeypatch.setattr("q8a8_conformance.suite.run.START_TIMEOUT", 1.0)
    tested = q8a8_test(f"lib:{compiled()}", "--init", "ggml_cpu_init", "--timeout", "1")
    assert (tested.status, tested.report["verdict"]) == (3, "crashed")


def test_a_library_without_functions(q8a8_test: Callable[..., Tested], compiled: Callable[..., Path]) -> None:
    """Where the names are others and no option says so, nothing ran: that the library loads is no verdict."""
    library = compiled("", "", "-shared", "-fPIC", "-Ddequantize_row_q8_a8=mine")
    tested = q8a8_test(f"lib:{library}")
    assert (tested.status, tested.report["verdict"]) == (4, "nothing-ran"), tested.out
    assert not tested.rules("pass", "fail", "crashed")


def test_the_hints_of_smoke(q8a8_test: Callable[..., Tested], compiled: Callable[..., Path]) -> None:
    """A library that needs to be initialized fails, and every report names the option that it needs."""
    zeros = "for (int64_t i = 0; i < k; i++) y[i] = 0"
    tested = q8a8_test(f"lib:{compiled('', zeros)}", "--rules", "HLF-3")
    assert tested.status == 1
    assert "did you forget --init ggml_cpu_init?" in tested.report["setup"][0]["hint"]
    assert "did you forget --init ggml_cpu_init?" in tested.out


# Rules that are not judged in full.


@pytest.mark.parametrize(
    ("lacks", "unjudged"),
    [
        ("threads", {"ENV-3"}),
        ("flush", {"ENV-1"}),
        ("fenv", {"ENV-1"}),
        ("repeat", {"ENV-2"}),
        ("offset", {"MEM-2", "MEM-4"}),
        ("guard", {"MEM-1"}),
        ("readonly", {"MEM-3"}),
    ],
)
def test_a_rule_passes_only_if_it_was_seen(
    q8a8_test: Callable[..., Tested], lacks: str, unjudged: set[str]
) -> None:
    """Where the worker lacks a capability, the rules that need it are not run, with the reason."""
    worker = f"{sys.executable} {HERE / 'lacking_worker.py'} {lacks}"
    tested = q8a8_test(f"exec:{worker}", "--rules", "ENV-*,MEM-*", "--case", "*dequantize_row*")
    assert (tested.status, tested.report["verdict"]) == (0, "conforms"), tested.out
    assert unjudged <= tested.rules("not-run")
    for rule in tested.report["rules"]:
        if rule["id"].removeprefix("Q8A8-") in unjudged:
            assert rule["reason"] == f"the worker has no capability {lacks!r}"


def test_one_function_is_not_equal_to_another(q8a8_test: Callable[..., Tested]) -> None:
    """That two quantizers write the same bytes is not judged of a kernel that offers one of them."""
    tested = q8a8_test("py:partial_kernels:OneQuantizer", "--rules", "QNT-8,LAY-1")
    assert (tested.rules("not-run"), tested.rules("pass")) == ({"QNT-8"}, {"LAY-1"})
    assert "the kernel does not offer quantize_row_q8_a8_ref" in tested.out


def test_a_case_that_makes_no_call_has_a_reason(
    q8a8_test: Callable[..., Tested], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check that has found nothing to do has not passed."""
    monkeypatch.setattr("q8a8_conformance.suite.test_environment.samples", lambda *_, **__: [])
    tested = q8a8_test("ref", "--case", "environment/repeated/dequantize_row_q8_a8")
    assert (tested.status, tested.report["verdict"]) == (4, "nothing-ran")
    assert tested.report["not_run"] == {"the case made no call": 1}


def test_known_failures_show_in_the_verdict(q8a8_test: Callable[..., Tested], folder: Path) -> None:
    """A kernel that conforms but for known failures is called that, in every report."""
    known = folder.parent / "known"
    known.write_text("DOT-7 *\n", encoding="utf-8")
    kinds = ("markdown", "html", "badge", "statement")
    words = ("--rules", "DOT-7", "--known-failures", str(known), *flags(folder, *kinds))
    tested = q8a8_test(f"{MUTANTS}:s_added_if_finite", *words)
    count = len(tested.report["known_failures"])
    assert tested.status == 0
    assert tested.report["verdict"] == "conforms"
    assert f"conforms except for {count} known failures: " in tested.out
    for kind in kinds:
        assert f"conforms except for {count} known failures" in (folder / kind).read_text("utf-8"), kind


@pytest.mark.parametrize("excused", [False, True])
def test_the_first_failure_ends_the_run(
    q8a8_test: Callable[..., Tested], folder: Path, excused: bool
) -> None:
    """With -x nothing runs after the first failure, unless it is known; what did not run has its reason."""
    known = folder / "known"
    known.write_text("DOT-7 *\nDOT-5 *\n" if excused else "# none\n", encoding="utf-8")
    selection = ("--rules", "DOT-5,DOT-7", "--known-failures", str(known))
    tested = q8a8_test(f"{MUTANTS}:s_added_if_finite", *selection, "-x")
    cases = sum(rule["cases"] for rule in tested.report["rules"])
    if excused:
        assert tested.report["complete"]
        assert cases > 2
    else:
        assert (tested.status, tested.report["verdict"], tested.report["complete"]) == (
            1,
            "does-not-conform",
            False,
        )
        assert len({failure["case"] for failure in tested.report["failures"]}) == 1
        assert "the run stopped at the first failure (-x)" in tested.report["not_run"]
        assert "-x" not in tested.report["command"]


# Reports that are written elsewhere than into files, or not at all.


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
def test_standard_output_that_is_not_read(folder: Path, sut: str, out: str, status: int) -> None:
    """Where the text cannot be written the status is 6; a reader that has gone leaves the verdict's."""
    words = ("q8a8_conformance.cli", "test", sut, "--rules", "DOT-7", "--json", "json")
    if out == "left":
        reads, writes = os.pipe()
        os.close(reads)
    else:
        writes = os.open("/dev/full" if out == "full" else os.devnull, os.O_WRONLY)
    more: dict[str, Any] = {"preexec_fn": lambda: os.close(1)} if out == "closed" else {}
    with started(*words, folder=folder, stdout=writes, **more) as running:
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
        done = subprocess.run(  # noqa: S603 (our own)
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
