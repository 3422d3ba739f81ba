"""``q8a8 new-kernel``: what it writes builds and conforms, and is made from the project's own header."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING

import pytest

from q8a8.install import VERSION
from q8a8_conformance.cli import main
from q8a8_conformance.commands.new_kernel import TEMPLATES

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[3]
HERE = {"x86_64": ("scalar", "avx2"), "aarch64": ("scalar", "neon")}.get(platform.machine(), ("scalar",))
SMALL = "QNT-4,DOT-6"
"""Rules that are judged in seconds; the code is that of the kernels that the suite judges whole elsewhere."""


@pytest.fixture
def folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """Return a new kernel's folder."""
    assert main(["new-kernel", "my-dot", "--folder", str(tmp_path / "new")]) == 0
    assert "lib:build/libmy-dot.so" in capsys.readouterr().out
    return tmp_path / "new"


def run(folder: Path, *command: str) -> None:
    """Run a command that must succeed."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kernel", HERE)
def test_it_builds_and_conforms(folder: Path, kernel: str, need: Callable[..., None]) -> None:
    """Each variant for this machine is built by CMake without a warning, and conforms bit for bit."""
    need(which("cmake") and which("cc"), "no cmake or no C compiler")
    run(folder, "cmake", "-B", "build", f"-DKERNEL={kernel}", "-DCMAKE_C_FLAGS=-Werror")
    run(folder, "cmake", "--build", "build")
    assert main(["smoke", f"lib:{folder}/build/libmy-dot.so"]) == 0
    assert main(["test", f"lib:{folder}/build/libmy-dot.so", "--profile", "exact", "--rules", SMALL]) == 0


def test_the_names_are_filled_in(folder: Path) -> None:
    """No placeholder is left, and the workflow names this version's wheel."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in files if "@NAME@" in path.read_text() or "@VERSION@" in path.read_text()]
    assert f"q8a8-{VERSION}-py3-none-any.whl" in (folder / ".github/workflows/q8a8.yml").read_text()


def test_the_header_has_one_source() -> None:
    """The templates' headers are those of the project's kernels."""
    assert (TEMPLATES / "q8a8.h").samefile(ROOT / "native_check/include/q8a8.h")
    assert (TEMPLATES / "half.h").samefile(ROOT / "native_check/kernels/half.h")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("9lives",), "'9lives' is no name of a kernel"),
        (("mine", "--folder", "{tmp}"), "{tmp} exists already"),
        (("mine", "--folder", "{tmp}/none/there"), "{tmp}/none/there: No such file or directory"),
    ],
)
def test_refusals(
    words: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bad name, a folder that exists and one that cannot be made are usage errors."""
    assert main(["new-kernel", *(word.format(tmp=tmp_path) for word in words)]) == 2
    assert message.format(tmp=tmp_path) in capsys.readouterr().err
