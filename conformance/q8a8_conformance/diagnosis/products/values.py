"""What values become: a condition on them and a form, or a rounding, learned from values and what came.

A step of a product, whichever it is, shows what it makes of chosen values (`steps`). Here the fewest
conditions are found that give all that came, and between which values a threshold lies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from q8a8_conformance.inputs.arrays import Array

    Ask = Callable[[float], tuple[float, bool]]

STEPS, PIECES = 20, 2
"""Steps with which a threshold is found, and conditions at most."""

FLOAT, HALF, SHOWN = 24, 11, 16
"""Bits of a float32 and of a half, and the most that a rounding is seen to leave."""

CONDITIONS: tuple[tuple[str, str, int, Callable[[Array, float], Array]], ...] = (
    ("negative", "", 0, lambda v, _t: v < 0),
    ("zero or negative", "", 0, lambda v, _t: v <= 0),
    ("zero", "", 0, lambda v, _t: v == 0),
    ("positive", "", 0, lambda v, _t: v > 0),
    ("zero or positive", "", 0, lambda v, _t: v >= 0),
    ("{t} or more", "more than {t}", 1, lambda v, t: v >= t),
    ("-{t} or less", "less than -{t}", -1, lambda v, t: v <= -t),
    ("of magnitude {t} or more", "of magnitude more than {t}", 2, lambda v, t: np.abs(v) >= t),
    ("less than {t}", "{t} or less", 1, lambda v, t: v < t),
    ("more than -{t}", "-{t} or more", -1, lambda v, t: v > -t),
    ("of magnitude less than {t}", "of magnitude {t} or less", 2, lambda v, t: np.abs(v) < t),
    ("positive and less than {t}", "positive and {t} or less", 1, lambda v, t: (v > 0) & (v < t)),
    ("negative and more than -{t}", "negative and -{t} or more", -1, lambda v, t: (v < 0) & (v > -t)),
    (
        *("of magnitude less than {t} and not zero", "of magnitude {t} or less and not zero", 2),
        lambda v, t: (v != 0) & (np.abs(v) < t),
    ),
)
"""Conditions on values: words, with a threshold t or with the greatest number that is less than it, the sign
of values at the threshold (0 for none, 2 for both), and the test."""

DIRECTIONS: dict[str, Callable[[Array], Array]] = {
    "to nearest, ties to even": np.rint,
    "to nearest, ties away from zero": lambda v: np.trunc(v + np.copysign(0.5, v)),
    "toward zero": np.trunc,
    "downwards": np.floor,
    "upwards": np.ceil,
}

FORMATS = {
    (11, True): "half precision",
    (8, False): "bfloat16",
    (11, False): "11 significant bits, as TF32 has",
}
"""What numbers of so many bits are called: with the range of a half, or not."""

LEAST_HALF, LARGEST_HALF = -24, 65504.0
"""The exponent of the least half, and the largest one."""

TINY, HUGE = 0.01, 1e6
"""Powers of two beyond these are written as such."""


@dataclass(frozen=True)
class Piece:
    """What values that meet a condition become.

    Attributes
    ----------
    of, become
        The condition, empty for none, and what they become, in words.
    holds, function
        The same for values.
    """

    of: str
    become: str
    holds: Callable[[Array], Array]
    function: Callable[[Array], Array]


def applied(pieces: Sequence[Piece], v: Array) -> Array:
    """Return what values become; the first condition that holds decides."""
    result, left = np.array(v, np.float64), np.ones(np.shape(v), bool)
    with np.errstate(all="ignore"):
        for piece in pieces:
            here = left & piece.holds(v)
            result = np.where(here, piece.function(v), result)
            left &= ~here
    return result


@dataclass(frozen=True)
class Rounding:
    """A rounding of values.

    Attributes
    ----------
    bits, unit
        The significant bits that are left, and the exponent of the number whose multiples are; None for any.
    direction
        A name of `DIRECTIONS`.
    largest
        The greatest magnitude, beyond which values are infinite, or it; None for none.
    is_infinite
        Whether they are infinite.
    """

    bits: int | None
    unit: int | None
    direction: str
    largest: float | None = None
    is_infinite: bool = False

    def __call__(self, v: Array) -> Array:
        """Round values."""
        with np.errstate(all="ignore"):
            exponent = np.full(np.shape(v), -1000)
            if self.bits is not None:
                exponent = np.frexp(v)[1] - self.bits
            if self.unit is not None:
                exponent = np.maximum(exponent, self.unit)
            rounded = np.ldexp(DIRECTIONS[self.direction](np.ldexp(v, -exponent)), exponent)
            if self.largest is not None:
                beyond = np.inf if self.is_infinite else self.largest
                rounded = np.where(np.abs(rounded) > self.largest, np.copysign(beyond, v), rounded)
        return np.asarray(np.where(np.isfinite(v), rounded, v))

    @property
    def words(self) -> str:
        """It, as what values are."""
        is_half = self.unit == LEAST_HALF or self.is_infinite or self.largest == LARGEST_HALF
        to = FORMATS.get((self.bits or 0, is_half), "") or (
            f"{self.bits} significant bits" if self.bits else ""
        )
        if self.unit is not None and not (to and is_half):
            of = "whole numbers" if self.unit == 0 else f"multiples of 2^{self.unit}"
            to = f"{to} and {of}" if to else of
        largest = LARGEST_HALF if self.bits == HALF and is_half else self.largest
        beyond = ""
        if self.largest is not None:
            beyond = f", {'infinite past' if self.is_infinite else 'saturated at'} {largest:.9g}"
        return f"rounded to {to} ({self.direction}{beyond})"


def rounding_of(values: Array, came: Array) -> Rounding | None:
    """Return the rounding that gives what came, float32, of some values; None for none."""
    some = np.isfinite(came) & (came != 0)
    if not (some & (np.abs(values) <= np.abs(came)[some].max(initial=0)) & (came != values)).any():
        # (What is beyond a limit alone is no matter of rounding.)
        return None
    whole, exponent = np.frexp(came[some].astype(np.float64))
    numbers = np.abs(whole * 2**FLOAT).astype(np.int64)
    zeros = np.log2(numbers & -numbers).astype(int)
    bits, unit = int((FLOAT - zeros).max()), int((exponent - FLOAT + zeros).min())
    limits: list[tuple[float | None, bool]] = [(None, False)]
    largest = float(np.abs(came[some]).max())
    if np.isinf(came).any():
        # (Of a half it is known where infinities begin.)
        is_half = largest <= LARGEST_HALF <= np.abs(values[np.isinf(came)]).min()
        limits = [(LARGEST_HALF if is_half else largest, True)]
    elif (np.abs(values) > largest).any():
        limits.append((largest, False))
    least = np.abs(values[values != 0]).min(initial=np.inf)
    units = (unit,) if (came[values != 0] == 0).any() or 2.0**unit > least else (None, unit)
    for of in units:
        named = (size for size, _ in FORMATS if size > bits)
        for size in (*sorted({*named}), bits) if bits <= SHOWN else (None,):
            for (most, is_infinite), direction in ((a, b) for a in limits for b in DIRECTIONS):
                rounding = Rounding(size, of, direction, most, is_infinite)
                # (Zeros that are added to one that is negative make it positive.)
                if (size or of is not None) and np.array_equal(rounding(values).astype(np.float32), came):
                    return rounding
    return None


def gives(function: Callable[[Array], Array], values: Array, came: Array) -> bool:
    """Return whether values become what came, as floats."""
    with np.errstate(all="ignore"):
        given, came = function(values).astype(np.float32), np.asarray(came, np.float32)
    return np.array_equal(given.view(np.uint32), came.view(np.uint32))


def forms(values: Array, came: Array, held: float) -> Iterator[tuple[str, Callable[..., Array]]]:
    """Yield what values may have become, in words, from some and what came; `held` was there before."""
    if len({each.tobytes() for each in came}) == 1:
        c = came[0]
        text = "as before the call" if c == held else "-0" if c == 0 and np.signbit(c) else f"{c:.9g}"
        yield text, lambda v, c=c: np.full(v.shape, c)
    yield "negated", lambda v: -v
    yield "their magnitudes", np.abs
    finite = np.abs(came[np.isfinite(came)])
    if finite.size and (finite == finite[0]).all():
        yield f"{finite[0]:.9g} with their sign", lambda v: np.copysign(finite[0], v)
    if np.isinf(came).all() and (np.sign(came) == np.sign(values)).all():
        yield "infinite", lambda v: np.copysign(np.inf, v)
    with np.errstate(all="ignore"):
        ratios, steps = came / values, came - values
        sized = np.abs(came) - np.abs(values)
    if _is_one(ratios):
        yield f"{ratios[0]:.9g} times as large", lambda v: v * float(ratios[0])
    for of, by, less, more in (
        (steps, lambda v, s: v + s, "small", "large"),
        (sized, lambda v, s: np.copysign(np.abs(v) + s, v), "small in magnitude", "large in magnitude"),
    ):
        if len(values) > 1 and _is_one(of):
            s = float(of[0])
            yield f"{abs(s):.9g} too {more if s > 0 else less}", lambda v, by=by, s=s: by(v, s)
    for bits in (8, 16):
        if np.abs(values).max() >= 2 ** (bits - 1):
            yield (
                f"taken modulo 2^{bits} into int{bits}",
                lambda v, size=2.0**bits: (v + size / 2) % size - size / 2,
            )


def _is_one(numbers: Array) -> bool:
    """Return whether numbers are all the same finite one."""
    return bool(np.isfinite(numbers).all() and (numbers == numbers[0]).all())


def find_pieces(ask: Ask | None, values: Array, came: Array, wrong: Array, held: float) -> list[Piece]:
    """Return what becomes of which values, the most of them first; none where that does not give all.

    Parameters
    ----------
    ask
        Makes another value, or the nearest that there is: it, and whether it becomes something else; or None.
    values, came, wrong
        The values, float64, what came, float32, and whether that is wrong.
    held
        What was there before.
    """
    if rounding := rounding_of(values, came):
        return [Piece("", rounding.words, _every, rounding)]
    for become, function in forms(values, came, held):
        # (Of a range that wraps some values are right; what is the same for all is no matter of values.)
        if (wrong.all() or "modulo" in become) and gives(function, values, came):
            return [Piece("", become, _every, function)] if len({*came.tolist()}) > 1 else []
    sizes = sorted({float(m) for m in np.abs(values) if m})
    every = [
        (condition, t, here, form)
        for condition in CONDITIONS
        for t in (sizes if condition[2] else (0.0,))
        if (here := condition[3](values, t)).any() and not (here & ~wrong).any()
        for form in forms(values[here], came[here], held)
        if gives(form[1], values[here], came[here])
    ]
    left, chosen = wrong.copy(), every[:0]
    while left.any() and every and len(chosen) < PIECES:
        best = max(every, key=lambda one: (one[2] & left).sum())
        if not (best[2] & left).any():
            break
        chosen.append(best)
        left &= ~best[2]
    if left.any():
        return []
    return [_limited(ask, sizes, condition, t, form) for condition, t, _, form in chosen]


def _limited(
    ask: Ask | None,
    sizes: Sequence[float],
    condition: tuple[str, str, int, Callable[[Array, float], Array]],
    t: float,
    form: tuple[str, Callable[[Array], Array]],
) -> Piece:
    """Return a piece whose threshold is found to the number of the fewest digits that it may be."""
    (words, below, side, test), (become, function) = condition, form
    if not side:
        return Piece(words, become, lambda v: test(v, t), function)
    low, high, sign = (sizes[sizes.index(t) - 1] if t > sizes[0] else 0.0), t, -1 if side < 0 else 1
    is_high = ask is not None and ask(sign * high)[1]
    for _ in range(STEPS if ask else 0):
        value, is_wrong = ask(sign * (low + high) / 2) if ask else (low, False)
        middle = abs(value)
        if not low < middle < high:
            break
        low, high = (low, middle) if is_wrong == is_high else (middle, high)
    limit = _short(low, high) if ask else high
    text = (below if limit == low else words).format(t=_number(limit))
    at = np.nextafter(low, high) if limit == low else limit
    return Piece(text, become, lambda v: test(v, float(at)), function)


def _short(low: float, high: float) -> float:
    """Return the number of the fewest digits from one to another."""
    if high < TINY and np.frexp(high)[0] == 0.5:
        return high
    numbers = (float(f"{each:.{digits}g}") for digits in range(1, 17) for each in (low, high))
    return next(number for number in numbers if low <= number <= high)


def _number(v: float) -> str:
    """Return a number in words."""
    mantissa, exponent = np.frexp(v)
    return f"2^{exponent - 1}" if mantissa == 0.5 and not TINY <= v <= HUGE else f"{v:.9g}"


def _every(v: Array) -> Array:
    return np.ones(np.shape(v), bool)
