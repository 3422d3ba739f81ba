"""``q8a8 fingerprint``: the SHA-256 of a kernel's outputs for one large fixed product.

Kernels that conform to the profile ``exact`` have one and the same fingerprint, on every machine.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8 import BLOCK_Q8_A8
from q8a8.atomic import unwritable, write_text
from q8a8_conformance.commands.options import OK, UNWRITTEN, add_sut, complain, seconds, usage_error
from q8a8_conformance.commands.output import text_stream, write_to
from q8a8_conformance.inputs import calls, fixed_product
from q8a8_conformance.protocol.session import CallRefused, SessionError
from q8a8_conformance.protocol.sut import SutError, parse_sut
from q8a8_conformance.results.verdict import Verdict
from q8a8_conformance.smoke.starting import start

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from q8a8_conformance.commands.options import Subparsers
    from q8a8_conformance.protocol.session import Session

FORMAT = 1
TIMEOUT = 120.0
DIFFERENT = 1

STATUS = (
    "exit status: 0 the same as the specification's, 1 different, 2 usage, 3 the kernel crashed or hung, "
    "4 it offers none of the functions, 5 it was not reached, 6 a file could not be written, 70 the program "
    "itself broke, 130 interrupted"
)


@dataclass(frozen=True)
class Fingerprint:
    """The fingerprint of one function.

    Attributes
    ----------
    function
        ABI name.
    sha256
        Of its outputs; None where it refused a call.
    expected
        That of the specification.
    differing, results
        How many of its results (floats, or blocks) have other bits, of how many.
    """

    function: str
    sha256: str | None
    expected: str
    differing: int
    results: int

    @property
    def same(self) -> bool:
        """Whether it is the specification's."""
        return self.sha256 == self.expected

    def text(self) -> str:
        """Return it as a line."""
        if self.sha256 is None:
            return f"{self.function:25} refused"
        detail = "same" if self.same else f"{self.differing} of {self.results} results differ"
        return f"{self.function:25} {self.sha256}  {detail}"


def add_parser(subparsers: Subparsers) -> None:
    """Add ``fingerprint`` to the command line."""
    shape = f"{fixed_product.M} x {fixed_product.K} by {fixed_product.N} rows"
    parser = subparsers.add_parser(
        "fingerprint",
        help="hash the outputs of one large fixed product: the same on every device",
        description=f"Compute one fixed matrix product ({shape}, every edge value in it), the rows that it "
        "is made of, and their dot products, and print the SHA-256 of the outputs, which are the same for "
        "every kernel whose bits are the specification's.",
        epilog=STATUS,
    )
    add_sut(parser)
    parser.add_argument(
        "--timeout", type=seconds, default=TIMEOUT, metavar="S", help="seconds that one call may take [120]"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write it as JSON; - is standard output")
    parser.set_defaults(func=command)


def command(options: argparse.Namespace) -> int:
    """Take the fingerprints, print them, and return the exit status."""
    if options.json is not None and (reason := unwritable(options.json)):
        return usage_error(f"--json {options.json}: {reason}")
    try:
        sut = parse_sut(options.sut, options.symbol, options.init)
        with sut.session(options.timeout) as session:
            started = start(sut, session)
            if started.hello is None:
                ending = started.ending or Verdict.NOT_REACHED
                return complain(started.stage.message, ending.exit_status)
            found = list(take(session, started.hello.functions))
    except SutError as error:
        return usage_error(str(error))
    except SessionError as error:
        return complain(str(error), Verdict.CRASHED.exit_status)
    if not found:
        return complain("the kernel offers none of the functions", Verdict.NOTHING_RAN.exit_status)
    status = OK if all(each.same for each in found) else DIFFERENT
    document = to_json(options.sut, started.hello.name, found)
    if options.json is not None:
        try:
            write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", options.json)
        except OSError as error:
            status = complain(f"--json could not be written: {error}", UNWRITTEN)
    text = "".join(f"{each.text()}\n" for each in found)
    if reason := write_to(text_stream([options.json]), text):
        write_to(sys.stderr, f"q8a8: standard output could not be written: {reason}\n")
        status = UNWRITTEN
    return status


def to_json(sut: str, name: str, found: Sequence[Fingerprint]) -> dict[str, Any]:
    """Return fingerprints as JSON data."""
    return {
        "format": FORMAT,
        "sut": sut,
        "name": name,
        "same": all(each.same for each in found),
        "functions": [asdict(each) | {"same": each.same} for each in found],
    }


def take(session: Session, offered: Sequence[str]) -> Iterator[Fingerprint]:
    """Take the fingerprint of each function that is offered.

    Raises
    ------
    SessionError
        A call gave no result; one that was refused has no fingerprint.
    """
    for function, expected in fixed_product.DIGESTS.items():
        if function not in offered:
            continue
        try:
            data = b"".join(session.call(call).outputs[0] for call in fixed_product.calls_of(function))
        except CallRefused:
            yield Fingerprint(function, None, expected, 0, 0)
            continue
        own = fixed_product.digest(data)
        want = fixed_product.outputs(function)
        size = BLOCK_Q8_A8.itemsize if function in calls.QUANTIZERS else 4
        rows = [np.frombuffer(each, np.uint8).reshape(-1, size) for each in (data, want)]
        differing = int((rows[0] != rows[1]).any(axis=1).sum())
        yield Fingerprint(function, own, expected, differing, len(want) // size)
