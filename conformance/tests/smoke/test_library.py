"""What smoke says about a shared library's file."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8_conformance.cli import main
from q8a8_conformance.smoke.elf import why_not_loadable
from q8a8_conformance.smoke.library import propose_symbols, read_library

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

SOURCE = """
#include <stdint.h>
void quantize_row_q8_0(const float *x, void *y, int64_t k) { (void)x; (void)y; (void)k; }
void ggml_cpu_init(void) {}
static void hidden(void) {}
void *unused(void) { return (void *)hidden; }
"""


@pytest.fixture(scope="module")
def build(
    tmp_path_factory: pytest.TempPathFactory, need: Callable[[object, str], None]
) -> Callable[..., Path]:
    """Return a function that builds a library from C."""
    folder = tmp_path_factory.mktemp("library")

    def make(name: str, source: str, *flags: str, compiler: str = "cc") -> Path:
        need(shutil.which(compiler), f"no {compiler}")
        (folder / f"{name}.c").write_text(source, encoding="utf-8")
        path = folder / f"lib{name}.so"
        words = (compiler, "-shared", "-fPIC", "-o", str(path), str(folder / f"{name}.c"), *flags)
        subprocess.run(words, check=True, timeout=60)
        return path

    return make


def test_ggml_s_names_are_proposed(
    build: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where nothing matches, smoke proposes the options that bind ggml's names; JSON has the exports."""
    path = build("names", SOURCE)
    assert main(["smoke", f"lib:{path}", "--json", str(tmp_path / "s.json")]) == 4
    out = " ".join(capsys.readouterr().out.split())
    assert "--symbol quantize_row_q8_a8=quantize_row_q8_0 --init ggml_cpu_init" in out
    assert f"library: 64-bit {platform.machine()}; exports 3 functions, 0 of the ABI; needs " in out
    library = json.loads((tmp_path / "s.json").read_text())["library"]
    assert library["exports"] == ["ggml_cpu_init", "quantize_row_q8_0", "unused"]
    assert library["missing"] == []


def test_missing_libraries_are_named(build: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    """A library that cannot be loaded because another one is missing says which."""
    other = build("other", "void other(void) {}")
    path = build("needs", SOURCE, "-Wl,--no-as-needed", f"-L{other.parent}", "-lother")
    other.unlink()
    assert main(["smoke", f"lib:{path}"]) == 5
    assert "→ not found: libother.so;" in capsys.readouterr().out


def test_another_machine(build: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    """A library for Arm gets the command for QEMU, with its own path."""
    if platform.machine() == "aarch64":
        pytest.skip("this is the other machine")
    path = build("arm", SOURCE, compiler="aarch64-linux-gnu-gcc")
    assert main(["smoke", f"lib:{path}"]) == 5
    out = " ".join(capsys.readouterr().out.split())
    assert "library: 64-bit aarch64; exports 3 functions, 0 of the ABI; needs" in out
    assert (
        "qemu-aarch64 -L /usr/aarch64-linux-gnu -cpu max native_check/build/aarch64/bin/q8a8-harness" in out
    )
    assert "not found" not in out
    why = why_not_loadable(path)
    assert why is not None
    assert f"--lib {path}" in why.hint


def test_proposals() -> None:
    """Words around a name are found; the longest name counts, an ambiguous one does not."""
    assert propose_symbols(["my_dequantize_row_q8_0_v1"]) == {
        "dequantize_row_q8_a8": "my_dequantize_row_q8_0_v1"
    }
    dot = "ggml_vec_dot_q8_a8_q8_a8"
    assert propose_symbols([f"{dot}_real_x", f"{dot}_x"]) == {f"{dot}_real": f"{dot}_real_x", dot: f"{dot}_x"}
    assert propose_symbols([f"{dot}_x", f"{dot}_y"]) == {}
    assert propose_symbols([dot, f"{dot}_y", "main"]) == {}


def test_what_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No ELF file, no file, and no pyelftools: nothing is said."""
    text = tmp_path / "text.so"
    text.write_text("no library")
    assert read_library(text) is None
    assert read_library(tmp_path / "none.so") is None
    monkeypatch.setitem(sys.modules, "elftools.elf.elffile", None)
    assert read_library(Path(sys.executable)) is None


class Short:
    """A kernel that writes the whole of an output."""

    def dequantize_row_q8_a8(self, _x: object, y: NDArray[np.float32], k: int) -> None:
        """Write as many elements as the call has into a longer array."""
        y[:] = np.zeros(k, np.float32)


def test_an_output_is_longer_than_the_call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A Python kernel that writes a whole array is told of the part."""
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    )
    assert main(["smoke", "py:test_library:Short"]) == 1
    assert "y[:k] = ..." in capsys.readouterr().out
