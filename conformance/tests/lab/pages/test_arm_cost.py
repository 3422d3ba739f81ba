"""What the Arm kernels cost: instructions are counted exactly, loops found, llvm-mca's words read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from q8a8_lab import native_build
from q8a8_lab.pages import arm_cost

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = Path(__file__).parents[4] / "docs" / "arm-cost.md"

# One instruction, two a round, three to end.
COUNTDOWN = """
    .globl _start
_start: mov x1, #ROUNDS
1:      subs x1, x1, #1
        b.ne 1b
        mov x0, #0
        mov x8, #93
        svc #0
"""

# An outer loop of one product, two inner ones of one and of three, and a jump out of the function.
NESTED = """
0000000000000c00 <tile>:
     c00:\tldr\tq0, [x1]
     c04:\tsdot\tv1.4s, v0.16b, v2.4b[0]
     c08:\tb.ne\tc04 <tile+0x4>  // b.any
     c0c:\tld1rqb\t{z0.b}, p0/z, [x1, #16]
     c10:\tsdot\tz1.s, z0.b, z2.b[0]
     c14:\tsdot\tz3.s, z0.b, z2.b[1]
     c18:\tmov\tx6, #0x0                   \t// #0
     c1c:\tsmmla\tz4.s, z0.b, z2.b
     c20:\tcbnz\tx2, c0c <tile+0xc>
     c24:\tb.cc\tc00 <tile>  // b.lo, b.ul, b.last
     c28:\tb\tb00 <other>
"""


@pytest.mark.parametrize("rounds", [1, 1000, 60000])
def test_counts_every_instruction(rounds: int, tmp_path: Path, need: Callable[[object, str], None]) -> None:
    """The count of a program written by hand is the number that its text says."""
    try:
        for tool in ("cc", arm_cost.COMPILER, "qemu-aarch64"):
            native_build.find_tool(tool)
    except native_build.MissingToolError as error:
        need(False, str(error))
    source, program = tmp_path / "countdown.s", tmp_path / "countdown"
    source.write_text(COUNTDOWN.replace("ROUNDS", str(rounds)))
    compiler = native_build.find_tool(arm_cost.COMPILER)
    native_build.run_tool([compiler, "-nostdlib", "-static", str(source), "-o", str(program)])
    plugin = arm_cost.compile_plugin(tmp_path)
    assert arm_cost.instructions(plugin, "max", [str(program)]) == 1 + 2 * rounds + 3


def test_finds_the_inner_loop_with_the_most_products() -> None:
    """The innermost loop is cut out, comments gone, its branch to a label; others are left alone."""
    loop = arm_cost.inner_loop(NESTED, "sdot|smmla")
    assert loop == [
        "ld1rqb {z0.b}, p0/z, [x1, #16]",
        "sdot z1.s, z0.b, z2.b[0]",
        "sdot z3.s, z0.b, z2.b[1]",
        "mov x6, #0x0",
        "smmla z4.s, z0.b, z2.b",
        "cbnz x2, .Ltop",
    ]
    assert arm_cost.inner_loop(NESTED, "fmla") == []


def test_blocks_are_counted_by_products() -> None:
    """A 128-bit SDOT multiplies 16 pairs, SMMLA 32, SMULL 8; a longer vector so many times more."""
    assert arm_cost.blocks_of(["sdot v1.4s, v0.16b, v2.16b"] * 2, "sdot", 0) == 1
    assert arm_cost.blocks_of(["smmla z1.s, z0.b, z2.b"], "smmla", 256) == 2
    assert (
        arm_cost.blocks_of(["smull v1.8h, v0.8b, v2.8b", "smlal2 v1.8h, v0.16b, v2.16b"], "sml?[au]l+2?", 0)
        == 0.5
    )


def test_reads_the_cycles() -> None:
    """Cycles an iteration come from llvm-mca's summary; another text is refused."""
    printed = (
        "Iterations:        500\nInstructions:      3000\nTotal Cycles:      1250\nTotal uOps:        3000\n"
    )
    assert arm_cost.cycles_of(printed) == 2.5
    with pytest.raises(ValueError, match="no cycles"):
        arm_cost.cycles_of("error: unknown target")


def test_the_page_has_every_kernel() -> None:
    """The page has a row for each kernel, in order."""
    rows = [line.split(" | ")[:2] for line in PAGE.read_text().splitlines() if line.startswith("| ")][2:]
    assert rows == [[f"| {code.name}", f"`{code.march}`"] for code in arm_cost.KERNELS]
