"""The suite on kernels that were not made for its tests: our C ones, real ggml, gguf-py."""

from __future__ import annotations

import platform
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from q8a8_lab import native_build
from q8a8_lab.peers import ggml

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

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


def test_ggml(q8a8_test: Callable[..., Tested], need: Callable[[object, str], None]) -> None:
    """Prebuilt ggml for x86-64: both recipes are named, and the dot product's -128 is found and named."""
    need(find_spec("pywhispercpp"), "pywhispercpp is not installed")
    need(platform.machine() == "x86_64", "the ggml that is judged here is x86-64 code")
    flags = [word for pair in ggml.SYMBOLS.items() for word in ("--symbol", "=".join(pair))]
    tested = q8a8_test(f"lib:{ggml.host_library()}", *flags, "--init", ggml.INIT, "--profile", "ggml")
    assert (tested.report["verdict"], tested.status) == ("does-not-conform", 1), tested.out
    assert tested.causes(REF) == ["recipe:ggml-ref"]
    assert tested.causes(FAST) == ["recipe:ggml-avx2"]
    assert tested.causes(DOT) == ["minus-128-sign", "order:avx2"]
    assert {rule for rule in tested.rules("fail") if not rule.startswith(("DOT-", "ORD-"))} == set()


def test_gguf_py(q8a8_test: Callable[..., Tested], need: Callable[[object, str], None]) -> None:
    """gguf-py: its quantizer follows ggml-ref, which the profile ggml accepts and the default does not."""
    need(find_spec("gguf"), "gguf is not installed")
    sut = "py:q8a8_conformance.adapters.gguf_py:kernel"
    tested = q8a8_test(sut, "--rules", "QNT-*,HLF-*,DEQ-*,LAY-*")
    assert tested.status == 1
    assert tested.causes(FAST) == tested.causes(REF) == ["recipe:ggml-ref"]
    tested = q8a8_test(sut, "--profile", "ggml")
    assert (tested.report["verdict"], tested.status) == ("conforms", 0), tested.out
