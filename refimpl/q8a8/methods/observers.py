"""Calibration observers: from the observed values of a tensor, the threshold T of its scale (OBS-4 to OBS-9).

Static quantization needs an activation's scale before the activation is there: T / 127, with a threshold T
taken from some hundreds of calibration samples. What lies above T is clipped; what lies below is the coarser
the larger T is. An `Observer` counts magnitudes once (`histogram`), and four methods find a T in the counts,
c_j being those of bin j, w the bins' width, u the number of bins up to amax, and N their sum::

    absmax       T = amax                                                                       OBS-4
    percentile   T = (j+1)·w, j the bin of the ceil(p/100·N)-th smallest magnitude              OBS-5
    mse          T = i·w that minimizes sum_j c_j·(m_j - Q_i(m_j))^2, m_j = (j + 1/2)·w         OBS-6
    entropy      T = i·w that minimizes KL(P_i || Q_i)                                          OBS-7

For all but absmax T is no more than amax. Candidates of mse and entropy are i = 2^(bits-1) .. u; of equal
ones the largest i is taken.

**mse**: Q_i(m) is the number nearest to m among 0, s, 2s .. L·s, with s = i·w/L and L = 2^(bits-1) - 1. In
units of w/(2L) centers and levels are integers, so sums and their order are exact. The root mean square error
of the data themselves differs from that of the centers by w/2 at most: the distance to a set of numbers
changes no more than the number does.

**entropy**: as NVIDIA's calibrator. With M = 2^(bits-1) levels, and c_0 replaced by c_1 (`first_bin`)::

    P_i[j] = c_j  for j < i - 1,   P_i[i-1] = c_(i-1) + sum of c_j for j >= i      the clipped ones at the end
    level of j = floor(j·M / i)
    Q_i[j] = sum of c over j's level / number of its nonzero c    where c_j > 0, else 0
    KL     = sum over P[j] > 0 of p_j·ln(p_j / q_j),  p = P / sum P,  q = Q / sum Q; infinite where q_j = 0

Sources: S. Migacz, "8-bit Inference with TensorRT", GTC 2017, S7310 (entropy); NVIDIA TensorRT,
tools/pytorch-quantization/pytorch_quantization/calib/histogram.py: `_compute_amax_entropy`,
`_compute_amax_mse`, `_compute_amax_percentile`. The last two differ there by a bin: percentile gives the
lower end of the bin, so that fewer than p percent may lie below it, and mse tries centers of bins and leaves
out amax.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from q8a8.errors import ArgumentError, UnknownNameError
from q8a8.methods.archive import ArchiveError, read_archive, write_archive
from q8a8.methods.histogram import Histogram

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = [
    "METHODS",
    "SAMPLES",
    "Method",
    "Observer",
    "divergences",
    "get_method",
    "observe_model",
    "squared_errors",
]

KIND, VERSION = "q8a8-histogram", 1

HEAD = "output.weight"
"""The head's weight, which is observed on request only."""

SAMPLES = (512, 1024)
"""How many calibration samples the field takes: from, to (OBS-9)."""


@dataclass(frozen=True)
class Method:
    """One way to find a threshold.

    Parameters
    ----------
    name
        The name that callers pass.
    kind
        Which of the four.
    bits
        Of the codes, sign included: 2 to 8.
    percentile
        p, as a decimal number: 0 < p <= 100. A string, so that 99.99 is 9999/100 exactly.
    first_bin
        The count c_0 that entropy uses: "second", c_1 (many activations are zero, or nearly), or "counted".
    source
        The software that does so.
    """

    name: str
    kind: Literal["absmax", "percentile", "mse", "entropy"]
    bits: int = 8
    percentile: str = "100"
    first_bin: Literal["second", "counted"] = "second"
    source: str = ""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 2 <= self.bits <= 8:
            raise ArgumentError(f"bits: expected 2 to 8, got {self.bits}")
        if not 0 < Fraction(self.percentile) <= 100:
            raise ArgumentError(f"percentile: expected more than 0 and at most 100, got {self.percentile}")


_NVIDIA = "NVIDIA pytorch-quantization, calib/histogram.py"

METHODS: Mapping[str, Method] = MappingProxyType(
    {
        method.name: method
        for method in (
            Method("absmax", "absmax", source="the textbook; MaxCalibrator"),
            Method("percentile-99.9", "percentile", percentile="99.9", source=_NVIDIA),
            Method("percentile-99.99", "percentile", percentile="99.99", source=f"{_NVIDIA}, its default"),
            Method("percentile-99.999", "percentile", percentile="99.999", source="onnxruntime's default"),
            Method("mse", "mse", source=_NVIDIA),
            Method("entropy", "entropy", source=f"TensorRT; {_NVIDIA}"),
            Method("entropy-counted", "entropy", first_bin="counted", source="TensorRT's slides"),
        )
    }
)
"""The methods, by name."""


def get_method(method: str | Method) -> Method:
    """Look a method up by name; a `Method` is returned as it is.

    Raises
    ------
    UnknownNameError
        listing the names.
    """
    if isinstance(method, Method):
        return method
    if method not in METHODS:
        raise UnknownNameError("calibration method", method, METHODS)
    return METHODS[method]


class Observer:
    """Statistics of one tensor over many samples, in bounded memory (OBS-1 to OBS-9).

    Parameters
    ----------
    bins
        Of the histogram.

    Attributes
    ----------
    histogram
        The counts.
    samples
        How many samples were observed; `SAMPLES` is the usual number.
    """

    def __init__(self, bins: int = 4096) -> None:
        self.histogram = Histogram(bins)
        self.samples = 0

    def observe(self, x: NDArray[np.float32], *, samples: int = 1) -> None:
        """Count an array's magnitudes, as those of so many samples: 0 for a further part of the last one.

        Parameters
        ----------
        x
            float32 `[...]`, finite.
        samples
            How many samples it holds.

        Raises
        ------
        DtypeError, DomainError
            for anything else; the observer is then as it was.
        """
        self.histogram.observe(np.asarray(x))
        self.samples += samples

    def merge(self, other: Observer) -> None:
        """Merge another observer: the result is that of one observer of all data (OBS-3).

        Raises
        ------
        ArgumentError
            where the numbers of bins differ.
        """
        self.histogram.merge(other.histogram)
        self.samples += other.samples

    def threshold(self, method: str | Method = "absmax") -> float:
        """Find the threshold, the magnitude of the largest code (OBS-4 to OBS-8).

        Returns
        -------
        A float32; 0 where nothing but zeros was seen.

        Raises
        ------
        ArgumentError
            where nothing was seen.
        UnknownNameError
            for an unknown method.
        """
        chosen, seen = get_method(method), self.histogram
        if not seen.elements:
            raise ArgumentError("nothing was observed: no threshold can be found")
        if chosen.kind == "absmax":
            return seen.amax
        if chosen.kind == "percentile":
            bins = _percentile(seen.counts, Fraction(chosen.percentile))
        else:
            score = squared_errors if chosen.kind == "mse" else divergences
            bins = _last_minimum(seen, chosen, score)
        # OBS-5 to OBS-7: no more than amax.
        return min(bins * seen.width, seen.amax)

    def save(self, path: Path) -> None:
        """Save the counts, from which every threshold can be found later, and which can be merged (OBS-3)."""
        seen = self.histogram
        known = {"exponent": seen.exponent, "amax": seen.amax, "samples": self.samples}
        write_archive(path, KIND, VERSION, known, {"counts": seen.counts})

    @classmethod
    def load(cls, path: Path) -> Observer:
        """Load what `save` has written.

        Raises
        ------
        ArchiveError
            where the file is not one of those, or its numbers contradict each other.
        """
        entries = read_archive(path, KIND, VERSION)
        counts = entries.array("counts", np.int64, 1)
        exponent, samples = entries.value("exponent", int), entries.value("samples", int)
        amax = float(entries.value("amax", (int, float)))
        try:
            found = cls(len(counts))
        except ArgumentError as error:
            raise ArchiveError(path, f"counts: {error}") from error
        seen = found.histogram
        # OBS-2: the exponent follows from amax, and the bin of amax is the last that is not empty.
        if math.isfinite(amax) and amax >= 0 and float(np.float32(amax)) == amax:
            seen.reach(amax)
        used = np.flatnonzero(counts)
        last = int(used[-1]) + 1 if used.size else 1
        if (seen.amax, seen.exponent) != (amax, exponent) or seen.used != last or (counts < 0).any():
            raise ArchiveError(path, f"counts, exponent {exponent} and amax {amax} do not fit each other")
        seen.counts, found.samples = counts.copy(), samples
        return found


def _percentile(counts: NDArray[np.int64], percentile: Fraction) -> int:
    """Return the end, in bins, of the bin of the ceil(p/100·N)-th smallest magnitude (OBS-5)."""
    cumulative = np.cumsum(counts)
    rank = -(-percentile * int(cumulative[-1]) // 100)
    return int(np.searchsorted(cumulative, rank)) + 1


def _last_minimum(
    seen: Histogram, method: Method, score: Callable[[NDArray[np.int64], Method], list[Any]]
) -> int:
    """Return the candidate, in bins, with the least score; the largest of equal ones."""
    first, last = 1 << (method.bits - 1), seen.used
    if last < first:
        # Magnitudes of a few subnormal steps: there is no candidate but amax (OBS-8).
        return last
    scores = score(seen.counts[:last], method)
    least = min(scores)
    return first + len(scores) - 1 - scores[::-1].index(least)


def squared_errors(counts: NDArray[np.int64], method: Method) -> list[int]:
    """Compute the squared error of each candidate of mse, exactly (OBS-6).

    Parameters
    ----------
    counts
        int64 `[u]`, u >= 2^(bits-1).
    method
        Its bits.

    Returns
    -------
    For i = 2^(bits-1) .. u the sum of squares in units of (w / 2L)^2, an integer of any size.
    """
    largest = (1 << (method.bits - 1)) - 1
    # In units of w / 2L: centers are L·(2j + 1), and the levels' distance is 2i.
    centers = largest * (2 * np.arange(len(counts), dtype=np.int64) + 1)
    low, high = counts & (2**30 - 1), counts >> 30
    found = []
    for i in range(largest + 1, len(counts) + 1):
        # The nearest level (of two as near, either): half up, and no more than L of them.
        level = np.minimum((centers + i) // (2 * i), largest)
        squares = (centers - 2 * i * level) ** 2
        # squares < 2^40 and counts < 2^60 are cut so that no int64 sum of 2^12 products overflows.
        upper, lower = squares >> 20, squares & (2**20 - 1)
        found.append(
            (int(upper @ high) << 50)
            + (int(upper @ low) << 20)
            + (int(lower @ high) << 30)
            + int(lower @ low)
        )
    return found


def divergences(counts: NDArray[np.int64], method: Method) -> list[float]:
    """Compute the divergence of each candidate of entropy, in float64 (OBS-7).

    Parameters
    ----------
    counts
        int64 `[u]`, u >= 2^(bits-1), the last one not zero.
    method
        Its bits, and its count of the first bin.

    Returns
    -------
    For i = 2^(bits-1) .. u the divergence in nats; infinite where bin i - 1 is empty and numbers are clipped.
    """
    levels = 1 << (method.bits - 1)
    c = counts.astype(np.float64)
    if method.first_bin == "second":
        c[0] = c[1]
    found = []
    for i in range(levels, len(c) + 1):
        inside, clipped = c[:i], c[i:].sum()
        p = inside.copy()
        p[-1] += clipped
        # The first bin of level l is ceil(l·i / M).
        starts = -(-np.arange(levels) * i // levels)
        occupied = np.add.reduceat((inside > 0).astype(np.int64), starts)
        means = np.add.reduceat(inside, starts) / np.maximum(occupied, 1)
        q = np.repeat(means, np.diff(starts, append=i)) * (inside > 0)
        if p[-1] > 0 and q[-1] == 0:
            found.append(np.inf)
            continue
        some = p > 0
        p, q = p[some] / p.sum(), q[some] / q.sum()
        found.append(float(np.sum(p * np.log(p / q))))
    return found


class ObservedModel(Protocol):
    """The interface that `observe_model` needs of a model: `q8a8.llama.model.Model` has it."""

    def forward(
        self,
        tokens: NDArray[np.int64],
        cache: None = None,
        observe: Callable[[str, NDArray[np.float32]], None] | None = None,
        *,
        logits_from: int = 0,
    ) -> object:
        """Run over tokens, and show each linear operator's input, float32 `[t, in]`, by the weight's name."""


def observe_model(
    model: ObservedModel,
    samples: Iterable[NDArray[np.int64]],
    *,
    names: Collection[str] | None = None,
    bins: int = 4096,
) -> dict[str, Observer]:
    """Observe the inputs of a model's linear operators over calibration samples (OBS-9).

    Parameters
    ----------
    model
        The float model.
    samples
        Token sequences, integers `[t]`, each one sample.
    names
        The weights whose operators are observed; by default those of every layer, but not the head, which
        costs much and stays in float.
    bins
        Of the histograms.

    Returns
    -------
    An observer for each of the linear operators, by the name of its weight.
    """
    seen: dict[str, Observer] = {}

    def observe(name: str, x: NDArray[np.float32]) -> None:
        if names is None or name in names:
            seen.setdefault(name, Observer(bins)).observe(x)

    with_head = names is not None and HEAD in names
    for tokens in samples:
        model.forward(tokens, observe=observe, logits_from=0 if with_head else len(tokens))
    return seen
