"""Lanes and loops in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from q8a8.order import WHOLE
from q8a8_conformance.results.record import count
from q8a8_conformance.reveal.loops import Chain, Term
from q8a8_conformance.reveal.quantizers.words import ranges

if TYPE_CHECKING:
    from q8a8.order import Lanes
    from q8a8_conformance.reveal.loops import Loop


def lanes_words(lanes: Lanes) -> str:
    """Describe lanes: how many, and which codes they sum."""
    if lanes == WHOLE:
        return "whole blocks summed in integers"
    each = len(lanes[0])
    if each == 1:
        return f"{len(lanes)} lanes, one for each code"
    consecutive = all(lane == tuple(range(lane[0], lane[0] + each)) for lane in lanes)
    which = (
        f"each {each} consecutive codes"
        if consecutive
        else f"each {each} codes (the first {ranges(lanes[0], '-')})"
    )
    return f"{len(lanes)} lanes, {which}"


def loop_words(loop: Loop, *, alone: str = "") -> str:
    """Describe a loop: its steps, its sums, and the lanes of the blocks that are in no step."""
    blocks, lanes = loop.blocks, loop.lanes
    parts = [f"steps of {count(blocks.step, 'block')}"]
    if blocks.apart:
        parts[0] += f", one of each of {blocks.step} equal parts of the row"
    chains = [each for each in loop.parts() if isinstance(each, Chain)]
    if any(chain.backwards for chain in chains):
        parts[0] += ", from the last to the first"
    parts.append(count(len(chains), "sum"))
    of_steps = dict.fromkeys(own for (kind, _), own in lanes.items() if kind == "step")
    parts.append(" and ".join(map(lanes_words, of_steps)))
    fused = {fused for each in chains for part, fused in each.added if isinstance(part, Term)}
    parts.append({(True,): "fused", (False, True): "some fused"}.get(tuple(sorted(fused)), "not fused"))
    for kind, words in (("head", "the first blocks"), ("tail", "blocks left over")):
        apart = dict.fromkeys(own for (where, _), own in lanes.items() if where == kind)
        if apart:
            joined = " and ".join(map(lanes_words, apart)) if apart != of_steps else "the same lanes"
            parts.append(f"{words}: {joined}")
    if alone:
        parts.append(f"rows of {alone} blocks otherwise")
    return ", ".join(parts)
