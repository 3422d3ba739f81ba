"""What quantizers are found to compute: recipes that the reference runs, confirmed on other blocks."""

from __future__ import annotations

import json

import pytest

from q8a8 import RECIPES
from q8a8_conformance.faults import catalogue
from q8a8_conformance.faults.in_process import InProcessSession
from q8a8_conformance.inputs.calls import ACTIVATION, QUANTIZERS
from q8a8_conformance.reveal.quantizers.revealed import RevealedQuantizer, reveal_quantizer

ALL = (*QUANTIZERS, ACTIVATION)


def revealed(function: str, *slugs: str) -> RevealedQuantizer:
    """Measure a kernel of the catalogue."""
    return reveal_quantizer(InProcessSession(lambda: catalogue.make(*slugs), ALL), function)


@pytest.mark.parametrize("function", ALL)
def test_the_specification_is_revealed(function: str) -> None:
    """A right quantizer computes `design`, at every place: no block differs."""
    found = revealed(function)
    assert found.model.is_right
    assert found.recipe == RECIPES["design"]
    assert found.confirmed == found.of > 0
    assert not found.died


@pytest.mark.parametrize("name", ["ggml-ref", "ggml-neon", "ggml-avx2"])
@pytest.mark.parametrize("function", [QUANTIZERS[1], ACTIVATION])
def test_recipes_of_the_reference_are_revealed(name: str, function: str) -> None:
    """A recipe of ggml's comes out as the reference's value of that name."""
    found = revealed(function, f"recipe:{name}")
    assert found.recipe == RECIPES[name]
    assert found.confirmed == found.of
    assert found.to_json()["name"] == name


def test_a_recipe_without_a_name_can_be_run() -> None:
    """A recipe that no table has is a value of the same type, and the model gives every block."""
    found = revealed(QUANTIZERS[1], "scale-of-128", "round-half-up", "quantize-odd-block-lost")
    assert (found.recipe.divisor, found.recipe.rounding) == (128.0, "half-up")
    assert found.confirmed == found.of
    document = json.loads(json.dumps(found.to_json()))
    assert document["name"] is None
    assert document["differs"] == {"divisor": "128.0", "rounding": "half-up"}
    assert document["places"][0]["effect"] == "unwritten"
    assert "the last block where nb is odd is not written" in found.text()


def test_elements_that_do_not_count_are_described() -> None:
    """The text lists elements that do not count in amax."""
    assert "do not count in amax: [31]" in revealed(QUANTIZERS[1], "amax-last-skipped").text()


def test_a_kernel_that_raises_is_not_measured_to_the_end() -> None:
    """Where a call does not return, the result says so and has what was known by then."""

    class Raising:
        def quantize_row_q8_a8(self, *_arguments: object) -> None:
            raise ValueError("no")

    found = reveal_quantizer(InProcessSession(Raising, ALL), QUANTIZERS[1])
    assert found.died
    assert "not measured to the end" in found.text()
    assert found.to_json()["died"]
