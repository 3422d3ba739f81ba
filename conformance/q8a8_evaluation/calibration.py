"""Calibrate a model on a text, and compute its smoothing factors.

The work is done by `q8a8.methods.calibration` and `q8a8.methods.smoothquant`. The model is run in float32,
window by window; memory does not grow with the text beyond the text itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np

from q8a8.ggufio import open_model
from q8a8.llama.config import HEAD, Config, linear_names
from q8a8.methods.calibration import Calibration, CalibrationError, Source, calibrate
from q8a8.methods.smoothquant import Smoothing, make_smoothing
from q8a8_evaluation.text import read_text, sha256, windows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from q8a8.ggufio import GgufModel
    from q8a8.llama.load import LoadedModel
    from q8a8.methods.smoothquant import Rounding

__all__ = ["ROWS", "TOKENS", "WINDOW", "calibrate_model", "largest_outlier", "smooth_model"]

WINDOW = 512
"""Tokens of a window, by default."""

TOKENS = 32 * WINDOW
"""Tokens of a calibration, by default: SmoothQuant's authors took 512 windows of 512 of a larger text."""

ROWS = 128
"""Rows of each input that are kept, by default."""


def calibrate_model(  # noqa: PLR0913 -- every one is a choice of the calibration
    loaded: LoadedModel,
    text: Path,
    *,
    tokens: int = TOKENS,
    window: int = WINDOW,
    first: int = 0,
    bos: bool = False,
    rows: int = ROWS,
    head: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Calibration:
    """Calibrate a model on a text.

    Parameters
    ----------
    loaded
        The model, with its tokenizer.
    text
        A file that `q8a8_evaluation.text` reads.
    tokens
        How many to run over at most: as many whole windows as fit.
    window
        Tokens of a window.
    first
        The first window's number in the text.
    bos
        Begin each window with the model's token for the beginning of a text.
    rows
        How many rows of each input are kept.
    head
        Calibrate the head's input as well.
    progress
        Called after each window with the number of windows done.

    Raises
    ------
    FileError
        The text cannot be used.
    Q8A8Error
        There are too few tokens, or the model lacks a tokenizer or that token.
    """
    begin = loaded.tokenizer.bos if bos else None
    if bos and begin is None:
        raise CalibrationError("bos: the model has no token for the beginning of a text")
    count = tokens // window if window > 0 else 0
    if count < 1:
        words = f"{tokens} tokens are less than one window of {window}"
        raise CalibrationError(f"tokens: {words}: give more, or a smaller window")
    ids = loaded.tokenizer.encode(read_text(text))
    parts = windows(ids, window, first + count, begin)[first:]
    source = Source(sha256(text), window, first, count, begin)
    names = (*linear_names(loaded.config), *([HEAD] if head else []))
    return calibrate(
        loaded.model(), parts, names, source, model_sha256=loaded.sha256, rows=rows, progress=progress
    )


def smooth_model(
    model: Path,
    calibration: Calibration,
    *,
    alpha: float | Literal["search"] = 0.5,
    fold_down: bool = False,
    rounding: Rounding = "nearest",
    progress: Callable[[int], None] | None = None,
) -> Smoothing:
    """Compute a model's smoothing factors; its tensors are read one group at a time.

    Parameters
    ----------
    model
        A GGUF file.
    calibration
        Of this very file.
    alpha, fold_down, rounding
        As `make_smoothing`.
    progress
        Called after each group with the number of groups done.

    Raises
    ------
    CalibrationError
        The calibration is of another file.
    Q8A8Error
        as `q8a8.ggufio.open_model`, `Config.from_metadata` and `make_smoothing`.
    """
    done = 0

    def count(_: object) -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done)

    with open_model(model) as file:
        if file.sha256() != calibration.model_sha256:
            raise CalibrationError(
                f"{model}: the calibration is of another model, with sha256 {calibration.model_sha256}"
            )
        return make_smoothing(
            _Weights(file),
            Config.from_metadata(file.metadata),
            calibration,
            alpha=alpha,
            fold_down=fold_down,
            rounding=rounding,
            progress=count,
        )


class _Weights(Mapping[str, "NDArray[np.float32]"]):
    """The tensors of a file, each read when it is asked for."""

    def __init__(self, file: GgufModel) -> None:
        self._file = file

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        return self._file.read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._file.tensors)

    def __len__(self) -> int:
        return len(self._file.tensors)


def largest_outlier(calibration: Calibration) -> tuple[str, int, float, float]:
    """Find the channel that is largest beside the others of its input.

    Returns
    -------
    The operator's weight, the channel, its max|x|, and how many times the median of the channels' that is.
    """

    def outlier(name: str) -> tuple[str, int, float, float]:
        maximum = calibration[name].maximum
        channel = int(np.argmax(maximum))
        size, median = float(maximum[channel]), float(np.median(maximum))
        return name, channel, size, size / median if median else float("inf") if size else 1.0

    return max((outlier(name) for name in calibration.names), key=lambda found: found[3])
