"""The system under test: one argument on the command line, translated to a worker's command.

===========================  ==============================================================================
``ref``                      the NumPy reference
``lib:PATH``                 a shared library with the C ABI, or part of it
``py:MODULE:OBJECT``         a Python object with methods of the ABI's names
``ggml:PATH[,PATH][:DEV]``   a device of ggml's, by its libraries; then ``:NAME=VALUE[,NAME=VALUE]``
``exec:COMMAND ...``         any program that implements the worker protocol
===========================  ==============================================================================
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from q8a8_conformance.protocol.session import Session
from q8a8_conformance.spec.abi import NAMES
from q8a8_conformance.spec.suggest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

FORMS = "ref, lib:PATH, py:MODULE:OBJECT, ggml:PATH[,PATH...][:DEVICE][:OPTION=VALUE] or exec:COMMAND"
_WORKER = (sys.executable, "-m", "q8a8_conformance.worker")
DEVICE_OPTIONS = {
    "threads": re.compile("[1-9][0-9]*"),
    "buffer": re.compile("default|repack"),
    "precision": re.compile("default|f32"),
    "copy": re.compile("cpy|rows"),
}
"""Options of a device of ggml's, with the values that they take."""

_OBJECT = re.compile(r"[\w.]+:[\w.]+", re.ASCII)


class SutError(ValueError):
    """The argument does not name a system under test; the message describes the valid forms."""


@dataclass(frozen=True)
class Sut:
    """A system under test.

    Parameters
    ----------
    spec : str
        The argument.
    kind : {"ref", "lib", "py", "ggml", "exec"}
        Its form.
    argv : tuple of str
        The worker's command.
    symbols : tuple of str
        ``ABI_NAME=EXPORTED_NAME``, for ``lib``.
    init : str or None
        A ``void f(void)`` that is called once after loading, for ``lib``.
    """

    spec: str
    kind: Literal["ref", "lib", "py", "ggml", "exec"]
    argv: tuple[str, ...]
    symbols: tuple[str, ...] = ()
    init: str | None = None

    def session(self, timeout: float = 10.0, *, start_timeout: float = 30.0) -> Session:
        """Return a session with a worker for this system; the worker starts at the first use."""
        return Session(self.argv, timeout, start_timeout=start_timeout)

    @property
    def options(self) -> tuple[str, ...]:
        """The command-line options that belong to this system."""
        flags = [word for symbol in self.symbols for word in ("--symbol", symbol)]
        return (*flags, *(("--init", self.init) if self.init else ()))


def parse_sut(text: str, symbols: Sequence[str] = (), init: str | None = None) -> Sut:
    """Parse the argument and options of a system under test.

    Parameters
    ----------
    text : str
        One of the forms above.
    symbols : sequence of str
        ``ABI_NAME=EXPORTED_NAME``, each; for ``lib:`` alone.
    init : str, optional
        The library's initializer; for ``lib:`` alone.

    Raises
    ------
    SutError
        The form is unknown, a file or command does not exist, or an option does not apply to the form.
    """
    form, colon, rest = text.partition(":")
    if form != "lib" and (symbols or init):
        hint = (
            "pass flags of the harness inside exec:'...'" if form == "exec" else "they apply to lib:PATH only"
        )
        raise SutError(f"--symbol and --init do not apply to {text!r}: {hint}")
    if text == "ref":
        return Sut(text, "ref", (*_WORKER, "ref"))
    if not colon or not rest.strip():
        raise SutError(f"{text!r} is not a system under test: write {FORMS}{_guess(text)}")
    match form:
        case "lib":
            return _library(text, rest, tuple(symbols), init)
        case "py":
            if not _OBJECT.fullmatch(rest):
                raise SutError(f"{text!r}: write py:MODULE:OBJECT, such as py:my_package.kernels:kernel")
            return Sut(text, "py", (*_WORKER, "py", rest))
        case "ggml":
            return Sut(text, "ggml", (*_WORKER, "ggml", *_devices(text, rest)))
        case "exec":
            return Sut(text, "exec", _command(text, rest))
        case _:
            raise SutError(f"{text!r}: {form!r} is not a form of system under test: write {FORMS}")


def _guess(text: str) -> str:
    """Return a hint if the argument is an existing path."""
    path = Path(text)
    if path.is_file():
        return f"; did you mean {'lib' if '.so' in path.name else 'exec'}:{text} ?"
    return ""


def _library(text: str, rest: str, symbols: tuple[str, ...], init: str | None) -> Sut:
    path = Path(rest).expanduser()
    if not path.is_file():
        raise SutError(f"{text!r}: there is no file {rest}")
    for symbol in symbols:
        abi_name, equals, exported = symbol.partition("=")
        if not equals or not exported:
            raise SutError(f"--symbol {symbol!r}: write ABI_NAME=EXPORTED_NAME")
        if abi_name not in NAMES:
            raise SutError(
                f"--symbol {symbol!r}: {abi_name!r} is not an ABI function; they are {', '.join(NAMES)}"
                f"{did_you_mean(abi_name, NAMES)}"
            )
    sut = Sut(text, "lib", (*_WORKER, "lib", str(path.absolute())), symbols, init)
    return Sut(sut.spec, sut.kind, (*sut.argv, *sut.options), symbols, init)


def _devices(text: str, rest: str) -> tuple[str, ...]:
    """Return the worker's arguments for a device: libraries, which must exist, and its name."""
    names, device, chosen = rest, "", ""
    if not Path(rest).is_file():
        names, colon, chosen = rest.rpartition(":")
        if not colon or "=" not in chosen or "/" in chosen:
            names, chosen = rest, ""
    if not Path(names).is_file():
        before, colon, device = names.rpartition(":")
        names, device = (before, device) if colon and "/" not in device else (names, "")
    paths = [Path(name).expanduser() for name in names.split(",")]
    for path in paths:
        if not path.is_file():
            raise SutError(f"{text!r}: there is no file {path}")
    libraries = ",".join(str(path.absolute()) for path in paths)
    return (libraries, *(("--device", device) if device else ()), *_device_options(text, chosen))


def _device_options(text: str, chosen: str) -> tuple[str, ...]:
    """Return the worker's arguments for options of a device: ``threads=4,buffer=repack``."""
    arguments: list[str] = []
    for option in filter(None, chosen.split(",")):
        name, _, value = option.partition("=")
        known = DEVICE_OPTIONS.get(name)
        if known is None:
            names = tuple(DEVICE_OPTIONS)
            hint = did_you_mean(name, names)
            raise SutError(f"{text!r}: {name!r} is no option of a device; they are {', '.join(names)}{hint}")
        if not known.fullmatch(value):
            raise SutError(f"{text!r}: {option!r}: {name} is {known.pattern.replace('|', ' or ')}")
        arguments += (f"--{name}", value)
    return tuple(arguments)


def _command(text: str, rest: str) -> tuple[str, ...]:
    try:
        argv = tuple(shlex.split(rest))
    except ValueError as error:
        raise SutError(f"{text!r}: {error}") from None
    if not argv:
        raise SutError(f"{text!r}: the command is empty")
    if shutil.which(argv[0]) is None:
        if Path(argv[0]).is_file():
            raise SutError(f"{text!r}: {argv[0]!r} is not executable (chmod +x)")
        raise SutError(f"{text!r}: there is no command {argv[0]!r}")
    return argv
