"""Facts about quantizers: what is found is the mutation, first of all, and explains the failed calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8_conformance.diagnosis.quantizer_facts import quantizer_facts
from q8a8_conformance.diagnosis.replay import replay
from q8a8_conformance.faults import catalogue
from q8a8_conformance.faults.in_process import InProcessSession
from q8a8_conformance.inputs import blocks, calls
from q8a8_conformance.inputs.calls import ACTIVATION, QUANTIZERS
from q8a8_conformance.results.observations import Failure

if TYPE_CHECKING:
    from q8a8_conformance.diagnosis.facts import Fact

ROW = QUANTIZERS[1]
STEPS = [
    "round-half-even",
    "round-half-up",
    "round-half-down",
    "round-add-half",
    "round-truncate",
    "round-floor",
    "product-in-double",
    "inverse-of-d",
    "inverse-of-half",
    "division-by-d",
    "inverse-ulp-low",
    "inverse-ulp-high",
    "inverse-truncated",
    "inverse-estimated",
    "inverse-in-two-steps",
    "inverse-in-half",
    "inverse-in-double",
    "zero-test-on-d",
    "zero-test-on-amax",
    "no-zero-test",
    "zero-block-scale-one",
    "zero-scale-signed",
    "scale-floor",
    "scale-reciprocal",
    "scale-of-128",
    "scale-of-127-5",
    "scale-through-bf16",
    "lowest-code",
    "half-truncated",
    "half-ties-up",
    "half-rounded-up",
    "half-subnormals-truncated",
    "half-flushed-on-write",
    "half-flushed-late",
    "half-stored-as-bfloat16",
    "half-saturates-early",
    "half-infinite-early",
    "amax-signed",
    "amax-of-negative",
    "amax-last-skipped",
    "amax-first-skipped",
    "amax-half-skipped",
    "amax-lane-skipped",
    "amax-in-sixteen-bits",
    "amax-whole-row",
    "amax-carried",
    "amax-one-late",
    "amax-kept-for-zero",
    "scale-big-endian",
    "scale-last",
    "scales-first",
    "elements-interleaved",
    "elements-reversed",
    "blocks-exchanged",
    "recipe:ggml-ref",
    "recipe:ggml-neon",
    "recipe:ggml-avx2",
]
"""Mutants of row quantizers whose name is the cause of the first fact."""

PLACES = {
    ("quantize-odd-block-lost", ROW): (
        "unwritten",
        "last",
        [{"kind": "modulo", "modulus": 2, "remainder": 1}],
    ),
    ("quantize-tile-tail-lost", ROW): (
        "unwritten",
        "last",
        [{"kind": "from", "least": 129}, {"kind": "modulo", "modulus": 128, "remainder": 1}],
    ),
    ("activation-tail-unseen", ACTIVATION): ("not-counted", "left-over", [{"kind": "from", "least": 9}]),
    ("activation-tail-unwritten", ACTIVATION): ("unwritten", "left-over", []),
    ("activation-last-chunk", ACTIVATION): ("not-counted", "before-last-tile", []),
    ("activation-first-chunk", ACTIVATION): ("not-counted", "from", []),
    ("activation-first-8192", ACTIVATION): ("not-counted", "from", []),
    ("activation-block-path", ACTIVATION): ("recipe", "any", [{"kind": "is", "value": 32}]),
}
"""Mutants that do something otherwise at some places: effect, position and lengths."""

PAIRS = (
    ("round-half-even", "scale-big-endian"),
    ("inverse-of-d", "quantize-odd-block-lost"),
    ("amax-last-skipped", "half-truncated"),
    ("amax-whole-row", "round-half-even"),
)
"""Two mutations at once, of different kinds."""


def failures(function: str, *slugs: str) -> list[Failure]:
    """Return calls that a mutant gets wrong."""
    right, kernel = catalogue.make(), catalogue.make(*slugs)
    sets = [make() for make, _ in blocks.SETS.values()]
    if function == ACTIVATION:
        vectors = [rows[i] for rows in sets for i in range(0, len(rows), max(1, len(rows) // 12))]
        vectors += [np.resize(sets[0].reshape(-1)[::-1], n) for n in (1, 9, 37, 1000, 9001)]
        vectors.append(np.append(vectors[-1], np.float32(2.0**20)))
        made = [calls.activation(np.ascontiguousarray(x, np.float32)) for x in vectors]
    else:
        made = [calls.quantize(function, rows[:n].reshape(-1)) for rows in sets for n in (1, 7, 33, 64)]
        made.append(calls.quantize(function, np.resize(sets[0], (129, 32)).reshape(-1)))
    results = [(call, replay(kernel, call), replay(right, call)) for call in made]
    return [Failure(call, actual, expected) for call, actual, expected in results if actual != expected]


def facts_of(function: str, *slugs: str) -> tuple[list[Fact], list[Failure]]:
    """Return the facts found about a mutant, and its failed calls."""
    session = InProcessSession(lambda: catalogue.make(*slugs), (*QUANTIZERS, ACTIVATION))
    failed = failures(function, *slugs)
    return quantizer_facts(session, session.hello, failed), failed


@pytest.mark.parametrize("slug", STEPS)
def test_the_first_fact_is_the_mutation(slug: str) -> None:
    """A row quantizer's mutation is the first fact, and explains every failed call; few have a second one."""
    facts, failed = facts_of(ROW, slug)
    assert facts[0].slug == slug
    if slug != "scale-floor":
        assert len(facts[0].explained(failed)) == len(failed)
    assert {fact.slug for fact in facts[1:]} <= {"inverse-of-d", "half-flushed-on-write"}
    for fact in facts:
        for evidence in fact.evidence:
            assert evidence.actual != evidence.expected
        assert fact.to_json()["where"]


@pytest.mark.parametrize(("slug", "function"), PLACES)
def test_the_places_of_a_mutation(slug: str, function: str) -> None:
    """What is otherwise at some places is found with the rule of its places."""
    effect, position, length = PLACES[slug, function]
    facts, _ = facts_of(function, slug)
    where = facts[0].where
    assert (where["effect"], where["position"]["kind"], where["length"]) == (effect, position, length)


@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_two_mutations_at_once(pair: tuple[str, str]) -> None:
    """Both mutations are found, and nothing else."""
    facts, _ = facts_of(ROW, *pair)
    assert len(facts) == 2
    found = {fact.slug for fact in facts}
    assert found == {slug if slug in STEPS else "place-unwritten" for slug in pair}


def test_a_right_quantizer_is_not_measured() -> None:
    """Without failures there are no facts, and no calls are made."""
    session = InProcessSession(catalogue.make, (*QUANTIZERS, ACTIVATION))
    assert quantizer_facts(session, session.hello, []) == []
    assert not session.is_running
