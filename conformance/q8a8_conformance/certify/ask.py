"""A kernel's functions, as the domains ask for them: many results in one go, bits in and bits out.

`Functions` is what a domain needs; `OverProtocol` provides it for any worker, one protocol call each, and
`q8a8_conformance.certify.child` for what can be called within a process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from q8a8_conformance.protocol.messages import Buffer, Call
from q8a8_conformance.spec.abi import buffer_sizes

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from q8a8_conformance.protocol.session import Session

    Bytes = NDArray[np.uint8]

NARROW, WIDEN = "ggml_fp32_to_fp16_row", "ggml_fp16_to_fp32_row"
"""Conversions of whole arrays under ggml's names: ``(const float *, uint16_t *, int64_t)`` and back."""

POISON = 0xA5
"""What every byte of an output holds before the call."""

DOT, DOT_REAL = "ggml_vec_dot_q8_a8_q8_a8", "ggml_vec_dot_q8_a8_q8_a8_real"


class Strides(NamedTuple):
    """The integers of a dot product beside n, as C has them."""

    bs: int
    bx: int
    by: int
    nrc: int


_ONE_ROW = Strides(0, 0, 0, 1)


class Functions(Protocol):
    """What can be asked of a kernel."""

    @property
    def names(self) -> Collection[str]:
        """The functions offered: ABI names, `NARROW` and `WIDEN`."""

    def quantize(self, function: str, x: NDArray[np.uint32]) -> Bytes:
        """Quantize float32 patterns [k] to the bytes of k/32 blocks."""

    def dequantize(self, blocks: Bytes) -> NDArray[np.uint32]:
        """Turn the bytes of blocks into float32 patterns."""

    def dots(self, function: str, x: Bytes, y: Bytes, nrc: int) -> NDArray[np.uint32]:
        """Multiply pairs of rows of one block each: bytes [m, nrc · size] give patterns [m, nrc · nrc]."""

    def convert(self, function: str, values: NDArray[Any]) -> NDArray[Any]:
        """Convert float32 patterns to halves (`NARROW`) or halves to patterns (`WIDEN`)."""


class OverProtocol:
    """The functions of a worker, each question one call (dot products: one call each)."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.names = tuple(session.hello.functions)

    def quantize(self, function: str, x: NDArray[np.uint32]) -> Bytes:
        """See `Functions`."""
        return np.frombuffer(self._call(function, x.size, [x.tobytes(), None]), np.uint8)

    def dequantize(self, blocks: Bytes) -> NDArray[np.uint32]:
        """See `Functions`."""
        k = blocks.size // 34 * 32
        return np.frombuffer(self._call("dequantize_row_q8_a8", k, [blocks.tobytes(), None]), np.uint32)

    def dots(self, function: str, x: Bytes, y: Bytes, nrc: int) -> NDArray[np.uint32]:
        """See `Functions`."""
        size = x.shape[1] // nrc
        answers = [
            self._call(
                function,
                32,
                [None, row_x.tobytes(), row_y.tobytes()],
                Strides(nrc, size, size, nrc),
            )
            for row_x, row_y in zip(x, y, strict=True)
        ]
        return np.frombuffer(b"".join(answers), np.uint32).reshape(len(x), nrc * nrc)

    def convert(self, function: str, values: NDArray[Any]) -> NDArray[Any]:
        """Refuse: the protocol has no conversions."""
        raise NotImplementedError(f"{function} of {values.size} values")

    def _call(self, function: str, n: int, inputs: list[bytes | None], strides: Strides = _ONE_ROW) -> bytes:
        """Make one call; a None among the buffers is an output."""
        bs, bx, by, nrc = strides
        sizes = buffer_sizes(function, n, bs=bs, bx=bx, by=by, nrc=nrc)
        buffers = tuple(
            Buffer(bytes([POISON]) * size if data is None else data)
            for data, size in zip(inputs, sizes, strict=True)
        )
        return self._session.call(Call(function, n, buffers, bs, bx, by, nrc)).outputs[0]
