"""Calibrate a model, and compute its smoothing factors: `q8a8 calibrate`, `q8a8 smooth`.

::

    q8a8 calibrate model.gguf news.cor cal.npz               what the linear operators see on a text
    q8a8 smooth    model.gguf cal.npz smooth.npz --fold-down SmoothQuant's factors
    q8a8 quantize  model.gguf model.q8.gguf --smooth smooth.npz

The work is done by `q8a8.methods.calibration` and `q8a8.methods.smoothquant`. The model is run in float32,
window by window; memory does not grow with the text beyond the text itself.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from q8a8.errors import Q8A8Error
from q8a8.ggufio import open_model
from q8a8.llama.config import Config, linear_names
from q8a8.llama.load import load
from q8a8.methods.calibration import Calibration, CalibrationError, Source, calibrate
from q8a8.methods.smoothquant import Smoothing, fold_groups, make_smoothing
from q8a8_conformance.evaluate.text import read_text, sha256, windows
from q8a8_conformance.storage import FileError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from q8a8.ggufio import GgufModel
    from q8a8.llama.load import LoadedModel
    from q8a8.methods.smoothquant import Rounding

__all__ = ["ROWS", "TOKENS", "WINDOW", "add_parsers", "calibrate_model", "smooth_model"]

WINDOW = 512
"""Tokens of a window, by default."""

TOKENS = 32 * WINDOW
"""Tokens of a calibration, by default: SmoothQuant's authors took 512 windows of 512 of a larger text."""

ROWS = 128
"""Rows of each input that are kept, by default."""


def calibrate_model(
    loaded: LoadedModel,
    text: Path,
    *,
    tokens: int = TOKENS,
    window: int = WINDOW,
    first: int = 0,
    bos: bool = False,
    rows: int = ROWS,
    progress: Callable[[int], None] | None = None,
) -> Calibration:
    """Calibrate a model on a text.

    Parameters
    ----------
    loaded
        The model, with its tokenizer.
    text
        A file that `q8a8_conformance.evaluate.text` reads.
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
        raise CalibrationError(f"tokens: {tokens} tokens are less than one window of {window}")
    ids = loaded.tokenizer.encode(read_text(text))
    parts = windows(ids, window, first + count, begin)[first:]
    source = Source(sha256(text), window, first, count, begin)
    names = linear_names(loaded.config)
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


def add_parsers(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands to a parser; each sets `func`, which takes the options and returns the exit status."""
    calibrating = subparsers.add_parser(
        "calibrate", help="run a model over a text, and keep what its linear operators see"
    )
    calibrating.add_argument("model", type=Path, metavar="MODEL.gguf", help="a Llama model")
    calibrating.add_argument(
        "text", type=Path, metavar="TEXT", help="plain UTF-8; .cor, one article a line; or a Wikipedia .bz2"
    )
    calibrating.add_argument("output", type=Path, metavar="OUT.npz", help="the calibration")
    calibrating.add_argument(
        "--tokens", type=_count, default=TOKENS, metavar="N", help=f"how many tokens [{TOKENS}]"
    )
    calibrating.add_argument(
        "--window", type=_count, default=WINDOW, metavar="N", help=f"tokens that are run at once [{WINDOW}]"
    )
    calibrating.add_argument(
        "--rows",
        type=int,
        default=ROWS,
        metavar="N",
        help=f"rows of each input to keep, for searches [{ROWS}]",
    )
    calibrating.add_argument("--bos", action="store_true", help="begin each window with the BOS token")
    calibrating.set_defaults(func=_reporting(_calibrate))

    smoothing = subparsers.add_parser("smooth", help="compute SmoothQuant's factors for a model")
    smoothing.add_argument("model", type=Path, metavar="MODEL.gguf", help="a Llama model")
    smoothing.add_argument("calibration", type=Path, metavar="CALIBRATION.npz", help="of this very model")
    smoothing.add_argument("output", type=Path, metavar="OUT.npz", help="the factors")
    smoothing.add_argument(
        "--alpha",
        type=_alpha,
        default=0.5,
        metavar="A|search",
        help="from 0, weights alone, to 1, activations alone; or the best for each group of weights [0.5]",
    )
    smoothing.add_argument(
        "--fold-down", action="store_true", help="smooth ffn_down too, through the rows of ffn_up"
    )
    smoothing.add_argument(
        "--power-of-two", action="store_true", help="factors with which the float model keeps every bit"
    )
    smoothing.set_defaults(func=_reporting(_smooth))


def _count(text: str) -> int:
    """Read a positive number."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def _alpha(text: str) -> float | Literal["search"]:
    """Read α."""
    if text == "search":
        return "search"
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number from 0 to 1 nor 'search'")
    return value


def _reporting(command: Callable[[argparse.Namespace], None]) -> Callable[[argparse.Namespace], int]:
    """Wrap a command: what it refuses goes to standard error, and the exit status is then 1."""

    def run(options: argparse.Namespace) -> int:
        try:
            command(options)
        except (FileError, Q8A8Error) as error:
            sys.stderr.write(f"q8a8: {error}\n")
            return 1
        except OSError as error:
            sys.stderr.write(f"q8a8: {options.output}: {error.strerror or error}\n")
            return 1
        return 0

    return run


def _calibrate(options: argparse.Namespace) -> None:
    """Run `q8a8 calibrate`."""
    _require_folder(options.output)
    loaded = load(options.model)
    with _bar("window", options.tokens // options.window) as progress:
        calibration = calibrate_model(
            loaded,
            options.text,
            tokens=options.tokens,
            window=options.window,
            bos=options.bos,
            rows=options.rows,
            progress=progress,
        )
    calibration.save(options.output)
    name, channel, size, ratio = largest_outlier(calibration)
    sys.stdout.write(
        f"{options.output}: {len(calibration.names)} linear operators, {calibration.tokens} tokens; "
        f"largest outlier: channel {channel} of the input of {name}, |x| up to {size:.4g}, "
        f"{ratio:.0f} times the median channel\n"
    )


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


def _smooth(options: argparse.Namespace) -> None:
    """Run `q8a8 smooth`."""
    _require_folder(options.output)
    calibration = Calibration.load(options.calibration)
    with open_model(options.model) as file:
        groups = len(fold_groups(Config.from_metadata(file.metadata).n_layers, fold_down=options.fold_down))
    with _bar("group", groups) as progress:
        smoothing = smooth_model(
            options.model,
            calibration,
            alpha=options.alpha,
            fold_down=options.fold_down,
            rounding="power-of-two" if options.power_of_two else "nearest",
            progress=progress,
        )
    smoothing.save(options.output)
    sys.stdout.write(f"{options.output}: {smoothing.summary}, {len(smoothing.groups)} groups\n")
    if options.alpha == "search":
        for smoothed in smoothing.groups:
            chosen = "none" if smoothed.alpha is None else f"{smoothed.alpha:g}"
            sys.stdout.write(f"  {smoothed.group.name:<16} alpha {chosen}\n")


def _require_folder(path: Path) -> None:
    """Refuse, before any work, a result that there is no folder for."""
    if not path.parent.is_dir():
        raise FileError(path, "there is no such folder")


@contextmanager
def _bar(unit: str, total: int) -> Iterator[Callable[[int], None] | None]:
    """Give what shows the progress on a terminal; elsewhere, and without tqdm, nothing."""
    if not sys.stderr.isatty():
        yield None
        return
    try:
        tqdm: Any = import_module("tqdm").tqdm
    except ImportError:
        yield None
        return
    with tqdm(total=total, unit=f" {unit}", leave=False) as bar:
        yield lambda done: bar.update(done - bar.n)
