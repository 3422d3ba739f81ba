"""What a call takes over from earlier ones: what of their inputs explains a result, or terms of their blocks.

The rows are exact by construction. What the second of two calls may have of the first one is tried in turn:
its result, fields of the first, the last or each of its blocks, or (quantizers) an amax. What gives the
results of two pairs of calls is it.

Of terms that are left somewhere each block of an earlier call has a power of two of its own, and all codes of
the later one are zero: so its result names the blocks.
"""

from __future__ import annotations

from functools import partial
from itertools import chain, combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.recipe import RECIPES, apply_recipe
from q8a8_conformance.diagnosis.replay import replay
from q8a8_conformance.faults.catalogue import make
from q8a8_conformance.faults.kernel import ACTIVATION, DEQUANTIZE, DOT, DOT_REAL, DOTS, QUANTIZERS
from q8a8_conformance.inputs import calls, dot_rows
from q8a8_conformance.reveal.places import length_words
from q8a8_conformance.reveal.quantizers.calls import as_outputs, blocks_of, build_call

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from q8a8_conformance.diagnosis.dots.bench import Probe
    from q8a8_conformance.protocol.messages import Call

    Outputs = tuple[bytes, ...]
    Named = tuple[dict[str, Any], str, Outputs]

    from collections.abc import Callable

    from q8a8_conformance.inputs.arrays import Array


NB, MANY, EACH = 3, 40, "each block"
BLOCKS = {"the first block": (0,), "the last block": (NB - 1,), EACH: tuple(range(NB))}
FIELDS: Mapping[str, Mapping[str, tuple[str, slice]]] = {
    DEQUANTIZE: {"the scale": ("x", slice(0, 2)), "the codes": ("x", slice(2, 34))},
    DOT: {
        "x's scale": ("vx", slice(0, 2)),
        "x's codes": ("vx", slice(2, 34)),
        "y's scale": ("vy", slice(0, 2)),
        "y's codes": ("vy", slice(2, 34)),
    },
    DOT_REAL: {
        "x's scale": ("vx", slice(0, 2)),
        "x's codes": ("vx", slice(4, 36)),
        "y's scale": ("vy", slice(2, 4)),
        "y's codes": ("vy", slice(4, 36)),
    },
}
"""The fields of a block by function: in which input, and their bytes."""


def of_call_before(function: str, probe: Probe) -> tuple[Mapping[str, Any], str] | None:
    """Find what a call takes over from the one before.

    Returns
    -------
    tuple of dict and str, or None
        As JSON data, and as a clause; None where nothing that is tried gives the results.
    """
    if function not in (*QUANTIZERS, *FIELDS):
        return None
    # (What is kept of a row may be used again for a shorter one at the same addresses.)
    ways = (False, True)
    both = ((elsewhere, _taken_over(function, probe, elsewhere=elsewhere)) for elsewhere in ways)
    elsewhere, found = next(((way, one) for way, one in both if one), (False, None))
    if found is None:
        return None
    where, words = found
    second = partial(_second, probe, elsewhere=elsewhere)
    if where.get("blocks") == EACH:
        where, words = _of_long_rows(function, second, where, words)
    before, mine = pair_of(function, 1)
    right = replay(make(), mine)
    if where["carries"] == "amax":
        begins = second(calls.with_zeros(mine), mine) == right
        where, words = {**where, "begins": begins}, words.replace("is", "begins with", 1) if begins else words
    same = []
    if second(_moved(before), mine) == right:
        same.append("at the same addresses")
    if second(pair_of(function, 1, NB + 1)[0], mine) == right:
        same.append("of the same length")
    if same:
        where, words = {**where, "same": same}, f"{words}, where that is one {' and '.join(same)}"
    return where, words


def _taken_over(function: str, probe: Probe, *, elsewhere: bool) -> tuple[Mapping[str, Any], str] | None:
    """Find what two calls take over from those before them, which follow zeros, maybe elsewhere."""
    found: list[dict[str, tuple[Mapping[str, Any], str]]] = []
    for seed in (1, 2):
        before, mine = pair_of(function, seed)
        right = replay(make(), mine)
        got = _second(probe, before, mine, elsewhere=elsewhere)
        if got is None or got == right:
            return None
        tried = _quantized if function in QUANTIZERS else _taken
        made = tried(before, mine, replay(make(), before), right)
        found.append({words: (where, words) for where, words, outputs in made if outputs == got})
    return next((one for words, one in found[0].items() if words in found[1]), None)


def _second(probe: Probe, before: Call, mine: Call, *, elsewhere: bool = False) -> Outputs | None:
    """Return what a call gives after another one, and that after zeros in a longer row, maybe elsewhere."""
    zeros = calls.with_zeros(pair_of(mine.function, 1, NB + 3)[0])
    probe(_moved(zeros) if elsewhere else zeros)
    probe(before)
    return probe(mine)


def _moved(call: Call) -> Call:
    """Return a call on inputs at other addresses."""
    return calls.misaligned(call, {spec.name: 32 for spec in call.spec.buffers if spec.role == "input"})


def pair_of(function: str, seed: int, nb: int = NB) -> tuple[Call, Call]:
    """Return a call with larger values, and another one, of so many blocks (elements: 32 times that)."""
    if function in QUANTIZERS:
        rng = dot_rows.generator("carried", seed)
        x = rng.uniform(-1, 1, (2, nb, 32)).astype(np.float32)
        x[0] *= np.resize(np.array([30, 50, 40], np.float32), nb)[:, np.newaxis]
        return build_call(function, x[0].ravel()), build_call(function, x[1].ravel())
    rows = [dot_rows.exact_pair(nb, positive=True, seed=2 * seed + number) for number in range(2)]
    if function == DEQUANTIZE:
        return calls.dequantize(rows[0][0]), calls.dequantize(rows[1][0])
    build = calls.dot
    if function == DOT_REAL:
        rows, build = [dot_rows.to_v2(*pair) for pair in rows], calls.dot_real
    return build(*rows[0]), build(*rows[1])


def _taken(before: Call, mine: Call, result: Outputs, right: Outputs) -> Iterator[Named]:
    """Yield what each set of fields gives that a call has of the one before, by blocks."""
    function = mine.function
    if function in DOTS:
        total = np.frombuffer(result[0], "<f4") + np.frombuffer(right[0], "<f4")
        yield {"carries": "sum"}, "the sum begins with the result of the call before", (total.tobytes(),)
    yield {"carries": "result"}, "the result is that of the call before", result
    fields = FIELDS[function]
    sets = chain.from_iterable(combinations(fields, size) for size in range(1, len(fields)))
    for names in sets:
        for words, blocks in BLOCKS.items():
            verb = "is that" if len(names) == 1 and names[0].endswith("scale") else "are those"
            clause = f"{' and '.join(names)} of {words} {verb} of the call before"
            yield {"carries": list(names), "blocks": words}, clause, _with_fields(before, mine, names, blocks)


def _with_fields(before: Call, mine: Call, names: Sequence[str], blocks: Sequence[int]) -> Outputs:
    """Return what a call gives that has fields of some blocks of the call before."""
    fields = FIELDS[mine.function]
    inputs = {name: bytearray(data) for name, data in calls.inputs_of(mine).items()}
    size = len(next(iter(inputs.values()))) // (mine.n // 32)
    for buffer, part in (fields[name] for name in names):
        for b in blocks:
            at = slice(b * size + part.start, b * size + part.stop)
            inputs[buffer][at] = calls.inputs_of(before)[buffer][at]
    return replay(
        make(), calls.build(mine.function, mine.n, {name: bytes(of) for name, of in inputs.items()})
    )


def _of_long_rows(
    function: str, second: Callable[[Call, Call], Outputs | None], where: Mapping[str, Any], words: str
) -> tuple[Mapping[str, Any], str]:
    """Return what each block of a short row has of the call before, with how many of a longer row have it."""
    before, mine = pair_of(function, 1, MANY)
    got = second(before, mine)
    if _with_fields(before, mine, where["carries"], range(MANY)) == got:
        return where, words
    counts = (n for n in range(1, MANY) if _with_fields(before, mine, where["carries"], range(n)) == got)
    count = next(counts, 0)
    some = f"each of the first {count} blocks" if count else f"{EACH} of a row of {NB}"
    return {**where, "blocks": some}, words.replace(EACH, some)


def _quantized(before: Call, mine: Call, result: Outputs, right: Outputs) -> Iterator[Named]:
    """Yield what blocks, or amaxes, of the call before give."""
    is_row = mine.function != ACTIVATION
    x, old = (
        np.frombuffer(calls.inputs_of(call)["x" if is_row else "input"], "<f4").reshape(
            NB if is_row else 1, -1
        )
        for call in (mine, before)
    )
    yield {"carries": "result"}, "the result is that of the call before", result
    amaxes = np.abs(old).max(axis=1)
    sources = {"the last block": amaxes[-1], "the first block": amaxes[0], "the row": amaxes.max()}
    targets = BLOCKS if is_row else {"the vector": (0,)}
    for source, amax in sources.items() if is_row else [("the vector", amaxes[0])]:
        with_amax = np.concatenate([x, np.full((len(x), 1), amax)], axis=1)
        h, q, _ = apply_recipe(with_amax, RECIPES["design"])
        other = as_outputs(mine.function, blocks_of(h, np.ascontiguousarray(q[:, :-1])))
        for target, blocks in targets.items():
            words = f"the amax of {target} is that of {source} of the call before"
            where = {"carries": "amax", "blocks": target, "source": source}
            yield where, words, _in_blocks(other, right, blocks) if is_row else other


def _in_blocks(some: Outputs, others: Outputs, blocks: tuple[int, ...]) -> Outputs:
    """Return rows' outputs with some blocks of one call and the rest of another."""
    data = bytearray(others[0])
    for b in blocks:
        data[34 * b : 34 * b + 34] = some[0][34 * b : 34 * b + 34]
    return (bytes(data),)


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
