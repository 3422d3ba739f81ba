"""Experiments name every mistake in a dot product, alone and in pairs, and explain the calls that it spoils."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8_conformance.diagnosis import shrink
from q8a8_conformance.diagnosis.experiments import dot_facts
from q8a8_conformance.diagnosis.replay import replay
from q8a8_conformance.faults.catalogue import ConflictError
from q8a8_conformance.faults.in_process import InProcessSession
from q8a8_conformance.faults.kernel import DOT, DOT_REAL, DOTS
from q8a8_conformance.inputs import calls, dot_rows, every_value, long_rows
from q8a8_conformance.mutants import MUTANTS, make
from q8a8_conformance.results.observations import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from q8a8_conformance.diagnosis.facts import Fact
    from q8a8_conformance.inputs.calls import Array
    from q8a8_conformance.protocol.messages import Call

    Probe = Callable[[Call], tuple[bytes, ...] | None]

LENGTHS = (0, 1, 2, 3, 4, 5, 7, 8, 9, 11, 17, 33, 65, 257, 1025)
"""Blocks of the rows in which every block counts."""

SECONDS = 120.0
"""Time limit of the experiments here: the machine may be busy."""

SHOWN_ELSEWHERE = frozenset(
    {"float-products", "truncating-accumulator", "count-of-sixteen-bits", "short-tail-after-tile-lost"}
    | {"same-pointer-symmetric", "single-stored-far", "half-table-entry", "product-table-entry"}
    | {
        "half-through-subnormal-float",
        "hangs-on-1023-blocks",
        "strides-in-sixteen-bits",
        "bs-in-eight-bits",
        "s-added-if-finite",
    }
)
"""Mistakes that these calls do not show: tests of their own make the calls that do."""


def _one(function: str, x: Array, y: Array) -> Call:
    """Return the dot product of two rows of v1 blocks."""
    return calls.dot(x, y) if function == DOT else calls.dot_real(*dot_rows.to_v2(x, y, unused=0x4200))


def _sample(function: str, nrc: int) -> Iterator[Call]:
    """Yield calls of many kinds."""
    rows = long_rows.dots()
    for nb in LENGTHS:
        if nrc == 2:
            yield rows.call_pair(nb, bs=5, x_gap=34, y_gap=68)
        else:
            yield rows.call(nb) if function == DOT else rows.call_v2(nb)
    for seed, nb in enumerate((1, 2, 3, 5, 8)):
        x, y = dot_rows.random_pair(nb, seed=seed)
        if nrc == 2:
            more = dot_rows.random_pair(nb, seed=seed + 50)
            yield calls.dot_pair(np.stack([x, more[0]]), np.stack([y, more[1]]), bs=3)
        else:
            yield _one(function, x, y)
    kinds = (dot_rows.full_mantissas, dot_rows.far_scales, dot_rows.signed_scales, dot_rows.minus_128_pairs)
    for kind in kinds if nrc == 1 else ():
        yield from (_one(function, x, y) for x, y in itertools.islice(kind(), 0, None, 3))


def _probe(kernel: object) -> Probe:
    session = InProcessSession(lambda: kernel, DOTS)
    return lambda call: session.call(call).outputs


def _failed(made: Iterator[Call], probe: Probe) -> list[Failure]:
    """Return the calls that come out wrong."""
    found = []
    for call in made:
        outputs = probe(call)
        if outputs is not None and shrink.wrong(call, outputs):
            found.append(Failure(call, outputs, replay(make(), call)))
    return found


def _facts(function: str, kernel: object) -> tuple[list[Fact], list[Failure]]:
    """Return the facts about a kernel's function, and its failed calls."""
    probe = _probe(kernel)
    failures = {nrc: _failed(_sample(function, nrc), probe) for nrc in ((1, 2) if function == DOT else (1,))}
    facts = dot_facts(function, {nrc: held for nrc, held in failures.items() if held}, probe, SECONDS)
    return facts, [one for held in failures.values() for one in held]


MISTAKES = [
    (mutant.slug, function)
    for mutant in MUTANTS.values()
    for function in DOTS
    if function in mutant.functions and mutant.slug not in SHOWN_ELSEWHERE
]


@pytest.mark.parametrize(("slug", "function"), MISTAKES)
def test_a_mistake_is_measured(slug: str, function: str) -> None:
    """The one fact is the mistake: its slug and rule, with evidence; it explains nearly every failed call."""
    facts, failures = _facts(function, make(slug))
    assert [fact.cause for fact in facts] == [slug]
    assert facts[0].rule == MUTANTS[slug].rule
    assert facts[0].fix == MUTANTS[slug].fix
    assert 0 < len(facts[0].evidence) <= 3
    assert all(shown.actual != shown.expected for shown in facts[0].evidence)
    assert len(facts[0].explained(failures)) >= 0.85 * len(failures) > 0


def _with_every_value(function: str, kernel: object) -> list[Fact]:
    probe = _probe(kernel)
    pairs = itertools.chain(
        itertools.islice(every_value.pairs_at_every_place(), 60),
        ((dot_rows.blocks(h, q), dot_rows.blocks(1.0, q)) for h, q in [_under(0x2E66), _under(0x3C01)]),
    )
    failures = _failed((_one(function, x, y) for x, y in pairs), probe)
    return dot_facts(function, {1: failures}, probe, SECONDS)


def _under(bits: int) -> tuple[Array, Array]:
    codes = np.zeros((1, 32), np.int64)
    codes[0, 5] = 1
    return np.uint16(bits).view(np.float16), codes


@pytest.mark.parametrize("slug", ["product-table-entry", "half-table-entry"])
def test_a_wrong_entry_of_a_table(slug: str) -> None:
    """One wrong product of two codes, or one wrong half, is found among all of them."""
    facts = _with_every_value(DOT, make(slug))
    assert [fact.cause for fact in facts] == [slug]
