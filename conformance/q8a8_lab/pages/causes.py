"""The table of causes, symptoms and fixes, made from the data that the diagnosis itself goes by."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from q8a8.order import ORDERS
from q8a8_conformance.diagnosis.causes import (
    CRASH,
    DIFFERENCES,
    FIXES,
    QUANTIZATIONS,
    UNEXPLAINED,
    WRONG_PRODUCTS,
    order_cause,
)
from q8a8_conformance.diagnosis.dots import REVEALED, distinct_orders, equal_orders
from q8a8_conformance.diagnosis.mistakes import STATEFUL
from q8a8_conformance.faults.catalogue import FAMILIES, MUTANTS
from q8a8_conformance.results.record import short_id
from q8a8_conformance.reveal.summations import SUMMATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = "python -m q8a8_lab.pages.causes --markdown docs/diagnosis.md"

_HEAD = f"""\
<!-- Made by {COMMAND} from the catalogue of causes; not to be edited by hand. -->

# Diagnosis: cause, symptom, fix

When a kernel fails, the suite replays the kernel's own inputs with everything below, and names what gives
the kernel's bytes: in the failed calls, and in those that passed as well. The smallest explanation wins: a
recipe, an order of additions or one mistake before two at once. A line of the report's `diagnosis` holds

- `cause`: a name of this page. Two mistakes in one function are two lines, each with `together with` the
  other in its `detail`; a mistake on top of an order of additions names the order there. `or` names
  mistakes that give the same bytes on every call of the run.

- `explained`, `of`: so many results have the cause's bytes, of so many. For a recipe, an order, and a
  mistake in the products of a dot product these are all results of the function, the right ones too; for
  other mistakes they are the wrong ones.

- `fix`: what to do, in a sentence; empty where nothing is wrong.

- `smallest`: for what is not explained, and for a crash, the smallest input on which the kernel goes wrong.
  It is found by asking the kernel itself: fewest blocks, fewest elements that are not zero, then simplest
  numbers.

`{UNEXPLAINED}` means that neither one mistake nor two give the kernel's bytes; `{CRASH}`, that calls
crashed or hung. What a kernel does besides its results (it writes outside its buffers, leaves a rounding
mode changed, depends on an earlier call) is seen directly: it is a failed rule of [Memory
and environment](spec/kernel.md).
"""


def render() -> str:
    """Return the page, as Markdown."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield _HEAD
    yield "## Recipes of the quantizers"
    yield ""
    yield from _row("cause", "symptom", "fix")
    yield from _row("---", "---", "---")
    for one in QUANTIZATIONS[1:]:
        symptom = f"{DIFFERENCES[one.cause].capitalize()} ({one.recipe.source})."
        yield from _row(f"`{one.cause}`", symptom, one.fix)
    yield ""
    yield "## Mistakes on top of any order of additions"
    yield ""
    yield from _row("cause", "symptom", "fix")
    yield from _row("---", "---", "---")
    for cause in dict.fromkeys(wrong.cause for wrong in WRONG_PRODUCTS):
        yield from _row(f"`{cause}`", MUTANTS[cause].sentence, FIXES[cause])
    for family, mutants in FAMILIES.items():
        rows = [m for m in mutants if m.slug not in STATEFUL and m.slug not in FIXES]
        if rows:
            yield from ("", f"## {family}", "")
            yield from _row("cause", "symptom", "fix", "rule")
            yield from _row("---", "---", "---", "---")
        for mutant in rows:
            yield from _row(f"`{mutant.slug}`", mutant.sentence, mutant.fix, short_id(mutant.rule))
    yield from ("", "## Orders of additions", "")
    yield "Nothing to fix under the profile `kernel`: the order is free (ORD-1). Orders that add the same"
    yield "numbers in the same way are one, whatever their names; no result can distinguish them. An order"
    yield "that is not here is found by experiments, as [`q8a8 reveal`](reveal.md) does: its cause is"
    yield f"`{REVEALED}`."
    yield ""
    yield from _row("cause", "who adds so", "the same as")
    yield from _row("---", "---", "---")
    for order in distinct_orders(1):
        same = ", ".join(f"`{order_cause(name)}`" for name in equal_orders(order) if name != order.name)
        yield from _row(f"`{order_cause(order.name)}`", ORDERS[order.name].source, same)
    yield from ("", "## Other ways to add", "")
    yield "No order of additions, but other roundings, or fewer. They conform where they stay within the"
    yield "bound (ORD-2); the directed ones drift, which is a warning of the report as well. Flush-to-zero"
    yield "has no line: nothing in a dot product is subnormal, so [no result shows"
    yield "it](proofs.md#flush-modes-do-not-matter)."
    yield ""
    yield from _row("cause", "symptom", "advice", "with")
    yield from _row("---", "---", "---", "---")
    for way in SUMMATIONS:
        which = "any order" if way.any_order else "`scalar`"
        yield from _row(f"`{way.cause}`", way.symptom, way.advice, which)


def _row(*cells: str) -> Iterator[str]:
    yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def main(arguments: list[str] | None = None) -> None:
    """Write the page to the file that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m q8a8_lab.pages.causes", description=__doc__)
    parser.add_argument("--markdown", type=Path, required=True, metavar="FILE", help="the page to write")
    parser.parse_args(arguments).markdown.write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
