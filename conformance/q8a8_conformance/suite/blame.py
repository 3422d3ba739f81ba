"""Which rules a wrong result speaks against.

A case lists every rule that it touches, but a wrong result seldom breaks all of them: a kernel that rounds codes
to even must not be told that its half conversion is wrong, or its layout. A quantizer's output says which part is
wrong (scales, codes, or the codes of a block that should have vanished), and each rule is about one of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from q8a8_conformance.suite.requests import ACTIVATION, QUANTIZERS

if TYPE_CHECKING:
    from collections.abc import Mapping

SCALES = frozenset(
    {"Q8A8-HLF-1", "Q8A8-HLF-2", "Q8A8-HLF-4", "Q8A8-HLF-5", "Q8A8-QNT-1", "Q8A8-QNT-2", "Q8A8-QNT-7"}
)
"""Rules that show in the scales. (A largest magnitude taken from elsewhere, QNT-1 and QNT-7, gives another scale.)"""

CODES = frozenset({"Q8A8-QNT-3", "Q8A8-QNT-4"})
VANISHED = frozenset({"Q8A8-QNT-3", "Q8A8-QNT-6"})
"""Rules that show in a block whose stored scale is 0: its inverse is 0, and so is all of it."""

BY_A_LOOK = frozenset({"Q8A8-QNT-5"})
"""Rules about one value that the judge looks for in every result, not by comparing."""

LAST = frozenset({"Q8A8-LAY-1", "Q8A8-LAY-2", "Q8A8-LAY-3", "Q8A8-QNT-8", "Q8A8-QNT-10"})
"""Rules that any wrong value would seem to break: blamed where the case is about nothing else."""


@dataclass(frozen=True)
class Wrong:
    """Which parts of a quantizer's result are wrong."""

    scales: bool
    codes: bool
    vanished: bool


def blamed(
    function: str, rules: tuple[str, ...], expected: Mapping[str, bytes], actual: Mapping[str, bytes]
) -> tuple[str, ...]:
    """Give the rules that a difference speaks against: never none.

    Parameters
    ----------
    function
        The ABI function.
    rules
        What the case judges.
    expected, actual
        Output buffers by ABI name, which differ.

    Returns
    -------
    tuple of str
        Rules of the case; or where none of them is about the part that is wrong, the ones that are.
    """
    if function in QUANTIZERS:
        wrong = _wrong_blocks(expected["y"], actual["y"])
    elif function == ACTIVATION:
        codes = expected["output"] != actual["output"]
        zero = expected["scale"] == bytes(2)
        wrong = Wrong(expected["scale"] != actual["scale"], codes and not zero, codes and zero)
    else:
        return tuple(rule for rule in rules if rule not in LAST) or rules
    spoken_against = (
        (SCALES if wrong.scales else frozenset())
        | (CODES if wrong.codes else frozenset())
        | (VANISHED if wrong.vanished else frozenset())
    )
    about_parts = SCALES | CODES | VANISHED
    chosen = tuple(
        rule
        for rule in rules
        if rule not in LAST | BY_A_LOOK and (rule in spoken_against or rule not in about_parts)
    )
    if chosen:
        return chosen
    last = tuple(rule for rule in rules if rule in LAST)
    if last:
        return last
    return _general(wrong) or rules


def _general(wrong: Wrong) -> tuple[str, ...]:
    """Give the general rule of each part that is wrong."""
    parts = (("Q8A8-QNT-2", wrong.scales), ("Q8A8-QNT-4", wrong.codes), ("Q8A8-QNT-6", wrong.vanished))
    return tuple(rule for rule, is_wrong in parts if is_wrong)


def _wrong_blocks(expected: bytes, actual: bytes) -> Wrong:
    """Look at each block that differs."""
    scales = codes = vanished = False
    for start in range(0, len(expected), 34):
        want, got = expected[start : start + 34], actual[start : start + 34]
        if want != got:
            scales |= want[:2] != got[:2]
            other = want[2:] != got[2:]
            codes |= other and want[:2] != bytes(2)
            vanished |= other and want[:2] == bytes(2)
    return Wrong(scales, codes, vanished)
