"""The release check: build ggml for every instruction set, by GCC and by clang, and compare each bit for bit.

``python -m q8a8_lab.peers.build [--only NAME]... [--jobs N] [--blocks N] [--dots N]``

ggml's source comes from the llama-cpp-python source distribution and is built with its own CMake, by Debian's
(cross) compilers and by zig, a clang with the libraries of every target. Arm builds run under QEMU, in the C
harness. The C++ files are built without much optimization, which saves most of the time: all that is
compared (``quants.c``, ``ggml-quants.c``) is C, and built as ggml builds it.

The results go where `page` finds them, after each build; those of builds that ``--only`` leaves out stay.
Exit status: 0, every build that this machine can run matches its order and recipe with no bit different; 1,
some do not; 2, something is missing.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from q8a8_conformance.protocol.session import Session
from q8a8_lab import native_build
from q8a8_lab.peers import compare, cpu, families, ggml, store
from q8a8_lab.peers.kernels import QUANTIZE, QUANTIZE_REF, Kernel, LibraryKernel, WorkerKernel
from q8a8_lab.peers.results import BuildResult, load_builds, save_builds, today
from q8a8_lab.peers.variants import VARIANTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from q8a8_lab.peers.variants import Run, Variant

__all__ = ["build_variant", "compare_run", "main", "missing_flags", "results_file"]

# ggml is added as a subproject: alone it wants a file (ggml.pc.in) that the source distribution leaves out.
_TOP = """\
cmake_minimum_required(VERSION 3.14)
project(peers C CXX ASM)
add_subdirectory(${GGML_SOURCE} ggml)
"""

_COMMON = (
    "-DCMAKE_SYSTEM_NAME=Linux",
    "-DCMAKE_BUILD_TYPE=Release",
    "-DCMAKE_CXX_FLAGS_RELEASE=-O1 -DNDEBUG",
    "-DBUILD_SHARED_LIBS=ON",
    "-DGGML_NATIVE=OFF",
    "-DGGML_OPENMP=OFF",
    "-DGGML_LLAMAFILE=OFF",
    "-DGGML_CCACHE=OFF",
)

_X86_OPTIONS = ("SSE42", "AVX", "AVX2", "AVX512", "FMA", "F16C", "BMI2")


def results_file() -> Path:
    """Return where the results of the last release check lie."""
    return store.cache_folder() / "builds.json"


def missing_flags(variant: Variant) -> str:
    """Name what this machine's CPU lacks for a build that runs on it; empty if nothing."""
    if variant.machine == "aarch64":
        return ""
    return ", ".join(cpu.lacking(variant.cpu_flags))


def _source() -> Path:
    return store.fetch(store.GGML_SOURCE) / store.GGML_SOURCE.members


def _wrapper(folder: Path, name: str, command: Sequence[str]) -> str:
    """Write a program that runs a command: CMake takes compilers of one word."""
    path = folder / name
    path.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n', encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def toolchain(variant: Variant, folder: Path) -> list[str]:
    """Return CMake's options for a variant's compiler; wrappers go into `folder`."""
    if variant.compiler == "gcc":
        prefix = "aarch64-linux-gnu-" if variant.machine == "aarch64" else ""
        tools = {
            "C_COMPILER": native_build.find_tool(f"{prefix}gcc"),
            "CXX_COMPILER": native_build.find_tool(f"{prefix}g++"),
        }
    else:
        zig = str(store.fetch(store.ZIG_WHEEL) / "ziglang" / "zig")
        # Older than the Arm C library of Debian, which the harness runs with.
        target = ("-target", f"{variant.machine}-linux-gnu.2.28")
        tools = {
            "C_COMPILER": _wrapper(folder, "zig-cc", (zig, "cc", *target)),
            "CXX_COMPILER": _wrapper(folder, "zig-c++", (zig, "c++", *target)),
            "AR": _wrapper(folder, "zig-ar", (zig, "ar")),
            "RANLIB": _wrapper(folder, "zig-ranlib", (zig, "ranlib")),
        }
    return [f"-DCMAKE_{tool}={path}" for tool, path in tools.items()]


def architecture(variant: Variant) -> list[str]:
    """Return CMake's options for a variant's instruction set."""
    if variant.machine == "x86_64":
        return [f"-DGGML_{o}={'ON' if o in variant.features else 'OFF'}" for o in _X86_OPTIONS]
    if variant.compiler == "gcc":
        return [f"-DGGML_CPU_ARM_ARCH={variant.march}"]
    # zig has its own words for an architecture, and they go in its own option.
    return [f"-DCMAKE_{language}_FLAGS=-mcpu={variant.march}" for language in ("C", "CXX")]


def build_variant(variant: Variant, jobs: int = 2) -> Path:
    """Build ``libggml-cpu`` and ``libggml-base`` of a variant, unless they are built; return the former.

    Raises
    ------
    PeerUnavailableError
        A source or a compiler cannot be fetched.
    NativeError
        A tool is missing, or the build failed.
    """
    folder = store.cache_folder() / "build" / f"{store.GGML_SOURCE.sha256[:16]}-{variant.name}"
    library = folder / "ggml" / "src" / "libggml-cpu.so"
    if library.is_file():
        return library
    shutil.rmtree(folder, ignore_errors=True)
    top = folder / "top"
    top.mkdir(parents=True)
    (top / "CMakeLists.txt").write_text(_TOP, encoding="utf-8")
    cmake = native_build.find_tool("cmake")
    generator = "Ninja" if shutil.which("ninja") else "Unix Makefiles"
    _run([
        cmake, "-G", generator, "-S", str(top), "-B", str(folder), f"-DGGML_SOURCE={_source()}",
        f"-DCMAKE_SYSTEM_PROCESSOR={variant.machine}", *_COMMON,
        *toolchain(variant, folder), *architecture(variant),
    ])  # fmt: skip
    targets = ("--target", "ggml-base", "--target", "ggml-cpu")
    _run([cmake, "--build", str(folder), *targets, "--parallel", str(jobs)])
    return library


def _run(command: Sequence[str]) -> str:
    caches = {f"ZIG_{kind}_CACHE_DIR": str(store.cache_folder() / "zig") for kind in ("GLOBAL", "LOCAL")}
    return native_build.run_tool(command, env={**os.environ, **caches})


def _compiler(library: Path) -> str:
    """Return what CMake found out about the compiler of a build: "GNU 12.2.0", say."""
    files = sorted(library.parents[2].glob("CMakeFiles/*/CMakeCCompiler.cmake"))
    facts = dict(
        line[4:-1].split(" ", 1)
        for line in files[0].read_text(encoding="utf-8").splitlines()
        if line.startswith(("set(CMAKE_C_COMPILER_ID ", "set(CMAKE_C_COMPILER_VERSION "))
    )
    return " ".join(facts[f"CMAKE_C_COMPILER_{key}"].strip('"') for key in ("ID", "VERSION"))


@contextmanager
def _opened(library: Path, run: Run) -> Iterator[Kernel]:
    if run.cpu is None:
        yield LibraryKernel(library)
        return
    argv = native_build.library_argv(
        library, run.cpu, symbols=ggml.SYMBOLS, init=ggml.INIT, search=[library.parent]
    )
    with Session(argv, timeout=60) as session:
        yield WorkerKernel(session)


def compare_run(variant: Variant, run: Run, library: Path, blocks: int, dots: int) -> BuildResult:
    """Compare one build, run in one way: `blocks` of each family, `dots` of each kind of rows and nrc."""
    result = BuildResult(
        variant.name, variant.machine, _compiler(library),
        variant.march or " ".join(variant.features) or "baseline", run.cpu or "native",
        ggml=library.resolve().name.rsplit(".so.", 1)[1], flawed=variant.flawed, day=today(),
    )  # fmt: skip
    orders = {1: run.order} | ({2: run.order_nrc2} if run.order_nrc2 else {})
    recipes = {QUANTIZE: variant.recipe, QUANTIZE_REF: "ggml-ref"}
    with _opened(library, run) as kernel:
        result.families = compare.quantize_counts(kernel, recipes, blocks, families.FAMILIES)
        for nrc, order in orders.items():
            result.expected[str(nrc)] = order
            result.orders[str(nrc)] = compare.matching_orders(kernel, nrc=nrc)
            result.dots += compare.row_counts(kernel, order, dots, nrc=nrc, flawed=variant.flawed)
        result.wrong_products = len(compare.differing_products(kernel))
    return result


def _report(line: str) -> None:
    """Report progress on standard error."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _check(variant: Variant, jobs: int, blocks: int, dots: int) -> list[BuildResult]:
    """Build and compare one variant, telling standard error what comes of it."""
    missing = missing_flags(variant)
    if missing:
        target = " ".join(variant.features)
        why = f"needs a CPU with {missing}"
        _report(f"{variant.name:<14} not run: {why}")
        result = BuildResult(variant.name, variant.machine, variant.compiler, target, "native", not_run=why)
        return [replace(result, day=today())]
    started = time.monotonic()
    library = build_variant(variant, jobs)
    _report(f"{variant.name:<14} built in {time.monotonic() - started:.0f} s")
    results = []
    for run in variant.runs:
        started = time.monotonic()
        result = compare_run(variant, run, library, blocks, dots)
        orders = ", ".join(f"nrc {nrc}: {' = '.join(o) or 'none known'}" for nrc, o in result.orders.items())
        _report(
            f"{variant.name:<14} {result.cpu}: {orders}; {result.differing} bytes and bits differ; "
            f"{'pass' if result.passed else 'FAIL'} in {time.monotonic() - started:.0f} s"
        )
        results.append(result)
    return results


def main(argv: Sequence[str] | None = None) -> int:
    """Build, compare, save the results; return the exit status."""
    names = [variant.name for variant in VARIANTS]
    parser = argparse.ArgumentParser(prog="python -m q8a8_lab.peers.build", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 2, help="compilers at a time")
    parser.add_argument("--blocks", type=int, default=100_000, help="blocks of each family (100000)")
    parser.add_argument("--dots", type=int, default=10_000, help="dot products of each kind of rows (10000)")
    options = parser.parse_args(argv)
    results: list[BuildResult] = []
    kept = load_builds(results_file())
    try:
        for variant in VARIANTS:
            if variant.name in (options.only or names):
                results += _check(variant, options.jobs, options.blocks, options.dots)
                kept = [each for each in kept if each.variant != variant.name]
                kept += [each for each in results if each.variant == variant.name]
                save_builds(sorted(kept, key=lambda each: names.index(each.variant)), results_file())
    except (store.PeerUnavailableError, native_build.NativeError) as error:
        _report(f"peers: {error}")
        return 2
    ran = [result for result in results if not result.not_run]
    failed = [result for result in ran if not result.passed]
    _report(f"{len(ran)} runs, {len(failed)} failed, {len(results) - len(ran)} not run")
    return 1 if failed or not ran else 0


if __name__ == "__main__":
    sys.exit(main())
