"""What a diagnosis names, for ``q8a8 explain``: causes, facts, orders of additions, recipes."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from q8a8.order import ORDERS
from q8a8.recipe import RECIPES
from q8a8_conformance.diagnosis.causes import CRASH, DIFFERENCES, FIXES, UNEXPLAINED, order_cause
from q8a8_conformance.diagnosis.dots.orders import REVEALED, equal_orders
from q8a8_conformance.diagnosis.facts import FACTS, OTHER_FACTS
from q8a8_conformance.faults.catalogue import MUTANTS
from q8a8_conformance.results.record import short_id
from q8a8_conformance.reveal.products.activations import DIVISION, TORCHAO
from q8a8_conformance.reveal.quantizers.arithmetic import differences
from q8a8_conformance.reveal.summations import SUMMATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

WIDTH = 100


def topics() -> Mapping[str, tuple[str, ...]]:
    """Return what is to be said by name, a paragraph each: whatever a report's diagnosis can name."""
    found: dict[str, tuple[str, ...]] = {
        UNEXPLAINED: ("No experiment, and no mistake of the catalogue, explains these results.",),
        CRASH: ("Calls crashed or hung.", f"→ {FIXES[CRASH]}"),
        REVEALED: ("An order of additions that is in no catalogue, as experiments show it: q8a8 reveal.",),
    }
    facts = {**OTHER_FACTS, **FACTS}
    found |= {slug: ("A fact, measured by experiments.", words) for slug, words in facts.items()}
    for name, recipe in RECIPES.items():
        cause = f"recipe:{name}"
        words = DIFFERENCES.get(cause, ""), f"Arithmetic of {recipe.source}.", _fix(FIXES.get(cause, ""))
        found[cause] = ("A recipe of the quantizers.", *filter(None, words))
    for recipe in (DIVISION, TORCHAO):
        differ = ", ".join(
            f"{step} = {value}" for step, value in differences(recipe, RECIPES["design"]).items()
        )
        found[recipe.name] = (
            "A recipe that products quantize their activations by.",
            f"Not the rule's: {differ}.",
        )
    for name, order in ORDERS.items():
        same = ", ".join(order_cause(other) for other in equal_orders(order) if other != name)
        lines = (order.source, f"The same bits as {same}." if same else "")
        found[order_cause(name)] = ("An order of additions, which is free (ORD-1).", *filter(None, lines))
    for way in SUMMATIONS:
        found[way.cause] = ("A way to add that is no order of additions.", way.symptom, way.advice)
    for mutant in MUTANTS.values():
        rule = f"A known mistake, which breaks {short_id(mutant.rule)}."
        parts = (rule, mutant.sentence, mutant.seen and f"seen in: {mutant.seen}", _fix(mutant.fix))
        found[mutant.slug] = tuple(filter(None, parts))
    return found


def _fix(words: str) -> str:
    return f"→ {words}" if words else ""


def explain_topic(name: str, paragraphs: tuple[str, ...]) -> Iterator[str]:
    """Yield the lines that explain a name."""
    yield name
    for paragraph in paragraphs:
        yield textwrap.fill(paragraph, WIDTH, initial_indent="  ", subsequent_indent="  ")
