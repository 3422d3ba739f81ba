"""What a block of one row holds that does something to results of other rows, with two rows at a time.

A block that is skipped for a zero scale of y0, say, is lost in the results of y1, too. Each block has a power
of four as its term, so that a result names the blocks that it lacks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from q8a8 import layout
from q8a8_conformance.diagnosis.dots.bench import with_s
from q8a8_conformance.diagnosis.dots.model import RESULTS
from q8a8_conformance.inputs import calls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from q8a8_conformance.diagnosis.dots.bench import Bench, Measured
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.results.observations import CallResult

ROWS = ("x0", "x1", "y0", "y1")
NB = 4
"""Blocks of the rows."""

VALUES: dict[str, tuple[str, float | None, Callable[[Array], Array]]] = {
    "zero-scale": ("scale of block b is zero", 0.0, lambda row: row["weight_scale"] == 0),
    "negative-scale": ("scale of block b is negative", -1.0, lambda row: row["weight_scale"] < 0),
    "subnormal-scale": (
        "scale of block b is subnormal",
        2.0**-15,
        lambda row: np.asarray((np.abs(row["weight_scale"]) < 2.0**-14) & (row["weight_scale"] != 0)),
    ),
    "zero-codes": (
        "codes of block b are all zero",
        None,
        lambda row: np.asarray(~row["weight_qs"].any(axis=1)),
    ),
}
"""What a block of a row may hold, in words; its scale, None for codes of zero; and which blocks hold it."""

LOST = {"own": "is left out", "later": "and every block after it are left out"}


def of_other_rows(bench: Bench) -> Iterator[Measured]:
    """Find values of one row by which blocks of results of other rows are lost."""
    if any(_lost(bench, None, "", 0).values()):
        return
    for row, (name, (words, _, holds)) in ((row, one) for row in range(4) for one in VALUES.items()):
        seen = [_lost(bench, row, name, block) for block in range(NB)]
        reach = {"own": [{block} for block in range(NB)], "later": [{*range(b, NB)} for b in range(NB)]}
        for how, blocks in reach.items():
            results = [k for k in range(4) if [one[k] for one in seen] == blocks]
            if not results or any(one[k] for one in seen for k in range(4) if k not in results):
                continue
            places = " and ".join(RESULTS[k] for k in results)
            yield bench.measured(
                "block-affects-others",
                {"row": ROWS[row], "value": name, "results": [RESULTS[k] for k in results], "blocks": how},
                f"With nrc = 2, where {ROWS[row]}'s {words}, in {places} it {LOST[how]}.",
                rule="Q8A8-DOT-6",
                fix="Skip a block for one of the four results alone, or for none.",
                evidence=[bench.evidence(_call(bench, row, name, 0), f"nb = {NB}")],
                when=_with(row, holds),
            )


def _with(row: int, holds: Callable[[Array], Array]) -> Callable[[CallResult], bool]:
    def when(result: CallResult) -> bool:
        call = result.call
        if call.nrc != 2:
            return False
        name, step = (("vx", call.bx), ("vy", call.by))[row // 2]
        data = calls.inputs_of(call)[name][row % 2 * step :][: call.n // 32 * 34]
        return bool(holds(layout.as_blocks(data, layout.BLOCK_Q8_A8)).any())

    return when


def _call(bench: Bench, row: int | None, name: str, block: int) -> Call:
    """Return the call in which one block of a row holds a value; None for no row."""
    numbers = np.arange(NB)
    rows = [bench.row(np.ones(NB), np.ldexp(1.0, numbers)) for _ in ROWS]
    if row is not None:
        scale = VALUES[name][1]
        if scale is None:
            rows[row]["weight_qs"][block] = 0
        else:
            rows[row]["weight_scale"][block] = scale
    return with_s(bench.call_of_two(rows[:2], rows[2:]), bytes(16))


def _lost(bench: Bench, row: int | None, name: str, block: int) -> dict[int, set[int]]:
    """Return which blocks each result of other rows lacks; all of them where it is anything else."""
    s = np.frombuffer(bench.outputs(_call(bench, row, name, block))[0], "<f4")
    found = {}
    for number, place in enumerate(bench.places(2)):
        found[number] = set[int]()
        if row in (number % 2, 2 + number // 2):
            continue
        missing = sum(4**b for b in range(NB)) - float(s[place])
        blocks = {b for b in range(NB) if missing == int(missing) > 0 and int(missing) // 4**b % 4 == 1}
        found[number] = blocks if missing == sum(4**b for b in blocks) else {-1}
    return found
