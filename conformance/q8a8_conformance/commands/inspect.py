"""``q8a8 inspect``: what is in a file of blocks, or in a model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from q8a8_conformance.commands.file_options import add_blocks, add_smooth, add_source, reporting
from q8a8_conformance.files import gguf
from q8a8_conformance.files.arrays import write_json
from q8a8_conformance.files.inspect_blocks import inspect_file

if TYPE_CHECKING:
    import argparse

    from q8a8_conformance.commands.options import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    """Add ``inspect`` to the command line."""
    parser = subparsers.add_parser("inspect", help="show what is in a file of blocks, or in a model")
    parser.add_argument("input", type=Path, metavar="FILE", help=".npy, .bin or .gguf")
    parser.add_argument("--against", type=Path, metavar="SOURCE", help="what it was made from")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found to a file, too")
    model = parser.add_argument_group("models (.gguf)")
    add_smooth(model, "factors to fold into the source's weights before they are compared")
    add_blocks(parser)
    add_source(parser)
    parser.set_defaults(func=reporting(_arrays, gguf.inspect))


def _arrays(options: argparse.Namespace) -> None:
    """Run the command on arrays."""
    report = inspect_file(
        options.input,
        against=options.against,
        version=1 + options.v2,
        scale_field=options.field,
        shape=options.shape,
    )
    sys.stdout.writelines(f"{line}\n" for line in report.lines())
    if options.json is not None:
        write_json(options.json, report.as_json())
