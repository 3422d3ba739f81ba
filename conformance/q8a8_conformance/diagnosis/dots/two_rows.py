"""Where the second rows are read from with ``nrc = 2``: which bytes of x and y a result depends on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.diagnosis.dots.bench import Apart, with_s
from q8a8_conformance.diagnosis.dots.model import Model, matches
from q8a8_conformance.inputs import calls, dot_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from q8a8_conformance.diagnosis.dots.bench import Bench, Measured
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.results.observations import CallResult

SHAPES = (
    *((1, 0, 0), (2, 0, 0), (1, 34, 0), (1, 0, 34), (1, 2, 6), (1, 34, 68), (1, 68, 34), (3, 10, 34)),
    *((1, 300, 4000), (4, 0, 0), (4, 34, 68), (4, 2, 100), (1, 34, 34), (2, 6, 6), (4, 300, 300)),
    *((1, 33000, 0), (1, 0, 33000), (1, 65600, 34), (1, 34, 65600), (2, 70000, 140000)),
)
"""Blocks, and bytes between the rows of x and of y."""

BEHIND = 64
"""Bytes behind the rows."""

MORE = 4
"""A bit that makes a code, or a scale, greater."""


MULTIPLES = (34, 4, 8, 16, 32, 64)
"""Bytes to whose multiples the start of a row may be rounded."""


def _multiple(m: int) -> str:
    return "blocks" if m == 34 else f"a multiple of {m}"


def _starts(own: str, other: str) -> tuple[tuple[str, str, Any], ...]:
    return (
        (f"b{own}", "", lambda _row, mine, _others: mine),
        (f"the end of {own}0", f"b{own}-ignored", lambda row, _mine, _others: row),
        (f"b{other}", "", lambda _row, _mine, others: others),
        ("min(bx, by)", "one-stride", lambda _row, mine, others: min(mine, others)),
        ("max(bx, by)", "", lambda _row, mine, others: max(mine, others)),
        (
            f"the end of {own}0 where bx = by",
            "equal-strides-packed",
            lambda row, mine, others: row if mine == others else mine,
        ),
        (f"b{own} mod 65536", "strides-in-sixteen-bits", lambda _row, mine, _others: mine % 65536),
        (f"b{own} as int16_t", "", lambda _row, mine, _others: (mine + 32768) % 65536 - 32768),
        *(
            (
                f"b{own} rounded {way} to {_multiple(m)}",
                "",
                lambda _r, mine, _o, m=m, up=up: (mine + up) // m * m,
            )
            for m in MULTIPLES
            for way, up in (("down", 0), ("up", m - 1))
        ),
        *(
            (
                f"the end of {own}0 rounded up to {_multiple(m)}",
                "",
                lambda row, _m, _o, m=m: (row + m - 1) // m * m,
            )
            for m in MULTIPLES
        ),
        *(
            (f"b{own} {'+' if by > 0 else '-'} {abs(by)}", "", lambda _row, mine, _others, by=by: mine + by)
            for by in (34, 2, 4, -34, -2, -4)
        ),
        ("0", "", lambda _row, _mine, _others: 0),
    )


STARTS = {
    "x": _starts("x", "y"),
    "y": tuple(
        (name, slug, lambda row, bx, by, of=of: of(row, by, bx)) for name, slug, of in _starts("y", "x")
    ),
}
"""Where the second row may begin, in bytes from the first: name, cause, formula of a row, bx and by."""


class Shape:
    """Two rows of x and y so many bytes apart, and where the second ones are read."""

    def __init__(self, bench: Bench, nb: int, x_gap: int, y_gap: int) -> None:
        self.bench, self.row = bench, 34 * nb
        self.bx, self.by = self.row + x_gap, self.row + y_gap
        # Every byte of x (of y) counts where it is read, as a code or in a scale; more bits, more result.
        size = 2 * self.row + max(x_gap, y_gap) + BEHIND
        rng = dot_rows.generator("strides", nb, x_gap, y_gap)
        self.noise = (rng.integers(1, 60, size) & ~MORE).astype(np.uint8)
        self.noise[1::2] = (self.noise[1::2] & 0x03) | 0x38
        self.nb = nb
        # (The rows of both may be read by the other one's stride, or behind their own.)
        self.size = max(self.bx, self.by) + self.row + BEHIND

    def call(self, side: str, flipped: int | None = None) -> Call:
        """Return the call in which bytes of one side from `flipped` on are greater."""
        noise = self.noise[: self.size].copy()
        if flipped is not None:
            noise[flipped:] |= MORE
        plain = dot_rows.blocks(1.0, np.full((self.nb, 32), 1)).tobytes()
        rows = {
            own: noise.tobytes()
            if side == own
            else (plain + bytes(b - self.row) + plain).ljust(self.size, b"\0")
            for own, b in (("x", self.bx), ("y", self.by))
        }
        inputs, held = {"vx": rows["x"], "vy": rows["y"]}, {"s": bytes(16)}
        return calls.build(calls.DOT, 32 * self.nb, inputs, held, nrc=2, bs=2, bx=self.bx, by=self.by)

    def start(self, side: str) -> int:
        """Return how far from the first row the second one is read: by where each of them ends."""
        first, x1, y1, _ = self.bench.places(2)
        return self._end(side, x1 if side == "x" else y1) - self._end(side, first)

    def _end(self, side: str, place: int) -> int:
        """Return where a row ends as it is read: no byte from there on changes its result."""
        base = self._result(self.call(side), place)
        low, high = 0, self.size
        # The result changes when bytes from `low` on change, and not when those from `high` on do.
        while high - low > 1:
            middle = (low + high) // 2
            is_read = self._result(self.call(side, middle), place) != base
            low, high = (middle, high) if is_read else (low, middle)
        return high

    def _result(self, call: Call, place: int) -> bytes:
        return self.bench.outputs(call)[0][4 * place : 4 * place + 4]


def strides(bench: Bench) -> Iterator[Measured]:
    """Find by which formula of the strides the second rows are read."""
    if bench.nrc != 2:
        return
    if bench.value(bench.one(), bench.one()) != 1:
        return
    shapes = [shape for shape in SHAPES if counts(bench, shape[0])]
    read: dict[str, dict[tuple[int, int, int], int]] = {"x": {}, "y": {}}
    wrong: dict[str, tuple[Shape, int]] = {}
    for shape in shapes:
        one = Shape(bench, *shape)
        for side in "xy":
            start = one.start(side)
            read[side][one.row, one.bx, one.by] = start
            if start != {"x": one.bx, "y": one.by}[side] and side not in wrong:
                wrong[side] = one, start
    named = {}
    for side in wrong:
        for name, slug, formula in STARTS[side][1:]:
            if all(_same(formula(*at), seen, at) for at, seen in read[side].items()):
                named[side] = name, slug, formula
                break
    if not named:
        return
    own = {"x": STARTS["x"][0][2], "y": STARTS["y"][0][2]}
    used = {side: named[side][2] if side in named else own[side] for side in "xy"}
    one, start = wrong[next(iter(named))]
    slugs = {slug for _, slug, _ in named.values()}
    yield bench.measured(
        "second-row-read-at",
        {"at": {side: name for side, (name, _, _) in named.items()}},
        "; ".join(f"{side}1 is read at {name}, not at b{side}" for side, (name, _, _) in named.items()) + ".",
        cause=slugs.pop() if len(slugs) == 1 else "",
        like="bx-ignored",
        evidence=[
            bench.evidence(
                one.call(side),
                f"nb = {one.nb}, bx = {one.bx}, by = {one.by}: {side}1 is read at byte {start}",
            )
            for side in list(named)[:1]
        ],
        changes={"strides": lambda nb, bx, by: (used["x"](34 * nb, bx, by), used["y"](34 * nb, bx, by))},
    )


APART: tuple[tuple[str, Callable[[int, int, int], bool]], ...] = (
    ("bx > by", lambda _row, bx, by: bx > by),
    ("bx < by", lambda _row, bx, by: bx < by),
    ("bx and by differ", lambda _row, bx, by: bx != by),
    ("bx and by are equal", lambda _row, bx, by: bx == by),
    ("the rows of x do not follow each other", lambda row, bx, _by: bx != row),
    ("the rows of y do not follow each other", lambda row, _bx, by: by != row),
    ("neither the rows of x nor those of y follow each other", lambda row, bx, by: row not in (bx, by)),
    ("the rows of x follow each other", lambda row, bx, _by: bx == row),
    ("the rows of y follow each other", lambda row, _bx, by: by == row),
    ("the rows of x and of y follow each other", lambda row, bx, by: bx == by == row),
    ("bx is no multiple of 34", lambda _row, bx, _by: bx % 34 != 0),
    ("by is no multiple of 34", lambda _row, _bx, by: by % 34 != 0),
)
"""Conditions on the distance of rows."""

GAPS = ((0, 0), (34, 0), (0, 34), (34, 34), (68, 34), (34, 68), (2, 0), (0, 2), (6, 6), (70, 34), (34, 70))
"""Bytes between rows with which a failed call is made again."""


def rows_apart(bench: Bench, failed: CallResult) -> Apart | None:
    """Find for which distances of its rows a failed call is wrong; None for all, or by no condition."""
    call, row = failed.call, failed.call.n // 32 * 34
    inputs = calls.inputs_of(call)
    x, y = (
        (inputs[name][:row], inputs[name][step : step + row])
        for name, step in (("vx", call.bx), ("vy", call.by))
    )
    wrong = {}
    for gaps in dict.fromkeys((*GAPS, (call.bx - row, call.by - row))):
        made = calls.pair_of_bytes(call.n // 32, x, y, bs=call.bs, x_gap=gaps[0], y_gap=gaps[1])
        made = with_s(made, bytes(call.buffers[call.spec.outputs[0]].data))
        wrong[gaps] = not matches(Model(), bench.answer(made))
    if all(wrong.values()) or not any(wrong.values()):
        return None
    first = next(gaps for gaps, is_so in wrong.items() if is_so)
    for words, holds in APART:
        if all(holds(row, row + x_gap, row + y_gap) == is_so for (x_gap, y_gap), is_so in wrong.items()):
            return Apart(words, holds, first)
    return None


def counts(bench: Bench, nb: int) -> bool:
    """Return whether each block of a row of this length is counted once."""
    ones = np.ones(nb, np.int64)
    return bench.pair(ones, ones) == nb and all(bench.pair(np.arange(nb) == b, ones) == 1 for b in range(nb))


def _same(formula: int, seen: int, at: tuple[int, int, int]) -> bool:
    """Return whether a start is the one that was seen; one before the buffer cannot be seen."""
    return formula == seen or (formula < 0 and seen <= at[0])
