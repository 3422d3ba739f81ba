"""Forms of dequantization in which a block has something of those before it, which is kept.

What a kernel keeps it uses again where something is as it was (a table of the last scale), or where a block
lacks it (a zero scale).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.dequantizers.model import (
    LANES,
    NONE,
    SIZE,
    Form,
    bits_of,
    read_right,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from q8a8_conformance.diagnosis.dequantizers.model import Blocks, Read
    from q8a8_conformance.inputs.arrays import Array

COST = 1
"""That of a form that keeps something."""

FIELDS = {"scale": "the scale is that of", "codes": "the codes are those of", "block": "what comes out is"}
"""What may be another block's, as the start of a sentence."""

_KEYS: dict[str, Callable[[Blocks], Array]] = {
    "the same scale": lambda blocks: blocks.h,
    "a scale of the same magnitude": lambda blocks: blocks.h & 0x7FFF,
    "an equal scale": lambda blocks: np.where(blocks.h == 0x8000, 0, blocks.h),
    "a scale of the same low byte": lambda blocks: blocks.h & 0xFF,
    "a scale of the same high byte": lambda blocks: blocks.h >> 8,
    "a scale of the same exponent": lambda blocks: blocks.h >> 10 & 31,
    "the same codes": lambda blocks: _numbered(blocks.q),
    "the same first code": lambda blocks: blocks.q[:, 0],
    "the same first four codes": lambda blocks: np.ascontiguousarray(blocks.q[:, :4]).view("<u4")[:, 0],
    "the same first eight codes": lambda blocks: np.ascontiguousarray(blocks.q[:, :8]).view("<u8")[:, 0],
}
"""What blocks may have in common, as integers [k]."""

_BITS = "scales of the same bits 0x"
"""What blocks have in common is certain bits of the scale: the start of its words; a mask follows."""

_LACKING: dict[str, Callable[[Array], Array]] = {
    "0": lambda h: h & 0x7FFF == 0,
    "+0": lambda h: h == 0,
    "subnormal or 0": lambda h: h & 0x7C00 == 0,
    "negative": lambda h: h >= 0x8000,
    "positive": lambda h: h < 0x8000,
}
"""What scales may be that are none: of the bits of halves."""


def kept() -> Iterator[Form]:
    """Yield the forms."""
    for name, begins in FIELDS.items():
        fact = f"place-{name}-of"
        for key in _KEYS:
            yield from _alike(name, key)
        for by, text in ((-1, "the block before"), (1, "the next block")):
            gives = partial(lambda name, by, read: parts_at(name, SIZE * (read.own + by)), name, by)
            yield Form("row", fact, f"{begins} {text}", gives)
    for text in _LACKING:
        what = f"the scale is that of the last block up to it whose scale is not {text}"
        yield Form("row", "place-scale-of", what, partial(_from, "scale", text, _last_having), cost=COST)
        what = f"{what}, or +0 where there is none"
        yield Form("scale", "place-scale-of", what, partial(_last_or_zero, text), cost=COST + 1)
    for text, change in _WITH_OTHER.items():
        for other, far in _OTHERS.items():
            what = text.format(other)
            yield Form("scale", "place-scale-of", what, partial(_with_other, change, far), cost=COST)


def _alike(name: str, key: str) -> Iterator[Form]:
    """Yield that blocks have something of the first one that is alike: of adjacent ones, and of the row."""
    for text, source, data in (
        (f"the first of adjacent blocks with {key}", first_of_run, {"adjacent": key}),
        (f"the first block of the row with {key}", _first_in_row, {"like": key}),
    ):
        what, gives = f"{FIELDS[name]} {text}", partial(_from, name, key, source)
        yield Form("row", f"place-{name}-of", what, gives, data, cost=COST)


def of_same_bits(blocks: Blocks, wrong: Array) -> Iterator[Form]:
    """Yield that a scale is kept while some bits of scales are the same: all but those that were not seen.

    Those are measured: where a wrong block, of some bool [k], has the scale of a right one before it.
    """
    at = np.flatnonzero(wrong & (blocks.b > 0) & ~np.roll(wrong, 1))
    halves, codes = read_right()
    given = bits_of(halves[blocks.h[at - 1]][:, np.newaxis] * codes[blocks.q[at]])
    at = at[(given == blocks.got[at]).all(axis=1)]
    mask = 0xFFFF & ~int(np.bitwise_or.reduce(blocks.h[at] ^ blocks.h[at - 1], initial=0))
    if mask not in {0xFFFF, 0x7FFF, 0xFF, 0xFF00, 0x7C00}:
        yield from _alike("scale", f"{_BITS}{mask:04x}")


def _numbered(rows: Array) -> Array:
    """Return a number for each row: equal ones of equal rows."""
    numbers: dict[bytes, int] = {}
    return np.array([numbers.setdefault(row.tobytes(), at) for at, row in enumerate(rows)], np.int64)


def _keys_of(blocks: Blocks, key: str) -> Array:
    """Return what blocks have in common where they are alike, as integers [k]."""
    if key.startswith(_BITS):
        return np.asarray(blocks.h & int(key.removeprefix(_BITS), 16))
    return _KEYS[key](blocks)


def parts_at(name: str, at: Array) -> tuple[Array | None, Array | None]:
    """Return where scale and codes are of blocks that begin at some bytes, int [k, 1]: those of `FIELDS`."""
    return None if name == "codes" else at, None if name == "scale" else at + 2 + LANES


def _from(
    name: str, key: str, source: Callable[[Blocks, str], Array], read: Read
) -> tuple[Array | None, Array | None]:
    return parts_at(name, SIZE * _numbers(key, source, read))


def _numbers(key: str, source: Callable[[Blocks, str], Array], read: Read) -> Array:
    """Return which blocks of their rows a source gives for some, int [k, 1]; it is asked once."""
    held = read.blocks.kept
    if (source, key) not in held:
        held[source, key] = source(read.blocks, key)
    return held[source, key][read.at, np.newaxis]


def first_of_run(blocks: Blocks, key: str) -> Array:
    """Return the numbers of the blocks with which runs begin: those of equal keys in a row."""
    keys = _keys_of(blocks, key)
    begins = (blocks.b == 0) | (keys != np.roll(keys, 1))
    return np.asarray(np.maximum.accumulate(np.where(begins, np.arange(len(keys)), 0)) - blocks.first)


def _first_in_row(blocks: Blocks, key: str) -> Array:
    """Return the numbers of the first blocks of their rows that have their keys."""
    _, keys = np.unique(_keys_of(blocks, key), return_inverse=True)
    in_rows = blocks.first.astype(np.int64) * len(keys) + keys
    _, first, which = np.unique(in_rows, return_index=True, return_inverse=True)
    return np.asarray(first[which] - blocks.first)


def _last_having(blocks: Blocks, lacking: str) -> Array:
    """Return the numbers of the last blocks up to each whose scale is not of a kind; -1 where none is."""
    last = np.maximum.accumulate(np.where(_LACKING[lacking](blocks.h), -1, np.arange(len(blocks.h))))
    return np.asarray(np.where(last >= blocks.first, last - blocks.first, -1))


def _last_or_zero(lacking: str, read: Read, d: Array) -> Array:
    last, first = _numbers(lacking, _last_having, read), read.blocks.first[read.at, np.newaxis]
    values = read_right()[0][read.blocks.h[first + np.maximum(last, 0)]]
    return np.broadcast_to(np.where(last >= 0, values, np.float32(0)), d.shape)


_OTHERS: dict[str, int | None] = {
    "the block before": -1,
    "the next block": 1,
    "the first block": 0,
    "the last block": None,
}
"""Other blocks, by their distance; the first one, and the last one."""

_WITH_OTHER: dict[str, Callable[[Array, Array], Array]] = {
    "the scale of {} is added to it": lambda d, other: d + other,
    "the scale is multiplied by that of {}": lambda d, other: d * other,
    "the mean of the scale and that of {} is taken": lambda d, other: (d + other) / 2,
    "the larger of the scale and that of {} is taken": np.maximum,
    "the smaller of the scale and that of {} is taken": np.minimum,
    "the scale has the sign of that of {}": np.copysign,
    "the scale has the magnitude of that of {}": lambda d, other: np.copysign(other, d),
}


def _with_other(change: Callable[[Array, Array], Array], by: int | None, read: Read, d: Array) -> Array:
    """Return scales with which something of another block's is done; those that lack one as they are."""
    first = read.blocks.first[read.at]
    if by:
        other = read.blocks.beside(read.at, by)
    else:
        other = read.blocks.h[first if by == 0 else first + read.n[:, 0] - 1].astype(np.int64)[:, np.newaxis]
    return np.where(other == NONE, d, change(d, read_right()[0][other & 0xFFFF]))
