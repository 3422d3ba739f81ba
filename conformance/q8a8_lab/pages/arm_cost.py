"""What the Arm kernels cost, where only an emulator is at hand: instructions counted, and cycles estimated.

``python -m q8a8_lab.pages.arm_cost [--markdown docs/arm-cost.md]``

Instructions are counted under QEMU by a plugin (``native_check/cost/count.c``): two runs of a program with
different numbers of products, so that all else cancels. Cycles are llvm-mca's, of the loop over blocks that
is found in the disassembly. ggml's functions are compiled from its source by the same compiler.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from q8a8.atomic import write_text
from q8a8_lab import native_build
from q8a8_lab.peers import store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "KERNELS",
    "Code",
    "blocks_of",
    "compile_ours",
    "compile_plugin",
    "count",
    "cycles_of",
    "inner_loop",
    "instructions",
    "main",
]

COMMAND: Final = "python -m q8a8_lab.pages.arm_cost --markdown docs/arm-cost.md"
ROWS, BLOCKS = 1024, 32
"""Of the weights (native_check/cost/cost.h)."""
COLUMNS: Final = (1, 8, 32)
COMPILER: Final = "aarch64-linux-gnu-gcc"
CORES: Final[Mapping[str, int]] = {"neoverse-n1": 0, "neoverse-v1": 256, "cortex-x2": 128}
"""The modelled cores, with their bits of an SVE vector (0: no SVE)."""
_BRANCH: Final = re.compile(r"b(\.\w+)?|[ct]bn?z")

HEAD: Final = f"""# What the Arm kernels cost

<!-- Made by {COMMAND}; not to be edited by hand. -->

This project has no Arm machine. Speed on Arm is described by two numbers that need none, for a block of 32
products in a matrix product with packed weights ({ROWS} rows of {BLOCKS} blocks):

- **Instructions a block**, counted under QEMU by a plugin: the difference of two runs, so that the start
  and the packing of the weights cancel. Quantizing the rows of x is included. Divided by m·n·k/32.
- **Cycles a block**, by llvm-mca's models of the cores for the innermost loop: all data in the first cache,
  all branches predicted. Of the loop with the most products, which for our kernels is that of four rows of
  x. LLVM gives the Cortex-X2 the model of the Neoverse N2. A dash: the core cannot run the kernel, or its
  loop is not found.

Neither is a time: they say how much work there is and what limits it when memory does not. ggml's rows are
its own functions for Q8_0, compiled from its source with `-O3` by the same compiler: *rows* is its dot
product, *pairs* that of two rows by two, *repacked* the products of interleaved weights. Unlike ours they
are not bit-identical to the scalar order ([orders](reveal.md)).

"""


@dataclass(frozen=True)
class Code:
    """A kernel whose cost is stated.

    Parameters
    ----------
    name
        What the page calls it.
    march
        The architecture that it is compiled for.
    kind
        One of ggml's products (native_check/cost/ggml.c), or the name of our kernel.
    function
        Whose inner loop llvm-mca models; empty for none.
    product
        The instructions that multiply in that loop, a regular expression.
    cores
        Those of `CORES` that can run it.
    bits
        The length of a vector, for SVE under QEMU.
    """

    name: str
    march: str
    kind: str
    function: str
    product: str
    cores: tuple[str, ...] = ("neoverse-n1", "neoverse-v1", "cortex-x2")
    bits: int = 0

    @property
    def ours(self) -> bool:
        """Return whether it is a kernel of this project."""
        return self.kind in native_build.KERNELS


NEWER: Final = ("neoverse-v1", "cortex-x2")
SVE_I8MM: Final = "armv8.2-a+sve+i8mm"
KERNELS: Final = (
    Code("ours, `neon`", "armv8-a", "neon", "neon_tile", "sml?[au]l+2?"),
    Code("ggml, rows", "armv8-a", "rows", "ggml_vec_dot_q8_0_q8_0", "smull2?"),
    Code("ours, `dotprod`", "armv8.2-a+dotprod", "dotprod", "neon_tile", "sdot"),
    Code("ggml, rows", "armv8.2-a+dotprod", "rows", "ggml_vec_dot_q8_0_q8_0", "sdot"),
    Code("ggml, repacked 4x4", "armv8.2-a+dotprod", "4x4", "ggml_gemm_q8_0_4x4_q8_0", "sdot"),
    Code("ours, `i8mm`", "armv8.2-a+i8mm", "i8mm", "neon_tile", "smmla", NEWER),
    Code("ggml, pairs", "armv8.2-a+dotprod+i8mm", "pairs", "ggml_vec_dot_q8_0_q8_0", "smmla", NEWER),
    Code("ggml, repacked 4x8", "armv8.2-a+dotprod+i8mm", "4x8", "ggml_gemm_q8_0_4x8_q8_0", "smmla", NEWER),
    Code("ours, `sve`, 128 bits", "armv8.2-a+sve", "sve", "sve_tile", "sdot", ("cortex-x2",), 128),
    Code("ours, `sve`, 256 bits", "armv8.2-a+sve", "sve", "sve_tile", "sdot", ("neoverse-v1",), 256),
    Code("ours, `sve`, 512 bits", "armv8.2-a+sve", "sve", "", "sdot", (), 512),
    Code("ours, `sve-i8mm`, 128 bits", SVE_I8MM, "sve-i8mm", "sve_i8mm_tile", "smmla", ("cortex-x2",), 128),
    Code("ours, `sve-i8mm`, 256 bits", SVE_I8MM, "sve-i8mm", "sve_i8mm_tile", "smmla", ("neoverse-v1",), 256),
    Code("ours, `sve-i8mm`, 512 bits", SVE_I8MM, "sve-i8mm", "", "smmla", (), 512),
    Code("ggml, rows, SVE 128 bits", "armv8.2-a+dotprod+sve", "rows", "", "sdot", (), 128),
    Code("ggml, rows, SVE 256 bits", "armv8.2-a+dotprod+sve", "rows", "", "sdot", (), 256),
    Code("ggml, rows, SVE 512 bits", "armv8.2-a+dotprod+sve", "rows", "", "sdot", (), 512),
)


def _source(name: str) -> str:
    return str(native_build.source_folder() / "cost" / name)


def compile_plugin(folder: Path) -> Path:
    """Compile QEMU's plugin into `folder`; return its path."""
    plugin = folder / "libcount.so"
    flags = ("-O2", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror")
    native_build.run_tool([native_build.find_tool("cc"), *flags, _source("count.c"), "-o", str(plugin)])
    return plugin


def compile_ours(folder: Path) -> Path:
    """Compile the program that multiplies by our libraries into `folder`; return its path."""
    program = folder / "ours"
    include = str(native_build.source_folder() / "include")
    flags = ("-O2", "-Wall", "-Wextra", "-Werror", "-I", include)
    native_build.run_tool([
        native_build.find_tool(COMPILER), *flags, _source("ours.c"), "-o", str(program), "-ldl",
    ])  # fmt: skip
    return program


def compile_ggml(march: str, folder: Path) -> Path:
    """Compile the program that multiplies by ggml's functions for an architecture; return its path.

    Unused functions are dropped, and with them what the rest of ggml would have to define.
    """
    program = folder / f"ggml-{march}"
    if program.is_file():
        return program
    root = store.fetch(store.GGML_SOURCE) / store.GGML_SOURCE.members
    source = root / "src" / "ggml-cpu"
    includes = [f"-I{path}" for path in (root / "include", root / "src", source)]
    flags = ("-O3", "-DNDEBUG", "-D_GNU_SOURCE", "-ffunction-sections", "-fdata-sections", "-w", "-c")
    objects = []
    for tool, standard, file in (
        ("gcc", "gnu11", source / "arch" / "arm" / "quants.c"),
        ("g++", "gnu++17", source / "arch" / "arm" / "repack.cpp"),
        ("gcc", "gnu11", Path(_source("ggml.c"))),
    ):
        objects.append(str(folder / f"{march}-{file.stem}.o"))
        compiler = native_build.find_tool(f"aarch64-linux-gnu-{tool}")
        native_build.run_tool([
            compiler, f"-std={standard}", f"-march={march}", *flags, *includes, str(file), "-o", objects[-1],
        ])  # fmt: skip
    unused = ("-Wl,--gc-sections", "-Wl,--unresolved-symbols=ignore-all", "-no-pie")
    native_build.run_tool([native_build.find_tool(COMPILER), *unused, *objects, "-o", str(program)])
    return program


def instructions(plugin: Path, cpu: str, command: Sequence[str]) -> int:
    """Return how many instructions a program runs on an emulated CPU, from its first to its last.

    Raises
    ------
    NativeError
        It cannot be run here.
    """
    qemu = native_build.qemu_argv(cpu)
    argv = [qemu[0], "-plugin", str(plugin), *qemu[1:], *command]
    printed = native_build.run_tool(argv, both=True)
    found = re.search(r"^instructions: (\d+)$", printed, re.MULTILINE)
    if found is None:
        raise native_build.NativeError(f"QEMU printed no count: {printed[-200:]}")
    return int(found[1])


def count(plugin: Path, cpu: str, command: Sequence[str], columns: int) -> float:
    """Return the instructions a block of a product.

    Parameters
    ----------
    plugin : Path
        QEMU's plugin.
    cpu : str
        A CPU of QEMU.
    command : sequence of str
        The program, with its first argument.
    columns : int
        The rows of x.

    Raises
    ------
    NativeError
        It cannot be run here.
    """
    totals = [instructions(plugin, cpu, [*command, str(columns), repeats]) for repeats in ("1", "2")]
    return (totals[1] - totals[0]) / (ROWS * BLOCKS * columns)


def inner_loop(disassembly: str, product: str) -> list[str]:
    """Return the innermost loop of a function with the most products, as instructions for an assembler.

    Parameters
    ----------
    disassembly : str
        Of one function, by objdump without raw instructions.
    product : str
        A regular expression for the mnemonics that multiply.

    Returns
    -------
    list of str
        Its instructions; branches go to ``.Ltop``. Empty if no loop has a product.
    """
    pattern = re.compile(r"^ +([0-9a-f]+):\t(\S+)(?:\t([^\n]*))?", re.MULTILINE)
    comment = re.compile(r"\s*(//|<).*")
    code = [(int(at, 16), name, comment.sub("", rest)) for at, name, rest in pattern.findall(disassembly)]
    loops: list[tuple[int, int]] = []
    for at, name, operands in code:
        target = operands.split(",")[-1].strip()
        if _BRANCH.fullmatch(name) and re.fullmatch("[0-9a-f]+", target):
            start = int(target, 16)
            if code[0][0] <= start <= at:
                loops.append((start, at))
    innermost = [a for a in loops if not any(a != b and a[0] <= b[0] and b[1] <= a[1] for b in loops)]
    best: list[str] = []
    most = 0
    for start, end in innermost:
        body = [(name, operands) for at, name, operands in code if start <= at <= end]
        products = sum(bool(re.fullmatch(product, name)) for name, _ in body)
        if products > most:
            most = products
            best = [f"{name} {_operands(name, operands)}" for name, operands in body]
    return best


def _operands(name: str, operands: str) -> str:
    return re.sub("(^|, )[0-9a-f]+$", r"\1.Ltop", operands) if _BRANCH.fullmatch(name) else operands


def blocks_of(loop: Sequence[str], product: str, bits: int) -> float:
    """Return how many blocks of 32 products a loop multiplies; `bits` of a vector, for SVE."""
    total = 0.0
    for line in loop:
        name, operands = line.split(" ", 1)
        if re.fullmatch(product, name):
            each = {"sdot": 16, "smmla": 32}.get(name, 8)
            total += each * (bits / 128 if operands.startswith("z") else 1)
    return total / 32


def cycles_of(printed: str) -> float:
    """Return the cycles an iteration from what llvm-mca printed.

    Raises
    ------
    ValueError
        It has no such numbers.
    """
    numbers = [
        re.search(rf"^{word}: +(\d+)$", printed, re.MULTILINE) for word in ("Iterations", "Total Cycles")
    ]
    if numbers[0] is None or numbers[1] is None:
        raise ValueError(f"llvm-mca printed no cycles: {printed[:200]}")
    return int(numbers[1][1]) / int(numbers[0][1])


def cycles(code: Code, core: str, binary: Path) -> float | None:
    """Return llvm-mca's cycles a block of a kernel's inner loop on a core; None where there is none."""
    if not code.function or core not in code.cores:
        return None
    dump = native_build.find_tool("aarch64-linux-gnu-objdump")
    options = ("--no-show-raw-insn", f"--disassemble={code.function}")
    loop = inner_loop(native_build.run_tool([dump, *options, str(binary)]), code.product)
    if not loop:
        return None
    text = "\n".join([".Ltop:", *loop, ""])
    mca = [native_build.find_tool("llvm-mca-19"), "-mtriple=aarch64", f"-mcpu={core}", "-iterations=500"]
    done = subprocess.run(mca, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise native_build.NativeError(f"llvm-mca: {done.stderr[-400:]}")
    return cycles_of(done.stdout) / blocks_of(loop, code.product, CORES[core])


def row(code: Code, plugin: Path, ours: Path, folder: Path) -> str:
    """Measure a kernel and return its row of the table."""
    cpu = native_build.sve_cpu(code.bits) if code.bits else "max"
    if code.ours:
        binary = native_build.build("aarch64") / "lib" / f"libq8a8-{code.kind}.so"
        command = [str(ours), str(binary)]
    else:
        binary = compile_ggml(code.march, folder)
        command = [str(binary), code.kind]
    pairs = code.kind == "pairs"
    counts = [
        "-" if pairs and columns == 1 else f"{count(plugin, cpu, command, columns):.2f}"
        for columns in COLUMNS
    ]
    modelled = (cycles(code, core, binary) for core in CORES)
    cells = [code.name, f"`{code.march}`", *counts, *("-" if c is None else f"{c:.2f}" for c in modelled)]
    return f"| {' | '.join(cells)} |\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure all kernels, print or write the page; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m q8a8_lab.pages.arm_cost", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the page here")
    options = parser.parse_args(argv)
    counted = [f"n = {columns}" for columns in COLUMNS]
    titles = [
        "kernel",
        "compiled for",
        *(f"instructions, {n}" for n in counted),
        *(f"cycles, {c}" for c in CORES),
    ]
    page = HEAD + f"| {' | '.join(titles)} |\n|{' --- |' * len(titles)}\n"
    try:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            plugin, ours = compile_plugin(folder), compile_ours(folder)
            for code in KERNELS:
                line = row(code, plugin, ours, folder)
                sys.stderr.write(line)
                page += line
            compiler = native_build.run_tool([native_build.find_tool(COMPILER), "--version"]).splitlines()[0]
    except (native_build.NativeError, store.PeerUnavailableError) as error:
        sys.stderr.write(f"arm_cost: {error}\n")
        return 2
    page += f"\nMade with {compiler}, llvm-mca 19 and {store.GGML_SOURCE.requirement}'s ggml: `{COMMAND}`.\n"
    if options.markdown is None:
        sys.stdout.write(page)
    else:
        write_text(page, options.markdown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
