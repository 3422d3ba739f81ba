"""Which byte of a row of blocks is where, whose amax a block has, and which elements count in it.

All of it is seen on elements that every way to quantize gives the same codes, so that a wrong rounding is in
nobody's way:

layout
    In twelve rows each byte has a sequence of values that no other has. Where a sequence turns up is where
    the byte was written; a byte that always holds what the output held before was not written.
sharing
    One block of eight is large: the scales that grow have its amax in them.
counted elements
    One element of a block is large: where the scale does not grow, the element does not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.reveal.quantizers.calls import BLOCK, FILLS, Blocks

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.reveal.quantizers.calls import QuantizerCalls

F32 = np.float32
ROW = 8
"""Blocks of the rows on which a quantizer's structure and arithmetic are measured."""

TAGS = 12
UNKNOWN, UNWRITTEN = -1, -2
SIZE = 34
LARGE = 64.0
INTERLEAVED = np.arange(32).reshape(2, 16).T.reshape(-1)

BLOCK_ORDERS: dict[str, Array] = {
    "as-specified": np.arange(SIZE),
    "scale-big-endian": np.r_[1, 0, 2:SIZE],
    "scale-last": np.r_[2:SIZE, 0, 1],
    "interleaved": np.r_[0, 1, 2 + INTERLEAVED],
    "reversed": np.r_[0, 1, 2 + np.arange(31, -1, -1)],
}
"""Orders of a block's bytes: which byte of the specified block stands at each place."""


def _scales_first(nb: int) -> Array:
    starts = SIZE * np.arange(nb)[:, np.newaxis]
    return np.concatenate([(starts + np.arange(2)).reshape(-1), (starts + np.arange(2, SIZE)).reshape(-1)])


def _exchanged(nb: int) -> Array:
    order = np.arange(nb)
    order[: nb // 2 * 2] = order[: nb // 2 * 2].reshape(-1, 2)[:, ::-1].reshape(-1)
    return np.asarray((SIZE * order[:, np.newaxis] + np.arange(SIZE)).reshape(-1))


ROW_ORDERS = {"scales-first": _scales_first, "pairs-exchanged": _exchanged}
"""Orders of a row's bytes that are none of each block alone, by the number of blocks."""


@dataclass(frozen=True)
class Layout:
    """Where a row's bytes are.

    Attributes
    ----------
    name
        A name of `BLOCK_ORDERS` or `ROW_ORDERS`; "other" for a layout of another kind.
    order
        int [n · 34]: which byte of the specified row stands at each place; `UNKNOWN`, or `UNWRITTEN`.
    """

    name: str
    order: Array

    @property
    def block_order(self) -> Array | None:
        """Which byte of its block stands at each place [34], where "other" is one order of every block."""
        of = self.order.reshape(-1, SIZE) - SIZE * np.arange(self.order.size // SIZE)[:, np.newaxis]
        own = np.where(self.order.reshape(-1, SIZE) >= 0, of, -1).max(axis=0)
        alike = ((of == own) | (self.order.reshape(-1, SIZE) < 0)).all()
        return own if self.name == "other" and alike and (np.sort(own) == np.arange(SIZE)).all() else None

    def write(self, blocks: Blocks) -> Blocks:
        """Return specified blocks as a row has them in this layout."""
        nb = len(blocks.data)
        if self.name in BLOCK_ORDERS:
            return Blocks(blocks.data[:, BLOCK_ORDERS[self.name]])
        if (own := self.block_order) is not None:
            return Blocks(blocks.data[:, own])
        order = ROW_ORDERS[self.name](nb) if self.name in ROW_ORDERS else self.order
        if order.size != blocks.data.size:
            return blocks
        known = np.where(order >= 0, order, np.arange(order.size))
        return Blocks(blocks.data.reshape(-1)[known].reshape(nb, SIZE))

    def read(self, blocks: Blocks) -> Blocks:
        """Return a row's blocks in the specified layout: what `write` does, undone."""
        if self.name == "as-specified":
            return blocks
        size = blocks.data.size
        places = self.write(Blocks(np.arange(size).reshape(-1, SIZE))).data.reshape(-1)
        data = blocks.data.reshape(-1).copy()
        data[places] = blocks.data.reshape(-1)
        return Blocks(data.reshape(-1, SIZE))

    def written_codes(self) -> Array:
        """Return bool [32]: which codes of the specified block are written; all of them in another layout."""
        if self.name != "as-specified":
            return np.ones(BLOCK, np.bool_)
        written = (self.order.reshape(-1, SIZE)[:, 2:] != UNWRITTEN).any(axis=0)
        return np.asarray(written | ~written.any())


AS_SPECIFIED = Layout("as-specified", np.arange(ROW * SIZE))


def _tagged(rng: np.random.Generator, sign: int, *, own_scales: bool) -> tuple[Array, Array]:
    """Return a row x [8, 32] of one sign and its bytes [272]; its elements are a quarter above a code."""
    bits = rng.integers(0x2C00, 0x4800, ROW if own_scales else 1)
    h = np.broadcast_to(bits, ROW).astype(np.uint16).view(np.float16)
    # Codes up to 60 stay what they are if the inverse is off by a few thousandths.
    codes = rng.integers(1, 61, (ROW, BLOCK))
    codes[rng.random((ROW, BLOCK)) < 0.3] = 127
    codes[np.arange(ROW), rng.integers(0, BLOCK, ROW)] = 127
    beyond = np.where(codes < 127, 0.25, 0.0)
    x = (sign * (codes + beyond) * h.astype(np.float64)[:, np.newaxis]).astype(F32)
    row = np.concatenate(
        [h.view(np.uint8).reshape(ROW, 2), (sign * codes).astype(np.int8).view(np.uint8)], axis=1
    )
    return x, row.reshape(-1)


def find_layout(calls: QuantizerCalls) -> Layout:
    """Find where a row quantizer writes the bytes of eight blocks."""
    best = _search_layout(calls, 1, own_scales=True)
    # Where blocks influence each other, the same scale for all of them shows more; so may the other sign.
    for sign, own_scales in ((1, False), (-1, True)):
        if best.name == "other":
            other = _search_layout(calls, sign, own_scales=own_scales)
            if (other.order >= 0).sum() > (best.order >= 0).sum():
                best = other
    return best


def _search_layout(calls: QuantizerCalls, sign: int, *, own_scales: bool) -> Layout:
    rng = np.random.default_rng(34)
    expected, actual, fills = [], [], []
    for number in range(TAGS):
        x, row = _tagged(rng, sign, own_scales=own_scales)
        expected.append(row)
        fills.append(FILLS[number % 2])
        actual.append(calls(x, fills[-1]).data.reshape(-1))
    want, got, fill = np.array(expected), np.array(actual), np.array(fills)[:, np.newaxis]
    order = np.full(want.shape[1], UNKNOWN)
    places = np.arange(order.size)
    # Rows of one scale have it in every block: the byte of the same block is meant, or of the place itself.
    found: dict[bytes, list[int]] = {}
    for place in places:
        found.setdefault(want[:, place].tobytes(), []).append(int(place))
    for place in places:
        at = found.get(got[:, place].tobytes(), [])
        if at:
            order[place] = place if place in at else at[0]
        elif (got[:, place] == fill[:, 0]).all():
            order[place] = UNWRITTEN
    return Layout(_layout_name(order, own_scales=own_scales), order)


def _layout_name(order: Array, *, own_scales: bool) -> str:
    known = order >= 0
    if not known.any():
        return "other"
    # A scale that is computed in another way is at no place; the codes must be.
    codes = np.tile(np.r_[[False] * 2, [True] * 32], ROW)
    offsets = SIZE * np.arange(ROW)[:, np.newaxis]
    named = {name: (offsets + of).reshape(-1) for name, of in BLOCK_ORDERS.items()}
    named.update({name: of(ROW) for name, of in ROW_ORDERS.items()})
    for name, places in named.items():
        same = places == order
        if not own_scales:
            # All scales are the same one.
            same |= known & (places % SIZE == order % SIZE) & (places % SIZE < 2)
        # So must most codes that are written: a greatest code that is another one is no matter of layout.
        written = known[codes[places] & (order != UNWRITTEN)]
        if same[known].all() and (not written.size or written.mean() > 0.5):
            return name
    # Blocks that are others' are a matter of places, as long as most are their own.
    alike = ((order == np.arange(order.size)) | ~known).reshape(ROW, SIZE).all(axis=1)
    return "as-specified" if own_scales and alike.sum() > ROW // 2 else "other"


def even_row(n: int = ROW * BLOCK) -> Array:
    """Return elements whose scale is 1 by most ways to compute one."""
    return np.resize(np.array([127, -127], F32), n)


def whose_amax(calls: QuantizerCalls, layout: Layout) -> Array:
    """Return for eight blocks [large, block] whether a block's scale has a large block's amax in it."""
    matrix = np.zeros((ROW, ROW), np.bool_)
    base = even_row().reshape(ROW, BLOCK)
    small = layout.read(calls(base)).scales
    for block in range(ROW):
        x = base.copy()
        x[block] *= F32(LARGE)
        matrix[block] = layout.read(calls(x)).scales != small
    return matrix


def _kept_for_zero(own: Array) -> Array:
    last = np.maximum.accumulate(np.where(own != 0, np.arange(own.size), 0))
    return np.where(own != 0, own, own[last])


SHARED_AMAX: dict[str, Callable[[Array], Array]] = {
    "own": lambda own: own,
    "row": lambda own: np.full_like(own, own.max()),
    "running": np.maximum.accumulate,
    "block-before": lambda own: np.concatenate([own[:1], own[:-1]]),
    "next-block": lambda own: np.concatenate([own[1:], own[-1:]]),
    "pair": lambda own: np.repeat(np.maximum.reduceat(own, np.arange(0, own.size, 2)), 2)[: own.size],
    "first-block": lambda own: np.full_like(own, own[0]),
    "kept-for-zero": _kept_for_zero,
    "other": lambda own: own,
}
"""Ways in which blocks share an amax: what they have, from their own ones [n]."""


def shared_amax(sharing: str, own: Array) -> Array:
    """Return the amax that blocks of a row have, from their own ones [n]."""
    return SHARED_AMAX[sharing](own) if own.size else own


def sharing_name(matrix: Array) -> str:
    """Return the name of a matrix of `whose_amax`; "other" where it has none.

    Where most blocks have their own amax, the others are a matter of places.
    """
    large = 1.0 + np.eye(ROW)
    exact = next((name for name, of in SHARED_AMAX.items() if _shows(matrix, of, large)), None)
    own = (matrix == np.eye(ROW, dtype=np.bool_)).all(axis=0).sum() > ROW // 2
    return exact or ("own" if own else "other")


def _shows(matrix: Array, of: Callable[[Array], Array], large: Array) -> bool:
    """Return whether a way to share an amax has this matrix; of a last block without a next one, either."""
    expected = np.array([of(row) for row in large]) > 1
    if of is SHARED_AMAX["next-block"]:
        expected[-1, -1] = matrix[-1, -1]
    return bool(np.array_equal(matrix, expected))


def keeps_for_zero(calls: QuantizerCalls, layout: Layout) -> bool:
    """Return whether a block of zeros has the scale of the last block that is none."""
    x = np.zeros((ROW, BLOCK), F32)
    x[0], x[3], x[5] = 127 * LARGE, 127, 127 * 16
    scales = layout.read(calls(x)).scales
    return bool((scales[1:3] == scales[0]).all() and scales[4] == scales[3] and scales[0] != scales[3])


def counted_elements(calls: QuantizerCalls, layout: Layout, sharing: str) -> Array:
    """Return bool [2, 8, 32]: by sign (+, -) and block, whether an element counts in amax."""
    counted = np.zeros((2, ROW, BLOCK), np.bool_)
    base = even_row().reshape(ROW, BLOCK)
    small = layout.read(calls(base)).scales
    blocks = np.arange(ROW)
    for number in range(2 * BLOCK):
        # Where blocks are independent, each one has another element in a call.
        case = (number + (8 * blocks if sharing == "own" else 0 * blocks)) % (2 * BLOCK)
        signs, elements = case % 2, case // 2
        x = base.copy()
        x[blocks, elements] = F32(127 * LARGE) * (1 - 2 * signs)
        counted[signs, blocks, elements] = layout.read(calls(x)).scales != small
    return counted
