"""A session with a kernel in this process: what the suite otherwise has of a worker."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from q8a8_conformance.protocol.messages import Buffer, Hello
from q8a8_conformance.protocol.session import CallRefused
from q8a8_conformance.spec.abi import NAMES
from q8a8_conformance.worker.answer import Answerer
from q8a8_conformance.worker.fenv import floating_point
from q8a8_conformance.worker.invoke import CannotCall, Invoker
from q8a8_conformance.worker.pyobject import ObjectTarget
from q8a8_conformance.worker.serve import CAPABILITIES, ENVIRONMENT_CAPABILITIES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from q8a8_conformance.protocol.messages import Call, Result

__all__ = ["InProcessSession"]


class InProcessSession:
    """A session with a kernel in this process.

    Parameters
    ----------
    make_kernel
        Returns an object with methods of the ABI's names; called again after the session was closed.
    functions
        The functions that it offers; cases of the others are not run.

    Attributes
    ----------
    start_seconds, ready_at
        As those of `q8a8_conformance.protocol.session.Session`: a start takes no time.
    """

    start_seconds = ready_at = 0.0

    def __init__(self, make_kernel: Callable[[], object], functions: Iterable[str]) -> None:
        self._make = make_kernel
        self._environment = floating_point()
        self._functions = tuple(name for name in NAMES if name in set(functions))
        self._answerer: Answerer | None = None
        # Without "overlap": calls in this process's threads cannot be stopped, and take as long as they last.
        capabilities = tuple(name for name in CAPABILITIES if name not in {"overlap", "ahead", "turns"})
        capabilities += ENVIRONMENT_CAPABILITIES if self._environment else ()
        self.hello = Hello("a mutant", functions=self._functions, capabilities=capabilities)

    @property
    def is_running(self) -> bool:
        """Whether there is a kernel with the state of earlier calls."""
        return self._answerer is not None

    def call(self, call: Call, timeout: float | None = None) -> Result:
        """Make a call; nothing can stop it.

        Raises
        ------
        CallRefused
            The kernel raised an exception.
        """
        del timeout
        if self._answerer is None:
            target = ObjectTarget(self._make())
            self._answerer = Answerer(target, Invoker(target, self._environment))
        buffers = tuple(Buffer(bytearray(buffer.data), buffer.offset) for buffer in call.buffers)
        try:
            return self._answerer.answer(replace(call, buffers=buffers))
        except CannotCall as error:
            raise CallRefused(str(error)) from error

    def close(self) -> None:
        """Discard the kernel and its state."""
        self._answerer = None
