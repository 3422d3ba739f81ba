"""The stages of a smoke test: the worker starts, it offers functions, each result is about right."""

from __future__ import annotations

import re
import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from q8a8_conformance.protocol.session import (
    CallRefused,
    ProtocolViolation,
    Session,
    SessionError,
    WorkerCrashed,
    WorkerHung,
)
from q8a8_conformance.results.record import Status, worst
from q8a8_conformance.results.setup import Stage
from q8a8_conformance.results.verdict import Verdict
from q8a8_conformance.smoke import symptoms
from q8a8_conformance.smoke.library import propose_symbols, read_library
from q8a8_conformance.smoke.probes import Probe, probes
from q8a8_conformance.smoke.starting import start
from q8a8_conformance.spec.abi import NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from q8a8_conformance.protocol.messages import Hello
    from q8a8_conformance.protocol.sut import Sut
    from q8a8_conformance.smoke.library import Library

__all__ = ["Smoke", "Stage", "call_each", "run", "suite_command"]

_EXPORTED = re.compile(
    rb"\x00((?:ggml_vec_dot_q8_(?:0|a8)_q8|(?:de)?quantize_(?:row|activation)_q8_(?:0|a8))\w*)(?=\x00)"
)
_INITIALIZER = re.compile(rb"\x00(ggml_cpu_init)(?=\x00)")
_LARGEST_FILE = 1 << 26
"""The largest library, in bytes, that is searched for names."""


@dataclass(frozen=True)
class Smoke:
    """The result of all stages."""

    sut: Sut
    stages: tuple[Stage, ...]
    functions: tuple[str, ...] = ()
    seconds: float = 0.0
    ending: Verdict | None = None
    features: tuple[str, ...] = ()
    devices: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """The operations that each device of ggml's libraries supports, by its name."""

    @property
    def library(self) -> Library | None:
        """The library of ``lib:``; None for another system, or where its file cannot be read."""
        return read_library(Path(self.sut.argv[4])) if self.sut.kind == "lib" else None

    @property
    def verdict(self) -> Verdict:
        """The verdict, as of a test, on the setup and the first results."""
        if self.ending is not None:
            return self.ending
        status = worst(stage.status for stage in self.stages)
        if any(stage.status is Status.NOT_RUN for stage in self.stages) and status is Status.PASS:
            status = Status.NOT_RUN
        return {
            Status.PASS: Verdict.CONFORMS,
            Status.FAIL: Verdict.DOES_NOT_CONFORM,
            Status.CRASHED: Verdict.CRASHED,
            Status.NOT_RUN: Verdict.NOTHING_RAN,
        }[status]


def run(sut: Sut, timeout: float) -> Smoke:
    """Run all stages.

    Parameters
    ----------
    sut
        The system under test.
    timeout
        Time limit of a call in seconds.

    Raises
    ------
    SutError
        The command line names what the kernel does not have.
    """
    began = time.monotonic()
    with sut.session(timeout, start_timeout=timeout) as session:
        started = start(sut, session)
        functions = started.hello.functions if started.hello else ()
        features = started.hello.features if started.hello else ()
        operations = started.hello.extra.get("operations", {}) if started.hello else {}
        devices = tuple((name, tuple(supported)) for name, supported in operations.items())
        found = [started.stage]
        if started.hello is not None:
            found += call_each(sut, session, started.hello)
    return Smoke(sut, tuple(found), functions, time.monotonic() - began, started.ending, features, devices)


def call_each(sut: Sut, session: Session, hello: Hello) -> Iterator[Stage]:
    """Yield the stages of a worker that has started: what it offers, and one call of each function.

    Parameters
    ----------
    sut, session, hello
        The system under test and its worker.
    """
    yield _offered(sut, hello)
    for probe in probes(hello.functions):
        yield _probe(sut, session, probe)


def _offered(sut: Sut, hello: Hello) -> Stage:
    """Return the stage about the functions offered."""
    if hello.functions:
        if len(hello.functions) == len(NAMES):
            return Stage("hello", Status.PASS, f"offers all {len(NAMES)} functions")
        lacks = ", ".join(name for name in NAMES if name not in hello.functions)
        return Stage("hello", Status.PASS, f"offers {len(hello.functions)} of {len(NAMES)}; it lacks {lacks}")
    hint = "the library must export the ABI's names; map other names with --symbol ABI_NAME=EXPORTED_NAME"
    if proposed := _proposed(sut):
        hint += f". These may be what you mean: {shlex.join(proposed)}"
    elif names := _names_in(sut, _EXPORTED):
        hint += f"; the file contains {', '.join(names[:8])}"
    return Stage("hello", Status.NOT_RUN, "offers no function of the ABI", hint)


def _proposed(sut: Sut) -> list[str]:
    """Return the options that bind the likely functions of a library, and its initializer."""
    library = read_library(Path(sut.argv[4])) if sut.kind == "lib" else None
    if library is None:
        return []
    words = [
        word
        for name, exported in propose_symbols(library.exports).items()
        for word in ("--symbol", f"{name}={exported}")
    ]
    return [*words, "--init", "ggml_cpu_init"] if words and "ggml_cpu_init" in library.exports else words


def _probe(sut: Sut, session: Session, probe: Probe) -> Stage:
    """Make one call and return the stage about its result."""
    name = probe.call.function
    try:
        result = session.call(probe.call)
        outputs = probe.outputs(result.outputs)
    except (SessionError, ValueError) as error:
        return _no_answer(name, error)
    symptom = symptoms.look(probe, outputs, result.faults, _init_hint(sut))
    if symptom is None:
        return Stage(name, Status.PASS, "about right")
    detail = f" ({result.detail})" if result.detail else ""
    return Stage(name, Status.FAIL, symptom.message + detail, symptom.hint)


def _no_answer(name: str, error: SessionError | ValueError) -> Stage:
    """Return the stage about a call without a result."""
    match error:
        case CallRefused():
            status, hint = Status.FAIL, _refusal_hint(error)
        case WorkerCrashed():
            status, hint = Status.CRASHED, _crash_hint(error)
        case WorkerHung():
            status, hint = (
                Status.CRASHED,
                "a call with two blocks does not end: is n read from the wrong argument?",
            )
        case ProtocolViolation() | ValueError():
            status, hint = Status.CRASHED, "an answer has exactly the output buffers, complete and in order"
        case _:
            status, hint = Status.NOT_RUN, ""
    return Stage(name, status, str(error), hint)


def _refusal_hint(error: CallRefused) -> str:
    if "broadcast" in str(error):
        return (
            "outputs may be longer than the call: write the part that it is about, y[:k] = ...; blocks are "
            "uint8, floats float32, codes int8, a half's bits uint16"
        )
    return "a call with two blocks, 64 elements, is valid"


def _crash_hint(error: WorkerCrashed) -> str:
    if "SIGILL" in error.how:
        return "the CPU lacks an instruction that the kernel uses"
    if "SIGABRT" in error.how and error.stderr.strip():
        return "the kernel ended its process itself, and says why on standard error"
    return (
        "the call has two blocks: are the arguments in the ABI's order, sizes as size_t and counts as int or "
        "int64_t, and do n, k and size count elements? Does the library need --init?"
    )


def _init_hint(sut: Sut) -> str:
    """Return the hint for outputs of all zeros."""
    if sut.kind == "lib" and sut.init is None:
        names = _names_in(sut, _INITIALIZER)
        if names:
            return f"did you forget --init {names[0]}?"
        return (
            "does the library need to be initialized? --init SYMBOL calls a void f(void) once after loading"
        )
    return "is an initialization missing, such as of ggml's tables, or is the function a stub?"


def _names_in(sut: Sut, pattern: re.Pattern[bytes]) -> list[str]:
    """Return the names in the library's file that match a pattern, each once."""
    if sut.kind != "lib":
        return []
    path = Path(sut.argv[4])
    try:
        if path.stat().st_size > _LARGEST_FILE:
            return []
        data = path.read_bytes()
    except OSError:
        return []
    return sorted({match.decode("ascii", "replace") for match in pattern.findall(data)})


def suite_command(smoke: Smoke) -> str:
    """Return the command that tests the same system."""
    return shlex.join(["q8a8", "test", smoke.sut.spec, *smoke.sut.options])
