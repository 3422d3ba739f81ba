"""Calibration: statistics of the inputs of a model's linear operators on a text.

For the weight W of every linear operator, over all tokens t of the text, per input channel j::

    x_max_j  = max_t |X_tj|           float32, exact
    x_mean_j = (sum_t |X_tj|) / T     float64

and a sample of rows of X. SmoothQuant needs the first (mit-han-lab/smoothquant, `get_act_scales` in
smoothquant/calibration.py: the same running maximum), AWQ for the second, searches for the third.

The sample is `q8a8.methods.row_sample`'s: uniform, and the same however the text was split. Operators that
share their input share its rows (`input_of`).

Memory is that of the statistics and of the sample, whatever the length of the text. Other statistics are
taken the same way: `observe_model` shows the inputs to any observer.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from q8a8.errors import ArgumentError
from q8a8.methods.archive import ArchiveError, read_archive, write_archive
from q8a8.methods.finite import require_matrix
from q8a8.methods.row_sample import RowSample, smallest

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    F32 = NDArray[np.float32]
    Tokens = NDArray[np.integer[Any]]

__all__ = [
    "Calibration",
    "CalibrationError",
    "Observer",
    "Source",
    "Statistics",
    "calibrate",
    "input_of",
    "observe_model",
]

KIND, VERSION = "q8a8-calibration", 1

HEAD = "output.weight"
"""The head, as the model calls it, tied or not."""

_SAME_INPUT = {"attn_k": "attn_q", "attn_v": "attn_q", "ffn_up": "ffn_gate"}


class CalibrationError(ArgumentError):
    """Calibrations of different models or texts, or without the operator that was asked for."""


class Observer(Protocol):
    """Anything that looks at the input of a linear operator, again and again."""

    def update(self, x: F32, /) -> object:
        """Take the rows `[t, in]` of one window; they are the model's own: look, do not write."""


class Observable(Protocol):
    """The part of a model that is used here; `q8a8.llama.model.Model` has it."""

    def forward(self, tokens: Tokens, /, *, observe: Callable[[str, F32], None], logits_from: int) -> object:
        """Run over tokens `[t]`, and show the input of every linear operator under its weight's name.

        Logits are computed from one position on; from t on there are none, and the head is not run.
        """


def input_of(name: str, among: Container[str] | None = None) -> str:
    """Return the weight that names an input: query, key and value share theirs, and so do gate and up.

    Parameters
    ----------
    name
        An operator's weight.
    among
        The names that there are: an operator whose input another one would name, which is not there (the
        gate, in a model that has gate and up in one matrix), names its own. None: all.
    """
    *layer, operator, suffix = name.split(".") if name.count(".") > 1 else ("", name, "")
    other = ".".join([*layer, _SAME_INPUT[operator], suffix]) if operator in _SAME_INPUT else name
    return other if among is None or other in among else name


def observe_model(
    model: Observable,
    windows: Iterable[Tokens],
    observers: Mapping[str, Observer],
    *,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Run a model over windows of tokens, and show the inputs of its linear operators to observers.

    Parameters
    ----------
    model
        The model.
    windows
        Token ids `[t]`; each window is run by itself, from an empty cache.
    observers
        By the name of the weight; operators without one are not looked at.
    progress
        Called after each window with the number of windows done.

    Raises
    ------
    CalibrationError
        where an observer's operator was never run.
    """
    seen: set[str] = set()

    def observe(name: str, x: F32) -> None:
        seen.add(name)
        if name in observers:
            observers[name].update(x)

    for done, tokens in enumerate(windows, 1):
        # The head's product is the largest of all: it is run only where its input is observed.
        model.forward(tokens, observe=observe, logits_from=0 if HEAD in observers else len(tokens))
        if missing := sorted(observers.keys() - seen):
            raise CalibrationError(f"observers: the model ran no linear operator called {missing[0]!r}")
        if progress:
            progress(done)


@dataclass(frozen=True)
class Source:
    """Where a calibration's tokens are from.

    Attributes
    ----------
    text_sha256
        Of the file that the text was read from.
    window
        Tokens of a window.
    first, windows
        The first window's number in the text, and how many.
    bos
        The token that begins every window and is none of the text; None for no such token.
    """

    text_sha256: str
    window: int
    first: int
    windows: int
    bos: int | None = None

    @property
    def tokens(self) -> int:
        """Tokens that the model ran over."""
        return self.window * self.windows

    @property
    def extent(self) -> range:
        """Places in the text, in tokens."""
        step = self.window - (self.bos is not None)
        return range(self.first * step, (self.first + self.windows) * step)

    def overlaps(self, other: Source) -> bool:
        """Return whether some token of the text belongs to both."""
        mine, theirs = self.extent, other.extent
        same = self.text_sha256 == other.text_sha256
        return same and max(mine.start, theirs.start) < min(mine.stop, theirs.stop)


@dataclass(frozen=True, eq=False)
class Statistics:
    """Statistics of the input of one linear operator.

    Attributes
    ----------
    maximum
        float32 `[in]`: the largest |x| of each channel.
    total
        float64 `[in]`: the sum of |x|.
    tokens
        How many rows that is over.
    """

    maximum: F32
    total: NDArray[np.float64]
    tokens: int

    @property
    def mean(self) -> NDArray[np.float64]:
        """float64 `[in]`: the mean of |x|."""
        return self.total / self.tokens

    def __add__(self, other: Statistics) -> Statistics:
        """Combine the statistics of two sets of rows."""
        return Statistics(
            np.maximum(self.maximum, other.maximum), self.total + other.total, self.tokens + other.tokens
        )


@dataclass(frozen=True, eq=False)
class Calibration:
    """The statistics of every linear operator, by the name of its weight.

    Attributes
    ----------
    model_sha256
        Of the model's file.
    sources
        The windows that were run.
    statistics
        By name.
    numbers
        uint64 `[k]`, ascending: the numbers of the tokens in the sample.
    samples
        By `input_of` name: float32 `[k, in]`, the rows of those tokens.
    """

    model_sha256: str
    sources: tuple[Source, ...]
    statistics: Mapping[str, Statistics]
    numbers: NDArray[np.uint64]
    samples: Mapping[str, F32]

    def __getitem__(self, name: str) -> Statistics:
        """Return the statistics of an operator's input; `CalibrationError` for one that was not run."""
        if name not in self.statistics:
            raise CalibrationError(f"calibration: there are no statistics of the input of {name!r}")
        return self.statistics[name]

    @property
    def names(self) -> tuple[str, ...]:
        """The weights of the operators, in the order in which they run."""
        return tuple(self.statistics)

    @property
    def tokens(self) -> int:
        """Tokens that the model ran over."""
        return sum(source.tokens for source in self.sources)

    def rows(self, name: str) -> F32:
        """Return the row sample of an operator's input, float32 `[k, in]`; errors as `__getitem__`."""
        key = input_of(name, self.samples)
        if key not in self.samples:
            raise CalibrationError(f"calibration: there is no row sample of the input of {name!r}")
        return self.samples[key]

    def merge(self, other: Calibration) -> Calibration:
        """Join two calibrations of one model.

        Maxima and samples are exactly those of one calibration over both texts (of as many rows as the
        smaller sample was allowed); the sums may differ from its by rounding.

        Raises
        ------
        CalibrationError
            Other models, other operators, or windows of both that have a token of a text in common: its mean
            would count it twice.
        """
        if self.model_sha256 != other.model_sha256:
            raise CalibrationError(
                f"merge: calibrations of two models, sha256 {self.model_sha256} and {other.model_sha256}"
            )
        if self.statistics.keys() != other.statistics.keys() or self.samples.keys() != other.samples.keys():
            raise CalibrationError("merge: calibrations of different linear operators")
        for mine in self.sources:
            for theirs in other.sources:
                if mine.overlaps(theirs):
                    raise CalibrationError(
                        f"merge: both have windows of the text with sha256 {mine.text_sha256}, "
                        f"tokens {mine.extent} and {theirs.extent}"
                    )
        numbers, kept = smallest(self.numbers, other.numbers, self._room(other))
        return Calibration(
            self.model_sha256,
            self.sources + other.sources,
            {name: statistics + other[name] for name, statistics in self.statistics.items()},
            numbers,
            {name: np.concatenate([rows, other.samples[name]])[kept] for name, rows in self.samples.items()},
        )

    def _room(self, other: Calibration) -> int:
        """Return how many rows the sample of both can have.

        One that is smaller than its text was cut: the numbers that it left out are unknown, so that beyond
        its size the smallest of both are unknown as well. One that holds all of its text leaves room for all
        of the other's.
        """
        cut = [len(c.numbers) for c in (self, other) if len(c.numbers) < c.tokens]
        return min(cut, default=len(self.numbers) + len(other.numbers))

    def save(self, path: Path) -> None:
        """Write a file of this calibration (`q8a8.methods.archive`); errors as `write_archive`."""
        arrays: dict[str, NDArray[Any]] = {"numbers": self.numbers}
        for name, statistics in self.statistics.items():
            arrays |= {f"max/{name}": statistics.maximum, f"sum/{name}": statistics.total}
        arrays |= {f"rows/{name}": rows for name, rows in self.samples.items()}
        metadata = {
            "model_sha256": self.model_sha256,
            "operators": list(self.statistics),
            "samples": list(self.samples),
            "sources": [asdict(source) for source in self.sources],
        }
        write_archive(path, KIND, VERSION, metadata, arrays)

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read a file that `save` wrote.

        Raises
        ------
        ArchiveError
            naming the file, and the entry in it that is not valid.
        """
        entries = read_archive(path, KIND, VERSION)
        try:
            sources = tuple(Source(**source) for source in entries.value("sources", list))
            tokens = sum(source.tokens for source in sources)
        except TypeError as error:
            raise ArchiveError(path, f"metadata: sources: {error}") from error
        statistics = {}
        for name in entries.value("operators", list):
            maximum = entries.array(f"max/{name}", np.float32, 1)
            total = entries.array(f"sum/{name}", np.float64, 1)
            if maximum.shape != total.shape or (maximum < 0).any() or (total < maximum).any():
                raise ArchiveError(path, f"{name}: these are not largest magnitudes and their sums")
            statistics[name] = Statistics(maximum, total, tokens)
        numbers = entries.array("numbers", np.uint64, 1)
        samples = {}
        for name in entries.value("samples", list):
            rows = entries.array(f"rows/{name}", np.float32, 2)
            if name not in statistics or rows.shape != (len(numbers), len(statistics[name].maximum)):
                raise ArchiveError(path, f"rows/{name}: shape {rows.shape} fits neither numbers nor channels")
            samples[name] = rows
        return cls(entries.value("model_sha256", str), sources, statistics, numbers, samples)


def calibrate(
    model: Observable,
    windows: Iterable[Tokens],
    names: Iterable[str],
    source: Source,
    *,
    model_sha256: str,
    rows: int = 128,
    progress: Callable[[int], None] | None = None,
) -> Calibration:
    """Run a model over a text, and collect statistics of its linear operators' inputs.

    Parameters
    ----------
    model
        The float model.
    windows
        Token ids `[t]`, one window after the other.
    names
        The weights of the operators: `q8a8.llama.config.linear_names`.
    source
        What windows these are; their number and length are checked.
    model_sha256
        Of the file that the model was read from.
    rows
        How many rows the sample has at most.
    progress
        As `observe_model`.

    Raises
    ------
    CalibrationError
        No window, or other windows than the source's; a name that the model has no operator of.
    DomainError
        A NaN or an infinity among the activations, naming the operator, the row and the channel.
    """
    names = tuple(names)
    statistics: dict[str, Statistics] = {}
    sample = RowSample(rows, source.text_sha256)
    count = 0

    def shown() -> Iterator[Tokens]:
        nonlocal count
        for tokens in windows:
            if len(tokens) != source.window:
                raise CalibrationError(
                    f"windows: window {count} has {len(tokens)} tokens, not {source.window}"
                )
            sample.begin((source.first + count) * source.window, source.window)
            count += 1
            yield tokens

    observe_model(
        model,
        shown(),
        {
            name: _Recorder(name, statistics, sample if input_of(name, names) == name else None)
            for name in names
        },
        progress=progress,
    )
    if not count or count != source.windows:
        raise CalibrationError(f"windows: expected {source.windows}, at least 1, got {count}")
    return Calibration(model_sha256, (source,), statistics, sample.numbers, sample.rows)


class _Recorder:
    """Takes the statistics of one operator's input, and its part of the sample unless another takes it."""

    def __init__(self, name: str, statistics: dict[str, Statistics], sample: RowSample | None) -> None:
        self._name, self._statistics, self._sample = name, statistics, sample

    def update(self, x: F32) -> None:
        """Add rows."""
        require_matrix(x, f"input of {self._name}")
        magnitude = np.abs(x)
        new = Statistics(magnitude.max(axis=0), magnitude.sum(axis=0, dtype=np.float64), len(x))
        held = self._statistics.get(self._name)
        self._statistics[self._name] = new if held is None else held + new
        if self._sample is not None:
            self._sample.update(self._name, x)
