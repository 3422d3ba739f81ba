"""Which element's code an element of a vector has, measured, and the formula of its number.

Vectors of whole numbers under an amax of 127 are their own codes: two calls tell which element each code
comes from. The numbers are then a formula of the element's own number j and of the size::

    s = a · j + b · size + c · (size % t) + d,     s = j % t,     within every t elements an order of its own
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.quantizers.effect import Effect, Given
from q8a8_conformance.diagnosis.quantizers.orders import order_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from q8a8_conformance.diagnosis.quantizers.cases import Case
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.reveal.quantizers.calls import QuantizerCalls

Formula = tuple[str, "Callable[..., Array]", dict[str, int]]

F32 = np.float32
SIZES = 12
"""Sizes that are looked at."""

LONGEST = 5000
"""The longest of them."""

LEAST = 4
"""Elements that tell a formula."""

SURE = 0.8
"""The part of the elements that a formula must give: others may be wrong otherwise."""

DIGIT = 251
"""Numbers that one call tells apart."""

MODULI = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


def index_effects(calls: QuantizerCalls, made: Sequence[Case]) -> Iterator[Effect]:
    """Yield that elements have the codes of others, by the formula that was measured."""
    sizes = sorted({case.size for case in made if case.wrong[:, 1:].any() and 1 < case.size <= LONGEST})
    chosen = [sizes[i] for i in np.unique(np.linspace(0, len(sizes) - 1, SIZES).astype(int))] if sizes else []
    seen: list[tuple[int, Array, Array]] = []
    for n in chosen:
        source = _sources(calls, n)
        places = np.flatnonzero((source >= 0) & (source != np.arange(n)))
        if places.size:
            seen.append((n, places, source[places]))
    every = sum(places.size for _, places, _ in seen)
    if every < LEAST:
        return
    for text, of, data in _formulas(seen):
        fitting = sum(int((of(places, n) == source).sum()) for n, places, source in seen)
        if fitting >= SURE * every:
            gives = partial(_of_elements, of=of)
            fix = "Store the code of element j at output[j]."
            yield Effect("value-code-of", data, text, "Q8A8-QNT-9", fix, gives)
            return


def _sources(calls: QuantizerCalls, n: int) -> Array:
    """Return which element's code each element of a vector of n has: -1 where that is not known."""
    numbers = np.arange(n)
    digits = numbers % DIGIT - DIGIT // 2, numbers // DIGIT + 1
    found = []
    for digit, at in zip(digits, (n // 3, 2 * n // 3), strict=True):
        x = digit.astype(F32)
        x[at] = 127
        found.append(calls(x).codes[0].astype(np.int64))
        digit[at] = 127
    low, high = found
    lows = np.where(low == 127, n // 3 % DIGIT, low + DIGIT // 2)
    highs = np.where(high == 127, 2 * n // 3 // DIGIT, high - 1)
    source = np.where((lows >= 0) & (lows < DIGIT) & (highs >= 0), highs * DIGIT + lows, -1)
    return np.where(source < n, source, -1)


def _of_elements(case: Case, of: Callable[[Array, int], Array]) -> Given:
    data = case.right.copy()
    known = np.ones(data.shape, np.bool_)
    source = of(np.arange(case.size), case.size)
    inside = (source >= 0) & (source < case.size)
    data[:, 2:] = case.right[:, 2 + np.where(inside, source, 0)]
    known[:, 2:] = inside
    return data, known


def _formulas(seen: Sequence[tuple[int, Array, Array]]) -> Iterator[Formula]:
    """Yield formulas that fit the first element that was seen, the simplest first."""
    n, places, source = seen[-1]
    j, s = int(places[0]), int(source[0])
    for a in (1, -1, 0, 2):
        yield _linear(a, 0, 0, 0, s - a * j)
    for a, b in itertools.product((1, -1, 0), (1, -1)):
        yield _linear(a, b, 0, 0, s - a * j - b * n)
    for t in MODULI:
        yield (
            f"An element has the code of the element whose number is its own modulo {t}",
            lambda j, _n, t=t: j % t,
            {"modulus": t},
        )
    for t, c, a, b in itertools.product(MODULI, (1, -1, 2, -2), (1, -1, 0), (0, 1, -1)):
        yield _linear(a, b, c, t, s - a * j - b * n - c * (n % t))
    for t, a in itertools.product((2, 4), (1, -1)):
        for parts in (*range(1, t), *range(-t + 1, 0)):
            yield _of_part(a, parts, t, s - a * j - n // t * parts)
    for t in (2, 4, 8, 16, 32, 64):
        order = np.arange(t)
        for _, at, of in seen:
            order[at % t] = of - at // t * t
        if ((order >= 0) & (order < t)).all():
            text = order_text(order, "codes").replace("of a block ", f"of every {t} elements ")
            yield text, partial(_in_order, order=order), {"group": t}


def _linear(a: int, b: int, c: int, t: int, d: int) -> Formula:
    terms = [(a, "j"), (b, "size"), (c, f"size % {t}")]
    text = ""
    for factor, name in terms:
        if factor:
            sign = ("" if factor > 0 else "-") if not text else (" + " if factor > 0 else " - ")
            text += f"{sign}{f'{abs(factor)} · ' if abs(factor) > 1 else ''}{name}"
    text += f" {'+' if d > 0 else '-'} {abs(d)}" if d and text else (str(d) if not text else "")
    what = f"Element j has the code of element {text}"
    if (a, b, c) == (1, 0, 0):
        what = f"An element has the code of the element {d:+d} from it"
    data = {"of-own": a, "of-size": b, "of-rest": c, "modulus": t, "offset": d}
    return (
        what,
        lambda j, n: a * j + b * n + (c * (n % t) if t else 0) + d,
        {k: v for k, v in data.items() if v},
    )


def _of_part(a: int, parts: int, t: int, d: int) -> Formula:
    own = "j" if a > 0 else "-j"
    part = f"size / {t}" if abs(parts) == 1 else f"size / {t} · {abs(parts)}"
    offset = f" {'+' if d > 0 else '-'} {abs(d)}" if d else ""
    text = f"Element j has the code of element {own} {'+' if parts > 0 else '-'} {part}{offset}"
    where = {"of-own": a, "parts": parts, "of": t, "offset": d}
    return text, lambda j, n: np.asarray(a * j + n // t * parts + d), where


def _in_order(j: Array, n: int, order: Array) -> Array:
    del n
    t = order.size
    return np.asarray(j // t * t + order[j % t])
