"""What was revealed, in words and as JSON data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from q8a8.order import Order, Tail, fold_leaves, halves, pairwise, sequential
from q8a8_conformance.reveal.loops import lanes_words
from q8a8_conformance.reveal.programs import program, terms_of
from q8a8_conformance.reveal.regular import split_fold
from q8a8_conformance.reveal.trees import nested, pruned

if TYPE_CHECKING:
    from q8a8.order import Additions, AnyOrder, Fold
    from q8a8_conformance.reveal.candidates import Candidate

LARGEST_FORMULA = 8
"""Registers of a fold that is written out."""

SHOWN, LARGEST_SHOWN = 7, 64
"""Blocks of the tree that is shown: at least and at most, unless asked for."""

LARGEST_TREE = 512
"""Blocks of the largest tree that is written or drawn: a chain is as deep."""


def block_tree_of(order: AnyOrder, nb: int) -> Additions:
    """Return the tree of the terms that hold element 0: one for each block."""
    written = program(order, nb)
    terms = terms_of(written.lanes)
    kept = {number: block for number, (block, own) in enumerate(terms) if 0 in own}
    return pruned(len(terms), written.additions, kept)


def blocks_shown(found: Candidate | None, first: int) -> int:
    """Return the blocks of a row that shows an order: two steps, with all that can be left over."""
    order = found.order if found else None
    step = len(order.body) if isinstance(order, Order) else 1
    nb = max(SHOWN, first, 2 * step + min(step - 1, 3))
    return min(nb, max(first, LARGEST_SHOWN))


def words_of(found: Candidate) -> str:
    """Describe an order in a sentence."""
    order = found.order
    if not isinstance(order, Order):
        return found.words + _scales_words(order)
    parts = [
        lanes_words(order.lanes),
        _accumulator_words(order.body),
        "fused" if order.fused else "not fused",
    ]
    if order.registers > 1:
        parts.append(f"folded {fold_words(order)}")
    if len(order.body) > 1:
        parts.append(_tail_words(order))
    return ", ".join(parts) + _scales_words(order)


def _accumulator_words(body: tuple[int, ...]) -> str:
    count = max(body) + 1
    if count == 1:
        return "one accumulator"
    if body == (0, 1):
        return "two accumulators by even and odd block"
    if body == tuple(range(count)):
        return f"{count} accumulators by block modulo {count}"
    return f"{count} accumulators that take the blocks of a step as {', '.join(map(str, body))}"


def fold_words(order: Order) -> str:
    """Describe the fold: of lanes, of accumulators, or of all registers."""
    lanes, count = len(order.lanes), order.accumulators
    fold = order.fold
    if isinstance(order.tail, Tail):
        (start, *others) = order.tail.start
        if others and start != 0:
            return f"{_formula(start or 0, 'r')} and so on, and at the end {_formula(fold, 's')}"
    if lanes == 1 or count == 1:
        return _formula(fold, "a" if lanes == 1 else "l")
    for by_lane, first, then, words in (
        (True, "a", "l", "lane by lane"),
        (False, "l", "a", "in each accumulator"),
    ):
        split = split_fold(order, by_lane=by_lane)
        if split:
            starts = [_renumbered(start, lanes, by_lane=by_lane) for start in split[0]]
            if all(_same(start, starts[0]) for start in starts):
                return f"{_formula(starts[0], first)} {words}, then {_formula(split[1], then)}"
    return _formula(fold, "r")


def _renumbered(fold: Fold, lanes: int, *, by_lane: bool) -> Fold:
    """Return a fold of registers as one of accumulators, or of lanes."""
    if isinstance(fold, int):
        return fold // lanes if by_lane else fold % lanes
    return _renumbered(fold[0], lanes, by_lane=by_lane), _renumbered(fold[1], lanes, by_lane=by_lane)


def _formula(fold: Fold, name: str) -> str:
    """Write a fold: as a rule where it follows one, else as a formula; a long one by its number of terms."""
    count = sum(1 for _ in fold_leaves(fold))
    if count <= LARGEST_FORMULA:
        return _written(fold, name)
    rules = {"from left to right": sequential}
    if count & (count - 1) == 0:
        rules |= {"neighbours in pairs": pairwise, "the upper half onto the lower": halves}
    named = next((words for words, make in rules.items() if _same(make(0, count), fold)), "")
    return f"{named} over {count} {_NAMES[name]}" if named else f"{count} {_NAMES[name]} in a tree"


_NAMES = {"a": "accumulators", "l": "lanes", "r": "registers", "s": "sums"}


def _same(one: Fold, other: Fold) -> bool:
    """Return whether folds add the same, whatever is left and right."""
    return _sets(one) == _sets(other)


def _sets(fold: Fold) -> set[frozenset[int]]:
    found: set[frozenset[int]] = set()

    def walk(part: Fold) -> frozenset[int]:
        held = frozenset([part]) if isinstance(part, int) else walk(part[0]) | walk(part[1])
        found.add(held)
        return held

    walk(fold)
    return found


def _written(fold: Fold, name: str) -> str:
    def part(inner: Fold) -> str:
        return f"{name}{inner}" if isinstance(inner, int) else f"({part(inner[0])} + {part(inner[1])})"

    return part(fold).removeprefix("(").removesuffix(")")


def _tail_words(order: Order) -> str:
    fused = "" if order.tail_fused == order.fused else (", fused" if order.tail_fused else ", not fused")
    if order.tail == "body":
        return "blocks left over as if the step went on"
    if order.tail == "scalar":
        return f"blocks left over one by one after the fold{fused}"
    if order.tail.start == tuple(range(order.registers)):
        takers = sorted(set(order.tail.body))
        return f"blocks left over in accumulator {', '.join(map(str, takers))}{fused}"
    if None in order.tail.start:
        return f"blocks left over in a sum of their own{fused}"
    return f"blocks left over in the lanes of the joined accumulators{fused}"


def _scales_words(order: AnyOrder) -> str:
    if order.scales == "product":
        return ""
    other = "y" if order.scales == "x" else "x"
    return f"; the integer sum times {order.scales}'s scale, rounded, then times {other}'s"


def order_json(found: Candidate, nb: int) -> dict[str, Any]:
    """Return an order as JSON data, with its tree of blocks for rows of nb blocks."""
    order, written = found.order, program(found.order, nb)
    data: dict[str, Any] = {
        "name": found.names[0] if found.names else None,
        "names": list(found.names),
        "description": words_of(found),
        "blocks": nb,
        "tree": nested(nb, block_tree_of(order, nb)) if nb <= LARGEST_TREE else None,
        "lanes": [list(lane) for lane in (order.lanes if isinstance(order, Order) else written.lanes[0])],
        "fused": order.fused if isinstance(order, Order) else any(written.fused),
        "tail_fused": order.tail_fused if isinstance(order, Order) else any(written.fused),
        "scales": order.scales,
    }
    if isinstance(order, Order):
        tail = order.tail
        data["body"] = list(order.body)
        data["fold"] = _arrays(order.fold)
        data["tail"] = (
            {
                "lanes": [list(lane) for lane in tail.lanes],
                "start": [None if start is None else _arrays(start) for start in tail.start],
                "body": list(tail.body),
            }
            if isinstance(tail, Tail)
            else tail
        )
    return data


def _arrays(fold: Fold) -> Any:  # noqa: ANN401 (arrays in arrays)
    return fold if isinstance(fold, int) else [_arrays(fold[0]), _arrays(fold[1])]
