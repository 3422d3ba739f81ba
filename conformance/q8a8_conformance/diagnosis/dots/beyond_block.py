"""What one block of a row takes from beyond it, and gives to other blocks: bytes that are codes, and sums.

Every byte of one row holds digits of its own number, and the other row has one code: the result is the number
of the byte that this code meets. And where the scales of other blocks matter to a block whose neighbours are
all zero, a part of its sum goes to these.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8 import layout
from q8a8_conformance.diagnosis.dots.candidates import Candidate
from q8a8_conformance.diagnosis.dots.elements import elements_words
from q8a8_conformance.diagnosis.dots.right_steps import SIZES
from q8a8_conformance.inputs import calls, dot_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from q8a8_conformance.diagnosis.dots.bench import Bench
    from q8a8_conformance.inputs.arrays import Array

BASE = 100
"""Of the digits that bytes hold: as halves they are finite."""

MOST_NAMED = 24
"""Blocks of a row whose scales are powers of two that halves hold."""

SPANS = 3
"""Spans of elements that are read elsewhere, each by another distance."""

SUMS = (1, 2, 3, 5, 11, 64, 100, 127, 1000, 4064, 8001, 16129)
"""Products, of both signs, of which it is measured what other blocks get."""

FIX = "Read every code from its own byte of its own block."
GIVEN_FIX = "Keep the sum of each block by itself: begin it at 0, and carry nothing from one into the next."


def codes_elsewhere(bench: Bench) -> Candidate | None:
    """Find codes of one row, in the block at the bench's place, that are read at bytes of other blocks.

    Every code of the other row must meet one byte; where all are in the block, nothing is said.
    """
    size = bench.size
    first = bench.place * size
    for side in "xy":
        met = [_met(bench, side, element) for element in range(32)]
        own = [first + size - 32 + element for element in range(32)]
        known = [place for place in met if place is not None]
        if len(known) < len(met) or all(first <= place < first + size for place in known):
            continue
        far = {j: place - of for j, (place, of) in enumerate(zip(known, own, strict=True)) if place != of}
        words = _distances(side, far, size)
        return Candidate(
            "block-map",
            {"operand": side, "elements": list(far), "bytes": list(far.values())},
            "Q8A8-DOT-1",
            f"{words[0].upper()}{words[1:]}.",
            FIX,
            "",
            {"lanes": ((side, list(far), list(far.values())),)},
        )
    return None


def _distances(side: str, far: Mapping[int, int], size: int) -> str:
    """Say how far away elements are read."""
    parts = []
    spans = [list(span) for _, span in itertools.groupby(far, lambda j: far[j])]
    for span in spans[:SPANS]:
        by, are = far[span[0]], "are" if len(span) > 1 else "is"
        if by % size:
            bytes_ = f"{abs(by)} byte{'s' * (abs(by) > 1)} too {'early' if by < 0 else 'late'}"
            where = f"read {bytes_}, from byte {size - 32 + span[0] + by} of the block on"
            where = where if len(span) > 1 else where.removesuffix(" on")
        else:
            where = f"{'those' if len(span) > 1 else 'that'} of block {block_words(by // size)}"
        which = "the codes" if len(span) == 32 else elements_words(span)
        parts.append(f"{which} of {side} {are} {where}")
    more = len(spans) - SPANS
    return "; ".join([*parts, *([f"those of {more} more spans are read elsewhere, too"] if more > 0 else [])])


def _met(bench: Bench, side: str, element: int) -> int | None:
    """Return the byte of a row of `side` that an element of the other row's block meets; None for no one."""
    version, nb = bench.version, bench.length
    size = SIZES[version]
    numbers = np.arange(nb * size)
    unit = np.zeros((nb, 32), np.int64)
    unit[bench.place, element] = 1
    start = bench.place * size
    values = []
    # (The last one is for the low byte of the block's own scale, which is 0 in the others.)
    for digit, scale in ((numbers % BASE, 0x3C00), (numbers // BASE, 0x3C00), (0 * numbers - 1, 0x3C01)):
        data = (digit + 1).astype(np.uint8)
        halves = np.full((size - 32) // 2, scale, "<u2")
        data[start : start + size - 32] = np.frombuffer(halves.tobytes(), np.uint8)
        row = dot_rows.blocks(1.0, unit)
        if version == 2:
            row = np.zeros(nb, layout.BLOCK_Q8_A8_V2)
            row["weight_scale"] = row["activation_scale"] = 1.0
            row["weight_qs"] = unit
        rows = {"vx": row.tobytes(), "vy": row.tobytes(), f"v{side}": data.tobytes()}
        call = calls.build(bench.function, 32 * nb, rows, {"s": bytes(4)})
        values.append(float(np.frombuffer(bench.outputs(call)[0], "<f4")[0]))
    if version == 1 and values[:2] in ([0, 0], [0x3C, 0x3C]) and values[2]:
        return start + (values[0] != 0)
    number = BASE * (values[1] - 1) + values[0] - 1
    return int(number) if min(values[:2]) >= 1 and number in numbers else None


def scales_of_others(bench: Bench) -> Candidate | None:
    """Find elements of the block at the bench's place that are multiplied by the scales of other blocks.

    Each block's scale of one row is another power of two: the product of two ones names the block.
    """
    nb, block = bench.length, bench.place
    if not 1 < nb <= MOST_NAMED:
        return None
    powers = np.arange(nb) - nb // 2
    ones = np.ones(nb)

    def taken(codes: Array, side: str) -> float:
        x, y = np.zeros((2, nb, 32), np.int64)
        x[block] = y[block] = codes
        scales = {"x": ones, "y": ones, side: np.ldexp(1.0, powers)}
        return bench.value(dot_rows.blocks(scales["x"], x), dot_rows.blocks(scales["y"], y))

    if all(taken(np.ones(32, np.int64), side) == 32 * 2.0 ** powers[block] for side in "xy"):
        return None
    shifts: dict[tuple[int, ...], list[int]] = {}
    for element, unit in enumerate(np.eye(32, dtype=np.int64)):
        values = [taken(unit, side) for side in "xy"]
        named = [int(np.argmax(np.ldexp(1.0, powers) == value)) for value in values]
        if any(2.0 ** powers[at] != value for at, value in zip(named, values, strict=True)):
            return None
        shifts.setdefault(tuple(at - block for at in named), []).append(element)
    shifts.pop((0, 0), None)
    if not shifts:
        return None
    texts = [
        f"products of {elements_words(elements)} are multiplied by {_scale_words(*by)}"
        for by, elements in shifts.items()
    ]
    return Candidate(
        "scale-of-another-block",
        {"elements": [{"of": of, "x_scale": by[0], "y_scale": by[1]} for by, of in shifts.items()]},
        "Q8A8-DOT-3",
        f"{'; '.join(texts)[0].upper()}{'; '.join(texts)[1:]}.",
        "Multiply the whole sum of a block by the scales of this block.",
        "",
        {"scaled": tuple((of, *by) for by, of in shifts.items())},
    )


def _scale_words(x: int, y: int) -> str:
    """Say which blocks' scales are taken, by how far away they are."""
    if x == y:
        return f"the scales of block {block_words(x)}"
    parts = [f"{side}'s scale of block {block_words(by)}" for side, by in (("x", x), ("y", y)) if by]
    return " and ".join(parts)


def block_words(by: int) -> str:
    """Name the block so far away."""
    return f"b {'-' if by < 0 else '+'} {abs(by)}" if by else "b"


def correction_of_others(bench: Bench) -> Candidate | None:
    """Find that a block is corrected for an offset of its codes by the codes of another block."""
    nb, block = bench.length, bench.place
    if not 1 < nb <= MOST_NAMED:
        return None

    def added(side: str, at: int) -> float:
        """Return what a code of 1 adds, in every element of a block of one row."""
        codes = {name: np.zeros((nb, 32), np.int64) for name in "xy"}
        codes[side][at] = 1
        return bench.value(*(dot_rows.blocks(1.0, codes[name]) for name in "xy")) / 32

    for side, other in ("xy", "yx"):
        times = [added(side, at) for at in range(nb)]
        far = [at for at in range(nb) if at != block and times[at] == -times[block] != 0]
        if len(far) != 1 or np.count_nonzero(times) != 2 or times[block] != round(times[block]):
            continue
        offset, shift = round(times[block]), far[0] - block
        of = partial(_own_correction, side=side, times=offset)
        return Candidate(
            "correction-wrong",
            {"of": side, "times": offset, "block": shift},
            "Q8A8-DOT-1",
            f"{offset} is added to the codes of {other}, and what is taken off for it is {offset} times the "
            f"sum of {side}'s codes of block {block_words(shift)}, not of its own.",
            "Correct each block's sum by its own codes.",
            "",
            {"correction": of, "taken": ((side, -offset, shift),)},
        )
    return None


def _own_correction(qx: Array, qy: Array, side: str, times: int) -> Array:
    return np.asarray(times * (qx if side == "x" else qy).astype(np.int64).sum(axis=-1))


def given_to_others(bench: Bench) -> Candidate | None:
    """Find what a part of a block's sum is added to: the sum of a block some blocks further on."""
    nb, block = bench.length, bench.place
    if nb == 1:
        return None

    def given(total: int, others: Sequence[int]) -> float:
        """Return how much more a sum gives where the scales of some other blocks are twice as large."""
        x = np.zeros((nb, 32), np.int64)
        y = x.copy()
        x[block, bench.element] = total if abs(total) < 128 else np.sign(total) * 127
        y[block, bench.element] = 1 if abs(total) < 128 else abs(total) // 127
        twice = np.where(np.isin(np.arange(nb), others), 2.0, 1.0)
        values = [bench.value(dot_rows.blocks(d, x), dot_rows.blocks(1.0, y)) for d in (1.0, twice)]
        return values[1] - values[0]

    every = [other for other in range(nb) if other != block]
    if not any(given(total, every) for total in (1, -1, 16129, -16129)):
        return None
    shown = next(total for total in (1, -1, 16129, -16129) if given(total, every))
    getting = [other for other in every if given(shown, [other])]
    sums = np.array([s * sign for s in SUMS for sign in (1, -1)])
    sums = sums - sums % 127 * (np.abs(sums) > 127) * 1
    if len(getting) != 1:
        return None
    measured = np.array([given(int(total), getting) for total in sums])
    shift = getting[0] - block
    other = f"block {block_words(-shift)}"
    for words, of in _gifts():
        if np.array_equal(of(sums), measured):
            return Candidate(
                "block-sum",
                {"to": shift, "gives": words.format(other="the other block")},
                "Q8A8-DOT-1",
                f"{words.format(other=other)}.",
                GIVEN_FIX,
                "",
                {"given": (shift, of)},
            )
    return None


def _gifts() -> Iterator[tuple[str, Callable[..., Array]]]:
    """Yield what a block's sum may get of another block's sum."""
    yield "The sum of {other} is taken off its own", np.negative
    for sign, is_so in (("negative", np.less), ("positive", np.greater)):
        for by, word in ((-1, "one less"), (1, "one more")):
            words = f"Its sum is {word} where that of {{other}} is {sign}"
            yield words, lambda v, by=by, is_so=is_so: by * is_so(v, 0)
    for bits in range(1, 20):
        yield f"Its sum gets that of {{other}}, shifted right by {bits}", partial(_shifted, by=bits)
        yield f"Its sum gets that of {{other}}, times 2^{bits}", partial(_shifted, by=-bits)


def _shifted(v: Array, by: int) -> Array:
    return np.asarray(np.floor(v * 2.0**-by))
