"""A model whose products are a C kernel's: the same logits and tokens to the bit, and what is refused."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8 import DomainError, ShapeError, mul_mat, quantize_row
from q8a8.schemes.scheme import build
from q8a8.schemes.table import SCHEMES
from q8a8_evaluation import native
from q8a8_evaluation.commands import bench_model, generate
from q8a8_evaluation.native import NativeKernel, NativeKernelError, NativeLinear, with_kernel
from q8a8_golden.generate.native import NativeBuildError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.llama.conftest import Tiny, WriteTiny

Q8_A8 = SCHEMES["q8_a8"]


@pytest.fixture(scope="module")
def kernels(need: Callable[[object, str], None]) -> list[NativeKernel]:
    """Return the C kernels that this CPU can run, built if need be."""
    try:
        return native.runnable()
    except NativeKernelError as error:
        need(False, str(error))
        raise  # not reached


def test_products_have_the_reference_s_bits(kernels: list[NativeKernel]) -> None:
    """For every kernel, number of rows and of threads: the bits of `q8a8.mul_mat`."""
    rng = np.random.default_rng(5)
    weight, x = rng.standard_normal((37, 32 * 35), np.float32), rng.standard_normal((41, 32 * 35), np.float32)
    expected = mul_mat(quantize_row(weight), x)
    assert kernels[-1].name == "scalar"
    for kernel in kernels:
        for threads in (1, 3):
            linear = NativeLinear(weight, kernel=kernel, threads=threads)
            for n in (0, 1, 2, 5, 12, 41):
                assert linear(x[:n]).tobytes() == expected[:n].tobytes(), (kernel.name, n, threads)


def test_what_the_reference_refuses_is_refused(kernels: list[NativeKernel]) -> None:
    """Values that have no quantization, and rows of another length."""
    linear = NativeLinear(np.ones((3, 64), np.float32), kernel=kernels[0])
    largest = np.nextafter(np.float32(65520 * 127), np.float32(0))
    assert np.isfinite(linear(np.full((1, 64), largest))).all()
    for value in (np.nan, np.inf, -np.inf, 65520 * 127, -65520 * 127):
        x = np.zeros((2, 64), np.float32)
        x[1, 40] = value
        with pytest.raises(DomainError):
            linear(x)
    with pytest.raises(ShapeError):
        linear(np.zeros((1, 32), np.float32))


def test_logits_are_the_reference_s(kernels: list[NativeKernel], tiny: Tiny) -> None:
    """A language model gives the logits that it gives in NumPy, a prompt at once and token by token."""
    for kernel in kernels:
        ours, reference = (
            build(scheme, tiny.config, tiny.weights).model
            for scheme in (with_kernel(Q8_A8, kernel.name, threads=2), Q8_A8)
        )
        assert ours.forward(tiny.tokens).tobytes() == reference.forward(tiny.tokens).tobytes()
        for token in tiny.tokens[:3]:
            assert ours.forward([token]).tobytes() == reference.forward([token]).tobytes()


def test_generate_writes_the_same_text(
    kernels: list[NativeKernel],
    tiny: Tiny,
    write_tiny: WriteTiny,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`q8a8 generate --kernel` prints what it prints without, and refuses a kernel that is not there."""
    assert kernels
    path = tmp_path / "tiny.gguf"
    write_tiny(path, tiny)
    parser = argparse.ArgumentParser()
    generate.add_parser(parser.add_subparsers())

    def run(*words: str) -> tuple[int, str, str]:
        options = parser.parse_args(
            ["generate", str(path), "the", "--tokens", "6", "--scheme", "q8_a8", *words]
        )
        return options.func(options), *capsys.readouterr()

    assert run("--kernel", "native", "--threads", "2") == run()
    status, text, errors = run("--kernel", "frob")
    assert (status, text) == (2, "")
    assert "no kernel frob" in errors


def test_bench_model_times_it_beside_the_reference(
    kernels: list[NativeKernel], tiny: Tiny, write_tiny: WriteTiny, tmp_path: Path
) -> None:
    """`q8a8 bench-model --kernel` adds a row for the scheme whose products a kernel can compute."""
    path = tmp_path / "tiny.gguf"
    write_tiny(path, tiny)
    schemes, by = ["q8_a8", "w8a16"], bench_model.By("native", 2)
    figures = bench_model.collect(path, schemes, prompt=4, generate=2, rounds=1, by=by)
    assert [each["scheme"] for each in figures["schemes"]] == [*schemes, f"q8_a8, {kernels[0].name}"]
    assert figures["schemes"][2]["weight_bytes"] == figures["schemes"][0]["weight_bytes"]
    assert "2 threads of the kernel and of llama.cpp, one of NumPy" in bench_model.text(figures)


@pytest.mark.usefixtures("kernels")
def test_no_kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Another name, a file that is none, no checkout and no compiler are errors that say so."""
    with pytest.raises(NativeKernelError, match=r"no kernel frob for this CPU; there is .*scalar"):
        native.find_kernel("frob")
    wrong = tmp_path / "libq8a8-x.so"
    wrong.write_text("")
    with pytest.raises(NativeKernelError, match=r"libq8a8-x\.so"):
        native.find_kernel(str(wrong))
    monkeypatch.setattr(native, "cpu_features", frozenset)
    assert [kernel.name for kernel in native.runnable()] == ["scalar"]
    monkeypatch.setattr(native, "kernel_library", lambda _: None)
    with pytest.raises(NativeKernelError, match="no C compiler"):
        native.find_kernel()
    monkeypatch.setattr(native, "in_checkout", lambda: False)
    with pytest.raises(NativeKernelError, match="checkout"):
        native.find_kernel()


def test_other_schemes_keep_their_operators() -> None:
    """Only products of Q8_A8 are a kernel's."""
    for name in ("float", "w8a16", "w8a8-tensor"):
        assert with_kernel(SCHEMES[name], "native") is SCHEMES[name]
    assert with_kernel(Q8_A8, "numpy") is Q8_A8


def test_cpu_features(tmp_path: Path) -> None:
    """The words of both architectures' lines; none where there is no such file."""
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nflags\t\t: fpu avx2\n\nFeatures\t: asimd asimddp\n")
    assert native.cpu_features(file) == {"fpu", "avx2", "asimd", "asimddp"}
    assert native.cpu_features(tmp_path / "none") == frozenset()
    file.write_text("hart\t: 0\nisa\t\t: rv64imafdcv_zicsr_zvfh\nmmu\t\t: sv39\n")
    assert native.cpu_features(file) == {*"imafdcv", "zicsr", "zvfh"}


@pytest.mark.parametrize(
    ("machine", "features", "expected"),
    [
        ("riscv64", "imafdcv", ["rvv", "scalar"]),
        ("riscv64", "imafdc", ["scalar"]),
        ("aarch64", "asimd asimddp", ["dotprod", "neon", "scalar"]),
        (
            "aarch64",
            "asimd asimddp sve sve2 i8mm svei8mm",
            ["i8mm", "sve-i8mm", "sve", "dotprod", "neon", "scalar"],
        ),
        ("s390x", "vx", ["scalar"]),
    ],
)
def test_kernels_of_other_processors(
    machine: str, features: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a Python on another processor would find, the fastest first."""
    needs = {
        "rvv": "v",
        "dotprod": "asimd asimddp",
        "neon": "asimd",
        "i8mm": "asimd i8mm",
        "sve": "asimd sve",
        "sve-i8mm": "asimd sve svei8mm",
    }
    has = set(features) if machine == "riscv64" else set(features.split())

    class Library:
        def __init__(self, path: Path) -> None:
            self.name = path.stem
            self.missing = tuple(set(needs.get(self.name, "").split()) - has)

    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(native, "kernel_library", lambda name: Path(f"{name}.so"))
    monkeypatch.setattr(native, "NativeKernel", Library)
    assert [kernel.name for kernel in native.runnable()] == expected


def test_a_kernel_that_does_not_compile_is_left_out(
    kernels: list[NativeKernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compiler that is too old for a kernel's instructions leaves the others; without any, an error."""

    def compile_scalar(name: str) -> Path:
        if name == "scalar":
            return kernels[-1].path
        raise NativeBuildError("unknown option")

    def compile_none(name: str) -> Path:
        raise NativeBuildError(name)

    monkeypatch.setattr(native, "kernel_library", compile_scalar)
    assert [kernel.name for kernel in native.runnable()] == ["scalar"]
    monkeypatch.setattr(native, "kernel_library", compile_none)
    with pytest.raises(NativeKernelError, match="scalar kernel does not compile"):
        native.runnable()
