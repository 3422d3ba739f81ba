"""Forms of dequantization whose numbers are measured: factors, offsets, tables, and where values come from.

The bank of those that need no measurement is `forms`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.diagnosis.dequantizers.forms import OTHER
from q8a8_conformance.diagnosis.dequantizers.kept import parts_at
from q8a8_conformance.diagnosis.dequantizers.model import (
    BLOCK,
    CODES,
    F32,
    LANES,
    SIZE,
    Form,
    bits_of,
    of_read,
    read_right,
)
from q8a8_conformance.diagnosis.quantizers.orders import order_text
from q8a8_conformance.reveal.quantizers.words import ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from q8a8_conformance.diagnosis.dequantizers.model import Read
    from q8a8_conformance.inputs.arrays import Array

    Change = Callable[..., Any]
    Map = tuple[str, Callable[..., Any]]

F64 = np.float64

MANY = 20_000
"""Wrong elements of which it is looked what they have in common."""

SHOWN = 3
"""Elements, and values, that are named as examples."""


# What is measured.


def measured(h: Array, q: Array, got: Array, want: Array) -> Iterator[Form]:
    """Yield forms with the numbers of wrong elements [k]: their bits, and those that the laws so far give."""
    d, v = read_right()[0][h], read_right()[1][q]
    y, written = want.view(F32), got.view(F32)
    with np.errstate(all="ignore"):
        ratio, offset = written.astype(F64) / y, written.astype(F64) - y
        values, scales = written / d, written / v
        whole = d * np.rint(values) == written
    for by in _common(ratio):
        what = f"the product is multiplied by {by:.9g}"
        yield Form("product", "product", what, lambda _r, _d, _v, y, by=by: y * by)
    for by in _common(offset):
        what = f"{by:.9g} is added to the product"
        yield Form("product", "product", what, lambda _r, _d, _v, y, by=by: y + by)
    for value in _common(written):
        what, data = f"{value:g} is written", {"value": float(value)} if np.isfinite(value) else {}
        of = bits_of(value)
        yield Form("store", "output-constant", what, lambda _r, bits, _b, of=of: np.full_like(bits, of), data)
    for stage, keys, read, some, right in (
        ("code", q, values, whole, read_right()[1]),
        ("scale", h, scales, np.isin(np.abs(v), 2.0 ** np.arange(8)), read_right()[0]),
    ):
        if found := _read_as(keys, read, some & ~np.isnan(read), right):
            yield Form(stage, f"{stage}-read", found[0], of_read(stage, found[1]), cost=found[2])


def _common(values: Array) -> Iterator[Any]:
    """Yield the values, other than 0 and 1, that a part of all have."""
    some = values[:: max(len(values) // MANY, 1)].astype(F32)
    found, counts = np.unique(some, return_counts=True)
    for number in np.argsort(-counts, kind="stable")[:2]:
        if counts[number] >= max(len(some) // 8, 1) and found[number] not in {0, 1}:
            yield found[number]


def _read_as(keys: Array, values: Array, some: Array, right: Array) -> tuple[str, Change, int] | None:
    """Return how some keys (codes' bytes, or halves) are read otherwise: words, a function, its cost."""
    # The value that most of the wrong elements of each key have.
    pairs, counts = np.unique(keys[some].astype(np.int64) << 32 | bits_of(values[some]), return_counts=True)
    pairs = pairs[counts * 2 > np.bincount(keys, minlength=len(right))[pairs >> 32]]
    table = right.copy()
    table[pairs >> 32] = (pairs & 0xFFFFFFFF).astype(np.uint32).view(F32)
    other = np.flatnonzero(bits_of(table) != bits_of(right))
    if not other.size:
        return None
    is_code = len(right) == len(CODES)
    which = other[np.argsort(CODES[other])] if is_code else other
    apart = np.unique(table[other] - right[other])
    if is_code and other.size > SHOWN and apart.size == 1 and np.isfinite(apart).all():
        noun, cost = f"the codes {ranges(CODES[which].tolist())}", 1
        how = f"numbers that are {abs(apart[0]):g} {'smaller' if apart[0] < 0 else 'greater'}"
    elif is_code and other.size > 1 and (table[other] == table[other[0]]).all():
        noun, cost, how = f"the codes {ranges(CODES[which].tolist())}", 1, f"{table[other[0]]:g}"
    else:
        shown = ", ".join(
            f"{CODES[key] if is_code else f'0x{key:04x}'} as {table[key]:g}" for key in which[:SHOWN]
        )
        more = f", and {len(other) - SHOWN} more" if len(other) > SHOWN else ""
        noun, cost, how = "codes" if is_code else "halves", OTHER, f"other values: {shown}{more}"
    return f"{noun} are read as {how}", lambda key, _value: table[key], cost


# Where values come from.

NEXT = {1: "the next block", -1: "the block before it"}
"""Neighbours in words."""


def moved(scale: Array, code: Array) -> Iterator[Form]:
    """Yield forms that take elements of a row from other places.

    Given are, as int [n, 32], the bytes of the row at which elements' scales begin, and those that are their
    codes; below 0 for unknown ones.
    """
    n = len(scale)
    own = np.broadcast_to(np.arange(n)[:, np.newaxis], scale.shape)
    is_known = (scale >= 0) & (code >= 0)
    at_scale, at_code = scale - own * SIZE, code - own * SIZE - 2 - LANES
    is_scale, is_code = is_known & (scale % SIZE == 0), is_known & (code % SIZE >= 2)
    source, lane = code // SIZE, code % SIZE - 2
    other = is_scale & (at_scale != 0)
    for text, of in _maps(n, scale[other] // SIZE, own[other]):
        yield _from_block("scale", f"the scale is that of {text}", of)
        yield _from_block("block", f"what comes out is {text}", of)
    other = is_code & (source != own)
    maps = _maps(n, source[other], own[other])
    for text, of in maps:
        yield _from_block("codes", f"the codes are those of {text}", of)
    is_moved = (is_code & (lane != LANES)).any(axis=1)
    for order in np.unique(np.where(is_code, lane, LANES)[is_moved], axis=0)[:4]:
        yield from _in_order(order, maps)
    shift = (BLOCK * (source - own) + lane - LANES)[is_code]
    for by in np.unique(shift[shift != 0])[:4].tolist():
        beside = f"element {abs(by)} places {_side(by)} it"
        beside = {1: "next element", -1: "element before it"}.get(by, beside)
        what = f"the code is that of the {beside} in the row"
        yield Form("row", "place-elements", what, partial(_element_beside, by))
    # What is no field of a block is read as one: bytes before or behind the own ones.
    for name, noun, at in (
        ("codes", "codes are", at_code),
        ("scale", "scale is", at_scale),
        ("block", "block is", at_scale),
    ):
        for by in _common_shifts(at[is_known]):
            bytes_ = f"{abs(by)} byte{'s' * (abs(by) > 1)}"
            what = f"the {noun} read {bytes_} too {'early' if by < 0 else 'late'}"
            gives = partial(lambda name, by, read: parts_at(name, SIZE * read.own + by), name, by)
            yield Form("row", "layout", what, gives)


def _common_shifts(shifts: Array) -> list[int]:
    """Return the distances in bytes that are common, and no matter of whole blocks."""
    found, counts = np.unique(shifts[shifts % SIZE != 0], return_counts=True)
    return [int(by) for by in found[np.argsort(-counts, kind="stable")][:4]]


def _side(by: int) -> str:
    return "before" if by < 0 else "after"


def _element_beside(by: int, read: Read) -> tuple[None, Array]:
    """Return where the codes are that lie so many elements behind in the row."""
    block, lane = np.divmod(read.own * BLOCK + LANES + by, BLOCK)
    return None, block * SIZE + 2 + lane


def _maps(n: int, sources: Array, blocks: Array) -> list[Map]:
    """Return in what ways blocks may come from others: in words, and (b, n) -> blocks; the best ones."""
    offsets, counts = np.unique(sources - blocks, return_counts=True)
    every: list[Map] = [
        (NEXT.get(by, f"the block {abs(by)} {_side(by)} it"), lambda b, _n, by=by: b + by)
        for by in offsets[np.argsort(-counts, kind="stable")][:6].tolist()
    ]
    some = np.unique(sources)[:SHOWN].tolist()
    constants: list[Map] = [(f"block {c}", lambda b, _n, c=c: b * 0 + c) for c in some]
    # (One block alone is plainer than a formula that gives it.)
    every = [*constants, *every] if len(constants) == 1 else [*every, *constants]
    moduli = {2**k for k in range(1, 13)} | set((blocks - sources)[blocks > sources + 1].tolist())
    for m in sorted(m for m in moduli if m <= n):
        mirrored = (
            f"the block as far from the other end of its {m}" if m > 2 else "the other block of its pair"
        )
        every += (
            (f"the block whose number is its own modulo {m}", lambda b, _n, m=m: b % m),
            (f"the first block of its {m}", lambda b, _n, m=m: b // m * m),
            (f"the last block of its {m}", lambda b, _n, m=m: b // m * m + m - 1),
            (f"the last block of the whole groups of {m}", lambda _b, n, m=m: n // m * m - 1),
            (mirrored, lambda b, _n, m=m: b // m * m + m - 1 - b % m),
        )
    every.append(("the last block", lambda b, n: b * 0 + n - 1))
    every.append(("the block as far from the other end", lambda b, n: n - 1 - b))
    fitting = [(int((of(blocks, np.int64(n)) == sources).sum()), (text, of)) for text, of in every]
    return [one for count, one in sorted(fitting, key=lambda pair: -pair[0])[:6] if count]


def _from_block(name: str, what: str, source: Change) -> Form:
    def gives(read: Read) -> tuple[Array | None, Array | None]:
        return parts_at(name, SIZE * source(read.own, read.n))

    return Form("row", f"place-{name}-of", what, gives, cost=int("group" in what))


def _in_order(order: Array, maps: Sequence[Map]) -> Iterator[Form]:
    """Yield that elements come from others of the block, or of another one."""
    moved = [f"element {j} has the code of element {s}" for j, s in enumerate(order) if j != s]
    what = "; ".join(moved)
    if len(moved) > SHOWN:
        what = order_text(order, "codes").replace("stands", "comes out").replace("stand", "come out")
        what = what[0].lower() + what[1:]
    slug = "elements-read-interleaved" if np.array_equal(order, LANES.reshape(2, 16).T.reshape(-1)) else ""
    own = partial(lambda order, read: (None, SIZE * read.own + 2 + order), order)
    yield (form := Form("row", "place-elements", what, own, {"order": order.tolist()}, slug))
    for text, of in maps:
        gives = partial(lambda of, read: (None, SIZE * of(read.own, read.n) + 2 + order), of)
        yield replace(form, what=f"{what}, of {text}", gives=gives, cause="")
