"""``q8a8 calibrate``: what a model's linear operators see on a text."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from q8a8.errors import ArgumentError
from q8a8.llama.load import load
from q8a8_conformance.files.progress import progress_bar
from q8a8_conformance.results.record import count
from q8a8_evaluation.calibration import ROWS, TOKENS, WINDOW, calibrate_model, largest_outlier
from q8a8_evaluation.commands.shared import positive, reporting, require_writable

if TYPE_CHECKING:
    import argparse

    from q8a8_conformance.commands.options import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    """Add ``calibrate`` to the command line."""
    parser = subparsers.add_parser(
        "calibrate", help="run a model over a text, and keep what its linear operators see"
    )
    parser.add_argument("model", type=Path, metavar="MODEL.gguf", help="a Llama model")
    parser.add_argument(
        "text", type=Path, metavar="TEXT", help="plain UTF-8; .cor, one article a line; or a Wikipedia .bz2"
    )
    parser.add_argument("output", type=Path, metavar="OUT.npz", help="the calibration")
    parser.add_argument(
        "--tokens", type=positive, default=TOKENS, metavar="N", help=f"how many tokens [{TOKENS}]"
    )
    parser.add_argument(
        "--window", type=positive, default=WINDOW, metavar="N", help=f"tokens that are run at once [{WINDOW}]"
    )
    parser.add_argument(
        "--rows",
        type=int,
        default=ROWS,
        metavar="N",
        help=f"rows of each input to keep, for searches [{ROWS}]",
    )
    parser.add_argument("--bos", action="store_true", help="begin each window with the BOS token")
    parser.set_defaults(func=reporting(_calibrate))


def _calibrate(options: argparse.Namespace) -> None:
    """Run `q8a8 calibrate`."""
    require_writable(options.output)
    loaded = load(options.model)
    with progress_bar("window", options.tokens // options.window) as progress:
        try:
            calibration = calibrate_model(
                loaded,
                options.text,
                tokens=options.tokens,
                window=options.window,
                bos=options.bos,
                rows=options.rows,
                progress=progress,
            )
        except ArgumentError as error:
            if not str(error).startswith("count: "):
                raise
            words = str(error).removeprefix("count: ")
            there = int(words.split()[-1])
            help_ = f"--tokens {there * options.window}" if there else "a longer text, or a smaller --window"
            raise ArgumentError(f"{options.text}: {words}: give {help_}") from None
    calibration.save(options.output)
    name, channel, size, ratio = largest_outlier(calibration)
    sys.stdout.write(
        f"{options.output}: {count(len(calibration.names), 'linear operator')}, "
        f"{count(calibration.tokens, 'token')}; "
        f"largest outlier: channel {channel} of the input of {name}, |x| up to {size:.4g}, "
        f"{ratio:.0f} times the median channel\n"
    )
