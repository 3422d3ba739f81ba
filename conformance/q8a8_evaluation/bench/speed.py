"""Time the reference against its peers, in a process of its own whose BLAS has one thread from the start.

`q8a8_evaluation.commands.bench` starts it. Rounds are interleaved: each round times every contestant once, a
ratio is taken within a round, and the median of the rounds' ratios is reported. So a busy machine slows both
sides of a ratio, not one.
"""

from __future__ import annotations

import os
import platform
import statistics
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.layout import as_bytes
from q8a8.matmul import mul_mat
from q8a8.quantize import dequantize_row, quantize_row
from q8a8_evaluation.bench.ckernel import CKernel
from q8a8_evaluation.child import ONE_THREAD, serve

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["measure", "start"]


@dataclass(frozen=True)
class Size:
    """How much is measured: W [m, k], X [n, k], of which `columns` rows go through the C kernel's dot."""

    m: int
    k: int
    n: int
    columns: int
    rounds: int


FULL = Size(m=1024, k=4096, n=256, columns=16, rounds=9)
QUICK = Size(m=64, k=512, n=32, columns=4, rounds=3)


class Contest:
    """Contestants by name, timed in interleaved rounds."""

    def __init__(self) -> None:
        self.run: dict[str, Callable[[], float]] = {}
        self.seconds: dict[str, list[float]] = {}

    def add(self, name: str, work: Callable[[], object]) -> None:
        """Add a contestant whose time is that of one call."""

        def timed() -> float:
            start = perf_counter()
            work()
            return perf_counter() - start

        self.run[name] = timed

    def measure(self, rounds: int) -> None:
        """Run all contestants in turn, `rounds` times after a first one that is not counted."""
        self.seconds = {name: [] for name in self.run}
        for count in range(rounds + 1):
            for name, timed in self.run.items():
                seconds = timed()
                if count:
                    self.seconds[name].append(seconds)

    def ratio(self, ours: str, theirs: str) -> float | None:
        """Return the speed of ours over theirs, the median of the rounds; None where one is missing."""
        if ours not in self.seconds or theirs not in self.seconds:
            return None
        pairs = zip(self.seconds[ours], self.seconds[theirs], strict=True)
        return statistics.median(other / mine for mine, other in pairs)


def start(request: dict[str, Any]) -> tuple[dict[str, Any], None]:
    """Measure, small arrays where the request is `quick`, with the library `c_kernel` unless it is None."""
    c_kernel = request["c_kernel"]
    return measure(QUICK if request["quick"] else FULL, c_kernel and Path(c_kernel)), None


def measure(size: Size, c_kernel: Path | None) -> dict[str, Any]:
    """Time everything at one size.

    Returns
    -------
    dict
        `ratios`: speed of ours over theirs, None where a peer is missing; `seconds`: medians by contestant;
        `sizes`, `machine`.
    """
    contest = Contest()
    rng = np.random.default_rng(0)
    w_float = rng.standard_normal((size.m, size.k), np.float32)
    x = rng.standard_normal((size.n, size.k), np.float32)
    _add_products(contest, size, w_float, x, c_kernel)
    _add_conversions(contest, w_float, c_kernel)
    contest.measure(size.rounds)
    many = f"mul_mat threads={_cores()}"
    ratios = {
        "mul_mat/sgemm": contest.ratio("mul_mat", "sgemm"),
        "mul_mat/c-scalar": contest.ratio("mul_mat", "mul_mat c-scalar"),
        f"{many}/threads=1": contest.ratio(many, "mul_mat"),
        **{
            f"{ours}/{theirs}": contest.ratio(ours, f"{ours} {theirs}")
            for ours in ("quantize", "dequantize")
            for theirs in ("gguf-py", "c-scalar", "memcpy")
        },
    }
    return {
        "ratios": ratios,
        "seconds": {name: statistics.median(seconds) for name, seconds in contest.seconds.items()},
        "sizes": {"w": [size.m, size.k], "x": [size.n, size.k], "rounds": size.rounds},
        "machine": _machine(),
    }


def _add_products(
    contest: Contest, size: Size, w_float: NDArray[np.float32], x: NDArray[np.float32], c_kernel: Path | None
) -> None:
    """Add the matrix product, the float32 one of the same shape, and the C kernel's."""
    w = quantize_row(w_float)
    contest.add("sgemm", lambda: x @ w_float.T)
    contest.add("mul_mat", lambda: mul_mat(w, x))
    contest.add(f"mul_mat threads={_cores()}", lambda: mul_mat(w, x, threads=_cores()))
    if c_kernel:
        kernel = CKernel(c_kernel)
        few = x[: size.columns]
        _agree("mul_mat", mul_mat(w, few), kernel.mul_mat(w, few))

        def columns() -> float:
            # Python's share of the calls is not the kernel's, unless an interrupt made it the longer one; and
            # all columns take as long as these.
            calls = kernel.seconds_of_calls(w, few)
            start = perf_counter()
            kernel.mul_mat(w, few)
            seconds = perf_counter() - start
            return (seconds - calls if seconds > calls else seconds) * size.n / size.columns

        contest.run["mul_mat c-scalar"] = columns


def _add_conversions(contest: Contest, x: NDArray[np.float32], c_kernel: Path | None) -> None:
    """Add both directions, gguf-py's and the C kernel's, and a plain copy of the floats."""
    blocks = quantize_row(x)
    target = np.empty_like(x)
    contest.add("quantize", lambda: quantize_row(x))
    contest.add("dequantize", lambda: dequantize_row(blocks))
    contest.add("quantize memcpy", lambda: np.copyto(target, x))
    contest.add("dequantize memcpy", lambda: np.copyto(target, x))
    if c_kernel:
        kernel = CKernel(c_kernel)
        _agree("quantize", blocks, kernel.quantize(x))
        _agree("dequantize", dequantize_row(blocks), kernel.dequantize(blocks))
        contest.add("quantize c-scalar", lambda: kernel.quantize(x))
        contest.add("dequantize c-scalar", lambda: kernel.dequantize(blocks))
    try:
        from gguf import GGMLQuantizationType, quants  # noqa: PLC0415  (an optional peer)
    except ImportError:
        return
    q8_0, raw = GGMLQuantizationType.Q8_0, as_bytes(blocks)
    _agree("quantize", quantize_row(x, "ggml-ref"), quants.quantize(x, q8_0))
    _agree("dequantize", dequantize_row(blocks), quants.dequantize(raw, q8_0))
    contest.add("quantize gguf-py", lambda: quants.quantize(x, q8_0))
    contest.add("dequantize gguf-py", lambda: quants.dequantize(raw, q8_0))


def _agree(what: str, ours: NDArray[Any], theirs: NDArray[Any]) -> None:
    """Refuse to time two sides that do not compute the same bits."""
    if ours.tobytes() != theirs.tobytes():
        raise RuntimeError(f"{what}: the two sides of the comparison give different bits")


def _cores() -> int:
    """Count the processors that this process may use, at least 2: with one there is nothing to share out."""
    return max(2, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _machine() -> dict[str, Any]:
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "architecture": platform.machine(),
        "processors": _cores(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": f"{blas.get('name')} {blas.get('version')}",
        "blas_threads": {name: os.environ.get(name) for name in ONE_THREAD},
    }


if __name__ == "__main__":
    serve(start, OSError)
