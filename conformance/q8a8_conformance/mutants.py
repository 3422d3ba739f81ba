"""Wrong kernels, to test the suite with: each mutant must be caught, and no legal kernel called broken.

Every mutant and every legal kernel is a system under test by its slug, and every recipe of ggml by its name,
with underscores for hyphens::

    q8a8 test py:q8a8_conformance.mutants:round_half_even
    q8a8 test py:q8a8_conformance.mutants:recipe_ggml_ref

`python -m q8a8_lab.mutation` judges the mutants and the legal kernels, and writes the page about them.
"""

from __future__ import annotations

from q8a8_conformance.faults.catalogue import (
    FAMILIES,
    LEGAL,
    MUTANTS,
    RECIPES,
    ConflictError,
    Legal,
    Mutant,
    make,
)

__all__ = ["FAMILIES", "LEGAL", "MUTANTS", "RECIPES", "ConflictError", "Legal", "Mutant", "make"]


def __getattr__(name: str) -> object:
    """Make the kernel of a slug: ``round_half_even``."""
    slug = name.replace("_", "-")
    if slug.startswith("recipe-"):
        slug = slug.replace("-", ":", 1)
    if slug in MUTANTS or slug in RECIPES or slug in LEGAL:
        return make(slug)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
