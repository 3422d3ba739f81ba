"""Terms of an earlier call that are added to a later one's result: of which blocks, in rows of which lengths.

Each block of the earlier call has a power of two of its own as its term, and all codes of the later one are
zero: so its result names the blocks whose terms were left somewhere.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.faults.kernel import DOT
from q8a8_conformance.inputs import calls, dot_rows
from q8a8_conformance.reveal.places import length_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from q8a8_conformance.diagnosis.dots.bench import Probe
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call

EARLIER = 22
"""Blocks of the earlier call: their terms add up exactly."""

LENGTHS = (*range(10), 15, 16, 17, 31, 32, 33, 65)
"""Blocks of the later one."""

LANES = (2, 4, 8, 16)


def terms_of_call_before(function: str, nrc: int, probe: Probe) -> tuple[Mapping[str, Any], str] | None:
    """Find terms of an earlier call that are added: as JSON data, and as a clause; None where none are."""
    left = {nb: _left(function, nrc, nb, probe) for nb in LENGTHS}
    known = {nb: blocks for nb, blocks in left.items() if blocks is not None}
    hit = [nb for nb, blocks in known.items() if blocks]
    if not hit or len(known) < len(left):
        return None
    given = {nb: known[nb] for nb in hit}
    words = next(
        (text for text, of in _ways() if all(_gives(of, nb, blocks) for nb, blocks in given.items())), ""
    )
    where = length_words(hit, [nb for nb in known if nb not in hit])
    if not words:
        nb = hit[0]
        words = f"those of its blocks {', '.join(map(str, known[nb]))} of {EARLIER} with nb = {nb}"
    data = {"carries": "terms", "blocks": {str(nb): list(blocks) for nb, blocks in given.items()}}
    clause = f"where {where}, " if where else ""
    return data, f"{clause}terms of an earlier call are added, {words}"


def _ways() -> Iterator[tuple[str, Callable[..., Array]]]:
    """Yield which blocks' terms may be left for a row of nb: words, and whether numbers are of them."""
    yield "those of all its blocks", lambda b, _nb: b >= 0
    yield "that of its last block", lambda b, _nb: b == EARLIER - 1
    yield "those of its blocks from nb on", lambda b, nb: b >= nb
    for m in LANES:
        yield f"those of its blocks b with b % {m} >= nb", partial(_lanes, m=m)
        yield f"those of its blocks b with b % {m} >= nb % {m}", partial(_lanes, m=m, of=m)
        for rest in range(m):
            yield f"those of its blocks b with b % {m} = {rest}", lambda b, _nb, m=m, rest=rest: b % m == rest
        yield f"those of its last blocks, beyond a multiple of {m}", partial(_beyond, m=m, is_so=True)
        yield f"those of its blocks up to the last multiple of {m}", partial(_beyond, m=m, is_so=False)


def _gives(of: Callable[[Array, int], Array], nb: int, blocks: tuple[int, ...]) -> bool:
    return np.flatnonzero(of(np.arange(EARLIER), nb)).tolist() == [*blocks]


def _lanes(b: Array, nb: int, m: int, of: int = 0) -> Array:
    return np.asarray(b % m >= (nb % of if of else nb))


def _beyond(b: Array, _nb: int, m: int, *, is_so: bool) -> Array:
    return np.asarray((b >= EARLIER // m * m) == is_so)


def _left(function: str, nrc: int, nb: int, probe: Probe) -> tuple[int, ...] | None:
    """Return the blocks of an earlier call whose terms a later one's results have; None for anything else."""
    blocks = np.arange(EARLIER)
    probe(_call(function, nrc, np.ones(EARLIER), np.minimum(blocks, 10), blocks - np.minimum(blocks, 10)))
    outputs = probe(_call(function, nrc, np.zeros(nb), np.zeros(nb), np.zeros(nb)))
    if outputs is None:
        return None
    values = np.frombuffer(outputs[0], "<f4")[: nrc * nrc]
    wrong = [float(value) for value in values if value]
    if not wrong:
        return ()
    total = wrong[0]
    if set(wrong) != {total} or not (0 < total < 2.0**EARLIER and total == int(total)):
        return None
    return tuple(b for b in range(EARLIER) if int(total) >> b & 1)


def _call(function: str, nrc: int, codes: Array, of_x: Array, of_y: Array) -> Call:
    """Return the call on rows of one code in each block, under powers of two."""
    q = np.zeros((len(codes), 32), np.int64)
    q[:, 0] = codes
    x, y = (dot_rows.blocks(2.0**exponents, q) for exponents in (of_x, of_y))
    if nrc == 2:
        return calls.dot_pair(np.stack([x, x]), np.stack([y, y]))
    return calls.dot(x, y) if function == DOT else calls.dot_real(*dot_rows.to_v2(x, y))
