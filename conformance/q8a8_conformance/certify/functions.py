"""A kernel's functions as the domains call them: many results a call, bit patterns in and out.

`Functions` is the interface. `ProtocolFunctions` implements it for any worker over the worker protocol, and
`q8a8_conformance.certify.bulk_worker` for kernels that can be called within a process.
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
"""The value of every output byte before the call."""

DOT, DOT_REAL = "ggml_vec_dot_q8_a8_q8_a8", "ggml_vec_dot_q8_a8_q8_a8_real"


class Strides(NamedTuple):
    """The integer arguments of a dot product besides n."""

    bs: int
    bx: int
    by: int
    nrc: int


_ONE_ROW = Strides(0, 0, 0, 1)


class Functions(Protocol):
    """The functions of a kernel."""

    @property
    def names(self) -> Collection[str]:
        """The functions offered: ABI names, `NARROW` and `WIDEN`."""

    def quantize(self, function: str, x: NDArray[np.uint32]) -> Bytes:
        """Quantize float32 patterns [k] to the bytes of k/32 blocks."""

    def dequantize(self, blocks: Bytes) -> NDArray[np.uint32]:
        """Dequantize the bytes of blocks to float32 patterns."""

    def dots(self, function: str, x: Bytes, y: Bytes, nrc: int) -> NDArray[np.uint32]:
        """Compute dot products of one-block rows: bytes [m, nrc · size] to patterns [m, nrc · nrc]."""

    def convert(self, function: str, values: NDArray[Any]) -> NDArray[Any]:
        """Convert float32 patterns to halves (`NARROW`) or halves to patterns (`WIDEN`)."""


class ProtocolFunctions:
    """The functions of a worker: one protocol call each, one a pair of rows for dot products."""

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
        """Raise: the protocol has no conversions."""
        raise NotImplementedError(f"{function} of {values.size} values")

    def _call(self, function: str, n: int, inputs: list[bytes | None], strides: Strides = _ONE_ROW) -> bytes:
        """Make one call; None stands for an output buffer."""
        bs, bx, by, nrc = strides
        sizes = buffer_sizes(function, n, bs=bs, bx=bx, by=by, nrc=nrc)
        buffers = tuple(
            Buffer(bytes([POISON]) * size if data is None else data)
            for data, size in zip(inputs, sizes, strict=True)
        )
        return self._session.call(Call(function, n, buffers, bs, bx, by, nrc)).outputs[0]
