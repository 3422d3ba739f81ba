"""A library of faulty kernels, for the workers' tests."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def faulty_library(tmp_path_factory: pytest.TempPathFactory, need: Callable[[object, str], None]) -> Path:
    """Return the library built from faulty.c."""
    compiler = shutil.which("cc")
    need(compiler, "no C compiler")
    library = tmp_path_factory.mktemp("faulty") / "libfaulty.so"
    command = [str(compiler), "-O1", "-shared", "-fPIC", "-pthread", "-o", str(library)]
    command += [str(HERE / "faulty.c"), "-lm"]
    subprocess.run(command, check=True, timeout=60)
    return library
