"""The ways in which `make peers` builds ggml, and what each build should turn out to be.

ggml picks its kernels by preprocessor, so each instruction set is a build. Which order comes out depends on
the compiler too: whether it fuses the intrinsics' products and sums, and those of the C loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["VARIANTS", "Compiler", "Run", "Variant"]

Compiler = Literal["gcc", "zig"]


@dataclass(frozen=True)
class Run:
    """One way to run a build.

    Parameters
    ----------
    order
        The order of a dot product with nrc = 1.
    cpu
        The emulated CPU, in QEMU's words; None for this machine's own.
    order_nrc2
        The order with nrc = 2, where the kernel takes two rows.
    """

    order: str
    cpu: str | None = None
    order_nrc2: str | None = None


@dataclass(frozen=True)
class Variant:
    """One build of ggml.

    Parameters
    ----------
    name
        Compiler and instruction set.
    machine
        "aarch64" or "x86_64".
    compiler
        "gcc", Debian's (cross) compiler, or "zig", a clang.
    march
        For aarch64 the architecture, in the compiler's words.
    features
        For x86-64 ggml's CMake options that are on; the others are off.
    recipe
        The recipe of `quantize_row_q8_0`; that of `quantize_row_q8_0_ref` is always `ggml-ref`.
    runs
        How it is run.
    flawed
        Whether products with -128 come out wrong.
    """

    name: str
    machine: Literal["aarch64", "x86_64"]
    compiler: Compiler
    recipe: str
    runs: tuple[Run, ...]
    march: str = ""
    features: tuple[str, ...] = ()
    flawed: bool = False

    @property
    def cpu_flags(self) -> tuple[str, ...]:
        """What this machine's CPU must have, in the words of Linux."""
        named = {"SSE42": ("sse4_2",), "AVX512": ("avx512f", "avx512cd", "avx512vl", "avx512dq", "avx512bw")}
        return tuple(flag for feature in self.features for flag in named.get(feature, (feature.lower(),)))


def _sve() -> tuple[Run, ...]:
    """Return one build for every vector length: the length in bytes is QEMU's to choose."""
    lengths = {128: 16, 256: 32, 512: 64}
    return tuple(
        Run(f"sve-{bits}", f"max,sve-default-vector-length={size}") for bits, size in lengths.items()
    )


def _arm(compiler: Compiler) -> tuple[Variant, ...]:
    marches = {
        "gcc": ("armv8-a", "armv8.2-a+dotprod", "armv8.6-a+i8mm", "armv8.6-a+sve"),
        "zig": ("generic", "generic+dotprod", "generic+v8_6a+i8mm", "generic+v8_6a+sve"),
    }[compiler]
    how = {"gcc": "gcc", "zig": "fma"}[compiler]
    i8mm = {"gcc": "i8mm", "zig": "i8mm-fma"}[compiler]
    runs = {
        "neon": (Run(f"neon-{how}", "cortex-a72"),),
        "dotprod": (Run(f"neon-dotprod-{how}", "neoverse-n1"),),
        "i8mm": (Run(f"neon-dotprod-{how}", "max", i8mm),),
        "sve": _sve(),
    }
    return tuple(
        Variant(f"{compiler}-{name}", "aarch64", compiler, "ggml-neon", run, march=march)
        for (name, run), march in zip(runs.items(), marches, strict=True)
    )


def _x86(compiler: Compiler) -> tuple[Variant, ...]:
    avx = ("SSE42", "AVX")
    avx2 = (*avx, "F16C", "FMA", "BMI2", "AVX2")
    avx512 = (*avx2, "AVX512")
    avx_fma = {"gcc": "avx-fma", "zig": "avx-fma-tail"}[compiler]

    def variant(name: str, recipe: str, order: str, features: tuple[str, ...], *, flawed: bool) -> Variant:
        return Variant(
            f"{compiler}-{name}", "x86_64", compiler, recipe, (Run(order),), features=features, flawed=flawed
        )

    return (
        variant("baseline", "ggml-ref", "scalar", (), flawed=False),
        variant("avx", "ggml-avx2", "avx", avx, flawed=True),
        variant("avx-fma", "ggml-avx2", avx_fma, (*avx, "F16C", "FMA"), flawed=True),
        variant("avx2", "ggml-avx2", "avx2", avx2, flawed=True),
        variant("avx512", "ggml-avx2", "avx2", avx512, flawed=True),
    )


VARIANTS: tuple[Variant, ...] = (*_arm("gcc"), *_x86("gcc"), *_arm("zig"), *_x86("zig"))
"""Every build."""
