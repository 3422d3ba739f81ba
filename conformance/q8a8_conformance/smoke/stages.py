"""One stage after the other: does the worker start, what does it offer, is each answer about right."""

from __future__ import annotations

import re
import shlex
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from q8a8_conformance.protocol.session import (
    CallRefused,
    ProtocolViolation,
    Session,
    SessionError,
    WorkerCrashed,
    WorkerHung,
    WorkerUnsupported,
    WorkerUnusable,
)
from q8a8_conformance.protocol.sut import SutError
from q8a8_conformance.results.record import Status, worst
from q8a8_conformance.results.verdict import Verdict
from q8a8_conformance.smoke import symptoms
from q8a8_conformance.smoke.probes import Probe, probes
from q8a8_conformance.spec.abi import NAMES

if TYPE_CHECKING:
    from q8a8_conformance.protocol.messages import Hello
    from q8a8_conformance.protocol.sut import Sut

_EXPORTED = re.compile(
    rb"\x00((?:ggml_vec_dot_q8_(?:0|a8)_q8|(?:de)?quantize_(?:row|activation)_q8_(?:0|a8))\w*)(?=\x00)"
)
_INITIALIZER = re.compile(rb"\x00(ggml_cpu_init)(?=\x00)")
_LARGEST_FILE = 1 << 26
"""Bytes of a library that are searched for names."""


@dataclass(frozen=True)
class Stage:
    """One step of the way: its name, how it went, what was seen and what to look at first."""

    name: str
    status: Status
    message: str
    hint: str = ""


@dataclass(frozen=True)
class Smoke:
    """What came of it all."""

    sut: Sut
    stages: tuple[Stage, ...]
    functions: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def verdict(self) -> Verdict:
        """The verdict, as that of a test: about the way to the kernel, and its first results."""
        status = worst(stage.status for stage in self.stages)
        if any(stage.status is Status.NOT_RUN for stage in self.stages) and status is Status.PASS:
            status = Status.NOT_RUN
        return {
            Status.PASS: Verdict.CONFORMS,
            Status.FAIL: Verdict.DOES_NOT_CONFORM,
            Status.CRASHED: Verdict.CRASHED,
            Status.NOT_RUN: Verdict.NOTHING_RAN,
        }[status]


@dataclass
class _Found:
    stages: list[Stage] = field(default_factory=list)
    functions: tuple[str, ...] = ()


def run(sut: Sut, timeout: float) -> Smoke:
    """Go through all stages.

    Parameters
    ----------
    sut
        The system under test.
    timeout
        Seconds that one call may take.

    Raises
    ------
    SutError
        The worker cannot be started at all, or cannot serve its command line.
    """
    began = time.monotonic()
    found = _Found()
    with sut.session(timeout, start_timeout=timeout) as session:
        hello = _start(session, found)
        if hello is not None:
            found.functions = hello.functions
            found.stages.append(_offered(sut, hello))
            for probe in probes(hello.functions):
                found.stages.append(_probe(sut, session, probe))
    return Smoke(sut, tuple(found.stages), found.functions, time.monotonic() - began)


def _start(session: Session, found: _Found) -> Hello | None:
    """Start the worker and take its hello."""
    try:
        hello = session.hello
    except WorkerUnsupported as error:
        stage = Stage("start", Status.NOT_RUN, str(error), "this CPU cannot run the kernel: take another")
    except WorkerUnusable as error:
        raise SutError(str(error)) from error
    except WorkerCrashed as error:
        stage = Stage("start", Status.CRASHED, str(error), _why_it_died(error))
    except WorkerHung as error:
        hint = "does the program print its hello before it reads, and flush it? Does it wait for something?"
        stage = Stage("start", Status.CRASHED, str(error), hint)
    except ProtocolViolation as error:
        hint = (
            "standard output is for frames alone: print to standard error, and write in binary "
            "(the page 'protocol' has a worker of sixty lines)"
        )
        stage = Stage("start", Status.CRASHED, str(error), hint)
    except SessionError as error:
        raise SutError(str(error)) from error
    else:
        cpu = f" on {hello.arch}" if hello.arch else ""
        emulated = {True: ", emulated", False: "", None: ""}[hello.emulated]
        words = f"{hello.name} {hello.version}".strip()
        found.stages.append(Stage("start", Status.PASS, f"{words}{cpu}{emulated}"))
        return hello
    found.stages.append(stage)
    return None


def _why_it_died(error: WorkerCrashed) -> str:
    """Guess from what a worker that ended before its hello left behind."""
    text = error.stderr
    if "ld-linux" in text or "ELF interpreter" in text:
        return "the emulator does not find the C library: give it -L and its folder, /usr/aarch64-linux-gnu"
    if "SIGILL" in error.how:
        return (
            "the CPU lacks an instruction: is it built for another one, or does the emulator need -cpu max?"
        )
    if "ModuleNotFoundError" in text or "ImportError" in text:
        return "Python does not find the module: set PYTHONPATH, or install it"
    if "exit status 0" in error.how:
        return "the program ended at once: does it speak the worker protocol?"
    return "it died while loading or in its init, before any call"


def _offered(sut: Sut, hello: Hello) -> Stage:
    """Say which functions there are."""
    if hello.functions:
        if len(hello.functions) == len(NAMES):
            return Stage("hello", Status.PASS, f"offers all {len(NAMES)} functions")
        lacks = ", ".join(name for name in NAMES if name not in hello.functions)
        return Stage("hello", Status.PASS, f"offers {len(hello.functions)} of {len(NAMES)}; it lacks {lacks}")
    hint = "a library exports the ABI's names, or --symbol ABI_NAME=EXPORTED_NAME says which it has instead"
    names = _names_in(sut, _EXPORTED)
    if names:
        hint += f"; the file mentions {', '.join(names[:8])}"
    return Stage("hello", Status.NOT_RUN, "offers no function of the ABI", hint)


def _probe(sut: Sut, session: Session, probe: Probe) -> Stage:
    """Make one call, and say what is strange about its answer."""
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
    """Say why a call gave nothing."""
    match error:
        case CallRefused():
            status, hint = Status.FAIL, "two blocks, 64 elements, are a legal call"
        case WorkerCrashed():
            status, hint = Status.CRASHED, _why_it_crashed(error)
        case WorkerHung():
            status, hint = Status.CRASHED, "two blocks never end: is n read as another argument?"
        case ProtocolViolation() | ValueError():
            status, hint = Status.CRASHED, "an answer has the output buffers alone, whole, in order"
        case _:
            status, hint = Status.NOT_RUN, ""
    return Stage(name, status, str(error), hint)


def _why_it_crashed(error: WorkerCrashed) -> str:
    if "SIGILL" in error.how:
        return "the CPU lacks an instruction that the kernel uses"
    return (
        "a call of two blocks: are the arguments in the ABI's order, sizes as size_t and counts as int or "
        "int64_t, and are n, k and size taken for elements? Does the library need --init?"
    )


def _init_hint(sut: Sut) -> str:
    """Say what to do about zeros everywhere."""
    if sut.kind == "lib" and sut.init is None:
        names = _names_in(sut, _INITIALIZER)
        if names:
            return f"did you forget --init {names[0]}?"
        return (
            "does the library want to be initialized? --init SYMBOL calls a void f(void) once after loading"
        )
    return "is there something to initialize first, tables of ggml's say, or is the function a stub?"


def _names_in(sut: Sut, pattern: re.Pattern[bytes]) -> list[str]:
    """Find names in the library's string table, each once."""
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


def again(smoke: Smoke) -> str:
    """Give the command that judges the same system in full."""
    return shlex.join(["q8a8", "test", smoke.sut.spec, *smoke.sut.options])
