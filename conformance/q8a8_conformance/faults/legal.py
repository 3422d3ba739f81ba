"""Legal kernels: they differ from the reference as the specification allows. None may be called broken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.order import ORDERS, fold_leaves
from q8a8.rounding import f32_to_f16, fma32_steps
from q8a8_conformance.faults import steps
from q8a8_conformance.faults.kernel import DOT
from q8a8_conformance.faults.mutant import Legal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from q8a8.order import Fold, Order

    Array = NDArray[Any]
    Total = Callable[[Array, Array, Array], Any]

F32 = np.float32


def in_order(order: Order) -> Total:
    """Return the step that adds up in an order: its lanes, accumulators, fold and tail."""
    owns = np.zeros((32, len(order.lanes)), np.int64)
    for lane, own in enumerate(order.lanes):
        owns[list(own), lane] = 1
    body, step = np.array(order.body), len(order.body)
    if sorted(leaf for leaf, _ in fold_leaves(order.fold)) != list(range(order.registers)):
        raise ValueError(f"{order.name}: the fold does not use every register once")

    def total(products: Array, sums: Array, d: Array) -> Any:  # noqa: ANN401 - a NumPy scalar
        nb = len(d)
        tail = nb if order.tail == "body" else nb - nb % step
        lanes = (products[:tail] @ owns).astype(F32)
        takes = body[np.arange(tail) % step]
        zeros, registers = np.zeros(len(order.lanes), F32), []
        for a in range(order.accumulators):
            mine = takes == a
            registers.append(_accumulated(zeros, lanes[mine], d[:tail][mine, np.newaxis], fused=order.fused))
        result = _folded(order.fold, np.concatenate(registers))
        left = sums[tail:, np.newaxis], d[tail:, np.newaxis]
        return _accumulated(np.array([result], F32), *left, fused=order.tail_fused)[0]

    return total


def _accumulated(start: Array, s: Array, d: Array, *, fused: bool) -> Array:
    """Add s·d [blocks, lanes] block by block."""
    if not fused:
        return np.asarray(np.add.accumulate(np.concatenate([start[np.newaxis], s * d]))[-1])
    return fma32_steps(start, s, d)


def _folded(fold: Fold, registers: Array) -> Any:  # noqa: ANN401 - a NumPy scalar
    if isinstance(fold, int):
        return registers[fold]
    return _folded(fold[0], registers) + _folded(fold[1], registers)


def _terms(add: Callable[[Array], Any]) -> Total:
    """Return the step that adds the blocks' terms with a function."""

    def total(products: Array, sums: Array, d: Array) -> Any:  # noqa: ANN401 - a NumPy scalar
        del products
        return F32(add(sums * d)) if len(d) else F32(0)

    return total


def _forwards(terms: Array) -> Any:  # noqa: ANN401 - a NumPy scalar
    return np.add.accumulate(terms)[-1]


def _pairwise(terms: Array) -> Any:  # noqa: ANN401 - a NumPy scalar
    """Add neighbours, then their sums; the last of an odd number of them goes on as it is."""
    while len(terms) > 1:
        pairs = terms[:-1:2] + terms[1::2]
        terms = np.concatenate([pairs, terms[-1:]]) if len(terms) % 2 else pairs
    return terms[0]


def _interleaved(ways: int) -> Callable[[Array], Any]:
    """Add with so many scalar accumulators, then from left to right."""

    def add(terms: Array) -> Any:  # noqa: ANN401 - a NumPy scalar
        return _forwards(np.array([_forwards(terms[w::ways]) for w in range(min(ways, len(terms)))], F32))

    return add


def compensated(terms: Array) -> Any:  # noqa: ANN401 - a NumPy scalar, or an array
    """Add terms [nb, ...] as Kahan does ("Further remarks on reducing truncation errors", 1965)."""
    total = lost = np.zeros(terms.shape[1:], F32)
    for term in terms:
        corrected = term - lost
        new = total + corrected
        lost = (new - total) - corrected
        total = new
    return total


def _by_size(terms: Array) -> Any:  # noqa: ANN401 - a NumPy scalar
    return _forwards(terms[np.argsort(np.abs(terms), kind="stable")])


def _double(products: Array, sums: Array, d: Array) -> Any:  # noqa: ANN401 - a NumPy scalar
    """Add in double, and round once."""
    del products
    return F32(np.sum(sums.astype(np.float64) * d))


def _wide_scale(dx: Array, dy: Array) -> Array:
    return dx.astype(np.float64) * dy


def _once(amax: Array) -> Array:
    """Keep amax/127 in double."""
    return amax.astype(np.float64) / 127


def _half_of_double(d: Array) -> Array:
    with np.errstate(over="ignore"):
        return d.astype(np.float16)


def _saturating(d: Array) -> Array:
    """Convert to a half, the largest finite one in place of infinity."""
    return f32_to_f16(np.where(d >= F32(65520), F32(65504), d))


def _greatest_by_bits(x: Array) -> Array:
    """Compare magnitudes as integers."""
    return np.asarray((x.view(np.uint32) & np.uint32(0x7FFFFFFF)).max(axis=1, initial=0), np.uint32).view(F32)


def _both_ends(x: Array) -> Array:
    """Take the larger of max x and -min x."""
    highest, lowest = x.max(axis=1, initial=-np.inf), x.min(axis=1, initial=np.inf)
    return np.asarray(np.maximum(np.maximum(highest, -lowest), 0), F32)


def _away_in_double(v: Array) -> Array:
    wide = v.astype(np.float64)
    return np.trunc(wide + np.copysign(0.5, wide))


def _magnitude_and_sign(v: Array) -> Array:
    """Round the magnitude, put the sign back."""
    return np.copysign(np.floor(np.abs(v.astype(np.float64)) + 0.5), v)


def _clamped(v: Array) -> Array:
    return np.asarray(np.clip(np.nan_to_num(v), -127, 127), np.int8)


def _by_table(h: Array) -> Array:
    """Look halves up in a table of all of them."""
    return TABLE[h.view(np.uint16)]


with np.errstate(invalid="ignore"):
    TABLE = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16).view(np.float16).astype(F32)

FREE = "Q8A8-ORD-1: the order is free, and stays within the bound of Q8A8-ORD-2."

_ARITHMETIC = (
    Legal("amax-by-bits", "Magnitudes are compared as integers.", {"amax": _greatest_by_bits},
          why="Without the sign bit, floats order as their patterns do."),
    Legal("amax-from-both-ends", "amax is the larger of max x and -min x.", {"amax": _both_ends},
          why="That is the largest magnitude."),
    Legal("round-in-double", "0.5 with the sign of v is added in double, and truncated.",
          {"to_integer": _away_in_double}, why="The sum is exact in double."),
    Legal("round-the-magnitude", "The magnitude is rounded half up, the sign put back.",
          {"to_integer": _magnitude_and_sign}, why="That is half away from zero."),
    Legal("codes-clamped", "Codes are clamped to -127 .. 127.", {"to_int8": _clamped},
          why="They never leave that range (Q8A8-QNT-5)."),
    Legal("half-saturating", "Scales of 65520 and more become 65504, not infinity.", {"to_half": _saturating},
          why="Inside the domain no scale reaches 65520 (Q8A8-HLF-4); outside, values are unspecified "
              "(Q8A8-QNT-11)."),
    Legal("half-from-double", "amax/127 is rounded to a half once, from double.",
          {"scale": _once, "to_half": _half_of_double},
          why="Q8A8-HLF-5: where f32(amax/127) is half-way between halves, the quotient is exact."),
    Legal("halves-by-table", "Scales are read from a table of all halves.", {"widen": _by_table},
          why="Q8A8-HLF-3: every half has one value."),
    Legal("double-scale-product", "The scales are multiplied in double, and so are the blocks' terms.",
          {"scale_product": _wide_scale, "total": lambda p, s, d: steps.total(p, s, d.astype(F32))},
          why="The product is exact in float32 as well (Q8A8-DOT-2)."),
    Legal("zero-blocks-skipped", "Blocks whose sum is zero are not added.",
          {"total": lambda p, s, d: steps.total(p, s[s != 0], d[s != 0])},
          why="A term of zero changes no sum that starts from +0."),
)  # fmt: skip

_SUMS = (
    Legal("double-accumulator", "The sum is kept in double and rounded once.", {"total": _double}, why=FREE),
    Legal("blocks-reversed", "The blocks are added from the last to the first.",
          {"total": _terms(lambda t: _forwards(t[::-1]))}, why=FREE),
    Legal("blocks-pairwise", "The blocks' terms are added as a balanced tree.", {"total": _terms(_pairwise)},
          why=FREE),
    Legal("blocks-by-size", "The smallest terms are added first.", {"total": _terms(_by_size)}, why=FREE),
    Legal("blocks-compensated", "The sum is compensated, as Kahan's.", {"total": _terms(compensated)},
          why=FREE),
    Legal("four-accumulators", "Four scalar accumulators take the blocks in turn.",
          {"total": _terms(_interleaved(4))}, why=FREE),
    Legal("sixteen-accumulators", "Sixteen scalar accumulators take the blocks in turn.",
          {"total": _terms(_interleaved(16))}, why=FREE),
    Legal("even-blocks-first", "All even blocks are added, then all odd ones.",
          {"total": _terms(lambda t: _forwards(np.concatenate([t[::2], t[1::2]])))}, why=FREE),
)  # fmt: skip


def _one_row_at_a_time(call: Callable[[], None], function: str, arguments: Sequence[Any]) -> None:
    """Refuse nrc = 2, as `assert(nrc == 1)` does."""
    del function
    if arguments[7] != 1:
        raise NotImplementedError("nrc = 2")
    call()


_INTERFACE = (
    Legal("one-row-at-a-time", "nrc = 2 is refused.", {}, (DOT,), lambda: _one_row_at_a_time,
          why="Q8A8-DOT-6 binds kernels that take two rows at a time."),
)  # fmt: skip

_ORDERS = tuple(
    Legal(
        f"order-{order.name}",
        f"The blocks are added in the order `{order.name}`: {order.source}.",
        {"total": in_order(order)},
        why=FREE,
    )
    for order in ORDERS.values()
    if order.name != "scalar"
)

LEGAL = (*_ARITHMETIC, *_SUMS, *_INTERFACE, *_ORDERS)
