"""Conditions on the number of blocks of a row, fitted to lengths at which a kernel is wrong and right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

MODULI = (2, 3, 4, 5, 6, 7, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
"""Unrolled loops and tiles."""


SMALL = 8
"""Moduli that one wrong length is enough for."""


@dataclass(frozen=True)
class Lengths:
    """Lengths from `least` on that leave one of some remainders by `modulus` (1: all of them).

    Attributes
    ----------
    least, most
        The first length, and the last one where there is a last.
    modulus, low, high
        low <= nb % modulus <= high.
    """

    least: int
    modulus: int = 1
    low: int = 0
    high: int = 0
    most: int | None = None

    def holds(self, nb: int) -> bool:
        """Return whether a row of so many blocks is meant."""
        inside = nb >= self.least and (self.most is None or nb <= self.most)
        return inside and self.low <= nb % self.modulus <= self.high

    def to_json(self) -> dict[str, Any]:
        """Return the condition as JSON data."""
        return {
            "least": self.least,
            "most": self.most,
            "modulus": self.modulus,
            "remainders": [self.low, self.high],
        }

    def __str__(self) -> str:
        """Return the condition as words."""
        if self.most == self.least:
            return f"nb = {self.least}"
        parts = []
        if self.modulus > 1:
            if (self.low, self.high) == (1, self.modulus - 1):
                parts.append("nb is odd" if self.modulus == 2 else f"nb is no multiple of {self.modulus}")
            elif self.low == self.high:
                parts.append(
                    "nb is even"
                    if (self.modulus, self.low) == (2, 0)
                    else f"nb mod {self.modulus} is {self.low}"
                )
            else:
                between = "or" if self.high == self.low + 1 else "to"
                parts.append(f"nb mod {self.modulus} is {self.low} {between} {self.high}")
        if self.most is not None:
            parts.append(f"nb is {self.least} to {self.most}")
        elif self.least > (1 if self.modulus == 1 else self.modulus) or not parts:
            parts.append(f"nb is {self.least} or more" if self.least > 1 else "any nb")
        return " and ".join(parts)


def fit(wrong: Collection[int], right: Collection[int]) -> Lengths | None:
    """Return the simplest condition that holds for all wrong lengths and for no right one."""
    return next((one for one in _candidates(sorted(wrong)) if not any(map(one.holds, right))), None)


def _candidates(wrong: list[int]) -> Iterator[Lengths]:
    least, most = wrong[0], wrong[-1]
    yield Lengths(least)
    if len(wrong) == 1:
        yield Lengths(least, most=least)
    for modulus in MODULI:
        remainders = {nb % modulus for nb in wrong}
        low, high = min(remainders), max(remainders)
        plain = low in {1, high} or high == modulus - 1 or (low == 0 and high < modulus // 2)
        if plain and (len(wrong) > 1 or modulus <= SMALL):
            yield Lengths(least, modulus, low, high)
    yield Lengths(least, most=most)
    for modulus in MODULI:
        remainders = {nb % modulus for nb in wrong}
        yield Lengths(least, modulus, min(remainders), max(remainders), most)
    for modulus in MODULI:
        remainders = {nb % modulus for nb in wrong}
        yield Lengths(least, modulus, min(remainders), max(remainders))


FORMULAS: tuple[tuple[str, Callable[..., int]], ...] = (
    *((f"nb - {c}" if c else "nb", lambda nb, c=c: nb - c) for c in range(5)),
    ("0", lambda _nb: 0),
    ("1", lambda _nb: 1),
    *((f"nb - nb mod {m}", lambda nb, m=m: nb - nb % m) for m in MODULI),
    *((f"nb mod {m}", lambda nb, m=m: nb % m) for m in (65536, 32768, *reversed(MODULI))),
    ("nb / 2", lambda nb: nb // 2),
    ("nb / 2 - 1", lambda nb: nb // 2 - 1),
    *((f"nb - {m}", lambda nb, m=m: nb - m) for m in MODULI if m > SMALL),
    *(
        (f"nb mod {width} - nb mod {step}", lambda nb, width=width, step=step: nb % width - nb % step)
        for step in MODULI
        for width in (*MODULI, 32768, 65536)
        if width > step and width % step == 0
    ),
    *(
        (
            f"nb up to a multiple of {step}, - {width}",
            lambda nb, width=width, step=step: -(-nb // step) * step - width,
        )
        for step in MODULI
        for width in MODULI
        if width > step > SMALL and width % step == 0
    ),
)
"""Where in a row something may begin or end: by name, with the block number."""


def formula(points: dict[int, int]) -> tuple[str, Callable[..., int]] | None:
    """Return a name and a function that give, for each length, the block number seen there."""
    numbers = set(points.values())
    if len(numbers) == 1 and len(points) > 1 and (number := numbers.pop()) > 1:
        return str(number), lambda _nb, number=number: number
    return next(
        ((name, of) for name, of in FORMULAS if all(of(nb) == at for nb, at in points.items())),
        None,
    )
