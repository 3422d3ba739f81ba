"""`q8a8 vectors check` and `q8a8 vectors generate`.

The kills on record are found by wrong kernels, which this package does not know: whoever adds the command
hands in what finds them. Without it `check` leaves the kills on record as they are.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from q8a8_golden.generate.agree import DisagreementError, Witnesses
from q8a8_golden.generate.kernel import KernelError, KernelWitness
from q8a8_golden.generate.native import NativeBuildError, in_checkout, scalar_library
from q8a8_golden.generate.reference import ReferenceBounds, ReferenceWitness
from q8a8_golden.generate.store import REGENERATE, compare, generate
from q8a8_golden.generate.witness import OracleWitness
from q8a8_golden.load import DATA, read_manifest
from q8a8_golden.schema import SchemaUnavailableError, violations

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from q8a8_golden.generate.store import Killer

__all__ = ["MakeKiller", "add_parser", "check_command", "generate_command", "witnesses"]

OK, FAILED, USAGE = 0, 1, 2

MakeKiller: TypeAlias = "Callable[[], AbstractContextManager[Killer]]"
"""What makes a `Killer`: a context manager, so that what it started ends with it."""


def add_parser(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser], killer: MakeKiller | None = None
) -> None:
    """Add ``vectors`` with ``check`` and ``generate``; each sets ``func``, which gives the exit status.

    0 all is well, 1 the vectors are not what they should be or the implementations differ, 2 there is no C
    kernel, or nothing to find the kills with.

    Parameters
    ----------
    subparsers
        What the command is added to.
    killer
        Makes what finds the kills of a case.
    """
    vectors = subparsers.add_parser("vectors", help="check or generate the golden vectors")
    actions = vectors.add_subparsers(dest="action", required=True, metavar="{check,generate}")
    check = actions.add_parser(
        "check", help="regenerate the golden vectors in memory and compare them with the files"
    )
    check.set_defaults(func=check_command)
    check.add_argument(
        "--no-kills",
        action="store_true",
        help="take the kills on record as they are: seconds, where running every mutant takes a minute",
    )
    writer = actions.add_parser(
        "generate", help="write the golden vectors, where oracle, reference and C kernel agree"
    )
    writer.set_defaults(func=generate_command)
    for parser in (check, writer):
        parser.set_defaults(killer=killer)
        parser.add_argument(
            "--c-kernel",
            metavar="PATH",
            type=Path,
            help="the C scalar kernel, a shared library (default: the checkout's, built if need be)",
        )
        parser.add_argument(
            "--data",
            metavar="FOLDER",
            type=Path,
            default=DATA,
            help="the vectors (default: the package's own)",
        )


@contextlib.contextmanager
def witnesses(library: Path | None) -> Iterator[Witnesses]:
    """Give the three truths, the C kernel in a child process that ends with the block; without it, two."""
    with contextlib.ExitStack() as stack:
        kernel = None if library is None else stack.enter_context(KernelWitness(library))
        yield Witnesses(OracleWitness(), ReferenceWitness(), ReferenceBounds(), kernel)


def check_command(options: argparse.Namespace) -> int:
    """Check files, manifest and schema, and that all truths still give the files' bytes. The exit status."""
    try:
        library = options.c_kernel or scalar_library()
        problems = _violations_or_note(options.data)
        with witnesses(library) as truths, contextlib.ExitStack() as stack:
            killer = None
            if options.killer is not None and not options.no_kills:
                killer = stack.enter_context(options.killer())
            problems += compare(options.data, truths, killer)
    except (DisagreementError, KernelError, NativeBuildError) as error:
        _say(str(error))
        return FAILED
    if problems:
        for problem in problems:
            _say(problem)
        # The last line is the command that regenerates, and nothing else.
        _say(REGENERATE)
        return FAILED
    cases = read_manifest(options.data)["cases"]
    if killer is None:
        why = "--no-kills" if options.no_kills else "q8a8 vectors check does that"
        _tell(f"the kills on record were not compared: {why}")
    if library is None:
        _tell(f"{cases} cases: the oracle and the NumPy reference agree with the files")
        _tell(f"the C kernel was not compared: {_why_no_kernel()}")
        # In a checkout under CI the third truth must be there: its absence is an error of the set-up.
        return FAILED if in_checkout() and os.environ.get("CI") else OK
    _tell(f"{cases} cases: the oracle, the NumPy reference and the C kernel agree with the files")
    return OK


def generate_command(options: argparse.Namespace) -> int:
    """Write the vectors. The exit status."""
    try:
        library = options.c_kernel or scalar_library()
        if library is None:
            _say(f"a golden vector is written only where the C kernel agrees: {_why_no_kernel()}")
            return USAGE
        if options.killer is None:
            _say("a golden vector is written only with its kills: use q8a8 vectors generate")
            return USAGE
        with witnesses(library) as truths, options.killer() as killer:
            changed = generate(options.data, truths, killer)
    except (DisagreementError, KernelError, NativeBuildError) as error:
        _say(str(error))
        return FAILED
    for name in changed:
        _tell(name)
    _tell(f"{read_manifest(options.data)['cases']} cases, {len(changed)} files changed")
    return OK


def _violations_or_note(folder: Path) -> list[str]:
    """Give what the schema has against the files; where jsonschema is missing, say so and go on."""
    try:
        return violations(folder)
    except SchemaUnavailableError as error:
        _say(f"the schema was not checked: {error}")
    except (OSError, ValueError):
        pass  # a file that cannot be read is reported, by name, when it is compared
    return []


def _why_no_kernel() -> str:
    if in_checkout():
        return "there is no C compiler (cc, or $CC) to build it with"
    return (
        "its sources are in the repository, not in the installed package; --c-kernel PATH names a built one"
    )


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
