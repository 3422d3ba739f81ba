"""Outputs of a product that a value outside the domain in another row spoils: which rows, by a formula.

Of exact matrices one row gets a value that is not finite; the outputs of all others must stay as they are.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8.matmul import mul_mat
from q8a8_conformance.diagnosis.facts import Evidence, Fact, only
from q8a8_conformance.diagnosis.products.words import LETTERS
from q8a8_conformance.inputs import calls, mul_mat_rows
from q8a8_conformance.results.expected_product import matrices_of, outputs_of
from q8a8_conformance.reveal.places import Seen, find_rule
from q8a8_conformance.reveal.quantizers.words import either

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.results.observations import CallResult, Failure
    from q8a8_conformance.reveal.places import Rule
    from q8a8_conformance.reveal.quantizers.calls import AnySession

RULE = "Q8A8-MUL-8"
FIX = "Compute each output of its own two rows alone: select values, do not multiply them by 0."

SIZES = (*range(2, 11), 12, 13, 15, 16, 17, 18, 31, 32, 33)
"""Rows of the side that is spoiled."""

OTHER, NB = 5, 2
"""Rows of the other side, at first, and blocks of a row."""

VALUES = {"NaN": np.nan, "infinity": np.inf, "3e38": 3e38}
"""Values that are outside the domain, in words; of a weight's scale the last is none."""

_OTHERS: tuple[tuple[str, Callable[[Array, Array, int, int], Array], tuple[int, ...]], ...] = (
    ("row {i} - 1", lambda i, r, _n, _t: r == i - 1, (0,)),
    ("row {i} + 1", lambda i, r, _n, _t: r == i + 1, (0,)),
    ("another of rows {i} - {i} % {t} to {i} - {i} % {t} + {u}", lambda i, r, _n, t: i // t == r // t,
     (2, 4, 8, 16, 3, 6, 32)),
    ("another of a whole group of {t} rows, {i} - {i} % {t} to {i} - {i} % {t} + {u},",
     lambda i, r, n, t: (i // t == r // t) & (i < n - n % t), (2, 4, 8, 16, 3, 6, 32)),
    ("a row before row {i}", lambda i, r, _n, _t: r < i, (0,)),
    ("a row before row {i} of its {t}", lambda i, r, _n, t: (r < i) & (i // t == r // t), (2, 4, 8, 16)),
    ("a row after row {i}", lambda i, r, _n, _t: r > i, (0,)),
    ("row 0", lambda i, r, _n, _t: (r == 0) & (i >= 0), (0,)),
    ("row {i} - {i} % {t}", lambda i, r, _n, t: r == i - i % t, (2, 4, 8, 16)),
    ("row {n} - 1", lambda i, r, n, _t: (r == n - 1) & (i >= 0), (0,)),
    ("row {i} - {t}", lambda i, r, _n, t: r == i - t, (2, 4, 8, 16)),
    ("row {i} + {t}", lambda i, r, _n, t: r == i + t, (2, 4, 8, 16)),
    ("any other row", lambda i, r, _n, _t: (r >= 0) & (i >= 0), (0,)),
)  # fmt: skip
"""Rows r that may spoil row i of n, with a number t."""


def spoiled_facts(session: AnySession, failures: Sequence[Failure]) -> list[Fact]:
    """Return which rows spoil the outputs of others, as facts; none where no formula gives it."""
    facts = []
    for side in "xw":
        some = [one for one in failures if _is_spoiled(one, side)]
        fact = _of_side(session, side, some) if some else None
        if fact is not None:
            facts.append(fact)
    return facts


def _is_spoiled(failure: CallResult, side: str) -> bool:
    """Return whether a call has a value outside the domain on a side."""
    w, x = matrices_of(failure.call)
    return not np.isfinite(w["weight_scale"] if side == "w" else np.abs(x) * np.float32(2)).all()


def _of_side(session: AnySession, side: str, failures: Sequence[Failure]) -> Fact | None:
    """Return the fact about one side."""
    seen: dict[int, tuple[Array, Array]] = {}
    call = failures[0].call
    m, n = call.bs, call.bx
    spoil = partial(_spoiled, session, side, max(m if side == "x" else n, OTHER))
    tried = (n if side == "x" else m, SIZES[-1])
    telling = [
        name
        for name, value in list(VALUES.items())[: 3 if side == "x" else 2]
        if any(spoil(size, row, value)[0].any() for size in tried for row in {0, size // 2, size - 1})
    ]
    if not telling:
        return None

    def look(size: int) -> tuple[Array, Array]:
        if size not in seen:
            rows = np.arange(size) if size <= SIZES[8] else np.unique([0, 1, size // 2, size - 2, size - 1])
            seen[size] = rows, np.array([spoil(size, int(row), VALUES[telling[0]])[0] for row in rows]).T
        return seen[size]

    for size in SIZES:
        look(size)
    i, of_rows = LETTERS[side]
    for words, of, numbers in _OTHERS:
        for t in numbers:
            rule = _rule(partial(_others, of, t), look, seen)
            if rule is None:
                continue
            which = words.format(i=i, n=of_rows, t=t, u=t - 1)
            size, (rows, found) = next((s, one) for s, one in seen.items() if one[1].any())
            row = int(rows[found.any(axis=0)][0])
            _, what, made = spoil(size, row, VALUES[telling[0]])
            where = rule.text("row", of_rows)
            what_of = "" if rule.is_any and not rule.length else f" ({where})"
            sentence = (
                f"Outputs of row {i} of {side}{what_of} are {what} where {which} of {side} has "
                f"{'a scale that is ' if side == 'w' else ''}{either(telling)}."
            )
            data = {"side": side, "rows": which, "values": telling, "of": rule.to_json()}
            return Fact(
                *("spoiled-by-other-rows", data, RULE, sentence, FIX, ""),
                function=calls.MUL_MAT,
                evidence=(made,),
                explains=only(failures),
            )
    return None


def _others(of: Callable[[Array, Array, int, int], Array], t: int, rows: Array, n: int) -> Array:
    """Return which rows are spoiled by some, of n: bool [n, rows]; none by itself."""
    i = np.arange(n)[:, np.newaxis]
    return np.asarray(of(i, rows, n, t) & (i != rows))


def _rule(
    others: Callable[[Array, int], Array],
    look: Callable[[int], tuple[Array, Array]],
    seen: dict[int, tuple[Array, Array]],
) -> Rule | None:
    """Return in which rows others spoil outputs, if these do."""

    def ask(size: int) -> tuple[Array, Array]:
        rows, found = look(size)
        return np.asarray(found.any(axis=1)), np.asarray(others(rows, size).any(axis=1))

    answers = {size: ask(size) for size in seen}
    if not any((found & shown).any() for found, shown in answers.values()):
        return None
    parts = ({size: answer[part] for size, answer in answers.items()} for part in (0, 1))
    rule = find_rule(Seen(*parts), ask, SIZES[-1])
    if rule is None:
        return None
    for size, (rows, found) in seen.items():
        if not np.array_equal(others(rows, size) & rule.holds(size)[:, np.newaxis], found):
            return None
    return rule


def _spoiled(
    session: AnySession, side: str, other: int, size: int, row: int, value: float
) -> tuple[Array, str, Evidence]:
    """Spoil a row, and return which others have other outputs, bool [size], what these are, and the call."""
    m, n = (other, size) if side == "x" else (size, other)
    w, x = (each.copy() for each in mul_mat_rows.exact(m, n, NB))
    right = mul_mat(w, x)
    if side == "x":
        x[row, 32 * NB - 1] = value
    else:
        with np.errstate(over="ignore"):
            w["weight_scale"][row, NB - 1] = value  # (3e38 is infinite as a half.)
    call = calls.mul_mat(w, x)
    outputs = tuple(bytes(out) for out in session.call(call).outputs)
    actual, expected = outputs_of(call, outputs[0]), right.astype("<f4")
    own = (slice(row, row + 1), slice(None)) if side == "x" else (slice(None), slice(row, row + 1))
    expected[own] = actual[own]
    wrong = actual.view(np.uint32) != expected.view(np.uint32)
    what = "NaN" if np.isnan(actual[wrong]).all() else "wrong"
    text = f"row {row} of {side} has {value:g}"
    return wrong.any(axis=1 if side == "x" else 0), what, Evidence(call, (expected.tobytes(),), outputs, text)
