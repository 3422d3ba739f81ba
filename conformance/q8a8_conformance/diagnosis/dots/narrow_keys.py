"""What a function keeps of an input under a key that is too narrow: bytes whose change it does not notice.

Two calls on the same addresses differ in some bytes of one input, away from its ends: where the second one is
wrong, something of the first was used again. Then the same is done with each byte alone. Each pair of calls
has contents of its own, so that nothing was kept of them before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any

from q8a8_conformance.diagnosis.dots.carried import pair_of
from q8a8_conformance.diagnosis.replay import replay
from q8a8_conformance.faults.catalogue import make
from q8a8_conformance.faults.kernel import QUANTIZERS
from q8a8_conformance.inputs import calls, mul_mat_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from q8a8_conformance.diagnosis.dots.bench import Probe
    from q8a8_conformance.protocol.messages import Call

ENDS = 16
"""Bytes at each end of an input that are the same in the first two calls."""

MOST = 700
"""Bytes of an input that are changed one by one, at most."""

SHAPES = ((5, 2, 2), (8, 4, 1))
"""m, n and blocks of a row of products."""

SIGN = 0x80
"""What changes a float's highest byte, and so every code that it becomes."""


@dataclass(frozen=True)
class NarrowKey:
    """Something that is kept of an input.

    Attributes
    ----------
    name
        The input.
    first, last, size
        The first and the last byte whose change is not noticed, and how many bytes the input has.
    function
        Whose.
    """

    function: str
    name: str
    first: int
    last: int
    size: int

    @property
    def where(self) -> dict[str, Any]:
        """The same as JSON data."""
        return {"keeps": self.name, "unnoticed": [self.first, self.last], "of": self.size}

    @property
    def words(self) -> str:
        """The same as a clause."""
        return (
            f"what was kept of {self.name} is used again where its bytes {self.first} to {self.last}, "
            f"of {self.size}, have changed at the same address"
        )


def narrow_key(function: str, probe: Probe) -> NarrowKey | None:
    """Find an input of which something is kept though it has changed; None where nothing is."""
    for shape in SHAPES if function == calls.MUL_MAT else SHAPES[:1]:
        numbers = count(1)
        for index in (first := _call(function, shape, 0)).spec.inputs:
            name, size = first.spec.buffers[index].name, len(first.buffers[index].data)
            is_floats = function in QUANTIZERS or (function == calls.MUL_MAT and name == "x")
            unit = 4 if is_floats else 1
            inner = range(ENDS, size - ENDS, unit)
            stale = [_is_stale(function, shape, next(numbers), index, inner, unit, probe) for _ in "ab"]
            # (What is wrong after the same call, too, has no key.)
            if not any(stale) or _is_stale(function, shape, next(numbers), index, [], unit, probe):
                continue
            places = range(0, min(size, MOST), unit)
            unnoticed = [
                at for at in places if _is_stale(function, shape, next(numbers), index, [at], unit, probe)
            ]
            if unnoticed and (unnoticed[0] or unnoticed[-1] < places[-1]):
                return NarrowKey(function, name, unnoticed[0], unnoticed[-1] + unit - 1, size)
    return None


def forget(function: str, probe: Probe) -> None:
    """Make a call of another shape, so that nothing that is kept of others is used in the next one."""
    probe(_call(function, (11, 6, 5), 0))


def _is_stale(
    function: str,
    shape: tuple[int, int, int],
    number: int,
    index: int,
    places: Sequence[int],
    unit: int,
    probe: Probe,
) -> bool:
    """Return whether a call is wrong after one that differs in some bytes of an input."""
    mine = _call(function, shape, number)
    data = bytearray(mine.buffers[index].data)
    for at in places:
        data[at + unit - 1] ^= SIGN if unit > 1 else 1
    buffers = list(mine.buffers)
    buffers[index] = replace(buffers[index], data=bytes(data))
    probe(replace(mine, buffers=tuple(buffers)))
    outputs = probe(mine)
    return outputs is not None and outputs != replay(make(), mine)


def _call(function: str, shape: tuple[int, int, int], number: int) -> Call:
    """Return a call whose right outputs are exact, each with other contents."""
    if function == calls.MUL_MAT:
        return calls.mul_mat(*mul_mat_rows.exact(*shape, number + 100))
    return pair_of(function, number + 100, shape[2] + 1)[number % 2]
