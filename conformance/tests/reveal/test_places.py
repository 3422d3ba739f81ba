"""The language of places: rules found again from what they give."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8_conformance.reveal.places import Condition, Rule, Seen, find_rule

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOOKED_AT = (*range(1, 36), 63, 64, 65, 127, 128, 129, 255, 256, 257, 511, 513, 1023, 1024, 1025, 1026, 2050)

RULES = [
    Rule(Condition("any")),
    Rule(Condition("any"), (Condition("is", 32),)),
    Rule(Condition("last"), (Condition("modulo", 2, 1),)),
    Rule(Condition("last"), (Condition("from", 129), Condition("modulo", 128, 1))),
    Rule(Condition("last"), (Condition("until", 12),)),
    Rule(Condition("any"), (Condition("modulo-from", 16, 12),)),
    Rule(Condition("first")),
    Rule(Condition("from", 1000)),
    Rule(Condition("until", 7)),
    Rule(Condition("is", 5)),
    Rule(Condition("left-over", 4), (Condition("from", 600),)),
    Rule(Condition("left-over", 8)),
    Rule(Condition("whole", 3)),
    Rule(Condition("beyond-shares", 4, 8)),
    Rule(Condition("beyond-shares-and-rest", 4, 4), (Condition("from", 36),)),
    Rule(Condition("between", 16, 4)),
    Rule(Condition("first-left-over", 8, 3)),
    Rule(Condition("left-over-from", 16, 2)),
    Rule(Condition("last-whole", 8)),
    Rule(Condition("modulo-in", 4, 0b0110), (Condition("from", 9),)),
    Rule(Condition("modulo-in-whole", 8, 0b0010_0110)),
    Rule(Condition("any"), (Condition("not-modulo", 32, 0),)),
    Rule(Condition("last"), (Condition("modulo-in", 4, 0b1010),)),
    Rule(Condition("last-of-tile", 16)),
    Rule(Condition("first-of-tile", 256), (Condition("from", 1025),)),
    Rule(Condition("before-last-tile", 32)),
    Rule(Condition("modulo", 8, 3)),
    Rule(Condition("modulo-whole", 4, 2)),
    Rule(Condition("modulo-but-last", 4, 3)),
    Rule(Condition("but-last-few", 4)),
    Rule(Condition("overlap-of-parts", 1, 4)),
    Rule(Condition("beyond-wrap", 256)),
    Rule(Condition("beyond-wrap", 900)),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.text("block", "nb"))
def test_a_rule_is_found_again(rule: Rule) -> None:
    """From the places in rows of some lengths, and a few more, the same places follow at every length."""
    asked = []

    def ask(n: int) -> NDArray[np.bool_]:
        asked.append(n)
        return rule.holds(n)

    found = find_rule(Seen({n: rule.holds(n) for n in LOOKED_AT}), ask, 5000)
    assert found is not None
    assert not any(found.differs(rule, n) for n in (*range(1, 1300), 2049, 4097)), found
    assert len(asked) <= 16
    assert set(found.to_json()) == {"position", "length"}


def test_no_rule_for_irregular_places() -> None:
    """What no rule of the language fits has none; nor has nothing."""
    rng = np.random.default_rng(1)
    seen = Seen({n: rng.random(n) < 0.4 for n in (8, 9, 10, 40)})
    assert find_rule(seen, lambda n: np.zeros(n, np.bool_), 50) is None
    assert find_rule(Seen({4: np.zeros(4, np.bool_)}), lambda n: np.zeros(n, np.bool_), 50) is None


def test_places_that_would_not_show_are_left_open() -> None:
    """Where an effect would not show, its absence rules nothing out."""

    def known(n: int) -> NDArray[np.bool_]:
        return np.asarray(np.arange(n) % 3 != 0)

    rows = {n: known(n) & (np.arange(n) >= 4) for n in (3, 8, 9, 20)}
    seen = Seen(rows, {n: known(n) for n in rows})
    found = find_rule(seen, lambda n: (known(n) & (np.arange(n) >= 4), known(n)), 30)
    assert found is not None
    assert np.array_equal(found.holds(20) & known(20), rows[20])
