"""``q8a8 smooth``: SmoothQuant's factors for a model, from a calibration."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from q8a8.ggufio import open_model
from q8a8.llama.config import Config
from q8a8.methods.calibration import Calibration
from q8a8.methods.smoothquant import fold_groups
from q8a8_conformance.files.progress import progress_bar
from q8a8_conformance.results.record import count
from q8a8_evaluation.calibration import smooth_model
from q8a8_evaluation.commands.shared import reporting, require_writable

if TYPE_CHECKING:
    from q8a8_conformance.commands.options import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    """Add ``smooth`` to the command line."""
    parser = subparsers.add_parser("smooth", help="compute SmoothQuant's factors for a model")
    parser.add_argument("model", type=Path, metavar="MODEL.gguf", help="a Llama model")
    parser.add_argument("calibration", type=Path, metavar="CALIBRATION.npz", help="of this very model")
    parser.add_argument("output", type=Path, metavar="OUT.npz", help="the factors")
    parser.add_argument(
        "--alpha",
        type=_alpha,
        default=0.5,
        metavar="A|search",
        help="from 0, weights alone, to 1, activations alone; or the best for each group of weights [0.5]",
    )
    parser.add_argument(
        "--fold-down", action="store_true", help="smooth ffn_down too, through the rows of ffn_up"
    )
    parser.add_argument(
        "--power-of-two", action="store_true", help="factors with which the float model keeps every bit"
    )
    parser.set_defaults(func=reporting(_smooth))


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


def _smooth(options: argparse.Namespace) -> None:
    """Run `q8a8 smooth`."""
    require_writable(options.output)
    calibration = Calibration.load(options.calibration)
    with open_model(options.model) as file:
        config = Config.from_metadata(file.metadata)
        groups = len(fold_groups(config.n_layers, fold_down=options.fold_down, linears=config.linears))
    with progress_bar("group", groups) as progress:
        smoothing = smooth_model(
            options.model,
            calibration,
            alpha=options.alpha,
            fold_down=options.fold_down,
            rounding="power-of-two" if options.power_of_two else "nearest",
            progress=progress,
        )
    smoothing.save(options.output)
    sys.stdout.write(f"{options.output}: {smoothing.summary}, {count(len(smoothing.groups), 'group')}\n")
    if options.alpha == "search":
        for smoothed in smoothing.groups:
            chosen = "none" if smoothed.alpha is None else f"{smoothed.alpha:g}"
            sys.stdout.write(f"  {smoothed.group.name:<16} alpha {chosen}\n")
