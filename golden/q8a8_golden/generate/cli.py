"""`q8a8 vectors check` and `q8a8 vectors generate`.

The kills on record are determined by running mutants, which are not in this package: the command is added
with a function that finds them. Without it `check` does not check the kills on record.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from q8a8_golden.generate.agree import DisagreementError, Implementations
from q8a8_golden.generate.implementations import OracleImplementation
from q8a8_golden.generate.kernel import KernelError, KernelImplementation
from q8a8_golden.generate.native import NativeBuildError, in_checkout, scalar_library
from q8a8_golden.generate.reference import ReferenceBounds, ReferenceImplementation
from q8a8_golden.generate.store import REGENERATE, compare, generate
from q8a8_golden.load import DATA, read_manifest
from q8a8_golden.schema import SchemaUnavailableError, violations

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from q8a8_golden.generate.store import Killer

__all__ = ["MakeKiller", "add_parser", "check_command", "generate_command", "open_implementations"]

OK, FAILED, USAGE = 0, 1, 2

MakeKiller: TypeAlias = "Callable[[], AbstractContextManager[Killer]]"
"""Creates a `Killer`, as a context manager that ends its processes."""


def add_parser(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser], killer: MakeKiller | None = None
) -> None:
    """Add ``vectors`` with ``check`` and ``generate``; each sets ``func``, which returns the exit status.

    0 success, 1 the vectors are not up to date or the implementations disagree, 2 there is no C kernel, or no
    way to find the kills.

    Parameters
    ----------
    subparsers
        The parsers to which the command is added.
    killer
        Creates the `Killer` that finds the kills of a case.
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
        help="do not check the kills on record: seconds instead of a minute for running every mutant",
    )
    writer = actions.add_parser(
        "generate", help="write the golden vectors, if oracle, reference and C kernel agree"
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
def open_implementations(library: Path | None) -> Iterator[Implementations]:
    """Yield the independent implementations, the C kernel in a child process that ends with the block."""
    with contextlib.ExitStack() as stack:
        kernel = None if library is None else stack.enter_context(KernelImplementation(library))
        yield Implementations(OracleImplementation(), ReferenceImplementation(), ReferenceBounds(), kernel)


def check_command(options: argparse.Namespace) -> int:
    """Check files, manifest and schema, regenerate the files in memory, and return the exit status."""
    if not options.data.is_dir():
        _print_error(f"--data {options.data}: there is no such folder")
        return USAGE
    if _lacks_kernel(options):
        return USAGE
    try:
        library = options.c_kernel or scalar_library()
        problems = _violations_or_note(options.data)
        with open_implementations(library) as implementations, contextlib.ExitStack() as stack:
            killer = None
            if options.killer is not None and not options.no_kills:
                killer = stack.enter_context(options.killer())
            problems += compare(options.data, implementations, killer)
    except (DisagreementError, KernelError, NativeBuildError) as error:
        _print_error(str(error))
        return FAILED
    if problems:
        for problem in problems:
            _print_error(problem)
        # The last line is the command that regenerates them.
        _print_error(REGENERATE)
        return FAILED
    cases = read_manifest(options.data)["cases"]
    if killer is None:
        why = "--no-kills" if options.no_kills else "q8a8 vectors check does that"
        _print(f"the kills on record were not compared: {why}")
    if library is None:
        _print(f"{cases} cases: the oracle and the NumPy reference agree with the files")
        _print(f"the C kernel was not compared: {_why_no_kernel()}")
        # In a checkout under CI the C kernel must be present.
        return FAILED if in_checkout() and os.environ.get("CI") else OK
    _print(f"{cases} cases: the oracle, the NumPy reference and the C kernel agree with the files")
    return OK


def generate_command(options: argparse.Namespace) -> int:
    """Write the vectors and return the exit status."""
    if _lacks_kernel(options):
        return USAGE
    try:
        library = options.c_kernel or scalar_library()
        if library is None:
            _print_error(f"a golden vector is written only if the C kernel agrees: {_why_no_kernel()}")
            return USAGE
        if options.killer is None:
            _print_error("a golden vector is written only with its kills: use q8a8 vectors generate")
            return USAGE
        with open_implementations(library) as implementations, options.killer() as killer:
            changed = generate(options.data, implementations, killer)
    except (DisagreementError, KernelError, NativeBuildError) as error:
        _print_error(str(error))
        return FAILED
    for name in changed:
        _print(name)
    _print(f"{read_manifest(options.data)['cases']} cases, {len(changed)} files changed")
    return OK


def _lacks_kernel(options: argparse.Namespace) -> bool:
    """Return whether the library that was named is not there, and say so."""
    if options.c_kernel is None or options.c_kernel.exists():
        return False
    _print_error(f"--c-kernel {options.c_kernel}: there is no such file")
    return True


def _violations_or_note(folder: Path) -> list[str]:
    """Return the violations of the schema; without jsonschema, print a note and return none."""
    try:
        return violations(folder)
    except SchemaUnavailableError as error:
        _print_error(f"the schema was not checked: {error}")
    except (OSError, ValueError):
        pass  # a file that cannot be read is reported, by name, when it is compared
    return []


def _why_no_kernel() -> str:
    if in_checkout():
        return "there is no C compiler (cc, or $CC) to build it with"
    return (
        "its sources are in the repository, not in the installed package; --c-kernel PATH names a built one"
    )


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _print_error(line: str) -> None:
    sys.stderr.write(f"{line}\n")
