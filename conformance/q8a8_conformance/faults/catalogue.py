"""The catalogue: every mutant and every legal kernel by slug, and kernels made of them.

`make("round-half-even")` is the specification with one mistake; `make("round-half-even",
"fp16-scale-product")` has both; `make("order-avx2", "minus-128-sign")` adds up as a legal kernel does and
makes a mistake besides.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from q8a8_conformance.faults import (
    amax,
    dequantizing,
    halves,
    integers,
    layout,
    legal,
    matrices,
    matrix_entries,
    matrix_state,
    memory,
    recipes,
    rounding,
    rows,
    state,
    sums,
)
from q8a8_conformance.faults.mutant import ConflictError, Legal, Mutant, build

if TYPE_CHECKING:
    from collections.abc import Mapping

    from q8a8_conformance.faults.kernel import Kernel
    from q8a8_conformance.faults.mutant import Change

__all__ = ["FAMILIES", "LEGAL", "MUTANTS", "RECIPES", "ConflictError", "Legal", "Mutant", "make"]

FAMILIES: Mapping[str, tuple[Mutant, ...]] = MappingProxyType(
    {
        "Quantizer arithmetic": rounding.MUTANTS,
        "Half precision": halves.MUTANTS,
        "Largest magnitude": amax.MUTANTS,
        "Layout": layout.MUTANTS,
        "Dequantization": dequantizing.MUTANTS,
        "Integer sums": integers.MUTANTS,
        "Scales and floating-point sums": sums.MUTANTS,
        "Blocks, rows and strides": rows.MUTANTS,
        "Matrix products": (*matrices.MUTANTS, *matrix_entries.MUTANTS, *matrix_state.MUTANTS),
        "Memory, environment and state": (*memory.MUTANTS, *state.MUTANTS),
    }
)
"""The mutants by family."""

MUTANTS: Mapping[str, Mutant] = MappingProxyType(
    {mutant.slug: mutant for family in FAMILIES.values() for mutant in family}
)
"""Every mutant by slug."""

LEGAL: Mapping[str, Legal] = MappingProxyType(
    {kernel.slug: kernel for kernel in (*legal.LEGAL, *matrices.LEGAL)}
)
"""Every legal kernel by slug."""

RECIPES: Mapping[str, Change] = MappingProxyType({recipe.slug: recipe for recipe in recipes.RECIPES})
"""Every recipe of ggml by slug: ``recipe:ggml-ref``."""


_ALL: Mapping[str, Change] = {**MUTANTS, **RECIPES, **LEGAL}


def make(*slugs: str) -> Kernel:
    """Return a kernel that is all of these mutants, recipes and legal kernels at once.

    Without a slug it is the specification.

    Raises
    ------
    KeyError
        There is no such slug.
    ConflictError
        Two of them change the same step of the same function.
    """
    return build(_ALL[slug] for slug in slugs)
