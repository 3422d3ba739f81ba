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
    order_cause,
)
from q8a8_conformance.diagnosis.dots.orders import REVEALED, distinct_orders, equal_orders
from q8a8_conformance.diagnosis.facts import FACTS, OTHER_FACTS
from q8a8_conformance.faults.catalogue import FAMILIES
from q8a8_conformance.results.record import short_id
from q8a8_conformance.reveal.summations import SUMMATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

STATEFUL = frozenset(mutant.slug for mutant in FAMILIES["Memory, environment and state"])
"""Mistakes that show otherwise than in a result."""

COMMAND = "python -m q8a8_lab.pages.causes --markdown docs/diagnosis.md"

_HEAD = f"""\
<!-- Made by {COMMAND} from the catalogue of causes; not to be edited by hand. -->

# Diagnosis: cause, symptom, fix

What a wrong function does is measured, by experiments on the kernel; this page's catalogue only lends
names to what is found. The recipe of a right quantizer and the order of a right dot product are named by the
bits of all results. A line of the report's `diagnosis` holds

- `cause`: a name of this page, or of a fact. Two mistakes in one function are two lines.

- `explained`, `of`: so many results have the cause's bytes, of so many. For a recipe and for an order these
  are all results of the function, the right ones too; for mistakes and facts they are the wrong ones.

- `fix`: what to do, in a sentence; empty where nothing is wrong.

- `fact`, `where`, `rule`, `sentence`, `evidence`: what experiments measured (below).

- `smallest`: for what is not explained, and for a crash, the smallest input on which the kernel goes wrong.
  It is found by asking the kernel itself: fewest blocks, fewest elements that are not zero, then simplest
  numbers.

`{UNEXPLAINED}` means that nothing that experiments found gives the kernel's bytes;
`{CRASH}`, that calls crashed or hung. What a kernel does besides its results (it writes outside its
buffers, leaves a rounding mode changed) is seen directly: it is a failed rule of [Memory
and environment](spec/kernel.md). In which calls it does so, or crashes, ordinary ones of many lengths show,
and ones in which some blocks hold zeros, small or large values, or the lowest codes; for a crash at some
addresses alone each buffer is moved by itself first.

## Experiments on a dot product

A wrong dot product is not looked up but measured, whatever order it adds in: by exact calls, in which no
order can round. Each changes one thing.

"""

_EXPERIMENTS = (
    (
        "one product, with two fills of `s`",
        "a result that is never written, added to what `s` held, or not written for n = 0",
    ),
    (
        "four results of products of primes, for many values of bs",
        ("results that change places, are lost, or go elsewhere; floats between them that are written"),
    ),
    (
        "bytes of two rows made greater from some byte on",
        "where x1 and y1 are read: by which formula of bx and by",
    ),
    (
        "primes as the four scales of version 2; infinities in the unused ones",
        "which scales are used; whether the others have an influence",
    ),
    (
        "rows of every length, halved until one block is left; of that, each block's codes and scales",
        (
            "of which blocks' codes and scales each term is made, and how often: which block, by a formula, "
            "and in which blocks of which rows"
        ),
    ),
    (
        "failed rows, predicted for each width of an offset",
        "offsets of bytes or blocks that wrap, of both rows or of one",
    ),
    (
        (
            "one block that holds a zero, a sign, a subnormal scale, what the block before holds, or "
            "products that add up to zero"
        ),
        "whether it, its neighbours or the rest of the row are counted otherwise then",
    ),
    (
        "rows of noise, each at any address",
        "bytes of one row that are read where the other row's address says",
    ),
    (
        "a block whose codes of one row, or of both, are zero, under scales of 1, 2 and 4 each",
        "terms that are added to it: which scales, of which sum of codes",
    ),
    (
        "pairs of scales one after the other that differ in one bit, in one of each, by a sum",
        "products of scales that are kept, and used again for others: under which key",
    ),
    (
        "a block of codes of many kinds, and of such as differ from these in one code",
        "blocks that are not counted: on which condition on some codes, their sum, the greatest, ...",
    ),
    (
        "codes beside zeros of the other row, under scales of many sizes",
        "codes that are offset, and in which format the sum that is subtracted for it is kept",
    ),
    (
        (
            "one block: each place of x with all places of y, the edges of int8, filled blocks, "
            "halves and products of scales of every kind"
        ),
        (
            "the 32 x 32 map of the block sum; what each code is taken for, in which elements and beside "
            "which others; which partial sums are rounded, saturate or lose something; how scales "
            "are read and multiplied, by sign and exponent"
        ),
    ),
    (
        "each block of rows of many lengths alone, at random codes and at the edges of int8 and of halves",
        (
            "blocks at some places that are treated otherwise, by a rule for these; the experiments on one "
            "block, made there, show how, or which bytes of other blocks are read, or whose sums are taken"
        ),
    ),
    (
        "codes of all four rows in one block, where one of four results changes with other rows than its own",
        "which elements, and which sums of codes, are those of other rows",
    ),
    (
        "sums of many sizes and both signs in all four results",
        "two sums that share an integer, its bits, and which runs into which",
    ),
    (
        "one step's number made smaller, and larger, beside ordinary ones of all other steps",
        "scales, terms or sums in fixed point: their unit, and from where on they wrap or saturate",
    ),
    (
        "2^p and 1 in two blocks of short and of long rows; products of 1 beside 2^24",
        (
            "the digits of the accumulator, and of the sums of chunks and lanes of blocks; its rounding, "
            "blocks that are added in parts"
        ),
    ),
    (
        "all halves and all pairs of codes, in long rows that are halved until one is left",
        "single wrong entries of tables",
    ),
    (
        "a failed call again at other addresses, in other modes, with its inputs in one block of memory",
        "which condition makes it wrong; the experiments above, made under it, show what is wrong there",
    ),
    (
        "a failed call again in a new process, after other bytes, after a long row, after many calls",
        "what is kept from one call to the next",
    ),
    (
        "two calls that differ, the second at the same addresses or others, as long or not",
        "what a call takes over from the one before: a result, fields of blocks, a sum, an amax",
    ),
    (
        "two calls on the same addresses that differ in one byte, for each byte of an input",
        "what is kept of an input, and which of its bytes are not looked at before it is used again",
    ),
    (
        "a failed call 600 times in a row",
        "calls that are wrong by turns; the experiments above, made in their turn, show what is wrong",
    ),
    (
        "a failed call of several threads again, beside the same or another call, by more threads, shorter",
        "memory that threads share, by how many and from which length on; races, of first calls too",
    ),
)

_FACTS = """
What they find is a fact: a slug (`fact`) with its parameters (`where`), the rule that it breaks, a sentence,
and the calls that show it. A model of the function with the measured steps predicts the failed calls: a
fact is attached to those whose outputs it predicts, and to no other, and the rule that they fail is the
fact's. A mistake of this page that does the same gives the `cause` its name. A fact that holds under a
condition alone (an address, flush-to-zero) has it in `where` as `under`; one that shows in longer rows alone
has their blocks as `in_rows_of`.

## Quantizers and dequantization

Elements and blocks chosen for it show what a quantizer computes, as [`q8a8 reveal`](reveal.md) prints it:
which elements count in amax, how the scale is made and rounded, what the inverse is, how halves round, where
zero is tested, the layout, and what is otherwise at some places or lengths. Each difference from the
specification is a fact. Where no step that has a name gives the codes, the factor of the elements is
measured: for 60 values of amax, the element at which the code becomes 64, by a few calls that each narrow it
down 248 times. How it differs from 127 / amax is the fact `factor`: everywhere by the same part, by a number
that was added to amax, or by the errors of an estimate.

For dequantization it is found which bytes of a row each output answers to. All halves, all codes, and rows of
many lengths whose blocks are often like the one before are compared with forms: what becomes of a scale, a
code, their product, or the output, and what a block has of others. A form and a condition that give all that
is wrong are a fact. The condition is about places, elements, values, and the values beside them.

## Matrix products

A failed call that comes several times after another one of its shape shows what varies, or was left by
others, and from which size on (`depends-on-more-than-inputs`, `depends-on-calls-before`).

Rows of codes beside zeros of the other side show what is taken off for an offset of codes
(`correction-wrong`); numbered codes beside single ones show panels that are packed in chunks of one size and
read in chunks of another (`codes-interleaved`), and numbered scales those that are read in another order than
they are written in (`scales-interleaved`). Numbered blocks show panels whose edges are written by one stride
and read by another (`panel-strides`). Offsets of rows in 16 bits predict the failed calls of large matrices
(`rows-begin-elsewhere`). Products in which a step has a chosen value show what becomes of it: a
code, a scale, the product of two scales, a weight, the sum of a block, its term, an output. What came of many
values is a rounding, or a condition and what such values become (`values-changed`, `outputs-changed`); values
in two blocks show sums of several that are rounded, each by itself or the running one (`chunk-sums`). Twice
the amax in one element after the other shows which elements of a row's blocks count in it
(`activations-in-part`). Where all codes are those of another recipe, the failed calls are judged again by it,
and what is left is wrong for another reason, which all experiments are made for.

Then it is found where outputs come from: products in which rows are numbered, in which one block counts,
and into outputs that held something show `outputs-not-written`, `outputs-added`, `outputs-of-other-rows`,
`scales-of-other-rows`, `blocks-miscounted` and `empty-not-written`, each with the shapes in which it is so.
Shapes around the first wrong one, along m, n and the blocks of a row, give one rule for all: the columns and
the rows of the output, or a condition on both, conditions on the blocks, and a formula for the row that is
taken, or for the place at which an output is stored. Ones show outputs that count several times by row and by
column (`outputs-miscounted`).

What that does not explain is measured as [`q8a8 reveal`](reveal.md#matrix-products) does it. Each step
that is not the specification's is a fact, with the shapes in which it is so, and the error beside that of
quantization itself: `activations:float32`,
`activations:int8-per-row`, `activations:e4m3`, `recipe:ggml-avx2`, `accumulator:float16`,
`weights:float16`, `weights:int8-per-16`, `weights:int4-per-32-zero-point`, `not-written` and their like.
A failed call has it as its cause where its wrong outputs are those of the arithmetic but for the roundings of
sums.
"""


def render() -> str:
    """Return the page, as Markdown."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield _HEAD.rstrip() + "\n"
    yield from _row("experiment", "what it shows")
    yield from _row("---", "---")
    for experiment in _EXPERIMENTS:
        yield from _row(*experiment)
    yield _FACTS.rstrip() + "\n"
    yield from _row("fact", "meaning")
    yield from _row("---", "---")
    for slug, words in sorted({**OTHER_FACTS, **FACTS}.items()):
        yield from _row(f"`{slug}`", words)
    yield ""
    yield "## Recipes of the quantizers"
    yield ""
    yield from _row("cause", "symptom", "fix")
    yield from _row("---", "---", "---")
    for one in QUANTIZATIONS[1:]:
        symptom = f"{DIFFERENCES[one.cause].capitalize()} ({one.recipe.source})."
        yield from _row(f"`{one.cause}`", symptom, one.fix)
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
