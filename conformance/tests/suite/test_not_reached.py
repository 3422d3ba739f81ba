"""Kernels that are not reached: programs, connections, libraries; each with a hint."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Options, Tested

HERE = Path(__file__).parent
MUTANTS = "py:q8a8_conformance.mutants"
FILES = ("json", "junitxml", "markdown", "html", "badge", "statement", "write-known-failures")
JUDGEMENTS = {"badge", "statement", "write-known-failures"}


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
    q8a8_test: Callable[..., Tested],
    folder: Path,
    command: str,
    hint: str,
    report_options: Options,
) -> None:
    """A program that ends before its hello breaks no rule: ``not-reached``, status 5, with a hint."""
    tested = q8a8_test(f'exec:sh -c "{command}"', *report_options(*FILES[1:]))
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
        subprocess.run(command, check=True, timeout=60)
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
