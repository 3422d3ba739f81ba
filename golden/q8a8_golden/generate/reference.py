"""The NumPy reference as an independent implementation: its seven functions over NumPy buffers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.abi import Reference
from q8a8.bound import LANE_FOLD_ROUNDINGS, exact_dot, magnitude, within_bound
from q8a8.errors import DomainError
from q8a8.layout import BLOCK_Q8_A8, BLOCK_Q8_A8_V2, as_blocks
from q8a8.recipe import defined
from q8a8_golden.cases import FUNCTIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from q8a8_golden.generate.implementations import Call

__all__ = ["ReferenceBounds", "ReferenceImplementation"]

MUL_MAT = "mul_mat_q8_a8"
_QUANTIZERS = ("quantize_row_q8_a8", "quantize_row_q8_a8_ref", "quantize_activation_q8_a8")


class ReferenceImplementation:
    """The NumPy reference."""

    name = "the NumPy reference"

    def after(
        self, call: Call, function: str, before: Mapping[str, bytes], recipe: str = "design"
    ) -> dict[str, bytes] | None:
        """Return the output buffers after the call; None if the reference refuses the inputs."""
        buffers = {name: _buffer(function, name, data) for name, data in before.items()}
        inputs = {name: _buffer(function, name, data) for name, data in call.inputs.items()}
        if recipe != "design" and not _recipe_is_defined(function, inputs, recipe):
            return None
        values: dict[str, Any] = {**call.args, **inputs, **buffers}
        arguments = [values[name] for name in FUNCTIONS[function].parameters]
        try:
            getattr(Reference(recipe=recipe), function)(*arguments)
        except DomainError:
            return None
        # (The vectors are little-endian, the reference computes in the machine's order.)
        return {
            name: buffer.astype(buffer.dtype.newbyteorder("<")).tobytes() for name, buffer in buffers.items()
        }


def _recipe_is_defined(function: str, inputs: Mapping[str, np.ndarray[Any, Any]], recipe: str) -> bool:
    """Return whether a recipe's arithmetic is defined for every block of a quantizer's input."""
    x = inputs["x"] if "x" in inputs else inputs["input"]
    blocks = x.reshape(1, -1) if function == "quantize_activation_q8_a8" else x.reshape(-1, 32)
    return bool(np.all(defined(blocks, recipe)))


def _buffer(function: str, name: str, data: bytes) -> np.ndarray[Any, Any]:
    """Return a writable array of a copy of bytes, with the parameter's type in the ABI."""
    floats = name in {"input", "s", "out"} or (name == "x" and function in (*_QUANTIZERS, MUL_MAT))
    floats = floats or (name == "y" and function == "dequantize_row_q8_a8")
    dtype = "<f4" if floats else {"output": "i1", "scale": "<u2"}.get(name, "u1")
    array = np.frombuffer(bytearray(data), dtype=dtype)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


class ReferenceBounds:
    """The NumPy reference's exact sums (`q8a8.bound`)."""

    name = "the NumPy reference's bound"

    def sums(self, vx: bytes, vy: bytes, *, v2: bool) -> tuple[int, int, int]:
        """Return (exact sum, magnitude, m) of two rows, the first two as multiples of 2^-48."""
        dtype = BLOCK_Q8_A8_V2 if v2 else BLOCK_Q8_A8
        x, y = as_blocks(vx, dtype), as_blocks(vy, dtype)
        exact, size = exact_dot(x, y) * (1 << 48), magnitude(x, y) * (1 << 48)
        if exact.denominator != 1 or size.denominator != 1:
            raise ValueError("a sum of products is not a multiple of 2^-48")
        return int(exact), int(size), x.shape[-1] + LANE_FOLD_ROUNDINGS

    def within(self, bits: int, vx: bytes, vy: bytes, *, v2: bool) -> bool:
        """Return whether an f32 is within the bound of two rows."""
        dtype = BLOCK_Q8_A8_V2 if v2 else BLOCK_Q8_A8
        return within_bound(np.uint32(bits).view(np.float32), as_blocks(vx, dtype), as_blocks(vy, dtype))
