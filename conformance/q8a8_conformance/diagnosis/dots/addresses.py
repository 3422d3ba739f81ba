"""At which addresses the buffers of a call lie, as far as cache lines go."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from q8a8_conformance.protocol.messages import NO_OPTIONS, Buffer, Option

if TYPE_CHECKING:
    from q8a8_conformance.protocol.messages import Call

LINE = 64
GUARDS = Option.GUARD_AFTER | Option.GUARD_BEFORE


def at_addresses(call: Call) -> Call:
    """Return a call on copies of its inputs at the addresses that it has, as far as cache lines go."""
    lengths = [len(each.data) for each in call.buffers]
    offsets = [each.offset for each in call.buffers]
    if call.options & Option.SHARED_INPUTS:
        inputs = call.spec.inputs
        end, first = max(offsets[i] + lengths[i] for i in inputs), min(offsets[i] for i in inputs)
        move = -end if call.options & Option.GUARD_AFTER else -first if call.options & GUARDS else 0
        offsets = [(at + move) % LINE if i in inputs else at for i, at in enumerate(offsets)]
    elif call.options & GUARDS:
        offsets = [-length % LINE if call.options & Option.GUARD_AFTER else 0 for length in lengths]
    buffers = (Buffer(each.data, at) for each, at in zip(call.buffers, offsets, strict=True))
    return replace(call, options=NO_OPTIONS, buffers=tuple(buffers))


def address_of(call: Call, name: str) -> int:
    """Return at which byte of a cache line a buffer begins."""
    names = [spec.name for spec in call.spec.buffers]
    return at_addresses(call).buffers[names.index(name)].offset % LINE
