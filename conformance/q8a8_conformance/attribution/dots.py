"""Which rules a wrong result of a function that reads blocks breaks.

Of dequantization, where the wrong elements are
    the right ones in other places, or unwritten: the order of elements and blocks;
    zeros with the wrong sign: the product;
    in blocks with a subnormal scale alone: subnormals are flushed;
    of code -128 alone, or under negative or zero scales alone: values that a quantizer does not make;
    codes times the scale of the block before or behind: the order of blocks;
    codes times another scale: the conversion of the half, or its byte order.
Of a dot product, where the result
    is right as soon as ``s`` holds zeros: that it replaces what was there;
    is a few ULP away, and the inputs leave nothing to round: exactness, and no other rule;
    is what probe calls, or a mistake in one step, explain: that step's (`probes`, `wrong_sums`);
    is outside the bound, and nothing explains it: the bound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8 import layout
from q8a8_conformance.attribution.probes import DotProbes
from q8a8_conformance.attribution.wrong_sums import READINGS, SIGNS
from q8a8_conformance.inputs.calls import ACTIVATION, DEQUANTIZE, DOT, inputs_of, poison

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from q8a8_conformance.attribution.probes import Probe

    Array = NDArray[Any]

BLOCK_LAYOUT, ROW_LAYOUT, SUBNORMALS, WIDENING, PRODUCT, ANY_VALUE = (
    f"Q8A8-{name}" for name in ("LAY-1", "LAY-2", "HLF-2", "HLF-3", "DEQ-1", "DEQ-2")
)
EXACT, ORDER, OVERWRITE, ROLES, BOUND = (
    f"Q8A8-{name}" for name in ("DOT-4", "DOT-3", "DOT-7", "DOT-9", "ORD-2")
)
DEQUANTIZED = frozenset({BLOCK_LAYOUT, ROW_LAYOUT, SUBNORMALS, WIDENING, PRODUCT, ANY_VALUE})
"""Rules about a part of dequantization."""

DOTS = frozenset(
    {
        *(f"Q8A8-DOT-{number}" for number in (*range(1, 11), 12)),
        *(f"Q8A8-LAY-{number}" for number in (1, 2, 3, 5)),
        *(f"Q8A8-ORD-{number}" for number in (1, 2)),
        SUBNORMALS,
        WIDENING,
    }
)
"""Rules about the value of a dot product."""

LAST = frozenset(f"Q8A8-{name}" for name in ("LAY-1", "LAY-2", "LAY-3", "DOT-4"))
"""Rules that any wrong value would seem to break: attributed where the case is about nothing else."""

OUTSIDE = "Q8A8-MEM-2"
"""Broken where bytes behind the results differ, and not by the results."""

FEW = 2.0**-18
"""A few ULP of f32, relative to the right result: within the bound of Q8A8-ORD-2, which is wider."""


def broken_rules(
    probe: Probe, rules: tuple[str, ...], expected: Mapping[str, bytes], actual: Mapping[str, bytes]
) -> tuple[str, ...]:
    """Return the rules that a difference breaks: never none; parameters as `quantizers.broken_rules`."""
    function = probe.call.function
    if function != DEQUANTIZE:
        return _dot_rules(probe, rules, expected["s"], actual["s"])
    x = inputs_of(probe.call)["x"]
    if OUTSIDE in rules and not trailing_bytes_differ(function, len(x) // 34, expected, actual):
        rules = tuple(rule for rule in rules if rule != OUTSIDE)
    elif not DEQUANTIZED.intersection(rules):
        return rules
    broken = _dequantized(x, expected["y"], actual["y"])
    kept = tuple(rule for rule in rules if rule == broken or rule not in DEQUANTIZED)
    return kept or (broken,)


def trailing_bytes_differ(
    function: str, count: int, expected: Mapping[str, bytes], actual: Mapping[str, bytes]
) -> bool:
    """Return whether the bytes behind a function's results differ: they are not its to write.

    Parameters
    ----------
    function
        The ABI function: not a dot product.
    count
        Blocks of the row; elements of the activation.
    expected, actual
        Output buffers by ABI name.
    """
    name, size = {ACTIVATION: ("output", 1), DEQUANTIZE: ("y", 128)}.get(function, ("y", 34))
    return expected[name][count * size :] != actual[name][count * size :]


def _dot_rules(probe: Probe, rules: tuple[str, ...], expected: bytes, actual: bytes) -> tuple[str, ...]:
    """Return the rules that a wrong dot product breaks; where no probe call shows them, the case's."""
    if not DOTS.intersection(rules):
        return rules
    return _probed(probe, expected, actual) or tuple(rule for rule in rules if rule not in LAST) or rules


def _probed(probe: Probe, expected: bytes, actual: bytes) -> tuple[str, ...]:
    """Return the rules that a wrong dot product breaks as probe calls show it; empty where they do not."""
    probes = DotProbes(probe, actual)
    if probes.depends_on_s:
        return (OVERWRITE,)
    if not probe.in_bound:
        return (EXACT,) if _few_ulp(expected, actual) else tuple(sorted(probes.broken()))
    if probes.all_right and probes.nothing_else:
        # The profile asks for the scalar order's bits, and this is another order's result.
        return (ORDER,) if probe.call.function == DOT else (ORDER, ROLES)
    if not probes.all_right and probes.loses_small_terms:
        return (ORDER, BOUND)
    return tuple(sorted(probes.broken())) or (ORDER, BOUND)


def _dequantized(x: bytes, expected: bytes, actual: bytes) -> str:
    """Return the rule that wrong elements break."""
    blocks = layout.as_blocks(x)
    want, got, held = (
        np.frombuffer(y, "<f4")[: 32 * blocks.size].reshape(-1, 32)
        for y in (expected, actual, poison(len(expected)))
    )
    want_bits, got_bits = want.view(np.uint32), got.view(np.uint32)
    wrong = want_bits != got_bits
    scales = blocks["weight_scale"].astype(np.float32)[:, np.newaxis]
    subnormal, negative = (np.abs(scales) < 2.0**-14) & (scales != 0), (scales < 0) | (scales == 0)
    places = ((ANY_VALUE, blocks["weight_qs"] == -128), (SUBNORMALS, subnormal), (ANY_VALUE, negative))
    if (got_bits == held.view(np.uint32))[wrong].all():
        return ROW_LAYOUT
    if (np.sort(want_bits, axis=None) == np.sort(got_bits, axis=None)).all():
        return ROW_LAYOUT
    if (want[wrong] == 0).all() and (got[wrong] == 0).all():
        return PRODUCT
    for rule, read in READINGS:
        if _is_reading(read, blocks, got):
            return ANY_VALUE if rule == SIGNS else rule
    for rule, where in places:
        if np.broadcast_to(where, wrong.shape)[wrong].all():
            return rule
    return _of_another_scale(blocks, got, wrong.any(axis=1))


def _is_reading(read: Callable[[Array], Array], blocks: Array, got: Array) -> bool:
    """Return whether elements are their codes, times a known wrong reading of the scales."""
    scales = read(blocks["weight_scale"]).astype(np.float32)[:, np.newaxis]
    with np.errstate(invalid="ignore", over="ignore"):
        return np.array_equal(scales * blocks["weight_qs"].astype(np.float32), got, equal_nan=True)


def _of_another_scale(blocks: Array, got: Array, wrong: Array) -> str:
    """Return the rule for blocks with wrong elements: whether each is its codes, times some other scale."""
    codes = blocks["weight_qs"][wrong].astype(np.float32)
    swapped = np.ascontiguousarray(blocks["weight_scale"][wrong]).view(np.uint16).byteswap()
    with np.errstate(all="ignore"):
        as_swapped = swapped.view(np.float16).astype(np.float32)[:, np.newaxis]
        if np.array_equal(as_swapped * codes, got[wrong], equal_nan=True):
            return BLOCK_LAYOUT
        place = np.argmax(np.abs(codes), axis=1)
        scales = got[wrong][np.arange(len(place)), place] / codes[np.arange(len(place)), place]
        again = scales[:, np.newaxis] * codes
        same = np.abs(again - got[wrong]) <= FEW * np.abs(got[wrong])
        every = blocks["weight_scale"].astype(np.float32)
        beside = np.stack([np.roll(every, 1), np.roll(every, -1)])[:, wrong]
    if not same.all():
        return PRODUCT
    return ROW_LAYOUT if (np.abs(scales - beside) <= FEW * np.abs(scales)).any(axis=0).all() else WIDENING


def _few_ulp(expected: bytes, actual: bytes) -> bool:
    """Return whether all floats that differ are a few ULP away from the right ones."""
    want, got = (np.frombuffer(s, "<f4").astype(np.float64) for s in (expected, actual))
    differ = np.frombuffer(expected, "<u4") != np.frombuffer(actual, "<u4")
    with np.errstate(invalid="ignore"):
        near = (np.abs(want - got) <= FEW * np.abs(want)) & (want != 0)
        return bool(differ.any() and near[differ].all())
