"""The suite on kernels that were not made for its tests: our C ones, real ggml's backend, gguf-py.

(Whole runs on prebuilt ggml and gguf-py, under both profiles, are in the tests of `q8a8_lab.peers.verdicts`.)
"""

from __future__ import annotations

import _ctypes
import platform
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from q8a8_conformance import cli
from q8a8_conformance.worker.ggml_backend import GgmlDevice, Settings
from q8a8_conformance.worker.library import TargetError
from q8a8_lab import native_build
from q8a8_lab.peers import ggml

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Tested

DOT = "ggml_vec_dot_q8_a8_q8_a8"
FAST, REF = "quantize_row_q8_a8", "quantize_row_q8_a8_ref"


def built(preset: str, need: Callable[[object, str], None]) -> Path:
    """Return the folder of a C build, or end the test where a tool is missing."""
    try:
        return native_build.build(preset)
    except native_build.MissingToolError as error:
        need(None, str(error))
        raise


def test_our_scalar_library(q8a8_test: Callable[..., Tested], need: Callable[[object, str], None]) -> None:
    """Our C scalar kernel is exact in every rule, as a library."""
    library = built("native", need) / "lib" / "libq8a8-scalar.so"
    tested = q8a8_test(f"lib:{library}", "--profile", "exact")
    assert (tested.report["verdict"], tested.status) == ("conforms", 0), tested.out
    assert tested.rules("not-run", "fail", "crashed") == set()
    assert tested.causes(DOT) == ["scalar"]


@pytest.mark.parametrize(("kernel", "cpu"), [("i8mm", "max"), ("neon", "cortex-a72")])
def test_our_arm_kernels(
    q8a8_test: Callable[..., Tested], need: Callable[[object, str], None], kernel: str, cpu: str
) -> None:
    """Our Arm kernels are exact in every rule, in the harness under QEMU."""
    built("aarch64", need)
    try:
        command = " ".join(native_build.harness_argv(kernel, cpu))
    except native_build.MissingToolError as error:
        need(None, str(error))
        raise
    tested = q8a8_test(f"exec:{command}", "--profile", "exact")
    assert (tested.report["verdict"], tested.status) == ("conforms", 0), tested.out
    assert tested.rules("fail", "crashed") == set()
    assert tested.rules("not-run") == {"ENV-9"}  # nothing is loaded: the kernel is a part of the harness
    assert tested.report["kernel"]["emulated"] is True


def test_ggml_by_its_backend(q8a8_test: Callable[..., Tested], need: Callable[[object, str], None]) -> None:
    """The same ggml's CPU device: its product conforms by its recipe, and its bits depend on no batch."""
    need(find_spec("pywhispercpp"), "pywhispercpp is not installed")
    need(platform.machine() == "x86_64", "the ggml that is judged here is x86-64 code")
    device = f"ggml:{ggml.host_library()}:CPU"
    tested = q8a8_test(device, "--rules", "MUL-*,DEQ-*,QNT-4", "--profile", "ggml")
    assert (tested.report["verdict"], tested.status) == ("conforms", 0), tested.out
    assert tested.rules("pass") >= {f"MUL-{number}" for number in range(4, 10)}
    assert tested.causes(FAST) == ["recipe:ggml-avx2"]
    assert tested.causes("mul_mat_q8_a8") == ["order:avx2"]
    assert "mul_mat_q8_a8 is judged by the recipe ggml-avx2" in tested.out
    assert tested.report["kernel"]["name"].startswith("libggml-cpu")
    tested = q8a8_test(device, "--rules", "MUL-4")
    assert (tested.report["verdict"], tested.rules("fail")) == ("does-not-conform", {"MUL-4"}), tested.out


def test_options_of_a_device(need: Callable[[object, str], None], capsys: pytest.CaptureFixture[str]) -> None:
    """Smoke lists what each device supports; the options of one change how it is used."""
    need(find_spec("pywhispercpp"), "pywhispercpp is not installed")
    need(platform.machine() == "x86_64", "the ggml that is judged here is x86-64 code")
    library = ggml.host_library()
    assert cli.main(["smoke", f"ggml:{library}:threads=2,copy=rows,precision=f32"]) == 0
    assert "device CPU: CPY F32 -> Q8_0, " in capsys.readouterr().out
    rng = np.random.default_rng(1)
    w = rng.integers(0, 120, 7 * 68, np.uint8)
    x, results = rng.standard_normal(64 * 3, np.float32), []
    for settings in (Settings(), Settings(2, precision="f32", copy="rows")):
        device = GgmlDevice([library], "CPU", settings)
        out, row = np.empty(21, np.float32), np.empty(64, np.float32)
        kernel: Any = device
        kernel.mul_mat_q8_a8(7, 3, 64, w, x, out)
        kernel.dequantize_row_q8_a8(w[:68], row, 64)
        results.append(out.tobytes() + row.tobytes())
    assert results[0] == results[1]
    repacked: Any = GgmlDevice([library], "CPU", Settings(buffer="repack"))
    if hasattr(repacked, "mul_mat_q8_a8"):
        repacked.mul_mat_q8_a8(7, 3, 64, w, x, out)
    with pytest.raises(TargetError, match="has no buffer nowhere"):
        GgmlDevice([library], "CPU", Settings(buffer="nowhere"))


def test_devices_that_are_not_there(need: Callable[[object, str], None]) -> None:
    """Libraries without ggml, without a device, or without the device asked for are refused by name."""
    need(find_spec("pywhispercpp"), "pywhispercpp is not installed")
    need(platform.machine() == "x86_64", "the ggml that is judged here is x86-64 code")
    library = ggml.host_library()
    base = next(library.parent.glob("libggml-base*"))
    for paths, device, said in (
        ([Path("/nowhere.so")], "", "cannot load it"),
        ([Path(_ctypes.__file__)], "", "has no ggml_init"),
        ([base], "", "have no device"),
        ([library], "Vulkan0", "there is no device Vulkan0; there is CPU"),
    ):
        with pytest.raises(TargetError, match=said):
            GgmlDevice(paths, device)


def test_gguf_py(q8a8_test: Callable[..., Tested], need: Callable[[object, str], None]) -> None:
    """gguf-py: its quantizer follows ggml-ref, which the default profile does not accept."""
    need(find_spec("gguf"), "gguf is not installed")
    sut = "py:q8a8_conformance.adapters.gguf_py:kernel"
    tested = q8a8_test(sut, "--rules", "QNT-*,HLF-*,DEQ-*,LAY-*")
    assert tested.status == 1
    assert tested.causes(FAST) == tested.causes(REF) == ["recipe:ggml-ref"]
