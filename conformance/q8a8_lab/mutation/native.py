"""Wrong kernels in C, where the bug is about lanes, memory, the processor or the process.

Each is a kernel of the program ``q8a8-mutants``, which CMake builds beside the harness from
``native_check/mutants/`` and which speaks the worker protocol as the harness does::

    q8a8 test "exec:native_check/build/native/bin/q8a8-mutants over-read-byte"

The table here says what each one does wrong and which rule that breaks. The program's own list
(``q8a8-mutants --list``, ``native_check/mutants/list.h``) has the same slugs.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from q8a8_lab import native_build
from q8a8_lab.mutation.native_lanes import LANES

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MUTANTS", "NativeMutant", "argv"]


@dataclass(frozen=True)
class NativeMutant:
    """What is known of a wrong kernel in C.

    Attributes
    ----------
    slug
        Its name for ``q8a8-mutants``.
    sentence
        What it does wrong, in one sentence.
    fix
        What to do about it, in one sentence.
    seen
        Where such a bug was really seen; None where it is only plausible.
    rule
        The full id of the rule that it breaks first of all.
    processor
        The architecture that it is for, ``any`` for all.
    """

    slug: str
    sentence: str
    fix: str
    seen: str | None = None
    _: KW_ONLY
    rule: str
    processor: str

    def runs_on(self, processor: str) -> bool:
        """Say whether it is for ``x86_64``, ``aarch64``..."""
        return self.processor in ("any", processor)


_PROCESS: Final = (
    (
        "Q8A8-MEM-1",
        "any",
        (
            (
                "over-read-byte",
                "The dot product's loop loads the first byte of the block after the last one.",
                "Ask whether there is a next block before loading from it.",
            ),
            (
                "over-read-block",
                "The dot product over 36-byte blocks loads the next block while it computes the last one.",
                "Let the last round of a pipelined loop load nothing.",
            ),
            (
                "over-read-vector",
                "The odd tail of an activation vector is loaded as a whole vector and masked afterwards.",
                "Load the tail element by element, or copy it into a padded buffer.",
            ),
            (
                "over-read-empty",
                "The first block is loaded before the loop, in an empty row too.",
                "Return, or skip the first load, where k is 0.",
            ),
            (
                "under-read",
                "A scale is loaded as the upper half of a word that begins two bytes before the block.",
                "Load the two bytes of the scale alone.",
            ),
        ),
    ),
    (
        "Q8A8-MEM-2",
        "any",
        (
            (
                "over-write-byte",
                "A zero is stored behind the last code of an activation vector.",
                "Store `size` codes.",
            ),
            (
                "over-write-scale",
                "The activation's scale is stored as a 32-bit word.",
                "Store two bytes: the scale is a uint16_t.",
            ),
            (
                "over-write-vector",
                "A block is stored as three vectors of 16 bytes, 14 bytes too many behind the last one.",
                "Store the last block's 34 bytes and no more.",
            ),
            (
                "over-write-lanes",
                "All four lanes of the accumulator are stored to s before they are folded.",
                "Fold in registers, and store one float.",
            ),
            (
                "over-write-block",
                "Blocks are dequantized in pairs: an odd count leaves a block of zeros behind the output.",
                "Give the odd last block a loop of its own.",
            ),
            (
                "under-write",
                "A block's scale is stored as a word that begins two bytes before the block.",
                "Store the two bytes of the scale alone.",
            ),
        ),
    ),
    (
        "Q8A8-MEM-3",
        "any",
        (
            (
                "writes-input",
                "The activation quantizer scales the elements where they are.",
                "Scale in registers, or in a buffer of the kernel's own.",
            ),
            (
                "restores-input",
                "The dot product marks blocks of x that are done, and takes the marks away in the end.",
                "Keep notes somewhere else: inputs may be mapped read-only, or read by others.",
            ),
        ),
    ),
    (
        "Q8A8-MEM-4",
        "any",
        (
            (
                "aligned-assert",
                "An assertion wants blocks at a multiple of four bytes.",
                "Blocks need 2-byte alignment: drop the assertion.",
            ),
            (
                "aligned-by-or",
                "Vectors of the output are addressed by setting a bit of the address, not by adding.",
                "Add offsets to addresses.",
            ),
            (
                "aligned-words",
                "Rows of 36-byte blocks are read from the address rounded down to a multiple of four.",
                "Use the address as it is: blocks need 2-byte alignment.",
            ),
        ),
    ),
    (
        "Q8A8-MEM-4",
        "x86_64",
        (
            (
                "x86-aligned-load",
                "Elements are loaded by MOVAPS, which traps where they are at no multiple of 16 bytes.",
                "Use MOVUPS (_mm_loadu_ps): floats need 4-byte alignment.",
            ),
            (
                "x86-aligned-store",
                "Codes are stored by MOVAPS, which traps where they are at no multiple of 16 bytes.",
                "Use MOVUPS (_mm_storeu_si128): int8 output needs no alignment.",
            ),
        ),
    ),
    (
        "Q8A8-ENV-1",
        "any",
        (
            (
                "leaves-rounding",
                "The rounding mode is set to truncation and not set back.",
                "Set the rounding mode back, or use instructions that name their own.",
            ),
            (
                "leaves-rounding-early",
                "The early return for an empty row leaves the rounding mode changed.",
                "Set the rounding mode back on every way out.",
            ),
            (
                "leaves-flush",
                "Flush-to-zero is switched on and stays on.",
                "Leave the mode alone: nothing in a dot product is subnormal.",
            ),
            (
                "clears-flush",
                "Flush-to-zero is switched off, though the caller had it on.",
                "Save the control register, and put back what was found.",
            ),
        ),
    ),
    (
        "Q8A8-ENV-1",
        "x86_64",
        (
            (
                "x86-leaves-traps",
                "The exception for inexact results is left unmasked.",
                "Put the exception masks back.",
            ),
            (
                "x86-leaves-precision",
                "The x87 unit is left in single precision.",
                "Put the x87 control word back.",
            ),
        ),
    ),
    (
        "Q8A8-ENV-1",
        "aarch64",
        (
            (
                "arm-leaves-fz16",
                "FPCR.FZ16 is set, for speed, and stays set.",
                "Leave the mode alone: conversions ignore it.",
            ),
        ),
    ),
    (
        "Q8A8-ENV-2",
        "any",
        (
            (
                "keeps-amax",
                "A call's largest magnitude begins with an element of the call before.",
                "Start every call with amax = 0.",
            ),
            (
                "remembers-rows",
                "A dot product is remembered by the addresses of its rows, which stay when the rows change.",
                "Remember nothing by address.",
            ),
            (
                "needs-another-call",
                "Dequantization reads a table that a quantizer fills: before that it is all zeros.",
                "Fill tables before the library's first use, or compute without one.",
                "ggml: before ggml_cpu_init() its table of halves is empty, and the dot gives 0",
            ),
            (
                "every-sixteenth",
                "Every sixteenth call leaves out the last block.",
                "Let no count of calls decide anything.",
            ),
            (
                "dirty-tail",
                "The odd tail is padded in a static vector that still holds the last call's elements.",
                "Clear the padding in every call.",
            ),
        ),
    ),
    (
        "Q8A8-ENV-3",
        "any",
        (
            (
                "lazy-table",
                "The first call says that a table is there before it has read it from a file.",
                "Read it under a lock (call_once).",
            ),
            (
                "shared-row",
                "A row is quantized in a static buffer and copied out from there.",
                "Quantize into the output, or use a buffer on the stack.",
            ),
            (
                "shared-products",
                "The blocks' products wait in a static array until they are added.",
                "Use a buffer on the stack.",
            ),
            (
                "shared-scale",
                "A block's scale is kept in a static variable while the block is computed.",
                "Use a local variable.",
            ),
        ),
    ),
    (
        "Q8A8-ENV-4",
        "any",
        (
            (
                "crash-long",
                "A row of 257 blocks ends in a null pointer.",
                "Bound no table by a number of blocks.",
            ),
            (
                "crash-tail",
                "A tail of three blocks runs an instruction that the processor has not.",
                "Ask the processor for what every path needs.",
            ),
            (
                "crash-zero-block",
                "An assertion says that no block is all zeros.",
                "A block of zeros is legal: its scale is +0.",
            ),
            ("exits", "A vector of one element ends the program with status 0.", "Compute every size."),
            (
                "hang-long",
                "Blocks are counted in eight bits, which never reach 256.",
                "Count in int64_t, as k is.",
            ),
            (
                "hang-lock",
                "The early return for an empty row keeps a lock: the next call waits for ever.",
                "Release the lock on every way out, or do without.",
            ),
            (
                "scribbles",
                "For an empty row, a message goes to file descriptors that the kernel did not open.",
                "Write nothing, or to standard error.",
            ),
        ),
    ),
    (
        "Q8A8-QNT-11",
        "any",
        (
            (
                "crash-nan",
                "A NaN becomes the index of a table.",
                "Convert before indexing, by an instruction that takes any float.",
            ),
            (
                "hang-nan",
                "A loop halves an element until it is small enough, which a NaN never is.",
                "Let no loop's end depend on an element.",
            ),
        ),
    ),
    (
        "Q8A8-ENV-4",
        "x86_64",
        (
            (
                "x86-crash-empty",
                "An integer is divided by the number of blocks, which may be 0.",
                "Handle n = 0 first.",
            ),
        ),
    ),
)

MUTANTS: Final[Mapping[str, NativeMutant]] = {
    entry[0]: NativeMutant(*entry, rule=rule, processor=processor)
    for rule, processor, entries in (*_PROCESS, *LANES)
    for entry in entries
}
"""Every mutant by its slug."""


def argv(slug: str, cpu: str | None = None) -> list[str]:
    """Return the command of a worker that runs a mutant, built if need be.

    Parameters
    ----------
    slug : str
        One of `MUTANTS`.
    cpu : str, optional
        A CPU of QEMU; the machine's own without it.

    Raises
    ------
    q8a8_lab.native_build.NativeError
        It cannot be built or run here.
    """
    harness = native_build.harness_argv(slug, cpu)
    program = harness.index(slug) - 1
    return [*harness[:program], str(Path(harness[program]).with_name("q8a8-mutants")), slug]
