"""Check the output buffers of a call against a golden case."""

from __future__ import annotations

from typing import TYPE_CHECKING

from q8a8_golden import oracle
from q8a8_golden.cases import Bound, Exact

if TYPE_CHECKING:
    from collections.abc import Mapping

    from q8a8_golden.cases import Case

__all__ = ["conforms"]


def conforms(case: Case, after: Mapping[str, bytes]) -> bool:
    """Return whether output buffers conform to a case after a call that started with `Case.poisoned`.

    Parameters
    ----------
    case
        Any case. For an unspecified outcome every buffer of the right length conforms. Results of other
        recipes (`Exact.alternatives`) do not.
    after
        Each whole output buffer after the call.
    """
    if {name: len(data) for name, data in after.items()} != dict(case.outputs):
        return False
    if isinstance(case.outcome, Exact):
        return dict(after) == case.expected()
    if isinstance(case.outcome, Bound):
        rest = bytearray(after[case.output])
        for result in case.outcome.results:
            place = slice(result.offset, result.offset + 4)
            bits = int.from_bytes(rest[place], "little")
            if not oracle.within_bound(bits, result.exact, result.magnitude, result.m):
                return False
            rest[place] = result.bits.to_bytes(4, "little")
        # The bytes between the results must not change.
        return bytes(rest) == case.expected()[case.output]
    return True
