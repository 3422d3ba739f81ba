"""What a quantizer does otherwise at some places is found with its rule, or nothing is said."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from q8a8.recipe import RECIPES
from q8a8_conformance.reveal.places import Condition, Rule
from q8a8_conformance.reveal.quantizers import row_lengths
from q8a8_conformance.reveal.quantizers.model import Part, QuantizerModel
from q8a8_conformance.reveal.quantizers.row_lengths import EVERYWHERE, look

if TYPE_CHECKING:
    from q8a8_conformance.reveal.quantizers.calls import Blocks

pytestmark = pytest.mark.rule("Q8A8-QNT-7")

MODEL = QuantizerModel(is_row=True)
LAST = Condition("last")
TRUNCATED = replace(RECIPES["design"], name="design with rounding = truncate", rounding="truncate")


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    short = tuple(n for n in row_lengths.LENGTHS if n < 70)
    monkeypatch.setattr(row_lengths, "LENGTHS", short)
    monkeypatch.setattr(row_lengths, "CONTROLS", (37, 77))


def calls_of(model: QuantizerModel) -> Any:  # noqa: ANN401 (what makes calls)
    """Return what answers as a model."""

    def call(x: Any, fill: int) -> Blocks:  # noqa: ANN401 (an array)
        rows = np.asarray(x).reshape(-1, 32)
        return model.predict(rows, np.full((len(rows), 34), fill, np.uint8))

    return call


@pytest.mark.parametrize(
    "part",
    [
        Part(Rule(LAST), "not-counted", lanes=(31,)),
        Part(Rule(LAST, (Condition("modulo", 2, 0),)), "zero", lanes=(31,)),
        Part(EVERYWHERE, "wraps", offset=32),
        Part(Rule(Condition("left-over", 4)), "recipe", recipe=TRUNCATED),
    ],
    ids=lambda part: part.effect,
)
def test_part(part: Part) -> None:
    """A part is found with its rule, also where it shows in few blocks of a row."""
    (found,) = look(calls_of(replace(MODEL, parts=(part,))), MODEL).parts
    if part.recipe:
        assert found.recipe is not None
        found = replace(found, recipe=replace(found.recipe, name=part.recipe.name, source=part.recipe.source))
        part = replace(part, recipe=replace(part.recipe, finite_scale=False))
    assert found == part


def test_a_rule_that_other_rows_contradict_is_none() -> None:
    """What holds in the rows that were looked at, and not in others, is no part."""
    part = Part(Rule(LAST), "zero", lanes=(31,))
    odd = calls_of(replace(MODEL, parts=(part,)))

    def call(x: Any, fill: int) -> Blocks:  # noqa: ANN401 (an array)
        return cast("Blocks", (calls_of(MODEL) if np.asarray(x).size == 32 * 77 else odd)(x, fill))

    found = look(call, MODEL)  # type: ignore[arg-type]  # a function that makes calls
    assert not found.parts
    assert found.unplaced == ((77, 76),)
