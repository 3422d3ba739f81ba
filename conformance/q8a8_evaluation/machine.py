"""The arithmetic of the machine, by name: what float results depend on that no code here decides.

A BLAS has kernels for every kind of processor, which add in different orders, and so do NumPy's own loops for
exp and others. The same evaluation on two machines is the same only where all of these are.
"""

from __future__ import annotations

import ctypes
import os
import platform
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np

__all__ = ["machine"]


@cache
def machine() -> str:
    """Return NumPy's version, the BLAS with its kernel, and the processor's features that NumPy uses."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    threads = os.environ.get("OPENBLAS_NUM_THREADS", "all")
    return (
        f"NumPy {np.__version__}; BLAS {blas.get('name', 'unknown')} {blas.get('version', '')}, kernel "
        f"{_kernel()}, threads {threads}; {platform.machine()}: {_features()}"
    )


def _kernel() -> str:
    """Return the name of OpenBLAS's kernel, as the library that NumPy has loaded gives it."""
    folders = (Path(np.__file__).parent.with_name("numpy.libs"), Path(np.__file__).parent / ".dylibs")
    for folder in folders:
        for path in sorted(folder.glob("*openblas*")):
            with suppress(OSError):
                library = ctypes.CDLL(str(path))
                for name in ("scipy_openblas_get_corename64_", "openblas_get_corename64_"):
                    if hasattr(library, name):
                        function = getattr(library, name)
                        function.restype = ctypes.c_char_p
                        return str(function().decode())
    return "unknown"


def _features() -> str:
    """Return the features of the processor that NumPy's loops use, those that were switched off left out."""
    with suppress(ImportError, AttributeError):
        # NumPy has no public name for them.
        there = import_module("numpy._core._multiarray_umath").__cpu_features__
        return " ".join(name for name, found in there.items() if found)
    return platform.processor()
