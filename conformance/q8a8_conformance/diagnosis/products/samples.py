"""Steps of a product, and blocks of w and x in which a step has a chosen value.

All that follows the step is a multiplication by a power of two, or is exact, so that what comes shows what
became of the value.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from q8a8_conformance.inputs.arrays import Array

    Function = Callable[[Array], Array]

BITS, LEAST, MOST = 18, -48, 30
"""Bits of a value, and exponents of the product of the two scales."""

AT_ONCE = 1 << 18
"""Terms that are computed together, about."""

ELEMENTS = (1, 0, 15, 16, 31)
"""Elements of a block at which codes are looked at first."""

_PLAIN = (
    *(0.0, 2.0**-48, 2.0**-36, 2.0**-24, 2.0**-14, 2.0**-10, 0.125, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5),
    *(3.0, 5.0, 5.75, 6.0, 7.0, 20.0, 101.5, 127.0, 130.0, 250.0, 255.0, 260.0, 1000.0, 2047.0, 30000.0),
    *(32768.0, 65504.0, 65519.0, 65520.0, 2.0**17, 2.0**20, 2.0**24, 2.0**31, 2.0**35),
)
_FINE = (
    *(174837.0 * 2.0**e for e in (-40, -32, -17, -8, -2, 0)),
    *(257.0, 259.0, 2049.0, 2051.0, 131137.0, 2.0**-25, 3 * 2.0**-25, 3 * 2.0**-26, 1027 * 2.0**-25),
)
"""Magnitudes of outputs: of few bits, and of many, with ties of the formats that there are."""

_SUMS = (*(0.0, 1.0, 2.0, 100.0, 127.0, 128.0, 255.0, 256.0, 257.0, 259.0, 1000.0, 2049.0, 2051.0, 16129.0),
         *(30000.0, 32767.0, 32768.0, 40001.0, 65535.0, 65536.0, 100003.0, 131137.0, 174837.0))  # fmt: skip
_CODES = (0.0, 1.0, 2.0, 3.0, 7.0, 8.0, 15.0, 16.0, 31.0, 63.0, 64.0, 100.0, 112.0, 119.0, 120.0, 121.0,
          124.0, 125.0, 126.0, 127.0, 128.0)  # fmt: skip
_SCALES = (
    *(m * 2.0**-24 for m in (0, 1, 5, 100, 513, 1023, 1024, 1025, 2048, 6404)),
    *(2.0**-8, 1601 * 2.0**-14, 1367 * 2.0**-12, 1.0, 1285 * 2.0**-10, 1.5, 1027 * 2.0**-10, 3.0),
    *(1999 * 2.0**-9, 1000.0, 16384.0, 32768.0, 65504.0),
)
_MANTISSAS = (1.0, *(float(m) / 1024 for m in (1027, 1153, 1285, 1367, 1601, 1733, 1999, 2047)))
_FACTORS = (127, -101, 77, -59, 37, 121, -115, 83, 3)
_EXPONENTS = ((0, 0), (9, 9), (-9, -9), (-11, -12))
"""Values of the other steps, and what two factors of a value may be."""


@dataclass(frozen=True)
class Sample:
    """A block of each side, in which a step has a value.

    Attributes
    ----------
    value, unit
        The value, and what it is multiplied by.
    codes_of_w, scale_of_w, codes_of_x, scale_of_x
        The blocks; of x one code is 127 or -127.
    """

    value: float
    unit: float
    codes_of_w: Array
    scale_of_w: float
    codes_of_x: Array
    scale_of_x: float


def _codes(**of: float) -> Array:
    """Return the codes of a block, by their elements: e0, e1, ..."""
    found = np.zeros(32)
    for name, code in of.items():
        found[int(name[1:])] = code
    return found


def _sum(s: float, dw: float, dx: float, value: float) -> Sample:
    """Return a sample whose block sum is s: so many times 127 times 127, and of the rest 127 and 1 times."""
    whole, rest = divmod(round(abs(s)), 127)
    each = [127] * (whole // 127) + [whole % 127]
    w, x = np.zeros(32), np.full(32, 127.0)
    w[: len(each)], w[31], x[31] = each, rest, 1
    return Sample(value, 1.0, w * np.sign(s), dw, x, dx)


def of_output(v: float) -> Sample:
    """Return a sample whose block comes to a value, of so many bits."""
    mantissa, exponent = np.frexp(abs(v))
    number, exponent = round(mantissa * 2**BITS), int(exponent) - BITS
    while number and (number % 2 == 0 or exponent < LEAST) and exponent < MOST:
        number, exponent = number // 2, exponent + 1
    while exponent > MOST:
        number, exponent = number * 2, exponent - 1
    of_w = int(np.clip(exponent, LEAST // 2, MOST // 2))
    made = _sum(float(np.copysign(number, v)), 2.0**of_w, 2.0 ** (exponent - of_w), 0.0)
    return replace(made, value=float(np.copysign(np.ldexp(number, exponent), v)))


def _of_sum(v: float) -> Sample:
    s = float(np.rint(v))
    return _sum(s, 1.0, 1.0, s)


def of_code(side: str, element: int, v: float) -> Sample:
    """Return a sample in which an element of a side has a code."""
    code, at = float(np.clip(np.rint(v), -128 if side == "w" else -127, 127)), f"e{element}"
    if side == "w":
        return Sample(code, 127.0, _codes(**{at: code}), 1.0, _codes(**{at: 127}), 1.0)
    other = f"e{(element + 1) % 32}"
    return Sample(code, 64.0, _codes(**{at: 64}), 1.0, _codes(**{other: 127, at: code}), 1.0)


def _of_scale(side: str, v: float) -> Sample:
    d = float(np.float16(v if side == "w" else abs(v)))
    w, x = (d, 1.0) if side == "w" else (1.0, d)
    return Sample(d, 4096.0, _codes(e1=64), w, _codes(e0=127, e1=64), x)


def _of_factors(kind: str, number: int) -> Sample:
    """Return a sample of two factors with all their bits."""
    at, of_one, of_other = number % len(_MANTISSAS), *_EXPONENTS[number // len(_MANTISSAS)]
    one, other = _MANTISSAS[at] * 2.0**of_one, _MANTISSAS[-1 - at] * 2.0**of_other
    q, s = _FACTORS[at], float((17, -3, 100003, 40001, 174837, -65535, 131137, 255, -2051)[at])
    if kind == "weight":
        return Sample(one * q, 64.0, _codes(e1=q), one, _codes(e0=127, e1=64), 1.0)
    if kind == "activation":
        return Sample(one * q, 64.0, _codes(e1=64), 1.0, _codes(e0=127, e1=q), one)
    if kind == "scales":
        return Sample(one * other, 4096.0, _codes(e1=64), one, _codes(e0=127, e1=64), other)
    w, x = (one, 1.0) if kind == "sum by w" else (1.0, one)
    return _sum(s, w, x, s * one)


@dataclass(frozen=True)
class Step:
    """A step of a product.

    Attributes
    ----------
    name, subject
        What has the values, for programs and in words.
    side
        "x" where it is one of activations.
    values
        Values that are made; of two factors, their numbers.
    make
        Returns the sample of a value.
    is_single
        Whether any value can be made, or the nearest one that there is.
    element
        Of codes: which element has the value.
    """

    name: str
    subject: str
    side: str
    values: tuple[float, ...]
    make: Callable[[Any], Sample]
    is_single: bool = True
    element: int | None = None

    @cached_property
    def samples(self) -> list[Sample]:
        """The samples, those that tell most first."""
        return [self.make(v) for v in self.values]

    def sums(self, function: Function, w: Array, x: Array, blocks: Array, elements: Array) -> Array:
        """Return the sums, float64 [n, m], of blocks w [m, nb] and x [n, nb] of which some have other values.

        `blocks` is bool [nb] and `elements`, of codes, bool [32].
        """
        codes = [np.moveaxis(side["weight_qs"], 1, 0).astype(np.float64) for side in (w, x)]
        scales = [side["weight_scale"].T.astype(np.float64) for side in (w, x)]
        is_finite = np.logical_and.reduce([np.isfinite(scale).all(axis=1) for scale in scales])
        plain = is_finite & (~blocks | (self.name == "output"))
        of_w, of_x = (
            np.moveaxis(q[plain] * d[plain][..., np.newaxis], 0, 1).reshape(q.shape[1], -1)
            for q, d in zip(codes, scales, strict=True)
        )
        total = of_x @ of_w.T
        at_once = max(AT_ONCE // max(total.size, 1), 1)
        for is_changed in (False, True):
            some = np.flatnonzero(~plain & (blocks == is_changed))
            for at in (some[first : first + at_once] for first in range(0, some.size, at_once)):
                (of_w, of_x), (dw, dx) = ([each[at] for each in both] for both in (codes, scales))
                with np.errstate(invalid="ignore"):
                    terms = self._terms(function if is_changed else same, of_w, of_x, dw, dx, elements)
                    total += terms.sum(axis=0)
        return function(total) if self.name == "output" else total

    def _terms(self, change: Function, w: Array, x: Array, dw: Array, dx: Array, elements: Array) -> Array:
        """Return terms, float64 [blocks, n, m], of codes, [blocks, m, 32] and [blocks, n, 32], and scales."""
        dw, dx = dw[:, np.newaxis], dx[..., np.newaxis]
        with np.errstate(all="ignore"):
            if self.name in ("weight", "activation"):
                w, x = np.swapaxes(dw, 1, 2) * w, dx * x
                w, x = (change(w), x) if self.name == "weight" else (w, change(x))
                return np.asarray(x @ np.swapaxes(w, 1, 2))
            w = np.where(elements, change(w), w) if self.name == "code of w" else w
            x = np.where(elements, change(x), x) if self.name == "code of x" else x
            dw = change(dw) if self.name == "scale of w" else dw
            dx = change(dx) if self.name == "scale of x" else dx
            s = x @ np.swapaxes(w, 1, 2)
            if self.name in ("scales", "sum by w", "sum by x"):
                first, last = {"scales": (dx * dw, s), "sum by w": (s * dw, dx)}.get(self.name, (s * dx, dw))
                return np.asarray(change(first) * last)
            s = change(s) if self.name == "sum" else s
            return np.asarray(change(s * dx * dw) if self.name == "term" else s * dx * dw)


def same(v: Array) -> Array:
    """Return values as they are."""
    return v


def _signed(magnitudes: Sequence[float]) -> tuple[float, ...]:
    return tuple(dict.fromkeys(sign * v for v in magnitudes for sign in (1, -1)))


def _steps() -> Iterator[Step]:
    """Yield all steps, the last one of a product first."""
    fine = tuple(sign * v for v, sign in zip(_FINE, (1, -1) * len(_FINE), strict=False))
    telling = (174837.0, -130.0, 2.0**-48, -(2.0**35), 0.0)
    outputs = (*telling, *_signed(_PLAIN), *fine)
    sums = (174837.0, -40001.0, 257.0, -100.0, -1.0, *_signed(_SUMS))
    yield Step("output", "outputs", "w", outputs, of_output)
    yield Step("term", "terms of blocks", "w", outputs, of_output)
    yield Step("sum", "sums of products of codes of a block", "w", sums, _of_sum)
    for kind, subject in (
        ("sum by w", "sums of a block times the scale of w"),
        ("sum by x", "sums of a block times the scale of x"),
        ("scales", "products of the two scales"),
        ("weight", "weights, codes times their scale,"),
        ("activation", "activations, codes times their scale,"),
    ):
        numbers = tuple(at for at in range(3 * len(_MANTISSAS) + 4) if at % len(_MANTISSAS))
        side = "x" if kind == "activation" else "w"
        yield Step(kind, subject, side, numbers, partial(_of_factors, kind), is_single=False)
    for side in "wx":
        first = (-127.0, 127.0, -1.0, *((-128.0, 100.0) if side == "w" else (100.0, 126.0)))
        values = (*first, *(v for v in _signed(_CODES) if -128 + (side == "x") <= v < 128))
        for e in ELEMENTS:
            made = partial(of_code, side, e)
            yield Step(f"code of {side}", f"codes of {side}", side, values, made, element=e)
    for side in "wx":
        scales = (*_SCALES[2:5:2], 65504.0, 0.0, *_SCALES)
        values = (-1.0, *_signed(scales)) if side == "w" else scales
        yield Step(f"scale of {side}", f"scales of {side}", side, values, partial(_of_scale, side))


STEPS = tuple(_steps())
