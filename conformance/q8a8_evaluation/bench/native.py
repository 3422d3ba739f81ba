"""Time the C kernels against ggml, BLAS and the limits of the machine, in a process of its own.

`q8a8_evaluation.commands.bench_native` starts it, once for each build of ggml: two builds in one process
would share their functions. Rounds are interleaved as in `q8a8_evaluation.bench.speed`. With one thread the
time is the processor's (`time.process_time`), which other processes do not lengthen by taking turns; with
more it is the clock's.
"""

from __future__ import annotations

import ctypes
import statistics
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.layout import BLOCK_Q8_A8, QK8_A8
from q8a8.quantize import quantize_row
from q8a8_conformance.worker.ggml_backend import GgmlDevice, Settings
from q8a8_evaluation.child import serve
from q8a8_evaluation.native import NativeKernel

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from q8a8.layout import Blocks

__all__ = ["start"]

PEAK_SECONDS = 0.02
PEAK_ROUNDS = 100_000
PEAK_COLUMNS = 128
ROW_ELEMENTS = 2_000_000


@dataclass(frozen=True)
class Size:
    """What is multiplied: weights m x k, by each of n rows, so often."""

    shapes: tuple[tuple[int, int], ...]
    columns: tuple[int, ...]
    rounds: int


FULL = Size(((4096, 4096), (11008, 4096)), (1, 8, 32, 128, 512), 7)
QUICK = Size(((64, 256),), (1, 8), 2)


class Contest:
    """Contestants by name, timed in interleaved rounds."""

    def __init__(self, threads: int) -> None:
        self._clock = process_time if threads == 1 else perf_counter
        self._run: dict[str, Callable[[], object]] = {}
        self.seconds: dict[str, list[float]] = {}

    def add(self, name: str, work: Callable[[], object]) -> None:
        """Add a contestant."""
        self._run[name] = work

    def measure(self, rounds: int) -> None:
        """Run all in turn, `rounds` times after a first one that is not counted."""
        self.seconds = {name: [] for name in self._run}
        for count in range(rounds + 1):
            for name, work in self._run.items():
                begun = self._clock()
                work()
                seconds = max(self._clock() - begun, 1e-9)
                if count:
                    self.seconds[name].append(seconds)

    def medians(self) -> dict[str, float]:
        """Return the median time of each, in seconds."""
        return {name: statistics.median(measured) for name, measured in self.seconds.items()}

    def ratio(self, ours: str, theirs: str, scale: float = 1.0) -> float:
        """Return the speed of ours over theirs, the median of the rounds."""
        pairs = zip(self.seconds[ours], self.seconds[theirs], strict=True)
        return statistics.median(scale * other / mine for mine, other in pairs)


LIMITS = ("peak", "limit")
"""The instruction of a kernel alone; and all that the specification wants of a block, on registers."""


class Peak:
    """One of `LIMITS` for a kernel, by ``libq8a8-peak.so``."""

    def __init__(self, path: Path, what: str, kernel: str) -> None:
        name = f"q8a8_{what}_{kernel.replace('-', '_')}"
        loop = getattr(ctypes.CDLL(str(path)), name, None)
        if loop is None:
            raise OSError(f"{path} has no {name}: build it again from the present sources")
        self._loop = loop
        self._loop.restype, self._loop.argtypes = ctypes.c_int64, (ctypes.c_int64,)
        begun = process_time()
        is_there = self._loop(PEAK_ROUNDS) > 0
        rounds = PEAK_SECONDS / max(process_time() - begun, 1e-6) * PEAK_ROUNDS
        self._rounds = int(rounds) if is_there else 0
        self.products = self._loop(self._rounds) if is_there else 0

    def run(self) -> None:
        """Do `products` products of two integers."""
        self._loop(self._rounds)


Figures = tuple[dict[str, float], dict[str, float]]
"""Ratios, and median times in seconds, by name."""


def start(request: dict[str, Any]) -> tuple[dict[str, Any], None]:
    """Measure: libraries of kernels, ggml's base and CPU libraries, and the loops' library."""
    size = QUICK if request["quick"] else FULL
    kernels = [NativeKernel(Path(path)) for path in request["kernels"]]
    libraries = [Path(path) for path in request["ggml"]]
    found = []
    for threads in (1, 2):
        device = GgmlDevice(libraries, "", Settings(threads=threads)) if libraries else None
        for m, k in size.shapes:
            weights = Weights(kernels, m, k, "" if (m, k) == size.shapes[0] else f"{m}x{k} ")
            for n in size.columns:
                peak = request["peak"] if n == PEAK_COLUMNS and threads == 1 else None
                found.append(_product(weights, n, threads, size.rounds, device, peak))
    found.append(_rows(kernels, libraries, size))
    ratios, seconds = (
        {name: value for each in side for name, value in each.items()} for side in zip(*found, strict=True)
    )
    return {"ratios": ratios, "seconds": seconds, "rounds": size.rounds}, None


class Weights:
    """Random weights m x k: floats, blocks, and packed by each kernel; `shape` is what cases call them."""

    def __init__(self, kernels: list[NativeKernel], m: int, k: int, shape: str) -> None:
        self.floats = np.random.default_rng(0).standard_normal((m, k), np.float32)
        self.blocks = quantize_row(self.floats)
        self.packed = {kernel.name: kernel.pack(self.blocks) for kernel in kernels}
        self.shape = shape


def _product(
    weights: Weights, n: int, threads: int, rounds: int, device: GgmlDevice | None, peak: str | None
) -> Figures:
    """Time the product by n rows, with a number of threads."""
    m, k = weights.floats.shape
    x = np.random.default_rng(n).standard_normal((n, k), np.float32)
    out = np.empty((n, m), np.float32)
    copy = np.empty_like(weights.blocks)
    case = f"{weights.shape}n={n}" + (f" threads={threads}" if threads > 1 else "")
    contest = Contest(threads)
    peaks: dict[tuple[str, str], Peak] = {}
    with ExitStack() as stack:
        for name, packed in weights.packed.items():
            contest.add(f"{name} mul_mat {case}", partial(packed.multiply, x, out, threads))
            for what in LIMITS if peak else ():
                peaks[name, what] = Peak(Path(peak or ""), what, name)
                contest.add(f"{name} {what} {case}", peaks[name, what].run)
        if device is not None:
            contest.add(f"ggml mul_mat {case}", _ggml_product(stack, device, weights.blocks, x))
        if threads == 1:
            contest.add(f"sgemm {case}", lambda: x @ weights.floats.T)
            contest.add(f"copy {case}", lambda: np.copyto(copy, weights.blocks))
        contest.measure(rounds)
    ratios = {}
    for name in weights.packed:
        ours = f"{name} mul_mat {case}"
        for theirs, contestant, is_limit in (
            ("ggml", f"ggml mul_mat {case}", True),
            ("sgemm", f"sgemm {case}", True),
            ("copy", f"copy {case}", n == 1),
        ):
            if contestant in contest.seconds and is_limit:
                ratios[f"{ours}/{theirs}"] = contest.ratio(ours, contestant)
        for what in LIMITS:
            if (name, what) in peaks and peaks[name, what].products:
                scale = m * n * k / peaks[name, what].products
                ratios[f"{ours}/{what}"] = contest.ratio(ours, f"{name} {what} {case}", scale)
    return ratios, contest.medians()


def _ggml_product(
    stack: ExitStack, device: GgmlDevice, w: Blocks, x: NDArray[np.float32]
) -> Callable[[], None]:
    """Return what computes the product, whose operands lie in ggml's buffers."""
    (m, nb), n = w.shape, len(x)
    result = np.empty(n * m, np.float32)
    inputs: list[NDArray[Any]] = [w.view(np.uint8).reshape(-1), x.reshape(-1)]
    compute, _ = stack.enter_context(device.prepared("mul_mat_q8_a8", (nb * QK8_A8, m, n), inputs, result))
    return compute


def _rows(kernels: list[NativeKernel], libraries: list[Path], size: Size) -> Figures:
    """Time quantizing a row, as often as takes a while, against ggml's quantizer for this CPU."""
    k = size.shapes[0][1]
    repeat = range(ROW_ELEMENTS // k if size is FULL else 1)
    x = np.random.default_rng(1).standard_normal((1, k), np.float32)
    blocks = np.empty((1, k // QK8_A8), BLOCK_Q8_A8)
    functions = {f"{kernel.name} quantize": kernel.quantize_row for kernel in kernels}
    if libraries:
        functions["ggml quantize"] = ctypes.CDLL(str(libraries[-1])).quantize_row_q8_0
    contest = Contest(1)
    # the same calls from Python for each
    arguments = (ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(blocks.ctypes.data), ctypes.c_int64(k))
    for name, function in functions.items():
        contest.add(name, partial(_repeatedly, function, arguments, repeat))
    contest.measure(size.rounds)
    ours = [name for name in functions if libraries and not name.startswith("ggml")]
    ratios = {f"{name}/ggml": contest.ratio(name, "ggml quantize") for name in ours}
    return ratios, {name: seconds / len(repeat) for name, seconds in contest.medians().items()}


def _repeatedly(function: Callable[..., object], arguments: tuple[object, ...], repeat: range) -> None:
    for _ in repeat:
        function(*arguments)


if __name__ == "__main__":
    serve(start, OSError)
