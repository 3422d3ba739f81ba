"""The page on what a kernel computes: the experiments in short, and the trees of the catalogue's orders."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from q8a8.order import ORDERS, fold_leaves
from q8a8_conformance.diagnosis.dots.orders import distinct_orders, equal_orders
from q8a8_conformance.report.trees import tree_svg
from q8a8_conformance.reveal.candidates import Candidate
from q8a8_conformance.reveal.describe import block_tree_of, words_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from q8a8.order import Additions, Fold, Order

COMMAND = "python -m q8a8_lab.pages.reveal --markdown docs/reveal.md"

BLOCKS = 7
"""Of the trees on the page: odd, so that a step of two leaves one over."""

_ADAPTED = (
    (
        "gguf_py:product",
        "gguf-py dequantizes, NumPy multiplies floats",
        (
            "`activations:float32`, `accumulator:float32`; "
            "the tree of elements changes with n and m, as BLAS does"
        ),
    ),
    (
        "onnxruntime_py:kernel",
        "ONNX operators: blocks divided by amax/127, `MatMulInteger`, scaled and added",
        "`division-half-even`, `activation-scale:float32`, `order:scalar`; batch-invariant",
    ),
    (
        "onnxruntime_py:optimized",
        "the same with onnxruntime's optimizer: each sum by the weight's scale, then by the other",
        (
            "`division-half-even`, `activation-scale:float32`, `weight-scale-first`, `order:scalar`; "
            "batch-invariant"
        ),
    ),
    (
        "torchao_py:kernel",
        "torchao's dynamic linear operator, on the 32 columns of each block",
        (
            "`torchao` (scales of amax/127.5, at least 2⁻²³), `activation-scale:float32`, "
            "`activation-scale-first`, `order:scalar`; batch-invariant"
        ),
    ),
)
ADAPTERS = "\n".join(
    f"| `py:q8a8_conformance.adapters.{name}` | {what} | {revealed} |" for name, what, revealed in _ADAPTED
)
"""What `q8a8 reveal` says of the adapters for products, by the tests of the adapters."""

HEAD = f"""# What your kernel computes

<!-- Made by {COMMAND}; not to be edited by hand. -->

Float addition is not associative: kernels that add in different orders give different bits, and all of them
are right ([ORD-1](spec/orders.md)). `q8a8 reveal` finds out in which order a kernel adds, without its
source and whether or not anybody has seen that order before:

```console
$ q8a8 reveal lib:libkernel.so --svg tree.svg
```

`q8a8 test` does the same for a conforming kernel whose results no order of the catalogue explains: its
cause is `order:revealed`, and the HTML report draws the tree.

## How an order shows

One term of a dot product is made +M, one is -M, all others are the unit u, and M is so large that u is lost
beside it. A unit that is added before the two masks have met is lost; one that comes later survives:

```text
terms       +M   u   -M   u   u                 +M   u   u   u   -M
sums        +M  +M    0   u  2u  → 2            +M  +M  +M  +M    0  → 0
```

So the result counts the terms outside the smallest sum that holds both masks, and from one call for each
pair of a few the whole tree follows: as many calls as there are blocks for a loop with accumulators (FPRev:
Xie et al., *Revealing Floating-Point Accumulation Orders*, USENIX ATC 2025). The scales of halves leave
ample room: their products reach from 2^-48 to 2^30.

| what | how |
| --- | --- |
| accumulators, tail | masks and units in one code of each block |
| lanes | both masks in one block: in one lane, which is summed in integers, they cancel at once |
| fold | masks in the first step's blocks, a unit for each register in the second step's |
| fused or not | 503040015 - 503040000, the first of 29 bits: 15, or 0 where products are rounded |
| bits that sums keep | the least p for which 2^28 + 2^(28-p) - 2^28 loses its small term |
| rounding | 2^24 and -2^24, where floats are 2 apart, plus 0.5, 1 and 1.5 |
| scales | one term of 30 bits, whose roundings tell s·(dx·dy) from (s·dx)·dy |
| terms of a block | products of codes that are -1 in all: -1 exactly where they are added in integers |
| terms of the masks' block | units of 21 bits that lose their last bit beside a mask of 2^12 units |
| change with the length | the first length at which random results have other bits, by bisection |

The first experiments show kernels that keep to a step and to the same lanes. Where no such order explains
the random results, all terms and all additions of rows of a few lengths are found, and what repeats from
step to step of a loop is read off them: blocks left over that have lanes of their own, or are added first;
blocks of a step that are added to each other first; loops from the end, or over parts of the row. Rows that
are too short for the loop may have trees of their own.

What is found is an `Order` or a `TreeOrder` of the [reference](api/dot.md#q8a8.order), and the reference
run with it must give the kernel's bits on thousands of random results of up to 8193 blocks: how many it
gives is part of the answer. A kernel that adds in no tree of float32 sums is reported as such: compensated
sums, sums in double, orders that depend on the values, results that vary from call to call.

## Matrix products

`q8a8 reveal SUT --function mul_mat_q8_a8` finds out what a device computes under that name. Outputs of the
same two rows are compared in products of many shapes; where their bits change, the rule for it is found
("every row of x where n >= 9"), and each part is measured by itself:

| what | how |
| --- | --- |
| activations | weights with a single 1 give back what became of an element beside a tie: h·q, or a float |
| one scale for a row | a second block of other magnitudes |
| weights | activations with a single 127 give back what became of a weight |
| elements that share a scale | an outlier elsewhere in the matrix changes what became of an element |
| other numbers | integers of 2 to 8 bits, narrow floats, zero points are tried; others are read one by one |
| order of quantized rows | as of a dot product: a block with the code 127 is left as it is by every recipe |
| half precision | 127 · 127 is 16128, and 127 · 1016 infinite, or 65504 |
| tree of floats | masks and units are activations, under weights of 1: single elements, not blocks |
| roundings of floats | the reference follows the tree with each of them, on random rows |
| other rows | the rows beside a row are made far larger: its bits stay |
| error | the mean error over the mean output, beside that of quantization itself |

Weights that are quantized once more, or activations in another format, are named by the numbers and by what
shares a scale: `weights:int8-per-16`, `weights:int4-per-row`, `weights:int8-per-32-zero-point`,
`weights:scale-per-128` (the codes of four blocks under one of their scales), `weights:zero-point` (added to
the codes), `weights:16-levels`, `activations:e4m3-per-matrix`. Of these products the sums are compared but
for their roundings, and no order is looked for.

Floats are rounded in several places: products fused or not, weights made halves or bfloat16, the weights'
scale multiplied with each element or with the sum of some, sums in half, bfloat16, float or double. A scale
of a whole row may be multiplied last (`activation-scale-last`). The names are
`activations:float32`, `recipe:ggml-avx2`, `accumulator:float16`, `weights:float16`,
`order:avx2` and their like; with `q8a8 test` they are the causes of what a product gets wrong. Two recipes
that differ only in a block whose scale is zero are one here: no product shows its codes.
ggml's q8_1 has the codes and the scale of `ggml-ref` in C, and of `division` in CUDA, and is named so; its
sum of a block is used by weights with an offset alone.
[Real kernels](peers.md) has what ggml's shipped devices compute.

Products of other packages, by their [adapters](command-line.md#q8a8-test), are named in the same words:

| system under test | what it does | revealed |
| --- | --- | --- |
{ADAPTERS}

## The trees of ggml's kernels

Each order of the catalogue on a row of {BLOCKS} blocks: to the left what becomes of one code of each block,
b0 to b6; to the right, where there is more than one, how the registers are added at the end, lane l of
accumulator a.

"""


def render() -> str:
    """Return the page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield HEAD.rstrip()
    for order in distinct_orders(1):
        names = ", ".join(f"`{name}`" for name in equal_orders(order))
        yield from ("", f"### {names}", "")
        yield f"{ORDERS[order.name].source}: {words_of(Candidate(order))}."
        yield from ("", f'<div class="trees">{_blocks(order)}{_registers(order)}</div>')


def _blocks(order: Order) -> str:
    tree = block_tree_of(order, BLOCKS)
    return tree_svg(BLOCKS, tree, f"{order.name}: the additions of {BLOCKS} blocks", lambda term: f"b{term}")


def _registers(order: Order) -> str:
    """Draw the fold; empty for a single register."""
    lanes, count = len(order.lanes), order.registers
    if count == 1:
        return ""

    def label(register: int) -> str:
        lane = f"l{register % lanes}" if lanes > 1 else ""
        return " ".join(filter(None, (f"a{register // lanes}" if order.accumulators > 1 else "", lane)))

    return tree_svg(count, _additions(order.fold), f"{order.name}: the fold of {count} registers", label)


def _additions(fold: Fold) -> Additions:
    """Return a fold as additions."""
    count = sum(1 for _ in fold_leaves(fold))
    additions: list[tuple[int, int]] = []

    def number(part: Fold) -> int:
        if isinstance(part, int):
            return part
        additions.append((number(part[0]), number(part[1])))
        return count + len(additions) - 1

    number(fold)
    return tuple(additions)


def main(arguments: list[str] | None = None) -> None:
    """Write the page to the file that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m q8a8_lab.pages.reveal", description=__doc__)
    parser.add_argument("--markdown", type=Path, required=True, metavar="FILE", help="the page to write")
    parser.parse_args(arguments).markdown.write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
