"""The prebuilt peers: what each is compared with, how to open it here, and one run of the comparison.

=========  =======================================  ===================  ==========  =================
leg        peer                                     quantizers           dot         runs
=========  =======================================  ===================  ==========  =================
x86        ggml of the x86-64 pywhispercpp wheel    ggml-avx2, ggml-ref  avx2        here, on x86-64
x86-c      its portable C                           none                 scalar      here, on x86-64
gguf-py    ``gguf.quants``                          ggml-ref             none        here
arm        ggml of the aarch64 pywhispercpp wheel   ggml-neon, ggml-ref  neon-gcc    on Arm, else QEMU
arm-c      its portable C                           none                 scalar-fma  on Arm, else QEMU
=========  =======================================  ===================  ==========  =================

The Arm library was built by GCC for plain NEON, so its loop multiplies and adds in two instructions and its
scalar tail in one: ``neon-gcc``. The portable C (``..._generic``) is the specification's loop; on Arm the
compiler fuses it.
"""

from __future__ import annotations

import importlib.metadata
import platform
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from q8a8.install import how_to_install
from q8a8_conformance.protocol.session import Session
from q8a8_lab import native_build
from q8a8_lab.peers import compare, cpu, families, ggml, store
from q8a8_lab.peers.kernels import (
    DOT,
    QUANTIZE,
    QUANTIZE_REF,
    GgufKernel,
    Kernel,
    LibraryKernel,
    WorkerKernel,
)
from q8a8_lab.peers.results import LegResult, sha256, today

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["ARM_CPU", "LEGS", "Leg", "arm_argv", "blocks_of", "missing", "opened", "run", "unsuitable"]

ARM_CPU = "max"
"""QEMU's CPU for the Arm leg."""

_GENERIC = {**ggml.SYMBOLS, DOT: "ggml_vec_dot_q8_0_q8_0_generic"}

_BEYOND = (1.4e-45, 1e-40, 3e-37)
"""amax of blocks beyond the recipes with 1/d: that is infinite, and so is 127/amax."""


@dataclass(frozen=True)
class Leg:
    """A prebuilt peer.

    Parameters
    ----------
    name, title
        For the command line, and for the page.
    recipes
        ABI name of each quantizer to its recipe.
    order
        The order of its dot products; None where it has none.
    machines
        Where it runs; empty for everywhere.
    emulated_share
        The share of the blocks that are compared where it runs in QEMU.
    cpu_flags
        What the prebuilt library takes for granted of the CPU.
    symbols
        ABI name to exported name.
    judged
        Whether ``q8a8 test`` is run on it.
    """

    name: str
    title: str
    recipes: Mapping[str, str] = field(hash=False)
    order: str | None = None
    machines: tuple[str, ...] = ()
    emulated_share: float = 1.0
    cpu_flags: tuple[str, ...] = ()
    symbols: Mapping[str, str] = field(default_factory=lambda: ggml.SYMBOLS, hash=False)
    judged: bool = True


LEGS: tuple[Leg, ...] = (
    Leg(
        "x86",
        "ggml for x86-64",
        {QUANTIZE: "ggml-avx2", QUANTIZE_REF: "ggml-ref"},
        "avx2",
        machines=("x86_64",),
        cpu_flags=("avx2", "fma", "bmi2"),
    ),
    Leg(
        "x86-c",
        "ggml's C for x86-64",
        {},
        "scalar",
        machines=("x86_64",),
        cpu_flags=("avx2", "fma", "bmi2"),
        symbols=_GENERIC,
        judged=False,
    ),
    Leg("gguf-py", "gguf-py", {QUANTIZE_REF: "ggml-ref"}),
    Leg(
        "arm",
        "ggml for aarch64",
        {QUANTIZE: "ggml-neon", QUANTIZE_REF: "ggml-ref"},
        "neon-gcc",
        emulated_share=0.1,
    ),
    Leg(
        "arm-c",
        "ggml's C for aarch64",
        {},
        "scalar-fma",
        emulated_share=0.1,
        symbols=_GENERIC,
        judged=False,
    ),
)


def _emulated(leg: Leg) -> bool:
    return leg.name.startswith("arm") and platform.machine() != "aarch64"


def unsuitable(leg: Leg) -> str:
    """Return why a leg cannot run on a machine like this, whatever is installed; empty if it can."""
    if leg.machines and platform.machine() not in leg.machines:
        return f"needs {' or '.join(leg.machines)}, and this is {platform.machine()}"
    if lacking := cpu.lacking(leg.cpu_flags):
        return f"this machine's CPU lacks {', '.join(lacking)}"
    return ""


def missing(leg: Leg) -> str:
    """Return why a leg cannot run here: `unsuitable`, or something is not installed; empty if it can.

    Fetches the Arm wheel and builds the harness if need be.
    """
    if reason := unsuitable(leg):
        return reason
    try:
        if leg.name == "gguf-py":
            importlib.metadata.version("gguf")
        elif _emulated(leg):
            arm_argv(leg)
        else:
            ggml.host_library()
    except importlib.metadata.PackageNotFoundError:
        return f"gguf is not installed: {how_to_install('peers')}"
    except (store.PeerUnavailableError, native_build.NativeError) as error:
        return str(error)
    return ""


def blocks_of(leg: Leg, blocks: int) -> int:
    """Return how many of `blocks` blocks a family a leg compares: a share of them in QEMU."""
    return max(1, round(blocks * leg.emulated_share)) if _emulated(leg) else blocks


def arm_argv(leg: Leg) -> list[str]:
    """Return the command of a worker that runs ggml for Arm in QEMU.

    Raises
    ------
    PeerUnavailableError, NativeError
        The library cannot be had, or the harness cannot be built or run here.
    """
    library = ggml.arm_library()
    return native_build.library_argv(
        library, ARM_CPU, symbols=leg.symbols, init=ggml.INIT, search=[library.parent]
    )


@contextmanager
def opened(leg: Leg) -> Iterator[Kernel]:
    """Open a leg's kernel, and close its worker in the end.

    Raises
    ------
    PeerUnavailableError, NativeError
        It cannot be had here; `missing` says so in advance.
    """
    if leg.name == "gguf-py":
        yield GgufKernel()
    elif _emulated(leg):
        with Session(arm_argv(leg), timeout=60) as session:
            yield WorkerKernel(session)
    else:
        yield LibraryKernel(ggml.host_library(), leg.symbols)


def _files(leg: Leg) -> dict[str, str]:
    """Return the files that were compared, with their hashes."""
    if leg.name == "gguf-py":
        from gguf import quants  # noqa: PLC0415 -- an extra, needed by this peer alone

        return {f"gguf {importlib.metadata.version('gguf')}: quants.py": sha256(Path(quants.__file__))}
    library = ggml.arm_library() if leg.name.startswith("arm") else ggml.host_library()
    files = (library, ggml.find_library(library.parents[1], "libggml-base"))
    if _emulated(leg):
        wheel = store.ARM_WHEEL.requirement.replace("==", " ")
    else:
        wheel = f"{ggml.PACKAGE} {importlib.metadata.version(ggml.PACKAGE)}"
    return {f"{wheel}: {path.name}": sha256(path) for path in files}


def _beyond(leg: Leg, kernel: Kernel) -> dict[str, dict[str, str]]:
    """Quantize 1, -1, 0, 0, ... times a tiny amax; returns function to amax to the block's first bytes."""
    unit = np.zeros((1, 32), np.float32)
    unit[0, :2] = (1, -1)
    found: dict[str, dict[str, str]] = {function: {} for function in leg.recipes}
    for function, said in found.items():
        for amax in _BEYOND:
            with np.errstate(all="ignore"):
                block = kernel.quantize(function, unit * np.float32(amax))[0]
            q = block[2:5].view(np.int8)
            said[f"{amax:g}"] = f"h = {int(block[:2].view(np.uint16)[0])}, q = {q[0]}, {q[1]}, {q[2]}"
    return found


def run(leg: Leg, blocks: int, dots: int) -> LegResult:
    """Compare one leg.

    Parameters
    ----------
    leg
        One that is not `missing`.
    blocks
        Blocks of each family (a tenth of them in QEMU).
    dots
        Dot products of each kind of rows.
    """
    started = time.monotonic()
    result = LegResult(leg.name, leg.title, _files(leg), day=today())
    with opened(leg) as kernel:
        result.families = compare.quantize_counts(
            kernel, leg.recipes, blocks_of(leg, blocks), families.FAMILIES
        )
        result.beyond = _beyond(leg, kernel)
        if leg.order is not None:
            result.orders = compare.matching_orders(kernel)
            result.wrong_products = len(compare.differing_products(kernel))
            result.dots = compare.row_counts(kernel, leg.order, dots, flawed=result.wrong_products > 0)
    result.seconds = time.monotonic() - started
    return result
