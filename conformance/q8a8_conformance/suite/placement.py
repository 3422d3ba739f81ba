"""Where the buffers of a call lie, and the rules broken where that makes a difference.

Each call of a case about values gets a placement by a hash of the case and the call's bytes: every buffer
at a legal offset from a 64-byte boundary, or next to an inaccessible page; inputs read-only or not. So
kernels meet values and addresses in many combinations, the same ones in every run.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING

from q8a8_conformance.inputs import calls as requests
from q8a8_conformance.protocol.messages import NO_OPTIONS, Buffer, Call, Option
from q8a8_conformance.results.expected_dot import expected_results
from q8a8_conformance.results.expected_product import is_right
from q8a8_conformance.spec.abi import get_function

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

OVER_READ, INPUT, ALIGNMENT = (f"Q8A8-MEM-{number}" for number in (1, 3, 4))
ABOUT_PLACES = ("Q8A8-MEM-", "Q8A8-ENV-", "Q8A8-QNT-11")
"""Families of rules whose cases place their buffers themselves, or need them to stay where they are."""

ENVIRONMENT, RETURNS = "Q8A8-ENV-2", "Q8A8-ENV-4"
_OTHER_CALLS = ("Q8A8-DOT-11",)
"""Rules by which legal results of two calls are compared: what differs is not wrong in itself."""
LINE = 64
GUARDS = Option.GUARD_AFTER | Option.GUARD_BEFORE
_OF_LENGTHS = ("lengths/", "mul-mat/exact/")
"""Cases that make one call of each length: in most of them buffers end at an inaccessible page, for what a
kernel reads behind a row depends on the length, and hardly on the values."""
_HASHED = 1024
"""Bytes at either end of a buffer that its hash covers."""
_PAGE_BORDER = 4096 - 256
"""The offset of a page's end in the workers: its start has 256 canary bytes before the boundary."""


def is_placed(rules: Collection[str]) -> bool:
    """Return whether the calls of a case with these rules get a placement: it is about values."""
    return any(not rule.startswith(ABOUT_PLACES) for rule in rules)


def place(case: str, call: Call, capabilities: Collection[str]) -> Call:
    """Return the call at the placement of its hash; the call itself where it has one already."""
    if call.options or call.threads > 1 or any(buffer.offset for buffer in call.buffers):
        return call
    inputs, alignments = _shape(call.function)
    hashed = hashlib.blake2b(f"{case} {call.n}".encode(), digest_size=16)
    for index in inputs:
        data = call.buffers[index].data
        hashed.update(data[:_HASHED])
        hashed.update(data[-_HASHED:])
    digest = hashed.digest()
    options, buffers = NO_OPTIONS, call.buffers
    if digest[0] % 2 and "readonly" in capabilities:
        options = Option.READONLY
    of_lengths = case.startswith(_OF_LENGTHS)
    guarded = digest[0] & 6 != 2 if of_lengths else digest[0] & 6 == 0
    if guarded and "guard" in capabilities and _ends_aligned(call):
        before = digest[0] & 8 and (digest[0] & 6 == 0 or not of_lengths)
        options |= Option.GUARD_BEFORE if before else Option.GUARD_AFTER
    elif "offset" in capabilities:
        numbers = (int.from_bytes(digest[at : at + 3], "little") for at in (1, 4, 7))
        buffers = tuple(
            Buffer(buffer.data, _offset(len(buffer.data), alignment, number))
            for buffer, alignment, number in zip(call.buffers, alignments, numbers, strict=False)
        )
    # (Of every call of the suite: `dataclasses.replace` takes longer than all of the above.)
    return Call(
        call.function,
        call.n,
        buffers,
        call.bs,
        call.bx,
        call.by,
        call.nrc,
        options,
        1,
        call.repeat,
        call.together,
    )


@cache
def _shape(function: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the indices of a function's inputs, and the alignment of every buffer."""
    spec = get_function(function)
    return spec.inputs, tuple(buffer.alignment for buffer in spec.buffers)


def _offset(length: int, alignment: int, number: int) -> int:
    """Return an offset by number: one of a line's, or for every fourth one such that a page ends inside."""
    most = min(length, _PAGE_BORDER) // alignment
    if number % 4 == 0 and most:
        return _PAGE_BORDER - (1 + number // 4 % most) * alignment
    return number // 4 * alignment % LINE


def _ends_aligned(call: Call) -> bool:
    """Return whether every buffer is aligned as a kernel may ask where it ends at a page's end."""
    both = zip(_shape(call.function)[1], call.buffers, strict=True)
    return all(len(buffer.data) % alignment == 0 for alignment, buffer in both)


def unshared(placed: Call) -> Call:
    """Return a call on inputs in one block of memory as one on copies that are aligned alike."""
    if not placed.options & Option.SHARED_INPUTS:
        return placed
    inputs = [placed.buffers[index] for index in placed.spec.inputs]
    first = min(buffer.offset for buffer in inputs)
    end = max(buffer.offset + len(buffer.data) for buffer in inputs)
    # A guard page decides where the block begins.
    guarded = {Option.GUARD_AFTER: -end, Option.GUARD_BEFORE: -first}
    move = guarded.get(placed.options & GUARDS, 0) % LINE
    offsets = {
        placed.spec.buffers[index].name: placed.buffers[index].offset + move for index in placed.spec.inputs
    }
    return replace(requests.misaligned(placed, offsets), options=NO_OPTIONS)


def describe(placed: Call) -> str:
    """Return the placement as a phrase."""
    if placed.options & Option.FLUSH:
        return "where flush-to-zero is set"
    if placed.options & Option.SHARED_INPUTS:
        x, y = (placed.buffers[index].offset for index in placed.spec.inputs)
        apart = f"{abs(y - x)} bytes {'behind' if y > x else 'before'} vx"
        return f"with vy {'the same pointer as vx' if x == y else apart}"
    if placed.options & GUARDS:
        offsets = ends_at_a_page(placed) if placed.options & Option.GUARD_AFTER else {}
        guard = "before the end of a page" if offsets else "at the start of a page"
        parts = [f"with all buffers {guard}"]
    else:
        offsets = {
            spec.name: buffer.offset for spec, buffer in zip(placed.spec.buffers, placed.buffers, strict=True)
        }
        parts = []
    if any(offsets.values()):
        parts.append("with " + ", ".join(f"{name} {n} bytes off" for name, n in offsets.items() if n))
    if placed.options & Option.READONLY:
        parts.append("with read-only inputs")
    return " and ".join(parts) or "at a 64-byte boundary"


def ends_at_a_page(call: Call) -> dict[str, int]:
    """Return how far from a 64-byte boundary the buffers begin if they end where a page ends."""
    both = zip(call.spec.buffers, call.buffers, strict=True)
    return {spec.name: -len(buffer.data) % LINE for spec, buffer in both}


@dataclass(frozen=True)
class Difference:
    """A result that differs from what is expected.

    Attributes
    ----------
    call
        The call, plain.
    rules
        What the comparison is about.
    message
        What the difference means.
    expected
        Output buffers by ABI name.
    in_bound
        Whether a product's inputs leave something to round.
    recipe
        The recipe by which a matrix product quantizes.
    """

    call: Call
    rules: tuple[str, ...]
    message: str
    expected: Mapping[str, bytes]
    in_bound: bool = field(kw_only=True)
    recipe: str = field(default="design", kw_only=True)

    def is_right(self, actual: Mapping[str, bytes], profile: str) -> bool:
        """Return whether outputs of another call with these inputs are right."""
        if all(actual[name] == data for name, data in self.expected.items()):
            return True
        if not self.in_bound or profile == "exact":
            return False
        if self.call.function == requests.MUL_MAT:
            return is_right(self.call, actual["out"], self.recipe, in_bound=True)
        expected = bytearray(self.call.buffers[self.call.spec.outputs[0]].data)
        for product in expected_results(self.call):
            place = slice(product.offset, product.offset + 4)
            if not product.holds(actual["s"][place]):
                return False
            expected[place] = actual["s"][place]
        return actual["s"] == expected


def broken_rules(placed: Call, rules: tuple[str, ...]) -> tuple[str, ...]:
    """Return the rules that a result breaks which is wrong at one placement alone.

    Parameters
    ----------
    placed
        The call as it was placed.
    rules
        What the comparison is about.
    """
    if placed.options & Option.SHARED_INPUTS:
        return rules
    if placed.options & Option.FLUSH:
        return (ENVIRONMENT,)
    if all(rule in _OTHER_CALLS for rule in rules):
        return (*rules, ENVIRONMENT)
    return (ALIGNMENT,)


@dataclass(frozen=True)
class Property:
    """One property of a placement: a call that has it alone, the rule broken where that dies, and why."""

    call: Call
    rule: str
    meaning: str


def properties(call: Call, placed: Call, capabilities: Collection[str]) -> Iterator[Property]:
    """Yield the properties of a placement, in the order in which they explain a death.

    Parameters
    ----------
    call
        The call, plain.
    placed
        The same call, placed.
    capabilities
        The worker's.
    """
    whole = placed
    if placed.options & Option.FLUSH:
        flushing = requests.with_options(call, Option.FLUSH)
        yield Property(flushing, RETURNS, "does not return where flush-to-zero is set")
    shared = placed.options & Option.SHARED_INPUTS
    if shared:
        placed = replace(unshared(placed), options=placed.options & ~shared)
    if placed.options & Option.READONLY:
        read_only = requests.with_options(call, Option.READONLY)
        yield Property(read_only, INPUT, "writes to an input that is mapped read-only")
    offsets: Mapping[str, int] = {
        spec.name: buffer.offset for spec, buffer in zip(placed.spec.buffers, placed.buffers, strict=True)
    }
    if placed.options & Option.GUARD_AFTER and not shared:
        # Whether it is the address of the end, or the guard.
        offsets = ends_at_a_page(call)
    elif placed.options & GUARDS and not shared:
        offsets = {}
    if any(offsets.values()) and "offset" in capabilities:
        moved = requests.misaligned(call, offsets)
        yield Property(moved, ALIGNMENT, f"needs more alignment than it may: {describe(moved)}")
    if shared:
        together = requests.with_options(whole, shared)
        yield Property(together, RETURNS, f"does not return {describe(together)}")
    if placed.options & GUARDS:
        where = "past the end" if placed.options & Option.GUARD_AFTER else "before the beginning"
        guarded = requests.with_options(call, placed.options & GUARDS)
        yield Property(guarded, OVER_READ, f"reads or writes {where} of a buffer")
