"""ggml as the ``pywhispercpp`` wheels carry it: where its libraries are, and what its functions are called.

ggml's ``block_q8_0`` is byte for byte a `BLOCK_Q8_A8`, and the functions have the ABI's signatures, so a
symbol map is all that it takes to judge them::

    q8a8 test lib:PATH --symbol ggml_vec_dot_q8_a8_q8_a8=ggml_vec_dot_q8_0_q8_0 ... --init ggml_cpu_init

Without ``ggml_cpu_init`` the x86 kernel's table of half-precision numbers is all zeros, and so is every dot
product.
"""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path
from typing import TYPE_CHECKING

from q8a8.install import how_to_install
from q8a8_lab.peers import store

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ARM_ROOT", "INIT", "SYMBOLS", "arm_library", "find_library", "host_library", "version"]

PACKAGE = "pywhispercpp"

SYMBOLS: Mapping[str, str] = {
    "quantize_row_q8_a8_ref": "quantize_row_q8_0_ref",
    "quantize_row_q8_a8": "quantize_row_q8_0",
    "dequantize_row_q8_a8": "dequantize_row_q8_0",
    "ggml_vec_dot_q8_a8_q8_a8": "ggml_vec_dot_q8_0_q8_0",
}
"""ABI name to exported name. ``libggml-cpu`` gives all of them: it depends on ``libggml-base``."""

INIT = "ggml_cpu_init"
"""Called once after loading."""

ARM_ROOT = Path("/usr/aarch64-linux-gnu")
"""Debian's root of the Arm C library, for QEMU's ``-L``."""


def version() -> str:
    """Return the version of ggml that `host_library` is, as its file says.

    Raises
    ------
    PeerUnavailableError
        as `host_library`.
    """
    return host_library().name.rsplit(".so.", 1)[1]


def host_library() -> Path:
    """Return ``libggml-cpu`` of the ``pywhispercpp`` that is installed: for the machine at hand.

    Raises
    ------
    PeerUnavailableError
        It is not installed.
    """
    try:
        files = importlib.metadata.files(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        files = None
    if not files:
        raise store.PeerUnavailableError(
            f"{PACKAGE} is not installed for {platform.machine()}: {how_to_install('peers')}"
        )
    return find_library(Path(str(files[0].locate())).parents[len(files[0].parts) - 1])


def arm_library() -> Path:
    """Return ``libggml-cpu`` for aarch64: the installed one on an Arm machine, else the fetched wheel's.

    Raises
    ------
    PeerUnavailableError
        The wheel cannot be fetched.
    """
    return host_library() if platform.machine() == "aarch64" else find_library(store.fetch(store.ARM_WHEEL))


def find_library(folder: Path, name: str = "libggml-cpu") -> Path:
    """Return a library of an unpacked or installed wheel.

    The wheels have their libraries in ``pywhispercpp.libs``, renamed by a hash so that they find each other.
    The Arm wheel has copies at its top as well, which are of no use here.

    Raises
    ------
    PeerUnavailableError
        There is none.
    """
    libraries = sorted((folder / f"{PACKAGE}.libs").glob(f"{name}-*.so*"))
    if not libraries:
        raise store.PeerUnavailableError(f"the {PACKAGE} wheel has no {name} in {PACKAGE}.libs")
    return libraries[0]
