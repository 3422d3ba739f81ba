"""What becomes of an element's product where it, or an element beside it, is of some kind: in which elements.

An effect says by how much the product of each element would differ. Which elements have it is the solution of
a system of linear equations: of each call, its differences of the 32 elements, and the one that was measured.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8_conformance.diagnosis.dots.candidates import Candidate
from q8a8_conformance.diagnosis.dots.elements import elements_words
from q8a8_conformance.diagnosis.dots.partial_sums import columns_giving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from q8a8_conformance.inputs.arrays import Array

    Change = Callable[[Array], Array]

FIX = "Let each product be that of its own two codes, with the sign of both."

BESIDE = (-1, 1, -2, 2, -4, 4, -8, 8, -16, 16)
"""Elements that may have an influence on another one, by how far away they are."""


@dataclass(frozen=True)
class Effect:
    """By how much products differ.

    Attributes
    ----------
    words
        What is so, in the elements that have it.
    more
        (codes of x, of y, int64 [n, 32]) -> by how much each product differs.
    """

    words: str
    more: Callable[[Array, Array], Array]


@cache
def effects() -> tuple[Effect, ...]:
    """Return what may be, the simplest first."""
    return (*_of_pairs(), *_of_neighbours(), *_of_groups())


_CODES: dict[str, Callable[[Array], Array]] = {
    "{}": lambda q: np.ones_like(q, np.bool_),
    "negative {}": lambda q: q < 0,
    "positive {}": lambda q: q > 0,
    "{} = -128": lambda q: q == -128,
}

_PRODUCTS: dict[str, Change] = {
    "one more": np.ones_like,
    "one less": lambda p: -np.ones_like(p),
    "taken for 0": lambda p: -p,
    "taken with the other sign": lambda p: -2 * p,
    "counted twice": lambda p: p,
    "256 more": lambda p: np.full_like(p, 256),
    "256 less": lambda p: np.full_like(p, -256),
    "65536 more": lambda p: np.full_like(p, 65536),
    "65536 less": lambda p: np.full_like(p, -65536),
}


def _of_pairs() -> Iterator[Effect]:
    """Yield effects of two codes alone."""
    for one, is_x in _CODES.items():
        for other, is_y in _CODES.items():
            for words, by in _PRODUCTS.items():
                text = f"the product of {one.format('x')} and {other.format('y')} is {words}"
                yield Effect(text, partial(_more_of_pair, is_x=is_x, is_y=is_y, by=by))
    for sign, which in (("negative", -1), ("positive", 1)):
        for words, by in _PRODUCTS.items():
            yield Effect(f"a {sign} product is {words}", partial(_more_of_sign, which=which, by=by))


def _more_of_pair(x: Array, y: Array, is_x: Change, is_y: Change, by: Change) -> Array:
    return np.asarray(np.where(is_x(x) & is_y(y), by(x * y), 0))


def _more_of_sign(x: Array, y: Array, which: int, by: Change) -> Array:
    return np.asarray(np.where(np.sign(x * y) == which, by(x * y), 0))


def _of_neighbours() -> Iterator[Effect]:
    """Yield effects of an element beside the one that is wrong."""
    for far in BESIDE:
        place = f"j {'-' if far < 0 else '+'} {abs(far)}"
        for sign, which in (("negative", -1), ("positive", 1)):
            for by in (-1, 1, -2, 2, -256, 256):
                number = f"{'one' if abs(by) == 1 else abs(by)} {'less' if by < 0 else 'more'}"
                for side in "xy":
                    yield Effect(
                        f"{side} is read as {number} where {side}'s element {place} is {sign}",
                        partial(_more_beside, side=side, far=far, which=which, by=by),
                    )
                yield Effect(
                    f"the product is {number} where that of element {place} is {sign}",
                    partial(_more_beside, side="", far=far, which=which, by=by),
                )


def _of_groups() -> Iterator[Effect]:
    """Yield effects of one element of a group, as of four bytes that are loaded together, on the others."""
    for size in (2, 4, 8):
        for place, side, constant in itertools.product(range(size), "xy", (-1, 0)):
            for sign, which in (("negative", -1), ("positive", 1)):
                words = (
                    f"{side} is read as {constant} where {side}'s element j - j % {size} + {place} is {sign}"
                )
                yield Effect(
                    words.replace(" + 0 ", " "),
                    partial(_more_in_group, side=side, size=size, place=place, which=which, to=constant),
                )


def _more_in_group(x: Array, y: Array, side: str, size: int, place: int, which: int, to: int) -> Array:
    own, other = (x, y) if side == "x" else (y, x)
    hit = np.repeat(np.sign(own[:, place::size]) == which, size, axis=1)
    return np.asarray(hit * (to - own) * other)


def _more_beside(x: Array, y: Array, side: str, far: int, which: int, by: int) -> Array:
    of = {"x": x, "y": y}.get(side, x * y)
    beside = np.zeros_like(of)
    if far > 0:
        beside[:, :-far] = of[:, far:]
    else:
        beside[:, -far:] = of[:, :far]
    return np.asarray((np.sign(beside) == which) * by * {"x": y, "y": x}.get(side, 1))


def in_context(x: Array, y: Array, left: Array) -> Candidate | None:
    """Find the effect, and its elements, that gives what is left of sums [n] of blocks of codes [n, 32]."""
    for effect in effects() if left.any() else ():
        if elements := columns_giving(effect.more(x, y), left):
            return _candidate(effect, [*elements])
    return None


def _candidate(effect: Effect, elements: list[int]) -> Candidate:
    named = "every element" if len(elements) == 32 else elements_words(elements)
    return Candidate(
        "products",
        {"elements": elements, "effect": effect.words},
        "Q8A8-DOT-1",
        f"In {named}, {effect.words}.",
        FIX,
        "",
        {"products": partial(_changed, more=effect.more, elements=elements)},
    )


def _changed(qx: Array, qy: Array, more: Callable[[Array, Array], Array], elements: list[int]) -> Array:
    """Return products [n, 32] with an effect in some elements."""
    x, y = qx.astype(np.int64), qy.astype(np.int64)
    products = x * y
    products[:, elements] += more(x, y)[:, elements]
    return products
