"""Outputs that count several times, in some rows and in some columns: in both, as often as both say.

A last tile that is moved back overlaps the one before it: what is added to the outputs of both is in them
twice, and four times where rows and columns overlap. No law of one multiple for some outputs says that.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8 import layout
from q8a8_conformance.diagnosis.facts import Fact, remembered
from q8a8_conformance.diagnosis.products.judged import (
    Given,
    accounts_for_all,
    agreeing,
    quantized,
    shown,
    wrong_outputs,
)
from q8a8_conformance.diagnosis.products.sources import sums
from q8a8_conformance.diagnosis.products.words import KINDS, WHOLE
from q8a8_conformance.inputs import calls
from q8a8_conformance.protocol.session import SessionError
from q8a8_conformance.results.expected_product import outputs_of
from q8a8_conformance.reveal.places import Seen, find_rule

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from q8a8_conformance.diagnosis.products.judged import Made
    from q8a8_conformance.diagnosis.products.rules import Shape
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.results.observations import CallResult, Failure
    from q8a8_conformance.reveal.places import Rule
    from q8a8_conformance.reveal.quantizers.calls import AnySession

KIND = "outputs-miscounted"
FIX = "Add to each output once: let a tile that is moved back store, or leave out what the one before it had."

LENGTHS = (*range(1, 40), 47, 48, 49, 63, 64, 65, 66)
"""Rows, or columns, of the shapes that are looked at."""

LONGEST, TALL = 140, 13
"""The most that a rule may ask for, and what the other side's number is."""

FIRST = (45, 37)
"""m and n of the shape that is looked at first."""

HELD_OUT = ((21, 13), (13, 21), (35, 27), (50, 43), (9, 71), (71, 9), (16, 24), (5, 6), (6, 5))
"""m and n of shapes in which the rules must hold."""


@dataclass(frozen=True)
class Multiples:
    """Outputs that count several times.

    Attributes
    ----------
    columns, rows
        In which columns, and in which rows.
    times
        How often they count there; in both, as often as the two numbers multiplied.
    """

    columns: Rule
    rows: Rule
    times: tuple[float, float]

    def of(self, shape: Shape) -> Array:
        """Return how often each output counts: float64 [n, m]."""
        m, n, _ = shape
        across = np.where(self.columns.holds(m), self.times[0], 1.0)
        return np.outer(np.where(self.rows.holds(n), self.times[1], 1.0), across)

    @property
    def sentence(self) -> str:
        """What it is, as a sentence."""
        columns, rows = self.columns.text("column", "m"), self.rows.text("row", "n")
        across, down = (WHOLE.get(one) or f"counted {one:g} times" for one in self.times)
        both = f"counted {self.times[0] * self.times[1]:g} times"
        return f"Outputs in {columns} are {across}, those in {rows} {down}, and those in both {both}."

    def accounts(self, result: Failure) -> Array:
        """Return which wrong outputs of a failed call are such multiples: bool [n, m]."""
        if (operands := quantized(result)) is None:
            return wrong_outputs(result) & False
        total, magnitude = sums(*operands)
        times = self.of((result.call.bs, result.call.bx, result.call.n // 32))
        return agreeing(result, Given(total * times, magnitude * times))


def multiple_facts(session: AnySession, failures: Sequence[Failure]) -> list[Fact]:
    """Find that outputs count several times by row and by column, if they do by both."""
    nb = min((one.call.n // 32 for one in failures if one.call.n), default=0)
    made: list[Made] = []

    def counts(m: int, n: int) -> Array:
        call, outputs = _counted(session, (m, n, nb))
        made.append((call, outputs))
        return outputs_of(call, outputs[0]) / nb

    try:
        found = _find(counts) if nb else None
        if found is None or any((counts(m, n) != found.of((m, n, nb))).any() for m, n in HELD_OUT):
            return []
    except SessionError:
        return []
    where = {
        "columns": found.columns.to_json(),
        "rows": found.rows.to_json(),
        "times": dict(zip(("columns", "rows"), found.times, strict=True)),
    }
    return [
        Fact(
            *(KIND, where, KINDS[KIND][0], found.sentence, FIX, ""),
            function=calls.MUL_MAT,
            evidence=shown(made),
            explains=remembered(partial(accounts_for_all, found.accounts)),
            outputs=found.accounts,
        )
    ]


def zero_facts(session: AnySession, failures: Sequence[Failure]) -> list[Fact]:
    """Find that every output of a product is a zero, whatever the rows hold."""
    made = [_counted(session, (m, n, 3)) for m, n in HELD_OUT]
    if not all(map(_is_zero, (outputs for _, outputs in made))) or not all(map(_gives_zeros, failures)):
        return []
    sentence, fix = "Every output is a zero, whatever the rows hold.", "Store the sum of the blocks' terms."
    return [
        Fact(
            *(KIND, {"times": 0.0}, KINDS[KIND][0], sentence, fix, ""),
            function=calls.MUL_MAT,
            evidence=shown(made),
            explains=_gives_zeros,
        )
    ]


def _gives_zeros(result: CallResult) -> bool:
    return result.call.function == calls.MUL_MAT and _is_zero(result.outputs)


def _is_zero(outputs: Sequence[bytes | bytearray]) -> bool:
    return not np.frombuffer(outputs[0], "<f4").any()


def _find(counts: Callable[[int, int], Array]) -> Multiples | None:
    """Return the rules for columns and rows, from how often outputs count by m and n; None for none."""
    seen = counts(*FIRST)
    # (Where either has no multiple, a law of the other says it.)
    if not (seen >= 1).all() or (seen.min(axis=0) == 1).all() or (seen.min(axis=1) == 1).all():
        return None
    rules, times = [], []
    for axis in (0, 1):

        def along(length: int, axis: int = axis) -> Array:
            return np.asarray(counts(*((length, TALL) if axis == 0 else (TALL, length))).min(axis=axis))

        of = {length: along(length) for length in LENGTHS}
        every = {float(one) for some in of.values() for one in some} - {1.0}
        rule = find_rule(Seen({n: some != 1 for n, some in of.items()}), lambda n: along(n) != 1, LONGEST)
        if rule is None or len(every) != 1:
            return None
        rules.append(rule)
        times.append(every.pop())
    return Multiples(rules[0], rules[1], (times[0], times[1]))


def _counted(session: AnySession, shape: Shape) -> Made:
    """Multiply ones: each output is the number of its terms."""
    m, n, nb = shape
    codes, x = np.zeros((m, nb, 32), np.int8), np.zeros((n, nb, 32), np.float32)
    codes[..., 1], x[..., 0], x[..., 1] = 1, 127, 1
    call = calls.mul_mat(layout.pack(np.ones((m, nb), np.float16), codes), x.reshape(n, -1))
    return call, tuple(bytes(out) for out in session.call(call).outputs)
