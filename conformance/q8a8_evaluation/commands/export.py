"""``q8a8 export``: the weights of AWQ, GPTQ or int4 as a GGUF file that any llama.cpp runs.

::

    q8a8 export model.gguf --scheme int4-g32 -o model-int4.gguf
    q8a8 export model.gguf --scheme awq-int4-g64 --calibration news.cor -o model-awq.gguf

Each number is held exactly, by Q4_0, Q4_1, Q5_0 or Q8_0 (`q8a8.schemes.export`).
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from q8a8.llama.load import load
from q8a8.schemes.export import EXPORTED, export_model, require_exportable
from q8a8.schemes.scheme import get_scheme
from q8a8.schemes.table import SCHEMES
from q8a8_conformance.results.record import count
from q8a8_evaluation.calibration_data import CALIBRATION_WINDOWS, CalibrationData
from q8a8_evaluation.commands.shared import positive, reporting, require_writable

if TYPE_CHECKING:
    import argparse

    from q8a8_conformance.commands.options import Subparsers

__all__ = ["add_parser"]


def add_parser(subparsers: Subparsers) -> None:
    """Add ``export`` to the command line."""
    parser = subparsers.add_parser(
        "export",
        help="write the weights of AWQ, GPTQ or int4 for llama.cpp",
        epilog="schemes: " + ", ".join(name for name, each in SCHEMES.items() if each.linear in EXPORTED),
    )
    parser.add_argument("model", type=Path, metavar="MODEL.gguf", help="a model")
    parser.add_argument("--scheme", required=True, metavar="NAME", help="one of those below")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.gguf", help="the result")
    parser.add_argument(
        "--short-scales",
        action="store_true",
        help="round scales to 7 significant bits first, so that weights with zero points are Q4_1 (5 bits a "
        "weight) and not Q5_0 (5.5)",
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="FILE",
        help="a text, or what q8a8 calibrate saved (.npz), for schemes that need it",
    )
    parser.add_argument("--window", type=positive, default=512, metavar="N", help="tokens of a window [512]")
    parser.add_argument(
        "--calibration-windows",
        type=positive,
        default=CALIBRATION_WINDOWS,
        metavar="N",
        help=f"windows of a calibration text [{CALIBRATION_WINDOWS}]",
    )
    parser.set_defaults(func=reporting(_export))


def _export(options: argparse.Namespace) -> None:
    """Run `q8a8 export`."""
    require_writable(options.output)
    scheme = get_scheme(options.scheme, SCHEMES)
    require_exportable(scheme)
    loaded = load(options.model)
    calibration = CalibrationData(options.calibration, options.window, options.calibration_windows)
    statistics = calibration.statistics(loaded, scheme, head=False)
    found = export_model(
        options.model, options.output, loaded, scheme, statistics, short_scales=options.short_scales
    )
    types = ", ".join(f"{n} {name}" for name, n in Counter(k.name for k in found.types.values()).items())
    sys.stdout.write(f"{options.output}: {count(len(found.types), 'weight')} by {scheme.name}: {types}\n")
    if found.folded:
        sys.stdout.write(f"scales of channels folded into {count(len(found.folded), 'other tensor')}\n")
    reasons = Counter((name.split(".", 2)[2], reason) for name, reason in found.unscaled.items())
    for (name, reason), layers in reasons.items():
        sys.stdout.write(f"channels not scaled: {name} of {count(layers, 'layer')}: {reason}\n")
