"""The start of a worker: whether a kernel was reached, and if not, why and what to check first.

A program that ends before its hello is no kernel that failed: a wrong host, a missing emulator option, a
library for another architecture break no rule. But a kernel that crashes or hangs while it is loaded, in a
constructor or in its ``--init``, is a kernel that crashes. The suite's own worker (``lib:``, ``py:``) works,
so whatever ends it is the kernel's doing; of a program (``exec:``) that can be said only where a signal of a
fault ended it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from q8a8_conformance.protocol.session import (
    ProtocolViolation,
    SessionError,
    WorkerCrashed,
    WorkerHung,
    WorkerUnsupported,
    WorkerUnusable,
)
from q8a8_conformance.protocol.sut import SutError
from q8a8_conformance.results.record import Status
from q8a8_conformance.results.setup import Stage
from q8a8_conformance.results.verdict import Verdict
from q8a8_conformance.smoke.elf import why_not_loadable

if TYPE_CHECKING:
    from q8a8_conformance.protocol.messages import Hello
    from q8a8_conformance.protocol.session import Session
    from q8a8_conformance.protocol.sut import Sut

FAULTS = ("SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT", "SIGTRAP", "SIGSYS")
"""The signals of a program that goes wrong; others come from outside."""


@dataclass(frozen=True)
class Start:
    """What became of the start.

    Attributes
    ----------
    stage
        For people to read.
    hello
        The worker's; None where there is none.
    ending
        The verdict of a run without a hello: ``not-reached``, ``crashed`` or ``nothing-ran``.
    """

    stage: Stage
    hello: Hello | None = None
    ending: Verdict | None = None


def start(sut: Sut, session: Session) -> Start:
    """Start the worker and receive its hello.

    Raises
    ------
    SutError
        The command line names what the kernel does not have: a symbol, a Python object.
    """
    try:
        hello = session.hello
    except WorkerUnsupported as error:
        hint = "this CPU cannot run the kernel: use another one"
        message = f"{error.what}: {error.stderr.strip()}".rstrip(": ")
        return Start(Stage("start", Status.NOT_RUN, message, hint), ending=Verdict.NOTHING_RAN)
    except WorkerUnusable as error:
        return _unusable(sut, error)
    except SessionError as error:
        if sut.kind != "exec" or ends_kernel(error):
            return Start(Stage("start", Status.CRASHED, str(error), _hint(error)), ending=Verdict.CRASHED)
        return _not_reached(str(error), _missing(sut) or _hint(error))
    cpu = f" on {hello.arch}" if hello.arch else ""
    emulated = {True: ", emulated", False: "", None: ""}[hello.emulated]
    words = f"{hello.name} {hello.version}".strip()
    return Start(Stage("start", Status.PASS, f"{words}{cpu}{emulated}"), hello)


def _not_reached(message: str, hint: str) -> Start:
    return Start(Stage("start", Status.NOT_RUN, message, hint), ending=Verdict.NOT_REACHED)


def ends_kernel(error: SessionError) -> bool:
    """Return whether a program (``exec:``) without a hello was ended by a fault: the kernel crashed."""
    return isinstance(error, WorkerCrashed) and any(name in error.how for name in FAULTS)


def is_dropped(error: SessionError) -> bool:
    """Return whether a program ended as ``ssh`` does where the connection to the other machine broke."""
    ended = isinstance(error, WorkerCrashed) and error.how == "exit status 255"
    return ended and any(words in error.stderr for words in _DROPPED)


def _unusable(sut: Sut, error: WorkerUnusable) -> Start:
    """Return the start of a command that cannot be executed, or of a library that cannot be loaded."""
    last = (error.stderr.strip().splitlines() or [""])[-1]
    if error.what.startswith("cannot start"):
        return _not_reached(str(error), _program_hint(str(error)))
    if last.startswith("lib: cannot load "):
        why = why_not_loadable(Path(sut.argv[4]))
        if why is not None:
            return _not_reached(f"{sut.argv[4]}: {why.message}", why.hint)
        return _not_reached(last.removeprefix("lib: "), _loader_hint(last))
    if sut.kind == "exec" or last.startswith(f"{sut.kind}: "):
        raise SutError(str(error)) from error
    # Those are not our worker's words: the kernel has ended it.
    what = str(error).replace(error.what, "the worker ended (exit status 2) before its hello")
    return Start(Stage("start", Status.CRASHED, what, _OTHER_HINT), ending=Verdict.CRASHED)


def _missing(sut: Sut) -> str:
    """Return a hint where an emulator's command names a file that is not there: QEMU does not say so."""
    if Path(sut.argv[0]).name.startswith("qemu-"):
        for word in sut.argv[1:]:
            if "/" in word and not word.startswith("-") and not Path(word).exists():
                return f"there is no file {word}: is it built?"
    return ""


def _loader_hint(text: str) -> str:
    """Return a hint for what the dynamic loader says of a library of the right kind."""
    if "undefined symbol" in text:
        return "link the library with what defines the symbol: -lm, other objects, another library"
    if "executable" in text:
        return "it is a program: link it with -shared, compiled with -fPIC"
    if "GLIBC" in text:
        return "it was linked with a newer C library than this machine's: build it here, or statically"
    return "a library that it needs is not found: set LD_LIBRARY_PATH, or link it statically"


def _hint(error: SessionError) -> str:
    """Return a hint for a worker that sent no hello."""
    match error:
        case WorkerHung():
            return (
                "does the program print its hello before it reads, and flush it? Does it wait for something, "
                "such as a password?"
            )
        case ProtocolViolation():
            return (
                "standard output is for frames only: print to standard error, and write in binary "
                "(the page 'protocol' has a worker of sixty lines)"
            )
        case WorkerCrashed():
            return _end_hint(error)
        case _:
            return ""


def _end_hint(error: WorkerCrashed) -> str:
    """Return a hint for a worker that ended before its hello."""
    if "SIGILL" in error.how:
        return (
            "the CPU lacks an instruction: is it built for another one, or does the emulator need -cpu max?"
        )
    if any(name in error.how for name in FAULTS):
        return "it crashed while loading or in its init, before any call"
    return _program_hint(error.stderr) or _STATUS_HINTS.get(error.how, _OTHER_HINT)


def _program_hint(text: str) -> str:
    """Return a hint for what shells, ssh and emulators print of a program; empty for anything else."""
    for words, hint in _PRINTED:
        if any(word in text for word in words):
            return hint
    return ""


_OTHER_HINT = "it ended while loading or in its init, before any call"
_STATUS_HINTS = {
    "exit status 0": "the program ended at once: does it implement the worker protocol?",
    "exit status 126": "the program cannot be executed: is it executable, and built for that machine?",
    "exit status 127": "there is no such program, or none in the PATH, where the command is executed",
    "exit status 255": "ssh and emulators end so where they do not reach the program: does the command work?",
}

_DROPPED = (
    *("Broken pipe", "closed by remote host", "Connection closed", "Connection reset"),
    *("Connection timed out", "No route to host", "not responding", "Network is unreachable"),
)
"""What ``ssh`` prints where a connection breaks."""

_PRINTED = (
    (
        ("ModuleNotFoundError", "ImportError"),
        "Python does not find the module: set PYTHONPATH, or install it",
    ),
    (
        ("ld-linux", "ld-musl", "ELF interpreter"),
        "the emulator does not find the C library: pass -L and its folder, /usr/aarch64-linux-gnu",
    ),
    (
        ("Exec format error", "Invalid ELF image", "cannot execute binary file"),
        (
            "the program is built for another architecture: start it with an emulator, "
            "qemu-aarch64 -L /usr/aarch64-linux-gnu -cpu max PROGRAM, or on such a machine"
        ),
    ),
    (
        ("Could not resolve", "Connection refused", "Connection timed out", "No route to host"),
        "the machine is not reached: is its name right, and does it run?",
    ),
    (
        ("Permission denied (", "Host key verification failed"),
        "ssh is refused: it must work without a question (ssh -o BatchMode=yes HOST true)",
    ),
    (("Permission denied",), "the program is not executable: chmod +x"),
    (("No such file", "not found"), "there is no such program, or none in the PATH, where it is executed"),
)
"""Words of standard error, and the likely cause; the first that fits."""
