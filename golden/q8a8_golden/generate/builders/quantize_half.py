"""The scale's rounding to f16: every kind of place between two halves, reached through amax = 127 * d.

Half way between two neighbouring halves is a tie, and 127 times it is an f32, so that the quotient amax / 127
is the tie itself. The f32 beside that amax gives the f32 beside the tie: the oracle is asked whether it does.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Final

from q8a8_golden import oracle
from q8a8_golden.generate.draft import Draft, activation, quantize_row, rules
from q8a8_golden.generate.numbers import down, f32, minus, near, power, up
from q8a8_golden.oracle import F16, F32

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["TOPIC", "drafts"]

TOPIC: Final = "quantize/half"

# The f16 patterns h for which the tie between h and h + 1 is asked about. Patterns count up through the
# halves, so that h + 1 is the next one, binade borders included; an even pattern has an even significand.
_NORMAL: Final = range(0x0400, 0x7C00, 0x0400)  # the first half of each binade, 2^-14 to 2^15
_PLACES: Final[dict[str, tuple[Sequence[int], str]]] = {
    "normal-even": ([h + 0x154 for h in _NORMAL], "the tie goes down to the even half"),
    "normal-odd": ([h + 0x2AB for h in _NORMAL], "the tie goes up to the even half"),
    "first-of-binade": (list(_NORMAL), "the half below the tie is a power of two"),
    "last-of-binade": (
        [h + 0x3FF for h in _NORMAL if h < 0x7800],
        "the tie carries into the next power of two",
    ),
    "subnormal-even": (
        [0x0002, 0x0004, 0x0006, 0x0010, 0x0154, 0x0200, 0x03FE],
        "the halves are subnormal and the tie goes down to the even one",
    ),
    "subnormal-odd": (
        [0x0001, 0x0003, 0x0005, 0x000F, 0x0155, 0x01FF, 0x03FD],
        "the halves are subnormal and the tie goes up to the even one",
    ),
    "largest-subnormal": (
        [0x03FF],
        "the tie rounds up from the largest subnormal to the smallest normal half",
    ),
    "largest": ([0x7BFD, 0x7BFE], "the halves are the largest that there are"),
}

_SIDES: Final[dict[str, tuple[Callable[[int], int], str]]] = {
    "below-tie": (
        down,
        "One ULP below the tie the nearer half is the lower one; a second rounding may miss it",
    ),
    "tie": (lambda amax: amax, "On the tie truncation, ties away and ties to even give different halves"),
    "above-tie": (up, "One ULP above the tie the nearer half is the upper one; truncation gives the lower"),
}


def drafts() -> list[Draft]:
    """Give a row for each kind of place and side of a tie, a block a half; then exact halves and edges."""
    made = []
    for place, (halves, what) in _PLACES.items():
        for side, (step, why) in _SIDES.items():
            amaxes = [_beside(h, step) for h in halves]
            about = rules("HLF-1", "HLF-2" if "subnormal" in place else "QNT-2")
            text = f"{why}; {what}."
            made.append(_row(f"{place}-{side}", text, about, amaxes))
            made.append(_activation(f"{place}-{side}-activation", text, about, amaxes[len(amaxes) // 2]))
    return [*made, *_exact(), *_edges()]


def _tie(h: int) -> Fraction:
    """Give the number half way between the half h and the next one."""
    return (oracle.value(h, F16) + oracle.value(h + 1, F16)) / 2


def _beside(h: int, step: Callable[[int], int]) -> int:
    """Give the amax whose quotient is the tie above h, or the f32 next to it."""
    tie = near(_tie(h))
    amax = step(f32(127 * _tie(h)))
    if near(oracle.value(amax, F32) / 127) != step(tie):
        raise ValueError(f"amax {amax:#x} does not give the f32 beside the tie above {h:#06x}")
    return amax


def _row(name: str, why: str, about: tuple[str, ...], amaxes: Sequence[int]) -> Draft:
    """Make a block for each amax: in another lane with another sign each, and a quarter of it beside.

    A quarter gives the code 31.75, far from any rounding boundary: the scale alone decides the case.
    """
    row = []
    for number, amax in enumerate(amaxes):
        block = [0] * 32
        block[7 * number % 32] = minus(amax) if number % 2 else amax
        block[(7 * number + 1) % 32] = amax - (2 << 23)
        row += block
    return quantize_row(f"{TOPIC}/{name}", why, about, row)


def _activation(name: str, why: str, about: tuple[str, ...], amax: int) -> Draft:
    xs = [amax - (2 << 23), minus(amax), 0]
    return activation(f"{TOPIC}/{name}", why, about, xs)


def _exact() -> list[Draft]:
    normal = [f32(127 * oracle.value(h + f, F16)) for h in _NORMAL for f in (0, 0x155, 0x3FF)]
    subnormal = [f32(127 * h * power(-24)) for h in (1, 2, 3, 7, 0x55, 0x155, 0x200, 0x2AA, 0x3FE, 0x3FF)]
    why = "amax / 127 is a half exactly: it must be stored as it is, whatever the rounding"
    return [
        _row(
            "exact-normal",
            f"{why}; a wrong bias or exponent range shows in some binade.",
            rules("QNT-2"),
            normal,
        ),
        _row(
            "exact-subnormal",
            f"{why}; a conversion that flushes f16 subnormals stores zero.",
            rules("HLF-2"),
            subnormal,
        ),
    ]


def _edges() -> list[Draft]:
    tiny = f32(127 * power(-25))  # d = 2^-25, half way between zero and the smallest half
    top = f32(Fraction(65520 * 127))
    cases = {
        "smallest-half": (
            f32(127 * power(-24)),
            "The scale is 2^-24, the smallest half: a flush loses all.",
        ),
        "half-of-smallest": (
            tiny,
            "d = 2^-25 is a tie of zero and 2^-24 and goes to zero.",
        ),
        "half-of-smallest-below": (
            down(tiny),
            "d is just below 2^-25 and rounds to zero: a scale rounded up keeps codes.",
        ),
        "half-of-smallest-above": (
            up(tiny),
            "d is just above 2^-25 and rounds to 2^-24: truncation loses the block.",
        ),
        "one-and-a-half-smallest": (
            f32(127 * 3 * power(-25)),
            "d = 3 * 2^-25 is a tie and goes up, to the even 2^-23.",
        ),
        "largest-half": (
            f32(65504 * 127),
            "The scale is 65504, the largest half: an early overflow stores infinity.",
        ),
        "above-largest-half": (
            up(f32(65504 * 127)),
            "d is just above 65504 and still rounds to it: no infinity yet.",
        ),
        "last-finite": (
            down(top),
            "d is the f32 below 65520, which rounds to 65504: no overflow yet.",
        ),
    }
    rule_of = dict.fromkeys(cases, ("HLF-1", "HLF-2"))
    # Where h is zero the codes are too: a test of d and not of h fails here, with the right scale.
    rule_of |= dict.fromkeys(("half-of-smallest", "half-of-smallest-below"), ("QNT-3", "QNT-6"))
    rule_of |= dict.fromkeys(("largest-half", "above-largest-half", "last-finite"), ("HLF-4", "QNT-2"))
    made = []
    for name, (amax, why) in cases.items():
        about = rules(*rule_of[name])
        made.append(_row(name, why, about, [amax, amax]))
        made.append(_activation(f"{name}-activation", why, about, amax))
    return made
