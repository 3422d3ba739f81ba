"""The C kernels equal the NumPy reference, over the protocol: every byte of every output.

The reference computes the expected outputs in the scalar order; every kernel must give them on every CPU that
can run it, so that all kernels agree with each other too.
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8 import BLOCK_Q8_A8, BLOCK_Q8_A8_V2
from q8a8.abi import Reference
from q8a8_conformance.protocol.messages import Buffer, Call, Fault, Option
from q8a8_conformance.protocol.session import Session, WorkerUnsupported
from q8a8_lab import native_build

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Expected = tuple[Call, tuple[bytes, ...]]

POISON = 0xEE
BLOCK_COUNTS = (0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 64, 255, 256, 257)
ON_ARM = platform.machine() == "aarch64"
NATIVE_KERNELS = native_build.RUNS_ON["max"] if ON_ARM else ("scalar", *native_build.X86_KERNELS)
LEGS = [
    *((None, kernel) for kernel in NATIVE_KERNELS),
    *native_build.PLAINEST,
]
SVE_LEGS = [
    *((native_build.sve_cpu(bits), "sve") for bits in (128, 256, 2048)),
    *((native_build.sve_cpu(bits), "sve-i8mm") for bits in (128, 2048)),
]
GUARDED = Option.GUARD_AFTER | Option.READONLY


def session_of(argv: list[str]) -> Session:
    """Return a session with a worker; skip kernels that this machine's CPU cannot run (QEMU runs them)."""
    session = Session(argv)
    try:
        assert session.hello.functions
    except WorkerUnsupported as error:
        if "-cpu" in argv:
            raise  # an emulated CPU must run the kernels in RUNS_ON
        pytest.skip(error.stderr.strip())
    return session


def poisoned(count: int) -> NDArray[np.uint8]:
    """Return a poisoned output buffer of `count` bytes."""
    return np.full(count, POISON, np.uint8)


def float_rows(rng: np.random.Generator) -> list[NDArray[np.float32]]:
    """Return rows with ties, near ties, and values of the smallest and largest scales."""
    count = 32 * 400
    gauss = rng.standard_normal(count).astype(np.float32)
    steps = np.exp2(rng.integers(-20, 12, (400, 1))).astype(np.float32)
    ties = (rng.integers(-127, 127, (400, 32)) + np.float32(0.5)) * steps
    ties[:, 0] = 127 * steps[:, 0]
    near = ties.copy()
    near[:, 1:] = np.nextafter(ties[:, 1:], np.where(rng.random((400, 31)) < 0.5, np.inf, -np.inf))
    tiny = gauss * np.float32(127 * 2.0**-25)
    large = np.clip(gauss / 3, -1, 1) * np.float32(65519 * 127)
    wide = gauss * np.exp2(rng.integers(-30, 20, count)).astype(np.float32)
    bf16 = (gauss.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    subnormal = (rng.integers(0, 2**23, count, dtype=np.uint32)).view(np.float32)
    zeros = np.where(gauss < 0, np.float32(-0.0), np.float32(0.0))
    rows = [gauss, ties, near, tiny, large, wide, bf16, subnormal, zeros]
    return [np.ascontiguousarray(row, np.float32).reshape(-1) for row in rows]


def finite_halves(rng: np.random.Generator, count: int) -> NDArray[np.float16]:
    """Return random finite halves."""
    bits = rng.integers(0, 2**16, count, dtype=np.uint16)
    bits[(bits & 0x7C00) == 0x7C00] ^= 0x4000
    return bits.view(np.float16)


def any_blocks(rng: np.random.Generator, dtype: np.dtype[np.void], count: int) -> NDArray[np.void]:
    """Return random blocks with finite scales, some with all codes -128, some 127."""
    blocks = np.zeros(count, dtype)
    for name in dtype.names or ():
        if name.endswith("scale"):
            blocks[name] = finite_halves(rng, count)
    blocks["weight_qs"] = rng.integers(-128, 128, (count, 32), dtype=np.int8)
    blocks["weight_qs"][::7] = -128
    blocks["weight_qs"][3::11] = 127
    return blocks


def quantizer_calls(rng: np.random.Generator) -> list[Expected]:
    """Return calls of the quantizers with the reference's outputs."""
    reference = Reference()
    calls: list[Expected] = []
    buffers: tuple[Buffer, ...]
    rows = float_rows(rng)
    for i, x in enumerate([*rows, *(rows[0][: 32 * nb] for nb in BLOCK_COUNTS)]):
        y = poisoned(x.size // 32 * 34)
        reference.quantize_row_q8_a8(x, y, x.size)
        buffers = (Buffer(x.tobytes()), Buffer(bytes([POISON]) * y.size))
        name = ("quantize_row_q8_a8", "quantize_row_q8_a8_ref")[i % 2]
        calls.append((Call(name, x.size, buffers, options=GUARDED), (y.tobytes(),)))
    for row in rows:
        for size in (*range(40), 63, 64, 65, 1000, 4097):
            x = row[size : 2 * size]
            q, scale = np.zeros(size, np.int8), np.zeros(1, np.uint16)
            reference.quantize_activation_q8_a8(x, q, scale, size)
            buffers = (Buffer(x.tobytes()), Buffer(bytes([POISON]) * size), Buffer(b"\xee\xee"))
            call = Call("quantize_activation_q8_a8", size, buffers, options=GUARDED)
            calls.append((call, (q.tobytes(), scale.tobytes())))
    return calls


def block_calls(rng: np.random.Generator) -> list[Expected]:
    """Return calls of dequantization and dot products with the reference's outputs."""
    reference = Reference()
    calls: list[Expected] = []
    buffers: tuple[Buffer, ...]
    s4 = Buffer(bytes([POISON]) * 4)
    for nb in (*BLOCK_COUNTS, *rng.integers(1, 257, 60).tolist()):
        n = 32 * nb
        x = any_blocks(rng, BLOCK_Q8_A8, 2 * nb + 3).view(np.uint8)
        y = any_blocks(rng, BLOCK_Q8_A8, 2 * nb + 3).view(np.uint8)
        row = 34 * nb
        floats = np.zeros(n, np.float32)
        reference.dequantize_row_q8_a8(x[:row], floats, n)
        buffers = (Buffer(x[:row].tobytes()), Buffer(bytes([POISON]) * (4 * n)))
        calls.append((Call("dequantize_row_q8_a8", n, buffers, options=GUARDED), (floats.tobytes(),)))

        s = np.zeros(1, np.float32)
        reference.ggml_vec_dot_q8_a8_q8_a8(n, s, 0, x[:row], 0, y[:row], 0, 1)
        buffers = (s4, Buffer(x[:row].tobytes()), Buffer(y[:row].tobytes()))
        name = "ggml_vec_dot_q8_a8_q8_a8"
        calls.append((Call(name, n, buffers, -1, 7, 2**40, options=GUARDED), (s.tobytes(),)))

        bs, bx, by = int(rng.integers(2, 9)), row + 34 * int(rng.integers(0, 3)), row + 34
        s = poisoned(4 * (bs + 2)).view(np.float32)
        reference.ggml_vec_dot_q8_a8_q8_a8(n, s, bs, x[: bx + row], bx, y[: by + row], by, 2)
        poison = Buffer(bytes([POISON]) * s.nbytes)
        buffers = (poison, Buffer(x[: bx + row].tobytes()), Buffer(y[: by + row].tobytes()))
        calls.append((Call(name, n, buffers, bs, bx, by, 2, options=GUARDED), (s.tobytes(),)))

        x2, y2 = any_blocks(rng, BLOCK_Q8_A8_V2, nb), any_blocks(rng, BLOCK_Q8_A8_V2, nb)
        x2["activation_scale"] = y2["weight_scale"] = np.float16("nan")  # must not be read (Q8A8-LAY-5)
        s = np.zeros(1, np.float32)
        reference.ggml_vec_dot_q8_a8_q8_a8_real(n, s, x2.view(np.uint8), y2.view(np.uint8))
        buffers = (s4, Buffer(x2.tobytes()), Buffer(y2.tobytes()))
        calls.append((Call("ggml_vec_dot_q8_a8_q8_a8_real", n, buffers, options=GUARDED), (s.tobytes(),)))
    return calls


def product_calls(rng: np.random.Generator) -> list[Expected]:
    """Return calls of the matrix product with the reference's outputs."""
    calls: list[Expected] = []
    gauss, ties, _, tiny, *_ = float_rows(rng)
    for m, n, nb in (
        (0, 2, 3),
        (2, 0, 3),
        (3, 2, 0),
        (1, 1, 1),
        (5, 3, 2),
        (3, 7, 33),
        (17, 2, 9),
        (2, 2, 65),
    ):
        w = any_blocks(rng, BLOCK_Q8_A8, m * nb).view(np.uint8)
        for x in (gauss, ties, tiny):
            rows = x[: n * nb * 32]
            out = np.zeros(n * m, np.float32)
            Reference().mul_mat_q8_a8(m, n, 32 * nb, w, rows, out)
            buffers = (Buffer(w.tobytes()), Buffer(rows.tobytes()), Buffer(bytes([POISON]) * out.nbytes))
            call = Call("mul_mat_q8_a8", 32 * nb, buffers, m, n, options=GUARDED)
            calls.append((call, (out.tobytes(),)))
    return calls


@pytest.fixture(scope="module")
def expected() -> list[Expected]:
    """Return calls of all functions with the reference's outputs."""
    rng = np.random.default_rng(8)
    return quantizer_calls(rng) + block_calls(rng) + product_calls(rng)


@pytest.mark.rule(
    *("Q8A8-QNT-8", "Q8A8-QNT-9", "Q8A8-DEQ-1", "Q8A8-DOT-3", "Q8A8-DOT-6", "Q8A8-DOT-9", "Q8A8-LAY-5"),
    *("Q8A8-MUL-4", "Q8A8-MUL-6"),
)
@pytest.mark.parametrize(("cpu", "kernel"), [*LEGS, *SVE_LEGS])
def test_equals_the_reference(
    cpu: str | None, kernel: str, expected: list[Expected], harness: Callable[..., list[str]]
) -> None:
    """Every function of the kernel gives the reference's bytes, in guarded and read-only memory."""
    with session_of(harness(kernel, cpu)) as session:
        for call, outputs in expected:
            result = session.call(call)
            assert result.faults == Fault(0), f"{call.function}, n = {call.n}: {result.detail}"
            for got, want in zip(result.outputs, outputs, strict=True):
                assert got == want, f"{call.function}, n = {call.n}, nrc = {call.nrc}"


@pytest.mark.rule("Q8A8-QNT-11")
@pytest.mark.parametrize(("cpu", "kernel"), LEGS)
def test_outside_the_domain(cpu: str | None, kernel: str, harness: Callable[..., list[str]]) -> None:
    """For NaN, infinities and overflowing scales the kernel returns and stays inside its buffers."""
    rng = np.random.default_rng(11)
    x = rng.integers(0, 2**32, 32 * 50, dtype=np.uint32).view(np.float32).copy()
    x[:32] = np.nan
    x[32:64] = np.inf
    x[64:96] = np.float32(3e38)
    with session_of(harness(kernel, cpu)) as session:
        for options in (GUARDED, Option.GUARD_BEFORE, Option.FLUSH):
            row = Call(
                "quantize_row_q8_a8", 1600, (Buffer(x.tobytes()), Buffer(bytes(1700))), options=options
            )
            odd = (Buffer(x[5:104].tobytes()), Buffer(bytes(99)), Buffer(bytes(2)))
            one = Call("quantize_activation_q8_a8", 99, odd, options=options)
            assert session.call(row).faults == session.call(one).faults == Fault(0)


@pytest.mark.rule("Q8A8-ENV-2", "Q8A8-ENV-3", "Q8A8-HLF-2")
@pytest.mark.parametrize(("cpu", "kernel"), LEGS)
def test_flush_mode_and_threads_change_nothing(
    cpu: str | None, kernel: str, expected: list[Expected], harness: Callable[..., list[str]]
) -> None:
    """The outputs are the same under flush-to-zero, repeated, in four threads and at other offsets."""
    by_function: dict[str, list[Expected]] = {}
    for call, outputs in expected:
        by_function.setdefault(call.function, []).append((call, outputs))
    picked = [pair for pairs in by_function.values() for pair in pairs[3:60:9]]
    with session_of(harness(kernel, cpu)) as session:
        for call, outputs in picked:
            shifted = tuple(Buffer(buffer.data, 4) for buffer in call.buffers)
            again = Call(
                call.function,
                call.n,
                shifted,
                call.bs,
                call.bx,
                call.by,
                call.nrc,
                Option.FLUSH,
                threads=4,
                repeat=2,
            )
            result = session.call(again)
            assert result.faults == Fault(0), result.detail
            assert result.outputs == outputs, f"{call.function}, n = {call.n}"


@pytest.mark.parametrize("kernel", native_build.RUNS_ON["max"])
def test_library_of_a_kernel(
    kernel: str, expected: list[Expected], built: Callable[[str], object], harness: Callable[..., list[str]]
) -> None:
    """libq8a8-KERNEL.so, loaded as a third-party library, gives the same outputs."""
    library = f"{built('aarch64')}/lib/libq8a8-{kernel}.so"
    with Session(harness(f"--lib {library}", "max")) as session:
        assert len(session.hello.functions) == 7
        for call, outputs in expected[::25]:
            assert session.call(call).outputs == outputs
