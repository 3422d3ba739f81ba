"""``q8a8 bench``: how fast the reference is, as ratios to its peers, and how much memory it takes.

A time says something about one machine; a ratio measured in one run says more. A ratio is the speed of ours
over theirs: above 1 the reference is faster. The peers are the float32 matrix product of the same shape (BLAS
held to one thread), gguf-py (NumPy), the C scalar kernel, and a plain copy of the floats, a bound on all.

Both measurements run in child processes: the number of BLAS threads is fixed when NumPy is loaded, and
resident memory is that of a whole process.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from q8a8.atomic import write_text
from q8a8_conformance.commands.options import OK, refuse
from q8a8_conformance.files.arrays import FileError
from q8a8_conformance.results.record import count
from q8a8_evaluation.child import Child, ChildError
from q8a8_evaluation.commands import bench_native
from q8a8_evaluation.commands.shared import require_writable
from q8a8_evaluation.native import NativeKernelError
from q8a8_golden.generate.native import NativeBuildError, scalar_library

if TYPE_CHECKING:
    import argparse

__all__ = ["add_parser", "collect", "run", "text"]


NO_C_KERNEL = """\
c-scalar: not measured, for there is no C scalar kernel here. In a checkout with a C compiler it is built by
itself; or build it by `cmake -S native_check -B native_check/build/native && cmake --build
native_check/build/native`; a library from elsewhere is named with --c-kernel PATH."""
NO_GGUF = "gguf-py: not measured, for it is not installed (`pip install gguf`)."
NO_STATUS = "memory: not measured, for this system has no /proc/self/status."


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``bench``."""
    parser = subparsers.add_parser(
        "bench",
        help="time the reference against its peers",
        description="Time the reference against the float32 matrix product, gguf-py, the C scalar kernel and "
        "a plain copy; measure the memory that quantizing 1 GiB takes. Ratios are speeds, ours over theirs.",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to a file")
    parser.add_argument("--c-kernel", type=Path, metavar="PATH", help="the C scalar kernel's shared library")
    parser.add_argument(
        "--quick", action="store_true", help="small arrays and few rounds: a try, not a measurement"
    )
    parser.add_argument(
        "--native", action="store_true", help="time the C kernels instead, against ggml, BLAS and the machine"
    )
    parser.add_argument("--ggml", type=Path, metavar="FOLDER", help="with --native: ggml's shared libraries")
    parser.set_defaults(func=run)


def run(options: argparse.Namespace) -> int:
    """Measure, print the ratios and the memory, write the JSON file; return the exit status."""
    try:
        if options.json:
            require_writable(options.json)
        if options.native:
            figures = bench_native.collect(options.ggml, quick=options.quick)
        else:
            figures = collect(options.c_kernel, quick=options.quick)
        if options.json:
            write_text(json.dumps(figures, indent=2) + "\n", options.json)
    except (ChildError, FileError, NativeBuildError, NativeKernelError, OSError) as error:
        return refuse(error)
    sys.stdout.write(bench_native.text(figures) if options.native else text(figures))
    return OK


def collect(c_kernel: Path | None, *, quick: bool) -> dict[str, Any]:
    """Run both measurements in processes of their own.

    Parameters
    ----------
    c_kernel
        The C scalar kernel's library; None to look for it.
    quick
        Small arrays and few rounds.

    Returns
    -------
    dict
        `ratios`, speed of ours over theirs, None where a peer is missing; `seconds`, `sizes`, `machine`;
        `memory`, in bytes; `notes`, why something is missing.

    Raises
    ------
    ChildError
        A measuring process failed.
    """
    c_kernel = c_kernel or scalar_library()
    figures = _measured("speed", {"quick": quick, "c_kernel": c_kernel and str(c_kernel)})
    figures["quick"] = quick
    figures |= _measured("resident", {"bytes": 1 << (26 if quick else 30)})
    missing = {
        NO_C_KERNEL: not c_kernel,
        NO_GGUF: figures["ratios"]["quantize/gguf-py"] is None,
        NO_STATUS: figures["memory"] is None,
    }
    figures["notes"] = [note for note, applies in missing.items() if applies]
    return figures


def _measured(module: str, request: dict[str, Any]) -> dict[str, Any]:
    """Run a measuring module in a process of its own, and return its figures."""
    with Child(f"q8a8_evaluation.bench.{module}", request) as child:
        return child.read()[0]


def text(figures: dict[str, Any]) -> str:
    """Return the figures for a reader."""
    m, k = figures["sizes"]["w"]
    n, rounds, machine = figures["sizes"]["x"][0], figures["sizes"]["rounds"], figures["machine"]
    lines = [
        f"mul_mat: {m} x {k} weights by {count(n, 'column')}; quantize, dequantize: {m} x {k} floats.",
        f"Medians of {count(rounds, 'interleaved round')}, BLAS held to one thread.",
        f"{machine['architecture']}, NumPy {machine['numpy']}, {machine['blas']}.",
    ]
    if figures["quick"]:
        lines.append("Quick: arrays as small as these say nothing about speed.")
    lines += ["", f"  {'speed of ours over theirs':<34}{'ratio':>8}"]
    for name, ratio in figures["ratios"].items():
        lines.append(f"  {name:<34}{'null' if ratio is None else format(ratio, '.2f'):>8}")
    lines += ["", f"  {'median time':<34}{'ms':>8}"]
    lines += [f"  {name:<34}{1e3 * seconds:>8.1f}" for name, seconds in figures["seconds"].items()]
    if figures["memory"]:
        lines += ["", _memory_text(figures["memory"])]
    for note in figures["notes"]:
        lines += ["", note]
    return "\n".join(lines) + "\n"


def _memory_text(memory: dict[str, int]) -> str:
    array, extra, result, working, mapped, limit = (
        f"{memory[name] / (1 << 20):.1f} MiB"
        for name in (
            "array_bytes",
            "extra_bytes",
            "result_bytes",
            "working_bytes",
            "mapped_bytes",
            "limit_bytes",
        )
    )
    return (
        f"Quantizing {array} of memory-mapped float32 takes {extra} more of resident memory: {result} for\n"
        f"the result, {working} to work in, {mapped} of the mapped file. For 1 GiB the limit is {limit}."
    )
