"""The kill matrix as a page of the documentation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from q8a8_conformance.faults.catalogue import FAMILIES, LEGAL, MUTANTS
from q8a8_conformance.results.record import short_id
from q8a8_conformance.spec.rules import CHAPTERS, load_rules
from q8a8_lab.mutation.isolating import ISOLATING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import TypeAlias

    from q8a8_conformance.faults.catalogue import Mutant

    Results: TypeAlias = dict[str, dict[str, int]]

REGENERATE = "python -m q8a8_lab.mutation --markdown docs/mutants.md"

_HEAD = f"""# Mutants: the kill matrix

A conformance suite is tested with wrong kernels. Here are {{mutants}} of them, each the
specification with one mistake, and {{legal}} legal kernels that differ from the reference and conform.
Every mutant is caught under the default profile and fails the rule that it breaks; no legal kernel
fails. `make test` checks both.

This page is written by `{REGENERATE}`.

Each is a kernel under test by its slug, with underscores for hyphens:

```
q8a8 test py:q8a8_conformance.mutants:round_half_even
```

The numbers in a matrix are the cases of the suite that fail, by the rule that they fail; the rule that the
mutant breaks by design is in bold. (Property tests and the warning about a bias are left out: the one
searches, the other counts.)
"""

_ISOLATING = """
## A mutant of its own for every rule

For each rule that binds kernels, a mutant that only this rule's checks catch: `make test` runs it through
the whole suite, and nothing else may fail. No kernel breaks a rule alone that follows from others
([proofs](proofs.md#rules-that-follow-from-others)): its mutant fails one of these besides.

"""

_LEGAL = """
## Legal kernels

They differ from the reference as the specification allows, and nothing fails.

"""


def render(results: Mapping[str, Mapping[str, int]]) -> str:
    """Return the page, as Markdown.

    Parameters
    ----------
    results
        For every mutant and legal kernel the number of failing cases, by full rule id.
    """
    parts = [_HEAD.format(mutants=len(MUTANTS), legal=len(LEGAL))]
    for family, mutants in FAMILIES.items():
        parts.append(f"\n## {family}\n\n")
        parts.append(_table(("mutant", "what it does", "rule", "seen in"), (_row(m) for m in mutants)))
        parts.append(_matrix(mutants, results))
    parts += [_ISOLATING, _table(("rule", "mutant", "follows from"), _isolating_rows())]
    parts += [_LEGAL, _table(("kernel", "what it does", "why it is legal"), _legal_rows())]
    return "".join(parts)


def _row(mutant: Mutant) -> tuple[str, ...]:
    return f"`{mutant.slug}`", mutant.sentence, _link(mutant.rule), mutant.seen or ""


def _matrix(mutants: Iterable[Mutant], results: Mapping[str, Mapping[str, int]]) -> str:
    """Return a family's matrix: a row for each mutant, a column for every rule that one of them fails."""
    found = {rule for mutant in mutants for rule in results[mutant.slug]}
    rules = sorted(found, key=_place)
    rows = (
        (
            f"`{mutant.slug}`",
            *(_cell(results[mutant.slug].get(rule, 0), rule == mutant.rule) for rule in rules),
        )
        for mutant in mutants
    )
    return "\n" + _table(("mutant", *(short_id(rule) for rule in rules)), rows)


def _cell(count: int, own: bool) -> str:
    return f"**{count}**" if own else str(count or "")


def _place(rule: str) -> tuple[int, int]:
    chapter, number = short_id(rule).split("-")
    return CHAPTERS.index(chapter), int(number)


def _isolating_rows() -> Iterator[tuple[str, ...]]:
    sources = {rule.id: rule.derived_from for rule in load_rules()}
    for rule in sorted(ISOLATING, key=_place):
        yield _link(rule), f"`{ISOLATING[rule]}`", ", ".join(short_id(source) for source in sources[rule])


def _legal_rows() -> Iterator[tuple[str, ...]]:
    for kernel in LEGAL.values():
        yield f"`{kernel.slug}`", kernel.sentence, kernel.why


def _link(rule: str) -> str:
    url = next(each.url for each in load_rules() if each.id == rule)
    return f"[{short_id(rule)}]({url})"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return (
        "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
        + "\n"
    )
