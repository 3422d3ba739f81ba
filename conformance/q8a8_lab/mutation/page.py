"""The catalogue of mutants and legal kernels as a page of the documentation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from q8a8_conformance.faults.catalogue import FAMILIES, LEGAL, MUTANTS
from q8a8_conformance.results.record import short_id
from q8a8_conformance.spec.rules import CHAPTERS, load_rules
from q8a8_lab.mutation.isolating import ISOLATING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from q8a8_conformance.faults.catalogue import Mutant

REGENERATE = "python -m q8a8_lab.mutation --markdown docs/mutants.md"

_HEAD = f"""# Mutants and legal kernels

A conformance suite is tested with wrong kernels. Here are {{mutants}} of them, each the
specification with one mistake, and {{legal}} legal kernels that differ from the reference and conform.
Every mutant is caught under the default profile and fails the rule that it breaks; no legal kernel
fails. `make test` checks both.

This page is written by `{REGENERATE}`.

Each is a kernel under test by its slug, with underscores for hyphens:

```
q8a8 test py:q8a8_conformance.mutants:round_half_even
```

`python -m q8a8_lab.mutation [SLUG...] --json FILE` judges them by the whole suite and counts the cases that
fail, by the rule that they fail.
"""

_ISOLATING = """
## A mutant of its own for every rule

For each rule that binds kernels, a mutant that only this rule's checks catch: `make test` runs it through
the whole suite, and nothing else may fail. No kernel breaks a rule alone that follows from others
([proofs](proofs.md#rules-that-follow-from-others)): its mutant fails one of these besides.

"""

_NOT_JUDGED = """
## What no case shows

The suite takes seconds, so a wrong kernel can conform if it is right for as long as that:

- one that changes after more calls than are made: each function of rows is called some 200,000 times,
  the dot product of a library on x86-64 over a million times, nrc = 2 and the matrix product some 70,000
  times; or after 2^31 elements in all, which take a plain C kernel seconds for each function;
- one that is wrong in longer rows alone: activation vectors are judged at up to 2^22 elements and one, the
  other functions at up to 2^24 and some (dot products, above 65,537 blocks, in their last blocks);
- one that is wrong in larger products than 2^27 multiplications, or for some tail of its tiles where that is
  neither one row, column or block nor one of the shapes judged;
- one that is wrong in a single call of these many, where that is no 65,536th and no 65,535th one;
- one that is wrong for a single amax that is no end of a scale, no half, no bfloat16 and no usual number, or
  for one of the 2^24 pairs of a scale and a code: `q8a8 certify` goes through such sets as a whole;
- of workers without the capability `rows`, the C harness among them, one whose activation quantizer is wrong
  for another amax than the usual ones;
- one that depends on a number of threads that is not 1, 3, 4, 8, 16 or the machine's own, or on more
  processors than the machine has; or one that numbers the threads that call it, and shares memory between
  those of the same remainder by 128 or more;
- one that depends on other variables of the environment than those that ask for threads, on a decimal point
  that no locale of the machine has, or on other modes than those that flush (the x87 unit's are compared, but
  no results under them);
- one that goes wrong where the system refuses it memory or a thread, or in a child process (`fork`) of one in
  which it keeps threads, of which Q8A8-ENV-10 warns;
- one whose indices or strides are too narrow only above 2 GiB;
- except of a library on x86-64 that may have the processor's watchpoints, one that reads bytes beside its
  inputs in the same page alone, or writes back what it has just read beside its outputs; there, one that
  reads what is neither next to an input nor on another page, or in threads of its own;
- except of a library on x86-64, one that shares memory between threads for a few instructions alone; there,
  for a few that lie neither among the first 24 of a short call nor where one of the later stops is;
- one that keeps memory for each new shape of a product.

"""

_LEGAL = """
## Legal kernels

They differ from the reference as the specification allows, and nothing fails.

"""


def render() -> str:
    """Return the page, as Markdown."""
    parts = [_HEAD.format(mutants=len(MUTANTS), legal=len(LEGAL))]
    for family, mutants in FAMILIES.items():
        parts.append(f"\n## {family}\n\n")
        parts.append(_table(("mutant", "what it does", "rule", "seen in"), (_row(m) for m in mutants)))
    parts += [_ISOLATING, _table(("rule", "mutant", "follows from"), _isolating_rows())]
    parts += [_NOT_JUDGED.rstrip("\n"), "\n"]
    parts += [_LEGAL, _table(("kernel", "what it does", "why it is legal"), _legal_rows())]
    return "".join(parts)


def _row(mutant: Mutant) -> tuple[str, ...]:
    return f"`{mutant.slug}`", mutant.sentence, _link(mutant.rule), mutant.seen or ""


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
