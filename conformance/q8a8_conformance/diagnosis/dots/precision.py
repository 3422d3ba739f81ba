"""How sums are rounded: the digits of the accumulator, what becomes of the rest, blocks added in parts.

A sum of 2^p and 1 is exact in float32 up to p = 23. Where it is lost at a smaller p, the accumulator has p
bits. Beside 2^24 a single 1 is lost in float32 and two of them are not: so it shows whether a block's
products are added to each other first, or to the running sum one after the other.

Sums of some blocks, of chunks or of lanes, may have fewer bits than the sum of all. A large term and a small
one of two blocks are exact together, unless something that holds both has too few bits. So each block is
tried beside the first one; and where a third term takes the large one off again, the small one is left if the
sum of the three is rounded once, when it is whole.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.diagnosis.dots.candidates import rounded
from q8a8_conformance.diagnosis.dots.model import Model, matches, merged
from q8a8_conformance.diagnosis.dots.row_effects import Partial
from q8a8_conformance.inputs import dot_rows
from q8a8_conformance.reveal.places import Seen, find_rule

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from q8a8_conformance.diagnosis.dots.bench import Bench, Measured
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.results.observations import CallResult


HALF = {"term": lambda v: v.astype(np.float16).astype(np.float64), "limit": 65504.0, "least": 2.0**-24}
"""What else of a model changes where the running sum is a half."""

LARGE = 64
"""The code whose square is the large term."""

BITS_OF_TERM = 14
"""Of 127 · 127."""

SPLITS = {8: (13, 59), 4: (47, 1)}
"""Bits of a lower part of a block's sum, and two codes whose product is 3 · 2^bits - 1."""

CAUSES = {11: "fp16-accumulator", 8: "bf16-accumulator"}


def offset(bench: Bench) -> Iterator[Measured]:
    """Find codes that are offset by a number, and corrected in a sum of its own, which rounds.

    A block whose codes are all zero in one row adds nothing, whatever the other row holds there: the result
    is the same where both rows hold zeros, however scales are read.
    """
    if not all(_is_exact(bench, nb) for nb in (1, 2, 3)) or _beside_zero_codes(bench):
        return
    zeros = _beside_zeros(bench, of_zeros=True)
    beside_zeros = bench.value(zeros, zeros)
    for operand in "xy":
        x, y = (_beside_zeros(bench, of_zeros=side == operand) for side in "xy")
        if bench.value(x, y) == beside_zeros:
            continue
        other = "y" if operand == "x" else "x"
        said = partial(
            bench.measured,
            "codes-offset",
            rule="Q8A8-ORD-2",
            fix="Subtract the correction in integers, block by block.",
            evidence=[bench.shown(x, y, f"1 · 1 under 2^-12, beside a block of zeros in {operand}")],
        )
        for kind, rest in _sums_of_codes(bench, operand):
            yield said(
                {"operand": operand, "format": kind},
                f"The codes of {operand} are offset by {OFFSET}, and in what is subtracted for it the sum of "
                f"{other}'s codes times {other}'s scale is a {kind}.",
                changes={"rest": rest},
            )
            return
        terms = Model(products=_offset_products(operand))
        yield said(
            {"operand": operand},
            f"The codes of {operand} are offset, and what {other}'s codes add so is summed and rounded by "
            "itself before it is subtracted.",
            when=partial(_rounds, terms),
        )
        return


OFFSET = 128
"""What is added to a code, for a product of one unsigned and one signed byte."""

SUMS = ((2049, 1.0), (-3001, 2.0**-3), (17, 3 * 2.0**-24), (-111, 19 * 2.0**-24), (259, 1.0), (1023, 1.25))
"""Sums of a block's codes, and scales: products that halves, or shorter formats, do not hold."""


def _sums_of_codes(bench: Bench, operand: str) -> Iterator[tuple[str, Any]]:
    """Yield the format of the other row's sums of codes times its scale, and the step of a model for it."""
    zeros, made = bench.padded(dot_rows.blocks(1.0, np.zeros((1, 32)))), []
    for total, scale in SUMS:
        codes = np.diff(np.linspace(0, total, 33).astype(np.int64))[np.newaxis]
        row = bench.padded(dot_rows.blocks(scale, codes))
        made.append(bench.answer(bench.call(*((zeros, row) if operand == "x" else (row, zeros)))))
    made += [bench.answer(bench.call(*dot_rows.random_pair(nb, seed=nb))) for nb in (1, 2, 5)]
    for kind in ("half", "bfloat16"):
        rest = partial(_rest, operand=operand, kind=kind)
        if all(matches(Model(rest=rest), one) for one in made):
            yield kind, rest


def _rest(
    qx: Array, qy: Array, dx: Array, dy: Array, _others: tuple[Array, Array], operand: str, kind: str
) -> tuple[Array, Array]:
    """Return what a rounded correction leaves in a block's term, and the sizes of what is added."""
    codes, own, other = (qy, dx, dy) if operand == "x" else (qx, dy, dx)
    sums = np.asarray(codes.astype(np.int64).sum(axis=1) * other, np.float64)
    parts = 2 * OFFSET * np.abs(own * other) * np.abs(codes.astype(np.int64)).sum(axis=1)
    return OFFSET * own * (sums - rounded(sums, kind)), parts


def _beside_zero_codes(bench: Bench) -> bool:
    """Return whether a block whose codes of one row are zero adds something by itself, without a rounding."""
    zeros, codes = (bench.padded(dot_rows.blocks(1.0, np.full((1, 32), code))) for code in (0, 127))
    return any(bench.value(*rows) for rows in ((zeros, codes), (codes, zeros)))


def _is_exact(bench: Bench, nb: int) -> bool:
    """Return whether a product of small codes is right, as one whose correction does not round is."""
    x, y = dot_rows.random_pair(nb, seed=nb)
    for row in (x, y):
        row["weight_scale"], row["weight_qs"] = 1, row["weight_qs"] // 16
    return matches(Model(), bench.answer(bench.call(x, y)))


def _beside_zeros(bench: Bench, *, of_zeros: bool) -> Array:
    """Return a row of a large block, of zeros or of 127 everywhere, and of a small one with a code of 1."""
    codes = np.zeros((2, 32), np.int64)
    codes[0] = 0 if of_zeros else 127
    codes[1, bench.element] = 1
    return bench.spread(codes, (2.0**6, 2.0**-6))


def _offset_products(operand: str) -> Any:  # noqa: ANN401 - a step
    """Return the step that multiplies offset codes: for the sizes of what is added."""

    def products(qx: Array, qy: Array) -> Array:
        wide = {"x": np.abs(qx.astype(np.int64)), "y": np.abs(qy.astype(np.int64))}
        wide[operand] += OFFSET
        return np.asarray(wide["x"] * wide["y"])

    return products


def accumulator(bench: Bench) -> Iterator[Measured]:
    """Find the digits of the running sum, and what happens to what it rounds off."""
    sums = {p: (_sum(bench, p), _sum(bench, p, last=True)) for p in range(4, 24)}
    lost = [p for p, pair in sums.items() if pair != (2.0**p + 1, 2.0**p + 1)]
    if lost and lost == list(range(lost[0], 24)) and lost[0] > 4 and _near(sums, lost[0]):
        bits = bench.bits = lost[0]
        shown = bench.shown(*_rows(bench, bits), f"2^{bits} and 1 in two blocks, in units of the second")
        if bits < BITS_OF_TERM and all(
            bench.value(*_cancelling(bench, last=last)) == 1 for last in (False, True)
        ):
            cancelling = _cancelling(bench, last=False)
            yield bench.measured(
                "result-changed",
                {"bits": bits},
                f"The sum is rounded to {bits} significant bits before it is stored.",
                rule="Q8A8-ORD-2",
                fix="Store the sum as the float32 that it is.",
                evidence=[shown, bench.shown(*cancelling, "127 · 127, then -63 · 64 · 4: 1 is left")],
                changes={"bits": bits},
            )
            return
        slug = CAUSES.get(bits, "")
        yield bench.measured(
            "accumulator-bits",
            {"bits": bits},
            "" if slug else f"The running sum has {bits} significant bits.",
            cause=slug,
            like="fp16-accumulator",
            evidence=[shown],
            changes={"bits": bits, **HALF} if bits == 11 else {"bits": bits},
        )
        return
    if lost:
        return
    value = _sum(bench, 24)
    if not 2.0**24 <= value <= 2.0**24 + 2:
        wrong = value - 2.0**24 - 1
        yield bench.measured(
            "rounded-off-part-wrong",
            {"error": wrong},
            f"What an addition rounds off is lost or comes back wrong: 2^24 + 1 gives {value:.9g}.",
            cause="low-part-misscaled" if value == 2.0**25 else "",
            like="low-part-misscaled",
            evidence=[bench.shown(*_rows(bench, 24), "2^24 and 1 in two blocks, in units of the second")],
            when=rounds,
        )


def _near(sums: dict[int, tuple[float, float]], bits: int) -> bool:
    """Return whether every sum of 2^p and 1 is what so many bits leave of it, where it is finite."""
    sums = {p: pair for p, pair in sums.items() if np.isfinite(pair).all()}
    return all(abs(v - 2.0**p) <= 2.0 ** max(p - bits + 1, 0) for p, pair in sums.items() for v in pair)


def _rounds(model: Model, result: CallResult) -> bool:
    return any(one.rounds for one in model.predict(result.call))


def rounds(result: CallResult) -> bool:
    """Return whether a call leaves something to round."""
    return _rounds(Model(), result)


def _rows(bench: Bench, power: int, *, last: bool = False) -> tuple[Array, Array]:
    """Return rows of 2^12, as 64 · 64, in one block and 2^(12 - power) in another, beside blocks of zeros.

    The scales are small, so that no product of scales is near the ends of a half.
    """
    half, turn = (12 - power) // 2, -1 if last else 1
    codes = (LARGE, 1)[::turn]
    scales, others = ((1.0, 2.0**exponent)[::turn] for exponent in (half, 12 - power - half))
    return bench.spread(codes, scales), bench.spread(codes, others)


def _cancelling(bench: Bench, *, last: bool) -> tuple[Array, Array]:
    """Return rows of 16129, which is 1 more than a number of few bits, and of minus that number.

    A running sum of few bits holds 16129 in one of the two sequences at least, and loses the 1.
    """
    turn = -1 if last else 1
    x = bench.spread((127, -63)[::turn], (1.0, 4.0)[::turn])
    return x, bench.spread((127, 64)[::turn], (1.0, 1.0))


def _sum(bench: Bench, power: int, *, last: bool = False) -> float:
    """Return the sum of 2^power and 1."""
    return bench.value(*_rows(bench, power, last=last)) * 2.0 ** (power - 12)


def roundings(bench: Bench) -> Iterator[Measured]:
    """Find how many of a block's products are added to the running sum by themselves."""
    if bench.two is None or _beside_large(bench, []) or _units_alone(bench) != 3:
        return
    alone = [place for place in range(32) if _beside_large(bench, [place]) == 0]
    groups: list[list[int]] = []
    for place in alone:
        for group in groups:
            if _beside_large(bench, [group[0], place]):
                group.append(place)
                break
        else:
            groups.append([place])
    # (Products that go to accumulators of their own meet the large term in no such parts.)
    if len(groups) > 1 and len({len(group) for group in groups}) == 1:
        each = "one by one" if len(groups) == len(alone) else f"in {len(groups)} parts"
        shown = _large_and_units(bench, [groups[0][0], groups[1][0]])
        yield bench.measured(
            "block-added-in-parts",
            {"parts": groups, "roundings": len(groups)},
            f"The products of a block are added to the running sum {each}: {len(groups)} roundings a block, "
            f"where the bound allows one.",
            cause="float-products" if len(groups) == 32 else "",
            like="float-products",
            evidence=[bench.shown(*shown, "2^24, then two products of 1 in a block: 2^24 + 2")],
            when=rounds,
        )
        return
    up, down = (_directed(bench, sign) for sign in (1.0, -1.0))
    kind = {(2, 2): "zero", (4, 2): "up", (2, 4): "down"}.get((up, down))
    if kind:
        shown = _large_and_units(bench, [0, 1, 2])
        yield bench.measured(
            "sums-rounded",
            {"direction": kind},
            f"Sums are rounded {'towards zero' if kind == 'zero' else kind + 'wards'}.",
            cause="truncating-accumulator" if kind == "zero" else "",
            like="truncating-accumulator",
            evidence=[bench.shown(*shown, "2^24 + 3, which is a tie to 2^24 + 4")],
            when=rounds,
        )
        return
    for bits, codes in SPLITS.items():
        x, y = _split_rows(bench, bits, codes)
        if bench.value(x, y) == 2.0 ** (bits + 25):
            yield bench.measured(
                "block-added-in-parts",
                {"split_bits": bits, "roundings": 2},
                f"The sum of a block is added in two parts, its lower {bits} bits by themselves.",
                rule="Q8A8-ORD-2",
                fix="Add the whole sum of a block at once.",
                evidence=[bench.shown(x, y, f"2^{bits + 25} and {codes[0] * codes[1]}")],
                when=rounds,
            )
            return


def _split_rows(bench: Bench, bits: int, codes: tuple[int, int]) -> tuple[Array, Array]:
    """Return rows of 2^(bits + 25) in one block, and 3 · 2^bits - 1 in a later one.

    The whole of that is rounded up to 2^(bits + 2); its upper part alone is a tie, the lower one too small.
    """
    half = (bits + 13) // 2
    x = bench.spread((LARGE, codes[0]), (2.0**half, 1.0))
    return x, bench.spread((LARGE, codes[1]), (2.0 ** (bits + 13 - half), 1.0))


def _directed(bench: Bench, sign: float) -> int:
    """Return how far 2^24 + 3, or -(2^24 + 3), comes from 2^24."""
    value = bench.value(*_large_and_units(bench, [0, 1, 2], sign)) * 2.0**12
    return int(abs(value) - 2.0**24) if math.isfinite(value) else 0


def _large_and_units(bench: Bench, places: list[int], sign: float = 1.0) -> tuple[Array, Array]:
    """Return rows of 2^24 in one block and products of 1 in places of a later one, times 2^-12."""
    codes = np.zeros((2, 32), np.int64)
    codes[0, bench.element] = LARGE
    codes[1, places] = 1
    return bench.spread(codes, (sign, sign * 2.0**-6)), bench.spread(codes, (1.0, 2.0**-6))


def _units_alone(bench: Bench) -> float:
    """Return what three products of 1 are without the large term."""
    x, y = _large_and_units(bench, [0, 1, 2])
    x["weight_qs"][x["weight_qs"] == LARGE] = 0
    return bench.value(x, y) * 2.0**12


def _beside_large(bench: Bench, places: list[int]) -> float:
    """Return what products of 1 add to 2^24."""
    return bench.value(*_large_and_units(bench, places)) * 2.0**12 - 2.0**24


LENGTHS = (*range(2, 41), 48, 63, 64, 65, 66, 96, 127, 128, 129, 130, 256, 257)
"""Blocks of rows in which it is tried whether the first two share a sum of few bits."""

SHORT, LONGEST, LONG = 300, 5000, (40, 130)
"""Blocks of short rows, of the longest that is tried, and of rows that are besides failed ones."""

NEAR = (1, 2, 3, 5)
"""How far apart blocks are of which it is tried whether they share a sum."""

FORMATS = {11: "halves", 8: "bfloat16"}


def _value(bench: Bench, nb: int, terms: Mapping[int, float]) -> float:
    """Return the sum of terms that are powers of two, by their blocks, in units of 2^12."""
    x, dx, dy = np.zeros(nb, np.int64), np.ones(nb), np.ones(nb)
    for block, term in terms.items():
        exponent = round(np.log2(abs(term)))
        x[block] = LARGE if term > 0 else -LARGE
        dx[block], dy[block] = 2.0 ** (exponent // 2), 2.0 ** (exponent - exponent // 2)
    return bench.value(bench.row(x, dx), bench.full(np.full(nb, LARGE), dy)) / LARGE**2


def _is_lost(bench: Bench, nb: int, one: int, other: int, bits: int) -> bool:
    """Return whether 2^-bits, which is right alone, is lost beside 1 in another block."""
    small = 2.0**-bits
    return (
        _value(bench, nb, {one: 1.0, other: small}) != 1 + small
        and _value(bench, nb, {other: small}) == small
    )


def chunk_sums(bench: Bench, failed: Sequence[CallResult]) -> Iterator[Measured]:
    """Find sums of chunks, or of lanes, that have fewer bits than a float32."""
    lengths = sorted({one.call.n // 32 for one in failed} & {*range(2, LONGEST)})
    for nb in dict.fromkeys((*lengths[:1], *(LONG if lengths else ()), *lengths[-1:])):
        bits = next((p for p in range(4, 24) if _is_lost(bench, nb, 0, 1, p)), 0)
        lanes = [k for k in (2, 4, 8, 16) if not bits and k < nb and _is_lost(bench, nb, 0, k, 20)]
        if lanes:
            bits = next((p for p in range(4, 24) if _is_lost(bench, nb, 0, lanes[0], p)), 0)
        if bits < 5:
            continue
        size = lanes[0] if lanes else _size(bench, nb, bits)
        pairs = [(at, at + by) for at in (0, size // 2, size) for by in (*NEAR, size - 1, size, size + 1)]
        pairs = [(one, other) for one, other in pairs if one < other < nb]
        expected = [
            (other - one) % size == 0 if lanes else one // size == other // size for one, other in pairs
        ]
        is_all = not lanes and size == nb
        if is_all or [_is_lost(bench, nb, *pair, bits) for pair in pairs] != expected:
            continue
        other = lanes[0] if lanes else 1

        def ask(n: int, other: int = other, bits: int = bits) -> Array:
            return np.full(n, n > other and _is_lost(bench, n, 0, other, bits))

        tried = sorted({*LENGTHS, nb, *(n + more for n in (size, 2 * size) for more in range(3))})
        seen = Seen({n: ask(n) for n in tried}, {n: np.full(n, n > other) for n in tried})
        rule = find_rule(seen, ask, max(2 * nb, SHORT))
        if rule is None or not rule.is_any:
            continue
        yield _fact(bench, Partial(size, bool(lanes), bits, rule), nb, other)
        return


def _size(bench: Bench, nb: int, bits: int) -> int:
    """Return how many blocks share a sum with the first one."""
    low, high = 1, nb
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _is_lost(bench, nb, 0, middle, bits) else (low, middle)
    return high


def _fact(bench: Bench, partial: Partial, nb: int, near: int) -> Measured:
    """Return the fact that partial sums are rounded: once each, or again and again."""
    small = 2.0**-partial.bits
    once = 2 * near >= (nb if partial.is_lane else partial.size)
    once = once or _value(bench, nb, {0: 1.0, near: small, 2 * near: -1.0}) == small
    form = FORMATS.get(partial.bits, f"{partial.bits} significant bits")
    what = f"every {partial.size} blocks"
    if partial.is_lane:
        what = f"the blocks of each remainder modulo {partial.size}"
    where = " and ".join(c.text("nb", of_length=True) for c in partial.where.length)
    verb = f"are rounded to {form} before they are added up" if once else f"are kept in {form}"
    sentence = f"the sums of {what} {verb}."
    sentence = f"Where {where}, {sentence}" if where else f"T{sentence[1:]}"
    row = bench.row(LARGE * np.isin(np.arange(nb), [0, near]), np.where(np.arange(nb), small, 1.0))
    data = {"size": partial.size, "lanes": partial.is_lane, "bits": partial.bits, "once": once}
    text = f"2^{partial.bits} and 1 in blocks 0 and {near}"
    shown = bench.shown(row, bench.full(np.full(nb, LARGE)), text)
    running = merged(Model(), [{"bits": partial.bits}, HALF if partial.bits == 11 else {}])
    return bench.measured(
        "chunk-sums",
        {**data, "rows": partial.where.to_json()},
        sentence,
        rule="Q8A8-ORD-2",
        fix="Keep every partial sum in float32.",
        evidence=[shown],
        changes={"partial": partial} if once else {},
        when=None if once else lambda one: partial.where.takes(one.call.n // 32) and matches(running, one),
    )
