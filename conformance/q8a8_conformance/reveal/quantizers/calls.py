"""Calls of one quantizer, with its results as scales and codes, whichever of the three functions it is.

A row quantizer has a scale for 32 elements, `quantize_activation_q8_a8` one for the whole vector. Here both
take *vectors* and return *blocks*: bytes [n, 2 + s], the scale before the codes, as in the format.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from q8a8_conformance.inputs import calls
from q8a8_conformance.inputs.calls import ACTIVATION
from q8a8_conformance.protocol.session import SessionError
from q8a8_conformance.reveal.asking import NoAnswerError

if TYPE_CHECKING:
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call, Result

BLOCK = 32
FILLS = (0xA7, 0x58)
"""What outputs hold before a call: bytes whose bits are each other's complement."""


class AnySession(Protocol):
    """A session with a kernel: in a worker, or in this process."""

    def call(self, call: Call, timeout: float | None = None) -> Result:
        """Make a call."""


@dataclass(frozen=True)
class Blocks:
    """What a call wrote: uint8 [n, 2 + s], a scale's bytes and s codes each."""

    data: Array

    @property
    def scales(self) -> Array:
        """The scales' bits, uint16 [n]."""
        return np.ascontiguousarray(self.data[:, :2]).view("<u2")[:, 0]

    @property
    def codes(self) -> Array:
        """The codes, int8 [n, s]."""
        return self.data[:, 2:].view(np.int8)


def blocks_of(scales: Array, codes: Array) -> Blocks:
    """Build blocks of scales uint16 or float16 [n] and codes int8 [n, s]."""
    bits = np.ascontiguousarray(scales).view("<u2").reshape(-1, 1)
    return Blocks(np.concatenate([bits.view(np.uint8), codes.view(np.uint8)], axis=1))


def build_call(function: str, x: Array, fill: int | None = None) -> Call:
    """Build a call on elements float32 [k]; outputs hold a fill, the golden cases' poison by default."""
    call = calls.activation(x) if function == ACTIVATION else calls.quantize(function, x)
    return call if fill is None else filled(call, fill)


def filled(call: Call, fill: int) -> Call:
    """Return a call with outputs that hold a byte before it."""
    buffers = tuple(
        replace(buffer, data=bytes([fill]) * len(buffer.data)) if spec.role == "output" else buffer
        for spec, buffer in zip(call.spec.buffers, call.buffers, strict=True)
    )
    return replace(call, buffers=buffers)


def elements_of(call: Call) -> Array:
    """Return the elements of a quantizer's call: float32 [k]."""
    return np.frombuffer(bytes(call.buffers[0].data), "<f4")


def written(function: str, n: int, outputs: tuple[bytes, ...]) -> Blocks:
    """Return the blocks in a call's output buffers."""
    if function == ACTIVATION:
        codes, scale = outputs
        return Blocks(np.frombuffer(scale[:2] + codes[:n], np.uint8).reshape(1, -1))
    return Blocks(np.frombuffer(outputs[0], np.uint8)[: n // BLOCK * 34].reshape(-1, 34))


def as_outputs(function: str, blocks: Blocks) -> tuple[bytes, ...]:
    """Return blocks as output buffers."""
    if function == ACTIVATION:
        return blocks.codes.tobytes(), blocks.data[:, :2].tobytes()
    return (blocks.data.tobytes(),)


class QuantizerCalls:
    """Makes calls of one quantizer.

    Parameters
    ----------
    session
        With the kernel.
    function
        The ABI function.

    Attributes
    ----------
    count
        Calls made so far.
    """

    def __init__(self, session: AnySession, function: str) -> None:
        self.function = function
        self.count = 0
        self._session = session

    @property
    def is_row(self) -> bool:
        """Whether it takes blocks of 32, each with a scale."""
        return self.function != ACTIVATION

    def shape(self, x: Array) -> Array:
        """Return elements [k] as blocks [n, s] that share a scale."""
        return x.reshape(-1, BLOCK) if self.is_row else x.reshape(1, -1)

    def __call__(self, x: Array, fill: int | None = None) -> Blocks:
        """Quantize elements float32 [k].

        Raises
        ------
        NoAnswerError
            The call did not return.
        """
        flat = np.ascontiguousarray(x, np.float32).reshape(-1)
        call = build_call(self.function, flat, fill)
        return written(self.function, call.n, self.make(call))

    def make(self, call: Call) -> tuple[bytes, ...]:
        """Make a call, and return its output buffers.

        Raises
        ------
        NoAnswerError
            It did not return.
        """
        self.count += 1
        try:
            return self._session.call(call).outputs
        except SessionError as error:
            raise NoAnswerError(str(error)) from error
