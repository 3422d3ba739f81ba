"""The numbered rules of the specification, as data.

The pages in ``docs/`` are the source. ``rules.json`` beside this module is generated from them, in a checkout
by ``python -m q8a8_lab.pages.rules_index``, and ships in the wheel: the suite works without the pages.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

CHAPTERS: Final = ("LAY", "HLF", "QNT", "DEQ", "DOT", "ORD", "MUL", "OPS", "TRT", "MEM", "ENV")
"""The middle part of an id, in the order of the pages."""

JSON_NAME: Final = "rules.json"
"""The file beside this module that holds the rules."""


@dataclass(frozen=True)
class Outcome:
    """One of the results that a one-of rule allows."""

    name: str
    """A name for the result, as a diagnosis reports it."""
    cause: str
    """Why a kernel gets this result."""


@dataclass(frozen=True)
class Rule:
    """One normative sentence of the specification."""

    id: str
    """For example ``Q8A8-QNT-3``."""
    level: str
    """``MUST``, ``SHOULD`` or ``MAY``."""
    kind: str
    """``exact``, ``one-of``, ``bound`` or ``unspecified``."""
    subject: str
    """What it binds: ``kernel`` or ``reference``."""
    text: str
    """The rule, in the page's Markdown, without the outcomes."""
    page: str
    """The page, relative to the folder of the pages: ``spec/quantization.md``."""
    anchor: str
    """The rule's anchor on that page: ``q8a8-qnt-3``."""
    outcomes: tuple[Outcome, ...] = ()
    """The results that a one-of rule allows; empty for the other kinds."""
    title: str = ""
    """The heading without the id: ``the inverse``."""
    derived_from: tuple[str, ...] = ()
    """Ids of the rules that it follows from: a kernel that breaks it breaks one of these. Mostly empty."""
    reason: str = ""
    """The explanation below the rule, in the page's Markdown, one paragraph a line; not normative."""

    @property
    def url(self) -> str:
        """The rule's place relative to the folder of the pages: ``spec/quantization.md#q8a8-qnt-3``."""
        return f"{self.page}#{self.anchor}"


@cache
def load_rules() -> tuple[Rule, ...]:
    """Return the rules that ship with the suite, from the packaged ``rules.json``.

    Returns
    -------
    tuple of Rule
        Sorted by chapter and number.
    """
    text = (
        resources.files(__package__ or "q8a8_conformance.spec")
        .joinpath(JSON_NAME)
        .read_text(encoding="utf-8")
    )
    return tuple(
        Rule(
            **{
                **entry,
                "outcomes": tuple(Outcome(**outcome) for outcome in entry.get("outcomes", ())),
                "derived_from": tuple(entry.get("derived_from", ())),
            }
        )
        for entry in json.loads(text)
    )


@cache
def rules_by_id() -> dict[str, Rule]:
    """Return the rules that ship with the suite, by id."""
    return {rule.id: rule for rule in load_rules()}
