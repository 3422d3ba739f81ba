"""Codes and scales that stand elsewhere than they should, and effects whose numbers are read off the calls.

other blocks
    A block's bytes, codes or scale are those of another one: a neighbour, the first or the last of a group.
moved bytes
    Which byte of a block stands at which place is measured, in the blocks that are wrong.
elements
    Limits of codes; codes that are always stored as others.
windows
    A block begins some elements too early or too late: for its codes, or for its amax, too.
pairs
    A code has a part of another element's: bits that are not masked, signs, borrows.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.quantizers.codes import limit_effect, table_effect
from q8a8_conformance.diagnosis.quantizers.effect import LARGEST_CODE, Effect, Given, quantized, with_bytes
from q8a8_conformance.diagnosis.quantizers.layouts import layout_effects
from q8a8_conformance.diagnosis.quantizers.orders import order_text
from q8a8_conformance.diagnosis.quantizers.statements import NEIGHBOURS
from q8a8_conformance.reveal.quantizers.calls import BLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from q8a8_conformance.diagnosis.quantizers.cases import Case
    from q8a8_conformance.inputs.arrays import Array


F32 = np.float32

PAIR = 2
GROUPS = (PAIR, 3, 4, 5, 6, 8, 16, 32, 64)
OFFSETS = (-1, 1, -2, 2, -3, 3, -4, 4, -8, 8, -16, 16)

LEAST = 8
"""Wrong blocks that tell where a byte comes from."""

SURE = 0.3
"""The part of the wrong blocks in which it must come from there."""

FEW = 8
"""Codes that are stored as others, at most."""


def measured_effects(made: Sequence[Case], *, is_row: bool) -> Iterator[Effect]:
    """Yield effects whose numbers are read off calls."""
    if is_row:
        yield from _moved(made)
        yield from layout_effects(made)
    yield from _tables(made)


def placed_effects(*, is_row: bool) -> Iterator[Effect]:
    """Yield what is another block's."""
    if is_row:
        yield from _other_blocks()
        yield from window_effects()


# Other blocks.

OWN = "Let every block have its own scale and codes."


def _other_blocks() -> Iterator[Effect]:
    for name, data, text, of in _sources():
        for what, noun, verb in (("block", "A block", "holds"), ("codes", "A block", "has the codes of"),
                                 ("scale", "A block", "has the scale of")):  # fmt: skip
            gives = partial(_of_block, of=of, what=what)
            where = {"of-block": name, "what": what, **data}
            yield Effect("value-of-block", where, f"{noun} {verb} {text}", "Q8A8-QNT-7", OWN, gives)


_OTHER = "the other block of its pair"


def _sources() -> Iterator[tuple[str, dict[str, int], str, Callable[..., Array]]]:
    """Yield which block's each block has, by the blocks of a row."""
    for o in OFFSETS:
        name = {-1: "the block before", 1: "the block after"}.get(o, f"the block {o:+d} from it")
        yield "offset", {"offset": o}, name, partial(_shifted, o=o)
    for t in GROUPS:
        yield "first-of-group", {"group": t}, f"the first block of its group of {t}", lambda i, t=t: i - i % t
        last = partial(lambda t, i: np.minimum(i - i % t + t - 1, len(i) - 1), t)
        yield "last-of-group", {"group": t}, f"the last block of its group of {t}", last
        name = f"the block at its place from the end of its group of {t}" if t > PAIR else _OTHER
        yield "mirrored", {"group": t}, name, partial(_mirrored, t=t)
    yield "first", {}, "the first block of the row", np.zeros_like
    yield "mirror", {}, "the block at its place from the end of the row", lambda i: i[::-1]


def _shifted(i: Array, o: int) -> Array:
    at = i + o
    return np.where((at >= 0) & (at < len(i)), at, i)


def _mirrored(i: Array, t: int) -> Array:
    at = i - i % t + t - 1 - i % t
    return np.where(at < len(i), at, i)


def _of_block(case: Case, of: Callable[[Array], Array], what: str) -> Given:
    source = case.by_row(lambda numbers: numbers[of(np.arange(len(numbers)))], np.arange(len(case.x)))
    columns = {"block": slice(0, None), "codes": slice(2, None), "scale": slice(0, 2)}[what]
    return with_bytes(case, case.right[source, columns], columns)


# Moved bytes.


def _moved(made: Sequence[Case]) -> Iterator[Effect]:
    """Yield that the codes of a block are stored in another order, or that its bytes stand elsewhere."""
    (case,) = made
    blocks = np.flatnonzero(case.wrong[:, 1:].any(axis=1) & (np.ptp(case.codes, axis=1) > LARGEST_CODE))
    if blocks.size < LEAST:
        return
    right, got = case.right[blocks], case.got[blocks]
    for first, noun in ((2, "codes"), (0, "bytes")):
        columns = range(first, 2 + BLOCK)
        found: list[int] = []
        for place in columns:
            same = [
                (int((got[:, place] == right[:, k]).sum()), k == place, -abs(k - place), k) for k in columns
            ]
            best = max(same)
            found.append(best[3] - first if best[0] >= max(LEAST, SURE * len(blocks)) else place - first)
        order = np.array(found)
        if (order != np.arange(order.size)).any():
            text = order_text(order, noun)
            gives = partial(_in_order, source=order, first=first)
            fix = "Store the scale, then element j at byte 2 + j: packs work within 128-bit lanes."
            yield Effect("value-order", {"order": found, "of": noun}, text, "Q8A8-LAY-1", fix, gives)


def _in_order(case: Case, source: Array, first: int) -> Given:
    return with_bytes(case, case.right[:, first + source], slice(first, None))


# Codes.


def _tables(made: Sequence[Case]) -> Iterator[Effect]:
    """Yield limits of codes, and codes that are always stored as others."""
    right = np.concatenate([case.codes[case.wrong[:, 1:]] for case in made])
    got = np.concatenate([case.got[:, 2:].view(np.int8)[case.wrong[:, 1:]] for case in made]).astype(np.int16)
    if not right.size:
        return
    least, greatest = _limit(got, right < got, -LARGEST_CODE), _limit(got, right > got, LARGEST_CODE)
    if least < greatest and (least, greatest) != (-LARGEST_CODE, LARGEST_CODE):
        yield limit_effect(least, greatest)
    pairs, counts = np.unique(np.stack([right, got]), axis=1, return_counts=True)
    often = [tuple(pair) for pair, count in zip(pairs.T.tolist(), counts.tolist(), strict=True) if count > 1]
    some = often[: 4 * FEW] if len(often) <= 4 * FEW else []
    if 0 < len(some) <= FEW and len({a for a, _ in some}) == len(some):
        yield table_effect(tuple(some))
    numbers, counts = np.unique(got, return_counts=True)
    for number in numbers[counts > SURE * got.size].tolist():
        yield _constant(int(number))
    signs = np.sign(right)
    for name, apart in (("by", got - right), ("away-from-zero", (got - right) * signs)):
        numbers, counts = np.unique(apart, return_counts=True)
        for number in numbers[(counts > SURE * got.size) & (np.abs(numbers) > 1)].tolist():
            yield _moved_by(int(number), name)


def _limit(got: Array, beyond: Array, otherwise: int) -> int:
    """Return the code that stands most often for those beyond it."""
    numbers, counts = np.unique(got[beyond], return_counts=True)
    often = int(numbers[np.argmax(counts)]) if numbers.size else otherwise
    return often if numbers.size and counts.max() > SURE * counts.sum() else otherwise


def _moved_by(number: int, name: str) -> Effect:
    """Return that codes are others by a number, or by it away from zero."""

    def gives(case: Case) -> Given:
        apart = number if name == "by" else number * np.sign(case.codes)
        return with_bytes(case, (case.codes + apart).astype(np.int8).view(np.uint8))

    words = ("greater", "smaller") if name == "by" else ("farther from zero", "nearer to zero")
    how = words[number < 0]
    where = {"codes": f"moved-{name}", "number": number}
    fix = "Store f32(x · inv), rounded, as it is."
    return Effect("value-codes", where, f"Codes are stored {abs(number)} {how}", "Q8A8-QNT-4", fix, gives)


def _constant(number: int) -> Effect:
    where = {"codes": "constant", "code": number}
    fix = "Store f32(x · inv), rounded, as every element's code."
    gives = partial(with_bytes, data=number % 256)
    return Effect("value-codes", where, f"Codes are {number}", "Q8A8-QNT-4", fix, gives)


SHIFTS = (1, -1, 2, -2, 4, -4, 8, -8, 16, -16, 32, -32)

WINDOW_FIX = "Take each block's amax and codes from its own 32 elements."


def window_effects() -> Iterator[Effect]:
    """Yield blocks that are quantized from elements of their neighbours."""
    for s in SHIFTS:
        many = f"{abs(s)} element{'s' if abs(s) > 1 else ''} {'too late' if s > 0 else 'too early'}"
        for what, noun in (("codes", "Codes are those of a block that begins"),
                           ("block", "A block is quantized from elements that begin")):  # fmt: skip
            gives = partial(_windowed, s=s, what=what)
            where = {"of-block": "window", "offset": s, "what": what}
            yield Effect("value-of-block", where, f"{noun} {many}", "Q8A8-QNT-7", WINDOW_FIX, gives)


def _windowed(case: Case, s: int, what: str) -> Given:
    moved = np.zeros_like(case.x)
    inside: Array = np.zeros(case.x.shape, np.bool_)
    for where, n in case.rows:
        flat, at = case.x[where].reshape(-1), np.arange(n * BLOCK) + s
        held = (at >= 0) & (at < flat.size)
        moved[where] = np.where(held, flat[np.clip(at, 0, flat.size - 1)], 0).reshape(-1, BLOCK)
        inside[where] = held.reshape(-1, BLOCK)
    other = replace(case, x=moved, kept={})
    data, known = quantized(other, case.amax if what == "codes" else other.amax)
    known[:, 2:] &= inside
    return data, known & (inside.all(axis=1, keepdims=True) | (what == "codes"))


TOGETHER: tuple[tuple[str, str, Callable[[Array, Array], Array]], ...] = (
    ("or", "A code is the bitwise or of its own and that of {}", np.bitwise_or),
    ("and", "A code is the bitwise and of its own and that of {}", np.bitwise_and),
    ("xor", "A code is the bitwise exclusive or of its own and that of {}", np.bitwise_xor),
    ("sum", "A code is the sum of its own and that of {}", np.add),
    ("largest", "A code is the larger one of its own and that of {}", np.maximum),
    ("least", "A code is the smaller one of its own and that of {}", np.minimum),
    ("sign", "A code has the sign of that of {}", lambda q, other: np.where(other < 0, -1, 1) * np.abs(q)),
    ("magnitude", "A code has the magnitude of that of {}", lambda q, other: np.sign(q) * np.abs(other)),
    ("other", "A code is that of {}", lambda _q, other: other),
)
"""What a code becomes beside another one."""


def paired_effects() -> Iterator[Effect]:
    """Yield codes that are put together of their own and another element's."""
    fix = "Store each code as it is: widen, shift and mask so that no bit of a neighbour has a part in it."
    for noun, at in NEIGHBOURS:
        for name, text, of in TOGETHER:
            gives = partial(_together, at=at, of=of)
            where = {"codes": name, "with": noun}
            yield Effect("value-codes", where, text.format(noun), "Q8A8-QNT-4", fix, gives)


def _together(case: Case, at: Callable[[Array], Array], of: Callable[[Array, Array], Array]) -> Given:
    numbers = np.arange(case.x.shape[1])
    source = at(numbers)
    inside = (source >= 0) & (source < numbers.size)
    codes = case.codes.astype(np.int64)
    found = np.where(inside, of(codes, codes[:, np.where(inside, source, 0)]), codes)
    return with_bytes(case, found.astype(np.int8).view(np.uint8))
