"""Probe calls of a kernel that has failed one: what its wrong result depends on, and so which rule it breaks.

The same call with one thing changed shows more than the float itself does:

- right as soon as ``s`` holds zeros: it depended on what ``s`` held (Q8A8-DOT-7);
- right as soon as the unused scales are zero: it depended on those (Q8A8-LAY-5);
- four results, each right when computed alone: they, or their rows, are in wrong places (Q8A8-DOT-6);
- right as soon as the one large term is zero: small terms were lost in roundings (Q8A8-ORD-2);
- right as soon as both scales of each v2 block are the same: the wrong one was used (Q8A8-DOT-9);
- a single product in a row as long as this is lost at some place of it: blocks are miscounted (Q8A8-DOT-10);
- a quantized block that comes out right alone: it depended on its neighbours (Q8A8-QNT-7).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from q8a8 import layout
from q8a8_conformance.attribution.wrong_sums import Hypotheses
from q8a8_conformance.inputs import calls, dot_rows
from q8a8_conformance.protocol.messages import Buffer
from q8a8_conformance.results.expected_dot import expected_dot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.results.expected_dot import ExpectedDot

    MakeCall = Callable[[Call], Mapping[str, bytes] | None]
    """Makes a call: its output buffers by ABI name, or None where it did not return."""

Array = NDArray[Any]

V2_LAYOUT, UNUSED, EMPTY, TWO_ROWS, ROLES, COUNT, ARGUMENTS = (
    f"Q8A8-{name}" for name in ("LAY-3", "LAY-5", "DOT-5", "DOT-6", "DOT-9", "DOT-10", "DOT-12")
)

UNROLLED = 16
"""Blocks that a loop unrolled so many times leaves over at most."""

PROBED_ALONE = 4
"""Wrong blocks of a row that are quantized alone."""

ROUNDINGS = 2.0**-10
"""What roundings to float32 leave of a row's magnitude at most, however many they are."""

ROLE_EXPONENTS = (0, 1, 3, 7)
"""Exponents of x's weight_scale and activation_scale, and y's: the sum of two identifies them."""

ROLE_PRODUCT = 2.0 ** (ROLE_EXPONENTS[0] + ROLE_EXPONENTS[3])
"""Of x's weight_scale and y's activation_scale, which are the ones to use."""

FIELDS_USED = {3: ROLES, 8: ROLES, 4: V2_LAYOUT}
"""The rule broken by a product of scales 2^e: both weight scales, both activation scales, both exchanged."""


@dataclass(frozen=True)
class Probe:
    """A failed call, and the means to make further ones.

    Attributes
    ----------
    call
        The call whose result was wrong.
    make
        Makes a call.
    in_bound
        Whether a product's results were judged by the bound: its inputs leave something to round.
    recipe
        The recipe by which a matrix product quantizes.
    """

    call: Call
    make: MakeCall
    in_bound: bool = False
    recipe: str = "design"


class DotProbes:
    """Makes the probe calls of one failed dot product.

    Parameters
    ----------
    probe
        The failed call.
    actual
        ``s`` after it.
    """

    def __init__(self, probe: Probe, actual: bytes) -> None:
        self._call, self._make, self._in_bound = probe.call, probe.make, probe.in_bound
        self._actual = actual
        self._rows = _rows(probe.call)
        self._blocks = probe.call.n // 32
        self._expected: dict[int, ExpectedDot] = {}

    @property
    def all_right(self) -> bool:
        """Whether every result is right: within the bound, where results are judged by it."""
        return self._all_right(self._actual)

    @property
    def nothing_else(self) -> bool:
        """Whether what lies between the results is as it was."""
        (place,) = self._call.spec.outputs
        left, held = bytearray(self._actual), bytearray(self._call.buffers[place].data)
        for start, _, _ in self._rows:
            left[start : start + 4] = held[start : start + 4]
        return left == held

    @property
    def depends_on_s(self) -> bool:
        """Whether results are right as soon as ``s`` holds zeros, or a number in it comes back in them."""
        if self._call.n == 0:
            return not self.all_right and self._adds()
        return not self.all_right and self._is_right(_with_zeros_in_s(self._call))

    @property
    def loses_small_terms(self) -> bool:
        """Whether each result is the largest block's term and part of the others', and nearly right without.

        Where one block has most of a row's magnitude, the others may be lost in roundings. What is wrong for
        another reason is so without that block too.
        """
        if self._call.n <= 32 or not all(self._keeps_largest(*row) for row in self._rows):
            return False
        call = _without_largest(self._call)
        made = self._make(call)
        return made is not None and all(_nearly(x, y, made["s"][at : at + 4]) for at, x, y in _rows(call))

    def _keeps_largest(self, place: int, x: Array, y: Array) -> bool:
        """Return whether a result's error is at most that of all terms but one, which is larger."""
        result = float(np.frombuffer(self._actual[place : place + 4], "<f4")[0])
        terms = _magnitudes(x, y)
        rest = float(terms.sum() - terms.max())
        error = abs(result - float(expected_dot(x, y).exact)) if math.isfinite(result) else math.inf
        return error <= rest < float(terms.max())

    def broken(self) -> set[str]:
        """Return the rules that probe calls, or else hypotheses, find broken; empty where neither does."""
        if self._call.nrc == 2 and (self.all_right or self._singles_right()):
            return {TWO_ROWS}
        if self.all_right:
            return set()
        if rule := self._argument():
            return {rule}
        if self._miscounts():
            return self._named_by(Hypotheses.misread) or {COUNT}
        return self._named_by(Hypotheses.broken)

    def _argument(self) -> str:
        """Return the rule about an argument, or a field of version 2, that is broken; empty if none is."""
        if self._call.n == 0:
            return EMPTY
        if self._call.function == calls.DOT_REAL:
            return self._wrong_field()
        ignored = replace(self._call, bs=0, bx=0, by=0)
        return ARGUMENTS if self._call.nrc == 1 and self._is_right(ignored) else ""

    def _miscounts(self) -> bool:
        """Return whether a product is right in one block, and lost at some place of a row like this."""
        return self._counts(1, 0) and not all(self._counts(self._blocks, b) for b in _some(self._blocks))

    def _counts(self, nb: int, which: int) -> bool:
        """Return whether one block of a row counts once, the others nothing: a single product of 1 by 1."""
        codes = np.zeros((nb, 32), np.int8)
        codes[which, 0] = 1
        row = dot_rows.blocks(1.0, codes)
        single = self._call.function == calls.DOT
        made = self._make(calls.dot(row, row) if single else calls.dot_real(*dot_rows.to_v2(row, row)))
        return made is not None and made["s"] == calls.float_bytes(1.0)

    def _adds(self) -> bool:
        """Return whether one product of 1 by 1 depends on the number that ``s`` held."""
        x, y = dot_rows.one_product(0, 1, 1)
        held = calls.float_bytes(1.5)
        single = self._call.function == calls.DOT
        call = calls.dot(x, y, s=held) if single else calls.dot_real(*dot_rows.to_v2(x, y), s=held)
        made = self._make(call)
        return made is not None and made["s"] != calls.float_bytes(1.0)

    def _is_right(self, call: Call) -> bool:
        outputs = self._make(call)
        return outputs is not None and self._all_right(outputs["s"])

    def _all_right(self, s: bytes) -> bool:
        """Return whether each of the one or four results is right, wherever else something was written."""
        return all(self._right(place, s[place : place + 4]) for place, _, _ in self._rows)

    def _right(self, place: int, result: bytes) -> bool:
        """Return whether a float is the right one for a place in ``s``."""
        if place not in self._expected:
            (rows,) = [(x, y) for one, x, y in self._rows if one == place]
            self._expected[place] = expected_dot(*rows)
        expected = self._expected[place]
        return expected.holds(result) if self._in_bound else expected.bits == result

    def _singles_right(self) -> bool:
        """Return whether the four products come out right one by one."""
        singles = ((place, self._make(calls.dot(x, y))) for place, x, y in self._rows)
        return all(made is not None and self._right(place, made["s"]) for place, made in singles)

    def _wrong_field(self) -> str:
        """Return the rule about version 2's two scales that is broken; empty if none."""
        call = _without_unused(self._call)
        # A product of zeros comes out right under any scales: a single one that is not zero must, too.
        if call != self._call and self._is_right(call) and self._scales_used(unused=False) == ROLE_PRODUCT:
            return UNUSED
        used = self._scales_used(unused=True)
        by_product = next((rule for e, rule in FIELDS_USED.items() if used == 2.0**e), "")
        return by_product or (ROLES if self._is_right(_with_equal_scales(self._call)) else "")

    def _scales_used(self, *, unused: bool) -> float:
        """Return the product of the two scales that are used on 1 by 1; 0 where the call fails."""
        call = _role_call()
        made = self._make(call if unused else _without_unused(call))
        return float(np.frombuffer(made["s"], "<f4")[0]) if made is not None else 0.0

    def _named_by(self, by: Callable[[Hypotheses, float], set[str]]) -> set[str]:
        found: set[str] = set()
        for place, x, y in self._rows:
            result = self._actual[place : place + 4]
            if not self._right(place, result):
                value = float(np.frombuffer(result, "<f4")[0])
                found |= by(Hypotheses(x, y, in_bound=self._in_bound), value)
        return found


def _some(nb: int) -> list[int]:
    """Return the places in a row that loops lose: the first, the middle, and those that are left over."""
    return [b for b in range(nb) if b < 2 or b == nb // 2 or b >= nb - UNROLLED]


def _rows(call: Call) -> list[tuple[int, Array, Array]]:
    """Return where in ``s`` each result belongs, in bytes, and its rows of blocks [nb]."""
    dtype = layout.BLOCK_Q8_A8 if call.function == calls.DOT else layout.BLOCK_Q8_A8_V2
    size = call.n // 32 * dtype.itemsize
    inputs = calls.inputs_of(call)

    def row(name: str, start: int) -> Array:
        return np.frombuffer(inputs[name][start : start + size], dtype)

    if call.nrc == 1:
        return [(0, row("vx", 0), row("vy", 0))]
    both = (0, 1)
    return [
        (4 * (j * call.bs + i), row("vx", i * call.bx), row("vy", j * call.by)) for j in both for i in both
    ]


def _magnitudes(x: Array, y: Array) -> Array:
    """Return the magnitude of each block's products: float64 [nb]."""
    second = "weight_scale" if x.dtype == layout.BLOCK_Q8_A8 else "activation_scale"
    d = x["weight_scale"].astype(np.float64) * y[second].astype(np.float64)
    return np.asarray(np.abs(d) * np.abs(x["weight_qs"].astype(np.int64) * y["weight_qs"]).sum(axis=-1))


def _nearly(x: Array, y: Array, result: bytes) -> bool:
    """Return whether a float, as its four bytes, is right but for roundings."""
    error = expected_dot(x, y).error(result)
    return error is not None and abs(error) <= ROUNDINGS * _magnitudes(x, y).sum()


def _without_largest(call: Call) -> Call:
    """Return a call without the largest block of any of its dot products: x's scale is zero there."""
    dtype = layout.BLOCK_Q8_A8 if call.function == calls.DOT else layout.BLOCK_Q8_A8_V2
    vx = bytearray(calls.inputs_of(call)["vx"])
    for _, x, y in _rows(call):
        largest = int(_magnitudes(x, y).argmax())
        for row in range(call.nrc):
            start = row * call.bx + largest * dtype.itemsize
            vx[start : start + 2] = bytes(2)
    buffers = tuple(
        replace(buffer, data=bytes(vx)) if spec.name == "vx" else buffer
        for spec, buffer in zip(call.spec.buffers, call.buffers, strict=True)
    )
    return replace(call, buffers=buffers)


def _with_zeros_in_s(call: Call) -> Call:
    buffers = list(call.buffers)
    (place,) = call.spec.outputs
    buffers[place] = replace(buffers[place], data=bytes(len(buffers[place].data)))
    return replace(call, buffers=tuple(buffers))


def _without_unused(call: Call) -> Call:
    """Return a call over version 2 blocks with zeros in the scales that must not matter."""
    return _with_unused(call, lambda _used: 0)


def _with_equal_scales(call: Call) -> Call:
    """Return a call over version 2 blocks with the scale that counts in both fields of each block."""
    return _with_unused(call, lambda used: used)


def _with_unused(call: Call, fill: Callable[[Array], Array | int]) -> Call:
    """Return a call over version 2 blocks whose unused scales are made of those that count."""
    buffers = dict(zip((spec.name for spec in call.spec.buffers), call.buffers, strict=True))
    for name, used, unused in (
        ("vx", "weight_scale", "activation_scale"),
        ("vy", "activation_scale", "weight_scale"),
    ):
        blocks = np.frombuffer(bytearray(buffers[name].data), layout.BLOCK_Q8_A8_V2).copy()
        blocks[unused] = fill(blocks[used])
        buffers[name] = replace(buffers[name], data=blocks.tobytes())
    return replace(call, buffers=tuple(buffers.values()))


def _role_call() -> Call:
    """Return a call for 1 by 1 under four scales of which any two have a product of their own."""
    x, y = (np.zeros(1, layout.BLOCK_Q8_A8_V2) for _ in "xy")
    scales = [2.0**e for e in ROLE_EXPONENTS]
    x["weight_scale"], x["activation_scale"], y["weight_scale"], y["activation_scale"] = scales
    x["weight_qs"][:, 0] = y["weight_qs"][:, 0] = 1
    return calls.dot_real(x, y)


def right_alone(call: Call, expected: bytes, blocks: Sequence[int], make: MakeCall) -> bool:
    """Return whether blocks of a row that came out wrong come out right when quantized alone.

    Parameters
    ----------
    call
        Of a row quantizer.
    expected
        The right row.
    blocks
        Numbers of the wrong blocks; `PROBED_ALONE` of them are quantized.
    make
        Makes a call.
    """
    if call.n <= 32:
        return False
    elements = bytes(call.buffers[0].data)
    for block in blocks[:PROBED_ALONE]:
        made = make(
            replace(
                call,
                n=32,
                buffers=(Buffer(elements[128 * block : 128 * block + 128]), Buffer(calls.poison(34))),
            )
        )
        if made is None or made["y"] != expected[34 * block : 34 * block + 34]:
            return False
    return True


def as_row(probe: Probe, actual: Mapping[str, bytes]) -> bool:
    """Return whether 32 elements of an activation came out as the kernel's row quantizers have them."""
    call = probe.call
    if call.function != calls.ACTIVATION or call.n != 32:
        return False
    x = np.frombuffer(bytes(call.buffers[0].data), np.float32)
    rows_made = [made for name in calls.QUANTIZERS if (made := probe.make(calls.quantize(name, x)))]
    block = bytes(actual["scale"]) + bytes(actual["output"])
    return bool(rows_made) and all(made["y"] == block for made in rows_made)
