"""The recipes of ggml, as what they change in the specification's arithmetic: mutants put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from q8a8.recipe import RECIPES as REFERENCE_RECIPES
from q8a8_conformance.faults.kernel import QUANTIZERS
from q8a8_conformance.faults.mutant import Change
from q8a8_conformance.faults.rounding import MUTANTS, saturated

if TYPE_CHECKING:
    from q8a8_conformance.faults.kernel import Step


def _recipe(name: str, *slugs: str, **more: Step) -> Change:
    """Return a recipe of `q8a8.recipe` as the changes of some mutants, and others."""
    changes = {step: by for mutant in MUTANTS if mutant.slug in slugs for step, by in mutant.changes.items()}
    source = REFERENCE_RECIPES[name].source
    return Change(f"recipe:{name}", f"The recipe {name}: {source}.", {**changes, **more}, QUANTIZERS)


RECIPES = (
    _recipe("ggml-ref", "inverse-of-d", "zero-test-on-d"),
    _recipe("ggml-neon", "inverse-of-d", "zero-test-on-d", "round-half-even"),
    _recipe("ggml-avx2", "zero-test-on-amax", "round-half-even", to_int8=saturated),
)
