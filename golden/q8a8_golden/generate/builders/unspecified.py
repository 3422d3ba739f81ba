"""Inputs outside the quantizers' domain: any value will do, but the call returns and keeps in its buffers."""

from __future__ import annotations

from typing import Final

from q8a8_golden.generate.draft import Draft, activation, quantize_row, rules
from q8a8_golden.generate.numbers import f32, minus
from q8a8_golden.oracle import F32

__all__ = ["TOPIC", "drafts"]

TOPIC: Final = "quantize/unspecified"

_INFINITY: Final = F32.infinity
_LARGEST: Final = F32.max_finite

_VALUES: Final = {
    "nan": (0x7FC00000, "A NaN compares as false with everything: a loop or a table index may run away"),
    "nan-negative": (
        0xFFC00001,
        "A NaN with a sign and a payload: clearing the sign must not be taken for a number",
    ),
    "nan-signalling": (0x7F800001, "A signalling NaN may trap where exceptions are not masked"),
    "infinity": (
        _INFINITY,
        "The inverse is zero and 0 times infinity a NaN, whose conversion to an integer may trap",
    ),
    "minus-infinity": (minus(_INFINITY), "|x| is infinite, the inverse zero, and their product a NaN"),
    "scale-overflows": (f32(65520 * 127), "d = 65520 is the first scale that no finite half holds"),
    "largest-float": (_LARGEST, "d is far above the largest half, and amax / 127 still finite"),
}


_PLACES: Final = {"first": [0], "middle": [45], "last": [95], "throughout": range(96)}


def drafts() -> list[Draft]:
    """Give each bad value at two of four places, and each place for rows and for activations."""
    made = []
    for number, (name, (bad, why)) in enumerate(_VALUES.items()):
        for step in (0, 1):
            where = list(_PLACES)[(2 * number + number // 2 + step) % 4]
            xs = [f32(1), minus(f32(2)), f32(3)] * 32
            for at in _PLACES[where]:
                xs[at] = bad
            about = rules("QNT-11")
            made.append(quantize_row(f"{TOPIC}/{name}-{where}", f"{why}.", about, xs, kind="unspecified"))
            one_less = xs[:-1] if where == "first" else xs[1:]
            name_of_call = f"{TOPIC}/{name}-{where}-activation"
            made.append(activation(name_of_call, f"{why}.", about, one_less, kind="unspecified"))
    return made
