"""Legal kernels: the scalar kernel by several compilers and at every level of optimization conforms.

What a compiler changes is how values are rounded, if anything: one build is judged by the whole suite, the
others by the cases of single dot products and of the quantizers. (Arm kernels are judged whole elsewhere.)

Contraction into fused multiply-adds is among them. It is free in a dot product (Q8A8-ORD-1). In the quantizer
it finds nothing to fuse but ``x * inv - whole``, whose product has other uses, so that no compiler here fuses
it. A kernel whose quantizer it does change is wrong, and these tests fail.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from q8a8_lab import native_build

if TYPE_CHECKING:
    from pathlib import Path

FUSED = "-ffp-contract=fast"
ZIG = ("-m", "ziglang", "cc", "-target")
BUILDS: dict[str, tuple[str, ...]] = {
    "gcc-O0": ("cc", "-O0"),
    "gcc-O1": ("cc", "-O1"),
    "gcc-Os": ("cc", "-Os"),
    "gcc-O3": ("cc", "-O3"),
    "gcc-O3-native": ("cc", "-O3", "-march=native"),
    "gcc-O2-fused": ("cc", "-O2", "-march=native", "-mtune=generic", FUSED),
    "clang-O3-fused": (sys.executable, *ZIG, "x86_64-linux-gnu.2.31", "-O3", "-mcpu=haswell", FUSED),
    "arm-gcc-O2": ("aarch64-linux-gnu-gcc", "-O2"),
    "arm-gcc-O3-fused": ("aarch64-linux-gnu-gcc", "-O3", FUSED),
    "arm-clang-O3-fused": (sys.executable, *ZIG, "aarch64-linux-gnu.2.31", "-O3", FUSED),
}
"""Compiler and flags by name: ``arm`` are for 64-bit Arm, ``clang`` is that of ziglang."""
WHOLE = "gcc-O3-native"
"""The build that is judged by the whole suite."""
ROUNDED = ("--case", "[dq][ou][ta]*")
"""The cases whose ids begin with ``dot/`` and ``quantize/``."""


def skipped(name: str) -> str:
    """Return why a build cannot be made or run here; empty if it can."""
    if "clang" in name and importlib.util.find_spec("ziglang") is None:
        return "no ziglang (pip install ziglang)"
    if name == "clang-O3-fused" and platform.machine() != "x86_64":
        return "for x86-64"
    if name.startswith("gcc") and platform.machine() == "x86_64" and name.endswith("fused") and not has_fma():
        return "this processor has no fused multiply-add"
    return ""


def has_fma() -> bool:
    """Return whether this processor has fused multiply-adds."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 -- no path of ours
        return " fma " in file.read()


def compile_kernel(name: str, folder: Path) -> Path:
    """Compile the scalar kernel as a shared library."""
    source = native_build.source_folder()
    compiler, *flags = BUILDS[name]
    library = folder / f"{name}.so"
    command = [compiler, *flags, "-std=c11", "-shared", "-fPIC", "-DQ8A8_KERNEL=q8a8_kernel_scalar"]
    command += [f"-I{source / part}" for part in ("include", "kernels")]
    command += [str(source / "kernels" / part) for part in ("scalar.c", "product.c", "export.c")]
    command += ["-pthread"]
    subprocess.run([*command, "-o", str(library)], check=True)
    return library


def judge(name: str, folder: Path) -> tuple[int, str, dict[str, Any]]:
    """Compile and judge one build: exit status, output, JSON report."""
    argv = native_build.library_argv(compile_kernel(name, folder), "max" if name.startswith("arm") else None)
    report = folder / f"{name}.json"
    command = [sys.executable, "-m", "q8a8_conformance.cli", "test", f"exec:{' '.join(argv)}"]
    done = subprocess.run(
        [*command, "--json", str(report), "--timeout", "30", *(() if name == WHOLE else ROUNDED)],
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    return done.returncode, done.stdout + done.stderr, json.loads(report.read_text(encoding="utf-8"))


def test_no_legal_kernel_is_called_broken(tmp_path: Path) -> None:
    """Every build that can be made here conforms under the default profile, two being judged at a time."""
    builds = [name for name in BUILDS if not skipped(name)]
    try:
        native_build.build("native")
        if platform.machine() != "aarch64":
            native_build.build("aarch64")
            native_build.qemu_argv("max")
    except native_build.MissingToolError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    with ThreadPoolExecutor(2) as pool:
        results = dict(zip(builds, pool.map(lambda name: judge(name, tmp_path), builds), strict=True))
    broken = {name: output for name, (status, output, _) in results.items() if status != 0}
    assert not broken, "\n\n".join(f"{name}:\n{output}" for name, output in broken.items())
    # what is fused is seen to be
    for name, (_, _, report) in results.items():
        found = {each["cause"] for each in report["diagnosis"] if "vec_dot" in each["function"]}
        assert ("scalar-fma" in found) == name.endswith("fused"), (name, found)
