"""The independent implementations that must agree on a golden case.

    OracleImplementation       plain integers and fractions (`q8a8_golden.oracle`)
    ReferenceImplementation    the NumPy reference (`q8a8`)
    KernelImplementation       the C scalar kernel, in its own process

Each takes the output buffers before the call and returns them after it, so that a byte which only one of them
writes is a disagreement too.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Protocol

from q8a8_golden import oracle
from q8a8_golden.cases import Written

if TYPE_CHECKING:
    from collections.abc import Mapping

    from q8a8_golden.cases import Outputs

__all__ = ["Call", "Implementation", "OracleImplementation", "overlay", "product_rows"]


class Call(Protocol):
    """A call to evaluate: a draft or a case."""

    @property
    def id(self) -> str:
        """The case's id."""

    @property
    def args(self) -> Mapping[str, int]:
        """The integer arguments."""

    @property
    def inputs(self) -> Mapping[str, bytes]:
        """The input buffers."""


class Implementation(Protocol):
    """An independent implementation of the seven functions."""

    name: str

    def after(
        self, call: Call, function: str, before: Mapping[str, bytes], recipe: str = "design"
    ) -> dict[str, bytes] | None:
        """Return the output buffers after the call; None if it is undefined for the inputs or the recipe."""


def overlay(before: Mapping[str, bytes], outputs: Outputs) -> dict[str, bytes]:
    """Return buffers with runs written over them."""
    buffers = {name: bytearray(data) for name, data in before.items()}
    for name, runs in outputs.items():
        for run in runs:
            buffers[name][run.offset : run.offset + len(run.data)] = run.data
    return {name: bytes(data) for name, data in buffers.items()}


class OracleImplementation:
    """The exact oracle, which also determines the bytes that a call writes: `outputs`."""

    name = "the exact oracle"

    def after(
        self, call: Call, function: str, before: Mapping[str, bytes], recipe: str = "design"
    ) -> dict[str, bytes] | None:
        """Return the output buffers after the call; None if the inputs are outside the domain."""
        outputs = self.outputs(call, function, recipe)
        return None if outputs is None else overlay(before, outputs)

    def outputs(self, call: Call, function: str, recipe: str = "design") -> Outputs | None:
        """Return the runs that the call must write."""
        if function in {"quantize_row_q8_a8", "quantize_row_q8_a8_ref"}:
            return self._quantize_row(call, recipe)
        if function == "quantize_activation_q8_a8":
            return self._quantize_activation(call, recipe)
        if function == "dequantize_row_q8_a8":
            row = oracle.dequantize(call.inputs["x"][: call.args["k"] // 32 * 34])
            return {"y": _runs(0, b"".join(bits.to_bytes(4, "little") for bits in row))}
        if function == "mul_mat_q8_a8":
            return self._multiply(call, recipe)
        return {
            "s": tuple(
                Written(offset, oracle.dot(vx, vy, v2=v2).to_bytes(4, "little"))
                for offset, vx, vy, v2 in dot_rows(call, function)
            )
        }

    def _multiply(self, call: Call, recipe: str) -> Outputs | None:
        products = product_rows(call, recipe)
        if products is None:
            return None
        return {"out": _runs(0, b"".join(oracle.dot(w, x).to_bytes(4, "little") for w, x in products))}

    def _quantize_row(self, call: Call, recipe: str) -> Outputs | None:
        xs = _patterns(call.inputs["x"])
        if not all(oracle.in_domain(xs[first : first + 32]) for first in range(0, len(xs), 32)):
            return None
        row = _quantized_row(tuple(xs), recipe)
        return None if row is None else {"y": _runs(0, row)}

    def _quantize_activation(self, call: Call, recipe: str) -> Outputs | None:
        xs = _patterns(call.inputs["input"])
        result = oracle.quantize(xs, recipe) if oracle.in_domain(xs) else None
        if result is None:
            return None
        codes = bytes(code & 0xFF for code in result.codes)
        return {"output": _runs(0, codes), "scale": _runs(0, result.scale.to_bytes(2, "little"))}


@functools.lru_cache(maxsize=len(oracle.RECIPES))
def _quantized_row(xs: tuple[int, ...], recipe: str) -> bytes | None:
    """Quantize once for the two functions with the same results (Q8A8-QNT-8)."""
    return oracle.quantize_row(xs, recipe)


def product_rows(call: Call, recipe: str = "design") -> list[tuple[bytes, bytes]] | None:
    """Return the two quantized rows of each output of a product; None outside the domain (Q8A8-MUL-4)."""
    m, n, k = (call.args[name] for name in "mnk")
    length = k // 32 * 34
    ws = [call.inputs["w"][length * j : length * (j + 1)] for j in range(m)]
    quantized = []
    for i in range(n):
        xs = _patterns(call.inputs["x"][4 * k * i : 4 * k * (i + 1)])
        is_inside = all(oracle.in_domain(xs[first : first + 32]) for first in range(0, k, 32))
        row = oracle.quantize_row(xs, recipe) if is_inside else None
        if row is None:
            return None
        quantized.append(row)
    return [(w, x) for x in quantized for w in ws]


def dot_rows(call: Call, function: str) -> list[tuple[int, bytes, bytes, bool]]:
    """Return (offset in s, row of x, row of y, version 2) of each dot product of a call (Q8A8-DOT-6)."""
    vx, vy, args = call.inputs["vx"], call.inputs["vy"], call.args
    if function.endswith("_real"):
        length = args["n"] // 32 * 36
        return [(0, vx[:length], vy[:length], True)]
    length = args["n"] // 32 * 34
    places = {(0, 0): 0}
    if args["nrc"] == 2:
        places |= {(1, 0): 4, (0, 1): 4 * args["bs"], (1, 1): 4 * args["bs"] + 4}
    rows = []
    for (i, j), offset in places.items():
        x, y = i * args["bx"], j * args["by"]
        rows.append((offset, vx[x : x + length], vy[y : y + length], False))
    return rows


def _patterns(data: bytes) -> list[int]:
    return [int.from_bytes(data[at : at + 4], "little") for at in range(0, len(data), 4)]


def _runs(offset: int, data: bytes) -> tuple[Written, ...]:
    return (Written(offset, data),) if data else ()
