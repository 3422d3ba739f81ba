"""Options that ``quantize``, ``dequantize`` and ``inspect`` share, and the test for files of models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from q8a8 import Q8A8Error
from q8a8.layout import SCALE_FIELDS
from q8a8_conformance.commands.options import refuse
from q8a8_conformance.files import gguf
from q8a8_conformance.files.arrays import FileError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from q8a8_conformance.files.arrays import Shape

__all__ = ["add_blocks", "add_smooth", "add_source", "reporting"]

ARRAY_OPTIONS = ("v2", "field", "shape")
MODEL_OPTIONS = ("smooth", "only", "keep", "embedding", "output_layer", "allow_id_39", "type")

OPTION_NAMES = {"output_layer": "output"}
"""Options whose attribute is not named as they are."""


def add_smooth(parser: argparse._ArgumentGroup, what: str) -> None:
    """Add the option that names a file of SmoothQuant factors."""
    parser.add_argument("--smooth", type=Path, metavar="FILE", help=what)


def add_blocks(parser: argparse.ArgumentParser) -> None:
    """Add the options for which blocks a file holds."""
    parser.add_argument("--v2", action="store_true", help="a .bin file holds version 2 blocks")
    parser.add_argument(
        "--field",
        choices=SCALE_FIELDS,
        help="the scale of version 2 blocks [the one that is not all zero]",
    )


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add the options for how the input is read."""
    parser.add_argument(
        "--shape",
        type=_shape,
        metavar="NxK",
        help="elements in a file that does not say it itself, as 4096x1024",
    )
    parser.add_argument(
        "--allow-id-39",
        action="store_true",
        help="a .gguf file is of the design's own fork, where tensor type 39 is Q8_A8, not MXFP4",
    )


def _shape(text: str) -> Shape:
    shape = tuple(int(part) for part in text.split("x"))
    if min(shape) < 0:
        raise ValueError
    return shape


def reporting(
    arrays: Callable[[argparse.Namespace], None], models: Callable[[argparse.Namespace], None]
) -> Callable[[argparse.Namespace], int]:
    """Make one command of what is done with arrays and with models.

    What is refused is written to standard error, with the exit status of `refuse`.
    """

    def run(options: argparse.Namespace) -> int:
        paths = (options.input, getattr(options, "output", options.input))
        of_models = any(gguf.is_gguf(path) for path in paths)
        try:
            _require_effect(options, of_models)
            (models if of_models else arrays)(options)
        except (FileError, Q8A8Error) as error:
            return refuse(error)
        return 0

    return run


def _require_effect(options: argparse.Namespace, of_models: bool) -> None:
    """Refuse an option that would have no effect: whoever gave it meant something else."""
    for name in ARRAY_OPTIONS if of_models else MODEL_OPTIONS:
        if getattr(options, name, None):
            kind = "models" if of_models else "arrays"
            raise FileError(
                options.input, f"--{OPTION_NAMES.get(name, name.replace('_', '-'))} is not for {kind}"
            )
