"""The language of places: conditions on the position in a row and on its length, with their words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from q8a8_conformance.inputs.arrays import Array


class _Kind(NamedTuple):
    """A kind of condition: its test (i, n, a, b), names of a and b, words of a position and of a length."""

    test: Callable[[Any, Any, int, int], Any]
    names: tuple[str, ...]
    position: str
    length: str = ""


def _shares(n: Array | int, of: int, unit: int) -> Array | int:
    """Return how many places are in so many equal shares of n, each rounded down to a multiple of a unit."""
    return n // of // unit * unit * of


_KINDS: Mapping[str, _Kind] = {
    "any": _Kind(lambda i, _n, _a, _b: np.ones_like(i, np.bool_), (), "every {noun}"),
    "first": _Kind(lambda i, _n, _a, _b: i == 0, (), "the first {noun}"),
    "last": _Kind(lambda i, n, _a, _b: i == n - 1, (), "the last {noun}"),
    "before-last": _Kind(lambda i, n, a, _b: i == n - 1 - a, ("distance",), "the {noun} {a} before the last"),
    "but-last": _Kind(lambda i, n, _a, _b: i < n - 1, (), "every {noun} but the last"),
    "from": _Kind(
        lambda i, _n, a, _b: i >= a, ("least",), "every {noun} from {noun} {a} on", "{noun} >= {a}"
    ),
    "until": _Kind(
        lambda i, _n, a, _b: i <= a, ("greatest",), "every {noun} up to {noun} {a}", "{noun} <= {a}"
    ),
    "is": _Kind(lambda i, _n, a, _b: i == a, ("value",), "{noun} {a}", "{noun} = {a}"),
    "modulo": _Kind(
        lambda i, _n, a, b: i % a == b, ("modulus", "remainder"),
        "every {noun} whose number modulo {a} is {b}", "{noun} % {a} = {b}",
    ),
    "modulo-whole": _Kind(
        lambda i, n, a, b: (i % a == b) & (i < n - n % a), ("modulus", "remainder"),
        "{noun} {b} of every whole group of {a}",
    ),
    "modulo-but-last": _Kind(
        lambda i, n, a, b: (i % a == b) & (i + a < n), ("modulus", "remainder"),
        "every {noun} whose number modulo {a} is {b} but the last",
    ),
    "modulo-from": _Kind(lambda i, _n, a, b: i % a >= b, ("modulus", "least"), "", "{noun} % {a} >= {b}"),
    "modulo-until": _Kind(
        lambda i, _n, a, b: (i % a <= b) & (i % a > 0), ("modulus", "greatest"), "", "0 < {noun} % {a} <= {b}"
    ),
    "left-over": _Kind(
        lambda i, n, a, _b: i >= n - n % a, ("modulus",), "the {noun}s beyond a multiple of {a}"
    ),
    "last-of-tile": _Kind(
        lambda i, n, a, _b: (i % a == a - 1) & (i < n - n % a), ("tile",), "the last {noun} of every {a}"
    ),
    "between": _Kind(
        lambda i, n, a, b: (i >= n - n % a) & (i < n - n % b), ("modulus", "smaller"),
        "the {noun}s from the last multiple of {a} up to the last multiple of {b}",
    ),
    "first-left-over": _Kind(
        lambda i, n, a, b: (i >= n - n % a) & (i < n - n % a + b), ("modulus", "count"),
        "the first {b} {noun}s beyond a multiple of {a}",
    ),
    "left-over-from": _Kind(
        lambda i, n, a, b: i >= n - n % a + b, ("modulus", "count"),
        "the {noun}s beyond a multiple of {a} but the first {b}",
    ),
    "last-whole": _Kind(
        lambda i, n, a, _b: (i >= n - n % a - a) & (i < n - n % a), ("modulus",),
        "the {noun}s of the last whole group of {a}",
    ),
    "modulo-in": _Kind(
        lambda i, _n, a, b: b >> i % a & 1 == 1, ("modulus", "remainders"),
        "the {noun}s whose number modulo {a} is {rests}", "{noun} % {a} is {rests}",
    ),
    "modulo-in-whole": _Kind(
        lambda i, n, a, b: (b >> i % a & 1 == 1) & (i < n - n % a), ("modulus", "remainders"),
        "the {noun}s {rests_and} of every whole group of {a}",
    ),
    "not-modulo": _Kind(
        lambda i, _n, a, b: i % a != b, ("modulus", "remainder"),
        "every {noun} but those whose number modulo {a} is {b}", "{noun} % {a} is not {b}",
    ),
    "but-first-of-tile": _Kind(
        lambda i, _n, a, b: (i % a > 0) & (i >= b), ("tile", "least"),
        "every {noun} from {noun} {b} on but the first of every {a}",
    ),
    "first-of-tile": _Kind(
        lambda i, _n, a, _b: (i % a == 0) & (i > 0), ("tile",), "the first {noun} of every {a} but the first"
    ),
    "before-last-tile": _Kind(
        lambda i, n, a, _b: i < (n - 1) // a * a, ("tile",),
        "every {noun} before the last group of {a} or fewer",
    ),
    "beyond-wrap": _Kind(
        lambda i, n, a, _b: (i >= n % a) & (n >= a), ("modulus",),
        "every {noun} beyond their count modulo {a}",
    ),
    "whole": _Kind(
        lambda i, n, a, _b: i < n - n % a, ("modulus",), "the {noun}s up to the last multiple of {a}"
    ),
    "from-part": _Kind(
        lambda i, n, a, b: i >= n // b * a, ("part", "of"), "every {noun} from {noun} {part} on"
    ),
    "until-part": _Kind(
        lambda i, n, a, b: i < n // b * a, ("part", "of"), "every {noun} before {noun} {part}"
    ),
    "at-part": _Kind(lambda i, n, a, b: i == n // b * a, ("part", "of"), "{noun} {part}"),
    "before-part": _Kind(lambda i, n, a, b: i == n // b * a - 1, ("part", "of"), "{noun} {part} - 1"),
    "from-part-up": _Kind(
        lambda i, n, a, b: i >= -(-n // b) * a, ("part", "of"), "every {noun} from {noun} {part_up} on"
    ),
    "until-part-up": _Kind(
        lambda i, n, a, b: i < -(-n // b) * a, ("part", "of"), "every {noun} before {noun} {part_up}"
    ),
    "filling": _Kind(
        lambda i, n, a, _b: i < -n % a, ("modulus",),
        "the first {noun}s, as many as {length} lacks to a multiple of {a}",
    ),
    "from-upper-part": _Kind(
        lambda i, n, a, b: i >= n - n // b * a, ("part", "of"),
        "every {noun} from {noun} {length} - {part} on",
    ),
    "overlap-of-parts": _Kind(
        lambda i, n, a, b: (i >= n - -(-n // b) * a) & (i < -(-n // b) * (b - a)), ("part", "of"),
        "the {noun}s that the last of {b} parts of {part_up} shares with the one before",
    ),
    "overlap": _Kind(
        lambda i, n, a, _b: (i >= n - a) & (i < n - n % a) & (n > a) & (n % a > 0), ("tile",),
        "the {noun}s from {length} - {a} to the last multiple of {a}, exclusive",
    ),
    "but-last-few": _Kind(lambda i, n, a, _b: i < n - a, ("count",), "every {noun} but the last {a}"),
    "last-few": _Kind(lambda i, n, a, _b: i >= n - a, ("count",), "the last {a} {noun}s"),
    "last-tile": _Kind(
        lambda i, n, a, _b: i >= (n - 1) // a * a, ("tile",), "the last {noun}s, from a multiple of {a} on"
    ),
    "tile-modulo": _Kind(
        lambda i, _n, a, b: i // a % 2 == b, ("tile", "remainder"),
        "the {noun}s of every second {a}, from {noun} {first} on",
    ),
    "later-tiles": _Kind(
        lambda i, n, a, _b: (i >= a) & (i < n - n % a), ("tile",),
        "the {noun}s from {noun} {a} to the last multiple of {a}, exclusive",
    ),
    "beyond-shares": _Kind(
        lambda i, n, a, b: i >= _shares(n, a, b), ("of", "unit"),
        "the {noun}s beyond {a} times {length} / {a} rounded down to a multiple of {b}",
    ),
    "beyond-shares-and-rest": _Kind(
        lambda i, n, a, b: i >= _shares(n, a, b) + n % a, ("of", "unit"),
        "the {noun}s beyond {length} % {a} and {a} times {length} / {a} rounded down to a multiple of {b}",
    ),
    "not-last": _Kind(lambda i, n, _a, _b: i < n - 1, (), "every {noun} but the last"),
}  # fmt: skip
"""Conditions on a position, and on a length, which has words where it has any."""


@dataclass(frozen=True)
class Condition:
    """A condition on one number, the position or the length.

    Attributes
    ----------
    kind
        A name of `_KINDS`.
    a, b
        Its numbers; of several remainders, b has their bits.
    """

    kind: str
    a: int = 0
    b: int = 0

    def holds(self, i: Array, n: Array | int) -> Array:
        """Return for numbers i, in rows of n, whether it holds; for a length, i is the length itself."""
        return np.asarray(_KINDS[self.kind].test(i, n, self.a, self.b))

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data."""
        b = self._rests if "remainders" in _KINDS[self.kind].names else self.b
        return {"kind": self.kind, **dict(zip(_KINDS[self.kind].names, (self.a, b), strict=False))}

    @property
    def _rests(self) -> list[int]:
        """The remainders whose bits b has."""
        return [r for r in range(self.b.bit_length()) if self.b >> r & 1]

    def text(self, noun: str, length: str = "n", *, of_length: bool = False) -> str:
        """Describe it: `noun` is what a position is one of, "block", or a length, "nb"; `length` is that."""
        if of_length and (self.kind, self.a) == ("modulo", 2):
            return f"{noun} is {'odd' if self.b else 'even'}"
        kind = _KINDS[self.kind]
        part = f"{length} / {self.b} (rounded down)" + f" * {self.a}" * (self.a > 1)
        part_up = part.replace("rounded down", "rounded up")
        words = kind.length if of_length else kind.position
        if of_length and (self.kind, self.b) == ("not-modulo", 0):
            return f"{noun} is no multiple of {self.a}"
        if (self.kind, self.a) == ("before-last", 1):
            words = "the {noun} before the last"
        if not of_length and self.a == 2 and self.kind in ("modulo", "last-of-tile"):
            words = "every odd {noun}" if self.b or self.kind == "last-of-tile" else "every even {noun}"
        if self.kind == "first-left-over" and self.b == 1:
            words = "the first {noun} beyond a multiple of {a}"
        rests = [str(r) for r in self._rests] if "rests" in words else ["", ""]
        listed = ", ".join(rests[:-1])
        return words.format(
            noun=noun,
            a=self.a,
            b=self.b,
            length=length,
            part=part,
            part_up=part_up,
            first=self.a * self.b,
            rests=f"{listed} or {rests[-1]}",
            rests_and=f"{listed} and {rests[-1]}",
        )


@dataclass(frozen=True)
class Rule:
    """A rule for places: conditions on the position and on the length.

    Attributes
    ----------
    position
        Of the position.
    length
        Of the length: all must hold.
    """

    position: Condition
    length: tuple[Condition, ...] = ()

    def holds(self, n: int) -> Array:
        """Return whether it holds at the positions of a row of n: bool [n]."""
        return self.position.holds(np.arange(n), n) & self.takes(n)

    @property
    def is_any(self) -> bool:
        """Whether every position has it."""
        return self.position.kind == "any"

    def takes(self, n: int) -> bool:
        """Return whether the conditions on the length hold for n."""
        return all(bool(_KINDS[c.kind].test(n, n, c.a, c.b)) for c in self.length)

    def shortest(self) -> list[int]:
        """Return the two least lengths at which it has a place."""
        limits = [c.a for c in (self.position, *self.length)]
        tried = {*range(1, 70), *(limit + more for limit in limits for more in (0, 1, 2, 32))}
        return [n for n in sorted(tried) if self.holds(n).any()][:2]

    def differs(self, other: Rule, n: int) -> bool:
        """Return whether two rules have different places in a row of n."""
        if not self.takes(n) and not other.takes(n):
            return False
        return not np.array_equal(self.holds(n), other.holds(n))

    @property
    def is_plural(self) -> bool:
        """Whether its words are about several places, not about every one or one."""
        return re.match("the ((first|last) [0-9]+ )?nouns", self.position.text("noun")) is not None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {"position": self.position.to_json(), "length": [c.to_json() for c in self.length]}

    def text(self, noun: str, length: str) -> str:
        """Describe it: `noun` is "block", `length` "nb"."""
        where, conditions = self.position.text(noun, length), self._lengths(length)
        return f"{where} where {conditions}" if conditions else where

    def said(self, noun: str, length: str, predicate: str) -> str:
        """Say what is so of its places, the condition on the length before it."""
        text, conditions = f"{self.position.text(noun, length)} {predicate}", self._lengths(length)
        return f"where {conditions}, {text}" if conditions else text

    def _lengths(self, length: str) -> str:
        return " and ".join(c.text(length, of_length=True) for c in self.length)
