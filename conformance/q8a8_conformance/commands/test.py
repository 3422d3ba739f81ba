"""``q8a8 test``: judge a kernel."""

from __future__ import annotations

from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING

from q8a8_conformance.commands.options import EXIT_STATUS, add_sut, seconds, usage_error

if TYPE_CHECKING:
    import argparse

    from q8a8_conformance.commands.options import Subparsers

REPORTS = {
    "json": "the report as JSON",
    "junitxml": "the report as JUnit XML",
    "markdown": "the report as Markdown, for the summary of a CI job",
    "html": "the report as one HTML file, with plots",
    "badge": "the verdict as an SVG badge",
    "statement": "a statement of conformance, as Markdown",
}
"""What ``q8a8 test`` writes to files, by option: `q8a8_conformance.report` has the writers."""


def add_parser(subparsers: Subparsers) -> None:
    """Add ``test`` to the command line."""
    test = subparsers.add_parser(
        "test",
        help="judge a kernel",
        description="Judge a kernel: ref (the NumPy reference), lib:PATH.so (a C library), "
        "py:MODULE:OBJECT, or exec:COMMAND (anything that speaks the worker protocol).",
        epilog=EXIT_STATUS,
    )
    add_sut(test)
    test.add_argument(
        "--profile",
        choices=("exact", "kernel", "ggml"),
        default="kernel",
        help="exact: every bit of the scalar semantics; kernel: dot products in any order, within the "
        "proven bound [default]; ggml: as kernel, with ggml's quantizer recipes accepted",
    )
    test.add_argument("--rules", metavar="GLOB", help="only these rules: 'QNT-*', 'DOT-1,DOT-4'")
    test.add_argument("--case", metavar="ID", help="only this case, or those that match a pattern")
    test.add_argument("--timeout", type=seconds, metavar="S", help="seconds that one call may take [10]")
    test.add_argument(
        "--known-failures",
        type=Path,
        metavar="FILE",
        help="lines 'RULE CASE-ID-GLOB [# comment]' that do not count; one that no longer fails does",
    )
    test.add_argument(
        "--write-known-failures",
        type=Path,
        metavar="FILE",
        help="write all failures of this run as such a file",
    )
    for kind, what in REPORTS.items():
        test.add_argument(f"--{kind}", type=Path, metavar="FILE", help=f"write {what}, too")
    test.set_defaults(func=command)


def command(options: argparse.Namespace) -> int:
    """Judge a kernel, print the report, and return the verdict's exit status."""
    missing = [name for name in ("pytest", "hypothesis") if util.find_spec(name) is None]
    if missing:
        return usage_error(f"q8a8 test needs {' and '.join(missing)}: pip install 'q8a8[suite]'")
    from q8a8_conformance.commands.pytest_run import run  # noqa: PLC0415 (needs the extra `suite`)

    return run(options)
