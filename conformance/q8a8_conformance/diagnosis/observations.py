"""What a kernel gave, kept for the diagnosis: the inputs and the result bits of every judged call.

The checks feed this while they run. A quantizer's results are blocks; a dot product's results are single
floats, kept as the numbers that the sum is made of, so that both block versions look alike.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from q8a8 import layout

Array = NDArray[Any]

LIMIT = 1 << 17
"""Results of one function that are kept at most; what comes later adds nothing to a diagnosis."""


@dataclass(frozen=True)
class QuantizerResult:
    """One scale with its codes: `x` float32 [s] gave `scale` (f16 bits) and `codes` int8 [s]."""

    x: Array
    scale: int
    codes: Array


@dataclass(frozen=True)
class DotResult:
    """One float: the sum over blocks of ``d`` float32 [nb] times ``qx · qy`` int8 [nb, 32] gave `bits`."""

    d: Array
    qx: Array
    qy: Array
    bits: int


@dataclass
class Observations:
    """All results by function; those of dot products by (function, nrc)."""

    quantizers: dict[str, list[QuantizerResult]] = field(default_factory=dict)
    dots: dict[tuple[str, int], list[DotResult]] = field(default_factory=dict)

    def add_row(self, function: str, x: Array, y: bytes) -> None:
        """Take in a quantized row: `x` float32 [k], `y` its blocks as bytes."""
        held = self.quantizers.setdefault(function, [])
        if len(held) >= LIMIT:
            return
        scales, codes = layout.unpack(layout.as_blocks(y))
        bits = scales.view(np.uint16)
        held.extend(
            QuantizerResult(part, int(h), q)
            for part, h, q in zip(x.reshape(-1, layout.QK8_A8), bits, codes, strict=True)
        )

    def add_activation(self, function: str, x: Array, output: bytes, scale: bytes) -> None:
        """Take in a quantized activation: `x` float32 [size], its codes and its scale as bytes."""
        held = self.quantizers.setdefault(function, [])
        if len(held) < LIMIT:
            bits = int.from_bytes(scale, "little")
            held.append(QuantizerResult(x, bits, np.frombuffer(output, np.int8)))

    def add_dot(self, function: str, nrc: int, x: Array, y: Array, result: bytes) -> None:
        """Take in a dot product of two rows of blocks [nb] of one version; `result` is the float's bytes."""
        held = self.dots.setdefault((function, nrc), [])
        if len(held) < LIMIT:
            second = "activation_scale" if "activation_scale" in (y.dtype.names or ()) else "weight_scale"
            d = x["weight_scale"].astype(np.float32) * y[second].astype(np.float32)
            held.append(DotResult(d, x["weight_qs"], y["weight_qs"], int.from_bytes(result, "little")))
