"""Every mistake of the catalogue is named by its slug, alone and in pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.faults.kernel import ACTIVATION, DEQUANTIZE, DOT, DOT_REAL, ROW
from q8a8_conformance.mutants import MUTANTS, make

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from q8a8_conformance.diagnosis import Finding

    Diagnose = Callable[[object, Iterable[str]], list[Finding]]

REPRESENTATIVE = (
    "round-half-even",
    "round-half-up",
    "inverse-of-half",
    "no-zero-test",
    "scale-through-bf16",
    "half-truncated",
    "half-flushed-on-read",
    "amax-signed",
    "amax-whole-row",
    "amax-one-late",
    "activation-tail-unseen",
    "scale-big-endian",
    "elements-interleaved",
    "v2-fields-exchanged",
    "dequantize-minus-128",
    "minus-128-sign",
    "pairs-saturate",
    "pairs-wrap",
    "fp16-scale-product",
    "fp16-accumulator",
    "first-scale-for-all",
    "odd-block-lost",
    "s-added",
    "bx-ignored",
    "between-cleared",
)


def function_of(slug: str) -> str:
    """Return one function whose results show a mistake."""
    functions = MUTANTS[slug].functions
    return next(f for f in (ROW, DOT, DEQUANTIZE, ACTIVATION, DOT_REAL, *functions) if f in functions)


@pytest.mark.parametrize("slug", REPRESENTATIVE)
def test_a_mistake_is_named(slug: str, diagnosed: Diagnose) -> None:
    """The cause is the mistake's slug, it explains every wrong result, and the fix comes with it."""
    found = diagnosed(make(slug), [function_of(slug)])
    assert found[0].cause == slug
    assert found[0].explained == found[0].of > 0
    assert found[0].fix == MUTANTS[slug].fix
    assert not any(finding.cause == "unexplained" for finding in found)


def test_a_mistake_in_an_order(diagnosed: Diagnose) -> None:
    """For a kernel that adds as AVX2 does and saturates, the fact is the same one."""
    found = diagnosed(make("order-avx2", "pairs-saturate"), [DOT])
    assert found[0].cause == "pairs-saturate"
    assert found[0].explained == found[0].of > 0


@pytest.mark.parametrize(
    ("one", "other"), [("round-half-up", "half-truncated"), ("amax-last-skipped", "scale-of-128")]
)
def test_two_mistakes_in_a_quantizer(one: str, other: str, diagnosed: Diagnose) -> None:
    """Two mistakes in one function are two facts, each with its fix."""
    found = diagnosed(make(one, other), [ROW])
    assert {f.cause for f in found} == {one, other}
    assert all(f.explained > 0 and f.fix for f in found)


def test_a_recipe_and_a_mistake(diagnosed: Diagnose) -> None:
    """A recipe of ggml's with a mistake besides is no recipe any more: each step is a fact."""
    found = diagnosed(make("recipe:ggml-ref", "half-truncated"), [ROW])
    assert {f.cause for f in found} == {"inverse-of-d", "zero-test-on-d", "half-truncated"}


def test_mistakes_in_two_functions(diagnosed: Diagnose) -> None:
    """A wrong recipe in the quantizer and a wrong scale product in the dot product are two findings."""
    kernel = make("inverse-of-d", "zero-test-on-d", "round-half-even", "fp16-scale-product")
    found = {f.function: f.cause for f in diagnosed(kernel, [ROW, DOT]) if f.fix}
    assert found == {ROW: "recipe:ggml-neon", DOT: "fp16-scale-product"}
