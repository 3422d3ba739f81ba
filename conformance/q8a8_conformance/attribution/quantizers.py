"""Which rules a wrong result breaks.

A case lists every rule that it touches, but a wrong result seldom breaks all of them: a kernel that rounds
halves to even breaks neither the half conversion nor the layout. What is wrong with a quantizer's result can
be read off its inputs and outputs, block by block:

bytes that are the right ones in other places (of row quantizers)
    within a block, the scale among them: the layout of a block; otherwise the order of elements or blocks;
a block that is right when it is quantized alone
    depends on its neighbours;
a block that is the right one for the amax of another of its elements
    has a wrong amax;
a scale that differs
    is the half next to the right one: the conversion (or d, where d is next to the middle of the two; d alone
    where amax · f32(1/127) gives it);
    is 0 where a subnormal belongs: subnormals flushed;
    is infinite, or the same for several blocks: overflow before its time;
    is that of another element, or of another block's largest one: amax;
a code that differs, under the right scale
    f32(x · inv) is half-way between two codes: the rounding;
    it is next to half-way: the inverse, off by an ULP; it is far from that: either;
    the block's stored scale is 0: the zero test.

`q8a8_conformance.attribution.dots` does the same for the functions that read blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.rounding import round_half_away
from q8a8_conformance.attribution import dots, matrices
from q8a8_conformance.attribution.dots import OUTSIDE
from q8a8_conformance.attribution.probes import as_row, right_alone
from q8a8_conformance.inputs.calls import ACTIVATION, MUL_MAT, QUANTIZERS, inputs_of, poison

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from q8a8_conformance.attribution.probes import Probe

    Array = NDArray[Any]

HALF_ROUNDING, SUBNORMALS, OVERFLOW = "Q8A8-HLF-1", "Q8A8-HLF-2", "Q8A8-HLF-4"
AMAX, SCALE, INVERSE, ROUNDING, LOWEST, ZERO_BLOCK, OTHER_BLOCKS, ALL_ELEMENTS = (
    f"Q8A8-QNT-{number}" for number in (1, 2, 3, 4, 5, 6, 7, 9)
)
BLOCK_LAYOUT, ROW_LAYOUT = "Q8A8-LAY-1", "Q8A8-LAY-2"
PARTS = frozenset(
    (
        HALF_ROUNDING,
        SUBNORMALS,
        OVERFLOW,
        AMAX,
        SCALE,
        INVERSE,
        ROUNDING,
        LOWEST,
        ZERO_BLOCK,
        OTHER_BLOCKS,
        ALL_ELEMENTS,
    )
)
"""Rules about a part of a quantizer's result."""

COMPARED = frozenset(f"Q8A8-{name}" for name in ("QNT-8", "QNT-10"))
"""Rules by which two functions are compared: which of the two is wrong, another rule decides."""

LAST = COMPARED | {BLOCK_LAYOUT, ROW_LAYOUT, "Q8A8-HLF-5"}
"""Rules that any wrong value would seem to break: attributed where the case is about nothing else."""

NEAR = 2.0**-20
"""What counts as next to a value, relative to it: eight ULP of f32."""

BELOW_HALF = 0.5 - 2.0**-25
"""The float32 below 1/2: added to 1/2 in float32 it gives 1, so it may be the rounding that is wrong."""

SMALLEST_NORMAL, LARGE, INFINITE = 0x0400, 0x7000, 0x7C00
"""Bits of halves: 2^-14, 8192, infinity."""


def broken_rules(
    probe: Probe, rules: tuple[str, ...], expected: Mapping[str, bytes], actual: Mapping[str, bytes]
) -> tuple[str, ...]:
    """Return the rules that a difference breaks: never none.

    Parameters
    ----------
    probe
        The call, of any function, and the means to make others.
    rules
        What the case judges.
    expected, actual
        Output buffers by ABI name, which differ.

    Returns
    -------
    tuple of str
        Rules of the case; or where none of them is about the part that is wrong, the ones that are.
    """
    function = probe.call.function
    if function == MUL_MAT:
        return matrices.broken_rules(probe, rules, expected, actual)
    if function not in (*QUANTIZERS, ACTIVATION):
        return dots.broken_rules(probe, rules, expected, actual)
    if all(rule in COMPARED for rule in rules) and not as_row(probe, actual):
        return rules
    inputs = inputs_of(probe.call)
    x, want_h, got_h, want_q, got_q = _parts(function, inputs, expected, actual)
    broken = set() if function == ACTIVATION else _misplaced(expected["y"], actual["y"], 34 * len(x))
    if not broken and function in QUANTIZERS:
        wrong = np.flatnonzero((want_h != got_h) | (want_q != got_q).any(axis=1))
        if right_alone(probe.call, expected["y"], wrong.tolist(), probe.make):
            broken = {OTHER_BLOCKS}
    if not broken and _of_another_element(x, want_h, got_h, want_q, got_q):
        broken = {ALL_ELEMENTS if function == ACTIVATION else AMAX}
    if not broken:
        broken |= {*_scale_rules(x, want_h, got_h)}
        broken |= {*_code_rules(x, want_h, want_q, got_q, want_h == got_h)}
    broken -= {ALL_ELEMENTS} if function in QUANTIZERS else {OTHER_BLOCKS}
    if ALL_ELEMENTS in broken:
        broken.discard(AMAX)
    results = x.size if function == ACTIVATION else len(x)
    inside = not dots.trailing_bytes_differ(function, results, expected, actual)
    aside = PARTS | LAST | ({OUTSIDE} if inside else set())
    chosen = tuple(rule for rule in rules if rule in broken or rule not in aside)
    return chosen or tuple(sorted(broken)) or rules


def _misplaced(expected: bytes, actual: bytes, size: int) -> set[str]:
    """Return the rule of layout that a row breaks whose bytes are in wrong places, or unwritten."""
    want, got, held = (
        np.frombuffer(side, np.uint8)[:size].reshape(-1, 34) for side in (expected, actual, poison(size))
    )
    wrong = (want != got).any(axis=1)
    if not wrong.any():
        return set()
    if (got[wrong] == held[wrong]).all():
        return {ROW_LAYOUT}
    if (np.sort(want, axis=1) == np.sort(got, axis=1)).all():
        return {ROW_LAYOUT} if (want[:, :2] == got[:, :2]).all() else {BLOCK_LAYOUT}
    if (np.sort(want, axis=None) == np.sort(got, axis=None)).all():
        return {ROW_LAYOUT}
    return set()


def _of_another_element(x: Array, want_h: Array, got_h: Array, want_q: Array, got_q: Array) -> bool:
    """Return whether each wrong block is the right one for a smaller amax: another of its elements', or 0.

    Elements above that amax have no code in it, and any is taken.
    """
    wrong = (want_h != got_h) | (want_q != got_q).any(axis=1)
    left = np.flatnonzero(wrong)
    largest = np.abs(x).max(axis=1, initial=0)
    none = (got_h == 0) & (got_q == 0).all(axis=1) & (largest > 0)
    left = left[~none[left]]
    # A block's scale is enough to rule out most of its elements.
    columns = np.flatnonzero((_halves(np.abs(x[left])) == got_h[left][:, np.newaxis]).any(axis=0))
    for column in columns.tolist():
        amax = np.abs(x[left, column])
        with np.errstate(all="ignore"):
            scaled = x[left] * (np.float32(127) / amax)[:, np.newaxis]
            codes = np.clip(round_half_away(scaled), -128, 127)
        counted = np.abs(x[left]) <= amax[:, np.newaxis]
        found = (_halves(amax) == got_h[left]) & ((codes == got_q[left]) | ~counted).all(axis=1)
        left = left[~(found & (amax < largest[left]))]
        if not left.size:
            break
    return not left.size and not none[wrong].all()


def _parts(
    function: str, inputs: Mapping[str, bytes], expected: Mapping[str, bytes], actual: Mapping[str, bytes]
) -> tuple[Array, Array, Array, Array, Array]:
    """Return elements float32 [n, s], the expected and the actual scales' bits [n], and both codes [n, s]."""
    both = (expected, actual)
    if function == ACTIVATION:
        x = np.frombuffer(inputs["input"], "<f4")[np.newaxis]
        scales = [np.frombuffer(side["scale"], "<u2") for side in both]
        codes = [np.frombuffer(side["output"], np.int8)[np.newaxis, : x.size] for side in both]
    else:
        x = np.frombuffer(inputs["x"], "<f4").reshape(-1, 32)
        blocks = [np.frombuffer(side["y"], np.uint8)[: 34 * len(x)].reshape(-1, 34) for side in both]
        scales = [np.ascontiguousarray(b[:, :2]).view("<u2")[:, 0] for b in blocks]
        codes = [b[:, 2:].view(np.int8) for b in blocks]
    return x, scales[0], scales[1], codes[0], codes[1]


def _scale_rules(x: Array, want: Array, got: Array) -> Iterator[str]:
    """Yield the rules that wrong scales break."""
    largest = np.abs(x).max(axis=1, initial=np.float32(0))
    of_blocks = set(_halves(largest).tolist())
    differing = np.flatnonzero(want != got)
    for block in differing:
        right, wrong = int(want[block]), int(got[block])
        if wrong & 0x7FFF == INFINITE:
            yield OVERFLOW
        elif abs(right - wrong) == 1:
            yield from _neighbour(largest[block], right, wrong)
        elif right == 0:
            yield OTHER_BLOCKS if SMALLEST_NORMAL <= wrong in of_blocks else ZERO_BLOCK
        elif wrong & 0x7FFF == 0 and right < SMALLEST_NORMAL:
            yield SUBNORMALS
        elif wrong & 0x7FFF == 0 or wrong in _halves(np.abs(x[block])):
            yield from (AMAX, ALL_ELEMENTS)
        elif right > wrong >= LARGE and np.unique(want[differing][got[differing] == wrong]).size > 1:
            yield OVERFLOW
        elif wrong in of_blocks:
            yield OTHER_BLOCKS
        else:
            yield SCALE


def _neighbour(amax: np.float32, right: int, wrong: int) -> Iterator[str]:
    """Yield the rules for a scale that is the half next to the right one."""
    d = float(amax / np.float32(127))
    low, high = (float(np.uint16(bits).view(np.float16)) for bits in sorted((right, wrong)))
    near = 0 < abs(d - (low + high) / 2) <= NEAR * d
    with np.errstate(over="ignore"):
        by_reciprocal = np.float16(amax * np.float32(1 / 127)).view(np.uint16)
    if not near or wrong != by_reciprocal:
        yield HALF_ROUNDING
    if near:
        yield SCALE


def _halves(largest: Array) -> Array:
    """Return the bits of the scales that blocks with these largest magnitudes have."""
    with np.errstate(over="ignore"):
        return (largest.astype(np.float32) / np.float32(127)).astype(np.float16).view(np.uint16)


def _code_rules(x: Array, want_h: Array, want: Array, got: Array, right_scale: Array) -> Iterator[str]:
    """Yield the rules that wrong codes [n, s] break, in blocks whose scales are right.

    A wrong scale has wrong codes with it: one mistake.
    """
    wrong = (want != got) & right_scale[:, np.newaxis]
    if (wrong & (got == -128)).any():
        yield LOWEST
        wrong &= got != -128
    vanished = (want_h == 0)[:, np.newaxis]
    if (wrong & vanished).any():
        yield from (INVERSE, ZERO_BLOCK)
    with np.errstate(all="ignore"):
        inverse = np.float32(127) / np.abs(x).max(axis=1, initial=0, keepdims=True)
        scaled = np.abs((x * inverse).astype(np.float32)).astype(np.float64)[wrong & ~vanished]
    off = np.abs(scaled - np.floor(scaled) - 0.5)
    if (off > NEAR * scaled).any():
        yield from (INVERSE, ROUNDING, OTHER_BLOCKS, ALL_ELEMENTS)
    elif ((off > 0) & (scaled != BELOW_HALF)).any():
        # Only the inverse explains codes beside a tie; those on a tie go with them.
        yield INVERSE
    elif off.size:
        yield ROUNDING
