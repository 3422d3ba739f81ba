"""Which rules a wrong matrix product breaks: some of its wrong outputs are made again, alone and repeated.

Alone is a product of one row by one row; repeated is a product of the same shape whose rows are all alike, so
that no output can stand in another one's place.

- right as soon as ``out`` holds zeros: it depended on what ``out`` held (Q8A8-MUL-7);
- right alone, and at some places where repeated: they depend on other rows, or are in the wrong places
  (Q8A8-MUL-6);
- wrong alone, or at every place where repeated, but right there as soon as x holds numbers that quantization
  leaves as they are, or all blocks of x but one are zero: the quantization (Q8A8-MUL-4);
- anything else: the sum (Q8A8-MUL-5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from q8a8 import dequantize_row, layout
from q8a8.recipe import quantize_blocks
from q8a8_conformance.inputs import calls, dot_rows
from q8a8_conformance.results.expected_product import ExpectedProduct

if TYPE_CHECKING:
    from collections.abc import Mapping

    from q8a8_conformance.attribution.probes import Probe
    from q8a8_conformance.inputs.calls import Array
    from q8a8_conformance.protocol.messages import Call

ACTIVATIONS, SUMS, PLACES, OVERWRITE, INVARIANT = (f"Q8A8-MUL-{number}" for number in (4, 5, 6, 7, 9))
VALUES = frozenset((ACTIVATIONS, SUMS, PLACES, OVERWRITE))
"""Rules about the values of a matrix product."""

PROBED = 4
"""Wrong outputs that are made alone."""

READ_OUT = 3
"""Blocks of a row whose codes are read out."""


def matrices_of(call: Call) -> tuple[Array, Array]:
    """Return a call's w, blocks [m, nb], and x, float32 [n, 32·nb]."""
    w, x = (call.buffers[index].data for index in call.spec.inputs)
    return (
        layout.as_blocks(bytes(w)).reshape(call.bs, call.n // layout.QK8_A8),
        np.frombuffer(x, "<f4").reshape(call.bx, call.n),
    )


def outputs_of(call: Call, out: bytes) -> Array:
    """Return a call's outputs, float32 [n, m]."""
    return np.frombuffer(out, "<f4").reshape(call.bx, call.bs)


def quantized(x: Array, recipe: str) -> Array:
    """Return the rows of x, float32 [n, 32·nb] in the recipe's domain, quantized: blocks [n, nb]."""
    scale, codes = quantize_blocks(x.reshape(-1, layout.QK8_A8), recipe)
    return layout.pack(scale, codes).reshape(len(x), -1)


def broken_rules(
    probe: Probe, rules: tuple[str, ...], expected: Mapping[str, bytes], actual: Mapping[str, bytes]
) -> tuple[str, ...]:
    """Return the rules that a difference breaks: never none; parameters as `quantizers.broken_rules`."""
    if not VALUES.intersection(rules):
        return rules
    broken = _Probes(probe, expected["out"], actual["out"]).broken()
    kept = tuple(rule for rule in rules if rule == broken or rule not in VALUES)
    return kept or (broken,)


class _Probes:
    """Makes the probe calls of one wrong product."""

    def __init__(self, probe: Probe, expected: bytes, actual: bytes) -> None:
        self._probe, self._call = probe, probe.call
        self._w, self._x = matrices_of(probe.call)
        bits = [np.frombuffer(side, "<u4").reshape(len(self._x), len(self._w)) for side in (expected, actual)]
        self._wrong = np.argwhere(bits[0] != bits[1])
        self._shape = (1, 1)

    def broken(self) -> str:
        """Return the rule that is broken."""
        if self._depends_on_out():
            return OVERWRITE
        some = self._wrong[np.linspace(0, len(self._wrong) - 1, PROBED).astype(int)].tolist()
        for shape in ((1, 1), (len(self._w), len(self._x))):
            self._shape = shape
            for i, j in some:
                if self._all_wrong(self._w[j], self._x[i]):
                    return ACTIVATIONS if self._is_quantization(self._w[j], self._x[i]) else SUMS
        return PLACES

    def _depends_on_out(self) -> bool:
        """Return whether all outputs are right as soon as they hold zeros before, and not by staying zero."""
        size = len(self._x) * len(self._w)
        made = self._probe.make(calls.mul_mat(self._w, self._x, out=bytes(4 * size)))
        if made is None or not self._is_right(self._w, self._x, made["out"]):
            return False
        if not self._call.n:
            return len(self._wrong) == size
        return bool(outputs_of(self._call, made["out"])[tuple(self._wrong.T)].any())

    def _is_quantization(self, w: Array, x: Array) -> bool:
        """Return whether what is wrong with two rows' product is how x is quantized."""
        (xq,) = quantized(x[np.newaxis], self._probe.recipe)
        if not self._all_wrong(w, dequantize_row(xq)):
            return True
        for block in dict.fromkeys(np.linspace(0, len(xq) - 1, READ_OUT).astype(int).tolist()):
            isolated = np.zeros_like(x)
            isolated[32 * block : 32 * block + 32] = x[32 * block : 32 * block + 32]
            if self._reads(xq, x, block) < self._reads(xq, isolated, block):
                return True  # A block's elements depend on the other blocks: they share a scale.
        return False

    def _reads(self, xq: Array, x: Array, block: int) -> bool:
        """Return whether a block's elements come out as they should, multiplied by 1 and all others by 0."""
        codes = np.zeros((32, len(xq), 32), np.int8)
        codes[np.arange(32), block, np.arange(32)] = 1
        made = self._probe.make(calls.mul_mat(dot_rows.blocks(1.0, codes), x[np.newaxis]))
        return (
            made is not None and made["out"] == dequantize_row(xq[block : block + 1]).astype("<f4").tobytes()
        )

    def _all_wrong(self, w: Array, x: Array) -> bool:
        """Return whether every output is wrong of a product of the shape at hand whose rows are all alike."""
        m, n = self._shape
        call = calls.mul_mat(np.repeat(w[np.newaxis], m, axis=0), np.repeat(x[np.newaxis], n, axis=0))
        made = self._probe.make(call)
        if made is None:
            return True
        alone = calls.mul_mat(w[np.newaxis], x[np.newaxis])
        outputs = np.unique(np.frombuffer(made["out"], "<u4")).astype("<u4")
        return not any(
            is_right(alone, one.tobytes(), self._probe.recipe, in_bound=self._probe.in_bound)
            for one in outputs[:PROBED]
        )

    def _is_right(self, w: Array, x: Array, out: bytes) -> bool:
        return is_right(calls.mul_mat(w, x), out, self._probe.recipe, in_bound=self._probe.in_bound)


def is_right(call: Call, out: bytes, recipe: str, *, in_bound: bool) -> bool:
    """Return whether all outputs of a product are right: to the bit, or where it may round, in the bound."""
    w, x = matrices_of(call)
    expected = ExpectedProduct(w, quantized(x, recipe))
    actual = outputs_of(call, out)
    right = actual.view(np.uint32) == expected.outputs.view(np.uint32)
    return bool(right.all() or (in_bound and (right | expected.holds(actual)).all()))
