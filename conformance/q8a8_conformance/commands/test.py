"""``q8a8 test``: judge a kernel."""

from __future__ import annotations

import sys
import traceback
from importlib import util
from typing import TYPE_CHECKING

from q8a8.install import how_to_install
from q8a8_conformance.commands import suite_options
from q8a8_conformance.commands.options import BROKEN, EXIT_STATUS, usage_error

if TYPE_CHECKING:
    import argparse

    from q8a8_conformance.commands.options import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    """Add ``test`` to the command line."""
    test = subparsers.add_parser(
        "test",
        help="judge a kernel",
        description="Judge a kernel: ref (the NumPy reference), lib:PATH.so (a C library), "
        "py:MODULE:OBJECT, or exec:COMMAND (anything that speaks the worker protocol).",
        epilog=EXIT_STATUS,
    )
    suite_options.add_to_command(test)
    test.set_defaults(func=command)


def command(options: argparse.Namespace) -> int:
    """Judge a kernel, print the report, and return the verdict's exit status."""
    missing = [name for name in ("pytest", "hypothesis") if util.find_spec(name) is None]
    if missing:
        return usage_error(f"q8a8 test needs {' and '.join(missing)}: {how_to_install('suite')}")
    from q8a8_conformance.commands.pytest_run import run  # noqa: PLC0415 (needs the extra `suite`)

    try:
        return run(suite_options.from_command(options), options.interrupts)
    except Exception:  # noqa: BLE001 -- no error of ours may look like a verdict
        sys.stderr.write(f"q8a8: error in the suite:\n{traceback.format_exc()}")
        return BROKEN
