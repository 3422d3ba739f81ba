"""Where and when a call is made: results that depend on addresses, shared inputs, modes, or other calls.

A failed call is repeated with one condition changed at a time. What makes it wrong is a `Condition`; other
calls can be made under it as well, and so the experiments on values show what is wrong there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.diagnosis.dots.addresses import LINE, at_addresses
from q8a8_conformance.diagnosis.dots.model import RESULTS, Model, matches
from q8a8_conformance.diagnosis.replay import replay
from q8a8_conformance.faults.catalogue import make
from q8a8_conformance.faults.kernel import DOTS
from q8a8_conformance.inputs import calls, dot_rows
from q8a8_conformance.inputs.known_calls import exact_sum, square_rows
from q8a8_conformance.protocol.messages import NO_OPTIONS, Buffer, Option
from q8a8_conformance.results.observations import CallResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from q8a8_conformance.diagnosis.dots.bench import Probe
    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.results.observations import Failure

MODULI = (2, 4, 8, 16, 32, 64)
MODES = "flush-to-zero and denormals-are-zero are set"

TRIED = 3
"""Failed calls of each kind that are looked into."""

RELATIONS = ("one row", "y one block behind x", "y one block before x", "y behind x's row")
"""How inputs in one block of memory lie to each other."""

LENGTHS = (1, 2, 3, 4, 5, 8, 9, 33)
"""Blocks of rows that share memory."""


@dataclass(frozen=True)
class Condition:
    """What makes calls wrong.

    Attributes
    ----------
    kind, where
        A slug, and its parameters as JSON data.
    words
        The condition as a clause: ``vx lies at 8 mod 16``.
    under
        Puts another call under it; None where that cannot be.
    members
        The failed calls that meet it.
    cause
        What the catalogue calls it.
    example
        Where there are several addresses: the one at which calls are put, in words.
    says
        What is wrong, as a sentence with the condition; empty where that is not known.
    """

    kind: str
    where: Mapping[str, Any]
    words: str
    under: Callable[[Call], Call] | None
    members: tuple[Failure, ...]
    cause: str = ""
    example: str = ""
    says: str = ""


def plain(call: Call) -> Call:
    """Return a call on copies of its inputs, at 64-byte boundaries, in the usual modes."""
    return replace(call, options=NO_OPTIONS, buffers=tuple(Buffer(each.data) for each in call.buffers))


def of_places(
    failed: Sequence[Failure], probe: Probe, restart: Callable[[], object] | None = None
) -> Iterator[Condition]:
    """Find what makes calls wrong that are right elsewhere: a mode, an address, shared inputs.

    Inputs that share memory lie at addresses, too: what is wrong on copies that are aligned alike is so
    because of those.
    """
    failed = sorted(failed, key=lambda one: (one.call.nrc, one.call.n))
    flush = [one for one in failed if one.call.options & Option.FLUSH]
    if any(_differs(probe, calls.with_options(plain(one.call), Option.FLUSH)) for one in flush[:TRIED]):
        yield Condition("flush", {"flush": True}, MODES, _flushed, tuple(flush))
    others = [one for one in failed if not one.call.options & Option.FLUSH]
    shared = [
        one
        for one in others
        if one.call.options & Option.SHARED_INPUTS and not _differs(probe, at_addresses(one.call))
    ]
    moved = [one for one in others if not any(one is each for each in shared)]
    pages = False
    for _ in range(TRIED):
        condition = _of_address(moved[0], moved, probe) if moved else None
        if condition and restart and condition.under:
            restart()
            if not _differs(probe, condition.under(plain(moved[0].call)), first=True):
                condition = None  # It was right as the first call of a process: no address makes it wrong.
        if condition:
            pages = pages or "straddles" in condition.where
            yield condition
        members = condition.members if condition else moved[:1]
        moved = [one for one in moved if not any(one is each for each in members)]
    # (One block of memory may end in another page than copies do.)
    if shared and not pages:
        yield from _of_shared(shared, probe, restart)


def _flushed(call: Call) -> Call:
    return calls.with_options(call, call.options | Option.FLUSH)


def _differs(probe: Probe, call: Call, *, first: bool = False) -> bool:
    """Return whether a call, made first or second, and the plain one return, and differ."""
    made = (call, plain(call)) if first else (plain(call), call)
    both = [probe(each) for each in made]
    return None not in both and both[0] != both[1]


def _of_shared(
    shared: Sequence[Failure], probe: Probe, restart: Callable[[], object] | None
) -> Iterator[Condition]:
    """Find how inputs lie to each other where calls on them are wrong, and from which length on."""
    made = [calls.with_options(one.call, Option.SHARED_INPUTS) for one in shared[:TRIED]]
    if not any(_differs(probe, call) for call in made):
        for call in made:
            if restart is not None:
                restart()
            probe(calls.with_zeros(call))
            if _differs(probe, call):
                after = "zeros at the same addresses"
                stale = {"wrong_after": [after], "inputs": "shared"}
                words = f"on inputs that share memory it is wrong after {after}"
                yield Condition("history", stale, words, None, tuple(shared))
                return
        return
    singles = [one for one in shared if one.call.nrc == 1]
    pairs = [one for one in shared if one.call.nrc == 2]
    if singles:
        function = singles[0].call.function
        wrong = {
            relation: [nb for nb in LENGTHS if _is_wrong_shared(function, nb, relation, probe)]
            for relation in range(len(RELATIONS))
        }
        wrong = {relation: lengths for relation, lengths in wrong.items() if lengths}
        if wrong:
            names = [RELATIONS[relation] for relation in wrong]
            least = min(min(lengths) for lengths in wrong.values())
            words = f"vx and vy are {names[0]}" if 0 in wrong else f"the inputs share memory ({names[0]})"
            if least > 1:
                words += f" of {least} blocks or more"
            where: dict[str, Any] = {"inputs": names, "least": least}
            if 0 in wrong and least == 1:
                where["codes"] = [code for code in range(-128, 128) if not _is_square(code, function, probe)]
            # (Of two rows at a time, one product at least lies so.)
            yield Condition("inputs-shared", where, words, None, tuple(shared))
            return
    if pairs:
        yield _of_shared_pairs(pairs)


def _of_shared_pairs(pairs: Sequence[Failure]) -> Condition:
    """Return how inputs of two rows at a time lie to each other, and which results are others then."""
    same = pairs[0].call.buffers
    equal = same[pairs[0].call.spec.inputs[0]].offset == same[pairs[0].call.spec.inputs[1]].offset
    names = [RELATIONS[0] if equal else "rows of one matrix"]
    words = "vx and vy are equal" if equal else "x and y are rows of one matrix"
    copied = _copied(pairs)
    cause = "same-pointer-symmetric" if equal and copied == {2: 1} else ""
    says = ", and ".join(f"the result for {RESULTS[k]} is that of {RESULTS[of]}" for k, of in copied.items())
    if says and equal:
        even = ": right where bx = by alone" if cause else ""
        says = f"With nrc = 2, where {words}, {says}{even}."
    where = {"inputs": names, "nrc": 2, "results": {RESULTS[k]: RESULTS[of] for k, of in copied.items()}}
    return Condition("inputs-shared", where, words, None, tuple(pairs), cause, says=says)


def _copied(pairs: Sequence[Failure]) -> dict[int, int]:
    """Return which results are other ones, where those that are wrong are so in all of some calls."""
    found: list[dict[int, int]] = []
    for one in pairs:
        places = (0, 1, one.call.bs, one.call.bs + 1)
        got, expected = (np.frombuffer(side[0], "<u4") for side in (one.outputs, one.expected))
        wrong = [k for k, at in enumerate(places) if got[at] != expected[at]]
        of = {
            k: next((j for j, at in enumerate(places) if got[places[k]] == expected[at]), -1) for k in wrong
        }
        found.append(of)
    return found[0] if all(of == found[0] for of in found) and -1 not in found[0].values() else {}


def _is_wrong_shared(function: str, nb: int, relation: int, probe: Probe) -> bool:
    """Return whether a product of rows that lie so is wrong in one block of memory, and right in copies."""
    rows = square_rows(1, 2 * nb + 1, nb % 3)[0]
    x_at, y_at = ((0, 0), (0, 1), (1, 0), (0, nb))[relation]
    x, y = rows[x_at : x_at + nb], rows[y_at : y_at + nb]
    matrix, size = rows, 34
    if function == calls.DOT_REAL:
        matrix, size = dot_rows.in_both_roles(rows), 36
        y = dot_rows.with_scales(y, matrix["activation_scale"][y_at : y_at + nb])
    apart, together = calls.shared_rows(function, matrix.tobytes(), 32 * nb, size * x_at, size * y_at)
    right = calls.float_bytes(exact_sum(x, y))
    return probe(apart) == (right,) and probe(together) not in {None, (right,)}


def _is_square(code: int, function: str, probe: Probe) -> bool:
    """Return whether a block with one code, multiplied by itself in place, gives the square."""
    row = dot_rows.blocks(1.0, np.eye(1, 32, dtype=np.int64) * code)
    if function == calls.DOT_REAL:
        row = dot_rows.in_both_roles(row)
    _, together = calls.shared_rows(function, row.tobytes(), 32, 0, 0)
    return probe(together) == (calls.float_bytes(code * code),)


def _of_address(one: Failure, moved: Sequence[Failure], probe: Probe) -> Condition | None:
    """Find which buffer's address makes a call wrong, and which of its addresses do."""
    call = one.call
    at = at_addresses(call)
    if not _differs(probe, at):
        return None
    for index, buffer in enumerate(at.buffers):
        if buffer.offset and _differs(probe, at_offset(plain(call), index, buffer.offset)):
            break
    else:
        offsets = {spec.name: each.offset for spec, each in zip(call.spec.buffers, at.buffers, strict=True)}
        words = "the buffers lie " + ", ".join(f"{name} {offset} bytes" for name, offset in offsets.items())
        return Condition("address", {"offsets": offsets}, f"{words} off a 64-byte boundary", None, (one,))
    name = call.spec.buffers[index].name
    if call.function in DOTS and matches(Model(), one):
        legal = tuple(each for each in moved if matches(Model(), each))
        return Condition("bits", {"by": "address", "buffer": name}, f"the address of {name}", None, legal)
    step = call.spec.buffers[index].alignment
    wrong = [o for o in range(0, LINE, step) if _differs(probe, at_offset(plain(call), index, o))]
    offset = buffer.offset
    if offset % LINE not in wrong:
        where: dict[str, Any] = {"buffer": name, "straddles": "a page"}
        words = f"a page ends inside {name}"
    else:
        where, words = _fitted(name, wrong, step)
        offset %= LINE

    def under(other: Call) -> Call:
        return at_offset(other, index, offset)

    members = tuple(each for each in moved if each is one or _is_at(each.call, index, where))
    several = len(where.get("remainders", ())) > 1
    example = f"{name} at {offset % where['modulus']} mod {where['modulus']}" if several else ""
    return Condition("address", where, words, under, members, example=example)


def of_alignment(wrong: Sequence[Failure], probe: Probe) -> Condition | None:
    """Find that calls on aligned buffers are wrong which are right where a buffer is moved."""
    first = min(wrong, key=lambda one: (one.call.nrc, calls.weight(one.call)), default=None)
    if first is None:
        return None
    call = plain(first.call)
    for index, buffer in enumerate(call.spec.buffers):
        offsets = range(0, LINE, buffer.alignment)
        moved = [probe(at_offset(call, index, offset)) for offset in offsets]
        right = [outputs is not None and is_right(first, outputs) for outputs in moved]
        if not right[0] and any(right):
            bad = [offset for offset, is_right in zip(offsets, right, strict=True) if not is_right]
            where, words = _fitted(buffer.name, bad, buffer.alignment)
            return Condition("address", where, words, None, tuple(wrong))
    return None


def at_offset(call: Call, index: int, offset: int) -> Call:
    """Return a call with one buffer so many bytes behind a 64-byte boundary."""
    buffers = list(call.buffers)
    buffers[index] = replace(buffers[index], offset=offset)
    return replace(call, buffers=tuple(buffers))


def _fitted(buffer: str, wrong: Sequence[int], step: int) -> tuple[dict[str, Any], str]:
    """Return the smallest modulus by whose remainders a buffer's wrong offsets are told: data, and words."""
    for modulus in MODULI:
        remainders = sorted({offset % modulus for offset in wrong})
        if wrong == [offset for offset in range(0, LINE, step) if offset % modulus in remainders]:
            break
    words = f"{buffer} lies at {', '.join(map(str, remainders))} mod {modulus}"
    return {"buffer": buffer, "modulus": modulus, "remainders": remainders}, words


def _is_at(call: Call, index: int, where: Mapping[str, Any]) -> bool:
    """Return whether a row of a call's buffer lies where it is wrong."""
    if "modulus" not in where:
        return True
    offset = at_addresses(call).buffers[index].offset
    step = {"vx": call.bx, "vy": call.by}.get(where["buffer"], 0) if call.nrc == 2 else 0
    return any(at % where["modulus"] in where["remainders"] for at in (offset, offset + step))


def is_right(one: Failure, outputs: tuple[bytes, ...]) -> bool:
    """Return whether a failed call's outputs are right this time."""
    if outputs == one.expected:
        return True
    if one.call.function not in DOTS:  # what a kernel did before may be what was expected
        return one.call.function != calls.MUL_MAT and outputs == replay(make(), one.call)
    return matches(Model(), CallResult(one.call, outputs))
