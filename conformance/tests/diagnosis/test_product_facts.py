"""Facts about matrix products: the arithmetic, its shapes, and the failed calls that it explains."""

from __future__ import annotations

import json

import numpy as np
import pytest

from q8a8_conformance.diagnosis.product_facts import product_facts
from q8a8_conformance.diagnosis.replay import replay
from q8a8_conformance.faults import catalogue
from q8a8_conformance.faults.in_process import InProcessSession
from q8a8_conformance.inputs import calls
from q8a8_conformance.results.observations import Failure
from q8a8_conformance.reveal import product_shapes as shapes


def failures(slug: str) -> list[Failure]:
    """Return failed calls of a kernel of the catalogue, with results past 65504 among them."""
    found = []
    for m, n, k, large in ((3, 1, 64, 1), (17, 11, 96, 1), (2, 3, 32, 5e4)):
        x = shapes.activations(n, k, "facts") * np.float32(large)
        call = calls.mul_mat(shapes.weights(m, k, "facts"), x)
        outputs, expected = replay(catalogue.make(slug), call), replay(catalogue.make(), call)
        if outputs != expected:
            found.append(Failure(call, outputs, expected))
    return found


@pytest.mark.parametrize(
    ("slug", "cause", "rule", "explained"),
    [
        ("matrix-float-activations", "activations:float32", "Q8A8-MUL-4", 3),
        ("matrix-scale-of-row", "activations:int8-per-row", "Q8A8-MUL-4", 2),
        ("matrix-half-sum", "accumulator:float16", "Q8A8-MUL-5", 3),
        ("matrix-half-scales", "fp16-scale-product", "Q8A8-MUL-5", 3),
        ("matrix-columns-lost", "not-written", "Q8A8-MUL-6", 1),
        ("recipe:ggml-neon", "recipe:ggml-neon", "Q8A8-MUL-4", 0),
        ("matrix-neighbour", "", "", 0),
    ],
)
def test_facts(slug: str, cause: str, rule: str, explained: int) -> None:
    """The arithmetic of a wrong product is its cause, with evidence, and explains the failed calls."""
    failed = failures(slug)
    session = InProcessSession(lambda: catalogue.make(slug), (calls.MUL_MAT,))
    facts = product_facts(session, failed)
    assert [fact.slug for fact in facts][:1] == ([cause] if explained else [])
    for fact in facts[:1]:
        assert (fact.rule, len(fact.explained(failed))) == (rule, explained)
        assert fact.fix
        assert fact.where["shapes"]
        json.dumps(fact.to_json(), allow_nan=False)
        for evidence in fact.evidence:
            assert evidence.actual != evidence.expected
