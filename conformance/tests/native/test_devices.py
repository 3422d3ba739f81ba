"""The kernels of other processors and of GPUs: the one result of the fixed product, and the golden cases."""

from __future__ import annotations

import re
import shutil
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8.layout import BLOCK_Q8_A8
from q8a8_conformance.commands.fingerprint import take
from q8a8_conformance.inputs import calls, fixed_product
from q8a8_conformance.protocol.messages import Fault, Option
from q8a8_conformance.protocol.sut import parse_sut
from q8a8_conformance.suite.test_golden import call_of
from q8a8_golden.cases import Bound, Exact
from q8a8_golden.load import load_cases
from q8a8_lab import devices, native_build

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from q8a8_conformance.protocol.session import Session

GPUS = {"opencl": devices.opencl, "cuda": devices.cuda_shim}
LEGS = {
    "s390x": devices.emulated("s390x", "scalar"),
    "ppc64le": devices.emulated("ppc64le", "scalar"),
    **{
        f"rvv-{bits}": devices.emulated("zig-riscv64", "rvv", "-cpu", devices.rvv_cpu(bits))
        for bits in (128, 1024)
    },
    "wasm": devices.wasm("simd128"),
    **GPUS,
}


@pytest.fixture
def session(request: pytest.FixtureRequest, need: Callable[[object, str], None]) -> Session:
    """Return a session with a kernel on its device or emulator."""
    try:
        return parse_sut(LEGS[request.param]()).session(60)
    except native_build.MissingToolError as error:
        need(False, str(error))
        raise  # not reached


@pytest.mark.rule("Q8A8-MUL-5", "Q8A8-DOT-3", "Q8A8-QNT-8", "Q8A8-DEQ-1", "Q8A8-LAY-1")
@pytest.mark.parametrize("session", LEGS, indirect=True)
def test_one_result(session: Session) -> None:
    """Every function has the specification's bits, whatever the order of bytes and the length of vectors."""
    with session:
        found = list(take(session, session.hello.functions))
        assert [each.sha256 for each in found] == list(fixed_product.DIGESTS.values())
        call = calls.activation(np.array([127, -127], "<f4"))
        outputs = session.call(calls.with_options(call, Option.GUARD_AFTER)).outputs
    assert outputs == (b"\x7f\x81", b"\x00\x3c")  # the scale is 1


@pytest.mark.parametrize("session", ["s390x", "rvv-128", "wasm", *GPUS], indirect=True)
def test_golden_cases(session: Session) -> None:
    """Every golden case with an outcome has the bits of the scalar order, and nothing else is written."""
    with session:
        for case in load_cases():
            if isinstance(case.outcome, Exact | Bound):
                result = session.call(call_of(case))
                assert result.outputs == tuple(case.expected().values()), case.id
                assert not result.faults, case.id


def test_the_emulator_s_vector_loads(need: Callable[[object, str], None]) -> None:
    """QEMU is tried without a kernel: where it calls a legal reduction illegal, crashes are its own."""
    try:
        found = {devices.vector_loads_resume(bits) for bits in devices.RVV_BITS}
    except native_build.MissingToolError as error:
        need(False, str(error))
        raise  # not reached
    page = (native_build.source_folder().parent / "docs" / "one-result.md").read_text(encoding="utf-8")
    assert len(found) == 1
    assert ("goes on wrongly after a vector load" in page) or found == {True}


@pytest.mark.parametrize("architecture", ["sm_75", "sm_90"])
def test_cuda_compiles(
    architecture: str,
    tmp_path: Path,
    need: Callable[[object, str], None],
    run: Callable[..., subprocess.CompletedProcess[bytes]],
) -> None:
    """The compiler makes code for old and new devices, in which nothing is fused or flushed."""
    beside = Path(sysconfig.get_path("purelib")) / "nvidia" / "cu13" / "bin"
    nvcc = shutil.which("nvcc", path=beside) or shutil.which("nvcc")
    need(nvcc, "no nvcc (pip install nvidia-cuda-nvcc nvidia-cuda-runtime)")
    folder = native_build.source_folder()
    code = tmp_path / "cuda.cubin"
    options = [
        f"-arch={architecture}",
        "-cubin",
        "--keep",
        f"--keep-dir={tmp_path}",
        f"-I{folder / 'include'}",
    ]
    done = run([str(nvcc), *options, "-o", str(code), str(folder / "gpu" / "cuda.cu")])
    assert done.returncode == 0, done.stderr.decode()
    assert code.stat().st_size > 0
    text = next(tmp_path.glob("*.ptx")).read_text(encoding="ascii")
    floats = set(re.findall(r"\b(?:add|sub|mul|fma|mad|div|rcp)\.\w[\w.]*f32", text))
    assert floats == {"add.rn.f32", "mul.rn.f32"}
    assert "dp4a" in text


@pytest.mark.rule("Q8A8-ENV-1", "Q8A8-ENV-5")
@pytest.mark.parametrize("preset", devices.EMULATORS)
def test_what_a_call_leaves(preset: str, need: Callable[[object, str], None]) -> None:
    """The harness compares modes and registers on every processor: two mutants of ours are found."""
    row = np.array([127, -127], "<f4")
    block = np.frombuffer(b"\x00\x3c" + bytes(32), BLOCK_Q8_A8)
    mutants = {
        "leaves-rounding": (
            calls.activation(row),
            Fault.ROUNDING_MODE_CHANGED,
            "(rounding) changed: 0 before",
        ),
        "clobbers-register": (calls.dequantize(block), Fault.CONVENTION_BROKEN, "callee-saved registers"),
    }
    for mutant, (call, fault, detail) in mutants.items():
        try:
            sut = devices.emulated(preset, mutant, program="q8a8-mutants")()
        except native_build.MissingToolError as error:
            need(False, str(error))
            raise  # not reached
        with parse_sut(sut).session(60) as session:
            assert {"fenv", "registers", "stack"} <= set(session.hello.capabilities)
            assert ("flush" in session.hello.capabilities) is (preset == "ppc64le")
            result = session.call(calls.with_options(call, Option.STATE))
            assert result.faults == fault
            assert detail in result.detail
