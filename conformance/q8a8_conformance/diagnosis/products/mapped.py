"""What outputs of a product become by their value: clamped, of another sign, a constant; and which outputs.

One product of two numbers is the value of every output of a shape, from the least to the greatest magnitudes
of both signs. Of those that come out otherwise a condition on the value is found, and what they become.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8 import layout
from q8a8_conformance.diagnosis.facts import Evidence, Fact, remembered
from q8a8_conformance.diagnosis.products.laws import shapes_of
from q8a8_conformance.diagnosis.products.rules import output_rule
from q8a8_conformance.diagnosis.products.sources import ROUNDING, quantized, sums, wrong_outputs
from q8a8_conformance.inputs import calls
from q8a8_conformance.protocol.session import SessionError
from q8a8_conformance.results.expected_product import outputs_of
from q8a8_conformance.results.observations import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from q8a8_conformance.diagnosis.products.rules import OutputRule, Shape
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.results.observations import CallResult
    from q8a8_conformance.reveal.quantizers.calls import AnySession

HELD = 3.0
"""What outputs hold before."""

MAGNITUDES = (
    *(0.0, 2.0**-48, 2.0**-36, 2.0**-24, 2.0**-14, 2.0**-10, 0.125, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5),
    *(3.0, 5.0, 5.75, 6.0, 7.0, 20.0, 101.5, 127.0, 130.0, 250.0, 255.0, 260.0, 1000.0, 2047.0, 30000.0),
    *(32768.0, 65504.0, 2.0**17, 2.0**20, 2.0**24, 2.0**31, 2.0**35),
)
"""Magnitudes of the outputs that are made: numbers of 11 bits at most."""

TRIED, STEPS, PIECES = 3, 20, 2
"""Shapes in which it is looked for, steps with which a threshold is found, and conditions at most."""

_SIZES = sorted(m for m in MAGNITUDES if m)

BITS, LEAST, MOST = 18, -48, 30
"""Bits of a value, and exponents of the product of the two scales."""

RULE = "Q8A8-MUL-5"
FIX = "Store each sum as it is, whatever its value."


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
    ("no whole numbers", "", 0, lambda v, _t: v != np.rint(v)),
)
"""Conditions on values: words, with a threshold t or with the greatest number that is less than it, the sign
of values at the threshold (0 for none, 2 for both), and the test."""


def forms(values: Array, got: Array) -> Iterator[tuple[str, Callable[[Array], Array]]]:
    """Yield what values may have become, in words, from some of them and what came."""
    if len({each.tobytes() for each in got}) == 1:
        c = got[0]
        text = "as before the call" if c == HELD else "-0" if c == 0 and np.signbit(c) else f"{c:.9g}"
        yield text, lambda v: np.full(v.shape, c)
    yield "negated", lambda v: -v
    yield "their magnitudes", np.abs
    finite = np.abs(got[np.isfinite(got)])
    if finite.size and (finite == finite[0]).all():
        c = finite[0]
        yield f"{c:.9g} with their sign", lambda v: np.copysign(c, v)
    yield "rounded to whole numbers", np.rint
    yield "rounded to whole numbers toward 0", np.trunc
    with np.errstate(all="ignore"):
        ratios, steps = got / values, got - values
        is_factor, is_step = np.ptp(ratios) == 0, len(values) > 1 and np.ptp(steps) == 0
    if is_factor and np.isfinite(ratios).all():
        r = float(ratios[0])
        yield f"{r:.9g} times as large", lambda v: v * r
    if is_step and np.isfinite(steps).all():
        s = float(steps[0])
        yield f"{abs(s):.9g} too {'large' if s > 0 else 'small'}", lambda v: v + s


@dataclass(frozen=True)
class Piece:
    """What values that meet a condition become.

    Attributes
    ----------
    of, become
        The condition and what they become, in words.
    holds, function
        The same for values.
    """

    of: str
    become: str
    holds: Callable[[Array], Array]
    function: Callable[[Array], Array]


def explains(outputs: OutputRule, pieces: Sequence[Piece], result: CallResult) -> bool:
    """Return whether a failed call's wrong outputs are what pieces give, and none that should be is right."""
    if not isinstance(result, Failure):
        return False
    wrong = wrong_outputs(result)
    return bool(wrong.any() and not (wrong & ~_accounts(outputs, pieces, result)).any())


def _accounts(outputs: OutputRule, pieces: Sequence[Piece], result: Failure) -> Array:
    """Return which wrong outputs are what pieces give, bool [n, m]; none where others should be wrong."""
    wrong = wrong_outputs(result)
    if (operands := quantized(result)) is None:
        return wrong & False
    (w, x), got = operands, outputs_of(result.call, bytes(result.outputs[0]))
    left = wrong.copy()
    (total, magnitude), here = sums(w, x), outputs.holds((len(w), len(x), w.shape[1]))
    near = ROUNDING * (magnitude + np.abs(total))
    for piece in pieces:
        # (Roundings may lead across a threshold.)
        held = np.array([piece.holds(total + side * near) for side in (-1, 0, 1)]) & here
        with np.errstate(all="ignore"):
            given = np.array([piece.function(total + side * near) for side in (-1, 0, 1)])
            fits = ((np.abs(got - given) <= near) | (got == given.astype(np.float32))).any(axis=0)
            if (held.all(axis=0) & ~wrong & ~fits).any():
                return wrong & False
        left &= ~(held.any(axis=0) & fits)
    return wrong & ~left


class _Made:
    """Products all of whose outputs have one value."""

    def __init__(self, session: AnySession) -> None:
        self._session = session

    def __call__(self, shape: Shape, value: float) -> Array:
        """Return the outputs: float32 [n, m]."""
        return outputs_of(*self.call(shape, value))

    def call(self, shape: Shape, value: float) -> tuple[Any, bytes]:
        """Return the call, and its outputs as they are."""
        m, n, nb = shape
        mantissa, exponent = np.frexp(abs(value))
        number, exponent = round(mantissa * 2**BITS), int(exponent) - BITS
        while number and (number % 2 == 0 or exponent < LEAST) and exponent < MOST:
            number, exponent = number // 2, exponent + 1
        while exponent > MOST:
            number, exponent = number * 2, exponent - 1
        of_w = int(np.clip(exponent, LEAST // 2, MOST // 2))
        codes, x = np.zeros((m, nb, 32), np.int8), np.zeros((n, nb, 32), np.float32)
        # (So many times 127 times 127, the rest times 127, and times 1 what is left.)
        whole, rest = divmod(number, 127)
        each = [127] * (whole // 127) + [whole % 127]
        codes[:, 0, : len(each)], codes[:, 0, 31] = each, rest
        x[:, 0, :31], x[:, 0, 31] = 127, 1
        call = calls.mul_mat(
            layout.pack(np.full((m, nb), np.ldexp(1.0, of_w), np.float16), codes * np.int8(np.sign(value))),
            (x * np.float32(np.ldexp(1.0, exponent - of_w))).reshape(n, -1),
            out=calls.float_bytes(HELD) * (m * n),
        )
        return call, bytes(self._session.call(call).outputs[0])


def mapped_facts(session: AnySession, failures: Sequence[Failure]) -> list[Fact]:
    """Find what outputs become by their value; none where no condition gives it."""
    made = _Made(session)
    with suppress(SessionError):
        for shape in shapes_of(failures)[:TRIED]:
            got = {v: made(shape, v) for each in MAGNITUDES for v in dict.fromkeys((each, -each))}
            wrong = np.array([of.view(np.uint32) != _bits(v) for v, of in got.items()])
            # (What is wrong whatever it is, does not depend on its value.)
            if wrong.any() and not wrong[np.array(list(got)) != 0].all(axis=0).any():
                # (One output that is wrong most often stands for all.)
                i, j = np.unravel_index(wrong.sum(axis=0).argmax(), wrong[0].shape)
                values, came = np.array(list(got)), np.array([of[i, j] for of in got.values()], np.float32)
                is_wrong = partial(_is_wrong, made, shape, (int(i), int(j)))
                pieces = list(_pieces(is_wrong, values, came, wrong[:, i, j]))
                fact = _fact(made, shape, values[wrong[:, i, j]], pieces) if pieces else None
                return [fact] if fact and 2 * len(fact.explained(failures)) >= len(failures) else []
    return []


def _bits(value: float) -> np.uint32:
    """Return the bits of a value as an output: zeros are +0."""
    return np.float32(value + 0.0).view(np.uint32)


def _is_wrong(made: _Made, shape: Shape, place: tuple[int, int], value: float) -> bool:
    """Return whether an output of a value is wrong."""
    return bool(made(shape, value)[place] != np.float32(value))


def _pieces(is_wrong: Callable[[float], bool], values: Array, came: Array, wrong: Array) -> Iterator[Piece]:
    """Yield what becomes of which values, the most of them first; nothing where that does not give all."""
    every = [
        (condition, t, held, form)
        for condition in CONDITIONS
        for t in (_SIZES if condition[2] else (0.0,))
        if (held := condition[3](values, t)).any() and not (held & ~wrong).any()
        for form in forms(values[held], came[held])
        if _gives(form[1], values[held], came[held])
    ]
    left, chosen = wrong.copy(), every[:0]
    while left.any() and every and len(chosen) < PIECES:
        best = max(every, key=lambda one: (one[2] & left).sum())
        if not (best[2] & left).any():
            break
        chosen.append(best)
        left &= ~best[2]
    for (words, below, side, test), t, _, (become, function) in chosen if not left.any() else ():
        if not side:
            yield Piece(words, become, partial(_with, test, t), function)
            continue
        low, high, sign = (
            float(_SIZES[_SIZES.index(t) - 1]) if t > _SIZES[0] else 0.0,
            t,
            -1 if side < 0 else 1,
        )
        for _ in range(STEPS):
            mantissa, exponent = np.frexp((low + high) / 2)
            middle = float(np.ldexp(np.rint(mantissa * 2**BITS), exponent - BITS))
            if not low < middle < high:
                break
            low, high = (low, middle) if is_wrong(sign * middle) == is_wrong(sign * high) else (middle, high)
        limit = _short(low, high)
        text = (below if limit == low else words).format(t=f"{limit:.9g}")
        at = np.nextafter(low, high) if limit == low else limit
        yield Piece(text, become, partial(_with, test, at), function)


def _gives(function: Callable[[Array], Array], values: Array, came: Array) -> bool:
    with np.errstate(all="ignore"):
        return bool(function(values).astype(np.float32).tobytes() == came.tobytes())


def _short(low: float, high: float) -> float:
    """Return the number of the fewest digits from one to another."""
    numbers = (float(f"{each:.{digits}g}") for digits in range(1, 17) for each in (low, high))
    return next(number for number in numbers if low <= number <= high)


def _with(test: Callable[[Array, float], Array], t: float, v: Array) -> Array:
    return test(v, t)


def _fact(made: _Made, first: Shape, wrong: Array, pieces: Sequence[Piece]) -> Fact | None:
    """Return the fact, with a rule for the outputs; None where there is none."""
    telling = [float(v) for v in wrong[np.unique([0, len(wrong) // 2, len(wrong) - 1])]]

    def look(shape: Shape) -> Array:
        seen = [made(shape, v).view(np.uint32) != _bits(v) for v in telling]
        return np.asarray(np.any(seen, axis=0))

    outputs = output_rule(first, [], look, lambda shape: np.ones((shape[1], shape[0]), bool))
    if outputs is None:
        return None
    value = telling[len(telling) // 2]
    call, got = made.call(first, value)
    shown = outputs_of(call, got)
    i, j = np.argwhere(shown.view(np.uint32) != _bits(value))[0].tolist()
    text = f"out[{i} * m + {j}] is {shown[i, j]:.9g}, expected {value + 0.0:.9g}"
    right = (np.full(shown.shape, value + 0.0, "<f4").tobytes(),)
    said = ", and those that should be ".join(f"{piece.of} are {piece.become}" for piece in pieces)
    data = [{"values": piece.of, "become": piece.become} for piece in pieces]
    return Fact(
        *("outputs-changed", {"pieces": data, "outputs": outputs.to_json()}, RULE),
        f"{outputs.text} that should be {said}.",
        *(FIX, ""),
        function=calls.MUL_MAT,
        evidence=(Evidence(call, right, (got,), text),),
        explains=remembered(partial(explains, outputs, pieces)),
        outputs=partial(_accounts, outputs, pieces),
    )
