"""The compiled kernels have no fused multiply-add, and have their characteristic instructions."""

from __future__ import annotations

import platform
import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.rule("Q8A8-DOT-3")

FUSED = re.compile(r"^(v?fn?m(add|sub|la|ls)\w*|fml[as]l2?|bfml\w*|fmlal\w*|fcmla)$")


def mnemonics(
    objdump: str, library: Path, run: Callable[..., subprocess.CompletedProcess[bytes]]
) -> set[str]:
    """Return the names of all instructions in a library."""
    done = run([objdump, "--disassemble", "--no-show-raw-insn", str(library)])
    assert done.returncode == 0, done.stderr.decode()
    found = set(re.findall(rb"^ +[0-9a-f]+:\t(\S+)", done.stdout, re.MULTILINE))
    assert len(found) > 10
    return {name.decode() for name in found}


@pytest.mark.parametrize(
    ("kernel", "required", "forbidden"),
    [
        ("scalar", {"fdiv", "fmul", "fadd"}, {"sdot", "smmla"}),
        (
            "neon",
            {"smull", "smlal", "sadalp", "fcvtas", "sqxtn", "fcvtl", "fcvtn"},
            {"sdot", "smmla", "addp2"},
        ),
        ("dotprod", {"sdot", "fcvtas", "fcvtl", "fcvtn"}, {"smmla"}),
        ("i8mm", {"smmla", "fcvtas", "fcvtl", "fcvtn"}, {"fcvtns"}),
        ("sve", {"sdot", "whilelo", "frinta"}, {"smmla"}),
        ("sve-i8mm", {"smmla", "uzp1", "uzp2", "whilelo", "frinta"}, {"fcvtns"}),
    ],
)
def test_arm_kernels(
    kernel: str,
    required: set[str],
    forbidden: set[str],
    built: Callable[[str], Path],
    tool: Callable[[str], str],
    run: Callable[..., subprocess.CompletedProcess[bytes]],
) -> None:
    """Each Arm kernel has its dot product instruction and FCVTAS, and nothing fused."""
    library = built("aarch64") / "lib" / f"libq8a8-{kernel}.so"
    found = mnemonics(tool("aarch64-linux-gnu-objdump"), library, run)
    names = {name.split(".")[0] for name in found}
    assert required <= names
    assert not forbidden & names
    assert not {name for name in names if FUSED.match(name)}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the native build is of another processor")
@pytest.mark.parametrize(
    ("kernel", "required", "forbidden"),
    [
        ("avx2", {"vpmaddwd", "vpmovsxbw", "vcvttps2dq", "vcvtph2ps"}, {"vpmaddubsw", "vpdpbusd"}),
        ("avx512-vnni", {"vpdpbusd", "vcvttps2dq", "vcvtph2ps"}, {"vpdpbusds", "tdpbssd"}),
        ("amx", {"tdpbssd", "tileloadd", "tilestored", "ldtilecfg", "tilerelease"}, {"vpdpbusds"}),
    ],
)
def test_x86_kernels(
    kernel: str,
    required: set[str],
    forbidden: set[str],
    built: Callable[[str], Path],
    tool: Callable[[str], str],
    run: Callable[..., subprocess.CompletedProcess[bytes]],
) -> None:
    """Each x86-64 kernel has its instructions, nothing that saturates, and nothing fused."""
    names = mnemonics(tool("objdump"), built("native") / "lib" / f"libq8a8-{kernel}.so", run)
    assert required <= names
    assert not forbidden & names
    assert not {name for name in names if FUSED.match(name)}


@pytest.mark.parametrize("preset", ["native", "release"])
def test_scalar_kernel_is_not_fused(
    preset: str,
    built: Callable[[str], Path],
    tool: Callable[[str], str],
    run: Callable[..., subprocess.CompletedProcess[bytes]],
) -> None:
    """The scalar kernel has no fused multiply-add, even in a build tuned to this CPU."""
    found = mnemonics(tool("objdump"), built(preset) / "lib" / "libq8a8-scalar.so", run)
    assert not {name for name in found if FUSED.match(name)}


@pytest.mark.parametrize("name", ["vfmadd231ss", "vfnmadd132ps", "fmadd", "fmla", "fmls", "fnmsub", "fmlal"])
def test_pattern_of_fused_instructions(name: str) -> None:
    """The pattern matches the fused instructions of both architectures."""
    assert FUSED.match(name)
