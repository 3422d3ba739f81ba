"""A run in several processes: each judges its share of the cases, with a worker of its own.

A case and the kernel wait for each other, so that one process leaves a processor idle half of the time. Which
process judges a case depends on the plan alone: the same command makes the same calls in the same processes,
on any machine. The first process has the run; the others, its helpers, send it what they found, and it alone
diagnoses and decides.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from q8a8_conformance.results.bias import Bias
    from q8a8_conformance.results.bound_use import Margins
    from q8a8_conformance.results.observations import Observations
    from q8a8_conformance.results.record import Record
    from q8a8_conformance.results.run import Notice, Request
    from q8a8_conformance.results.verdict import KnownFailure

__all__ = ["ALONE", "LONG_CASES", "Findings", "Helper", "Share", "Work", "divide"]

_GRACE_S: Final = 5.0
"""Seconds that a helper has to end its worker after it was told to."""


@dataclass(frozen=True)
class Share:
    """One process's part of a run: number `index` of `of`."""

    index: int
    of: int


ALONE: Final = Share(0, 1)
"""The share of a process that judges all cases."""


@dataclass(frozen=True)
class Work:
    """What a helper is started with."""

    request: Request
    known_failures: tuple[KnownFailure, ...]
    share: Share


@dataclass(frozen=True)
class Findings:
    """What a process found in its share: as the attributes of `Target` and `SuiteRun` of these names.

    Attributes
    ----------
    chosen
        The recipe by which a quantizer function was judged.
    broken
        Whether the suite itself broke there; it has said how.
    """

    records: tuple[Record, ...]
    observations: Observations
    margins: Margins
    warnings: tuple[Bias | Notice, ...]
    chosen: Mapping[str, str]
    calls: int
    call_seconds: float
    overlap_seconds: float
    stops: int
    broken: bool


LONG_CASES: Final[Mapping[str, float]] = {
    "mul-mat-calls/registers-and-stack": 0.2,
    "mul-mat/picked": 0.6,
    "lengths/quantize_*/matrix": 0.7,
    "lengths/dequantize/matrix": 0.4,
    "lengths/*/matrix": 0.1,
    "every-value/code-pairs": 0.3,
    "every-value/amax-of-activation": 0.2,
    "state/processes": 0.2,
    "mul-mat/joint": 0.2,
    "mul-mat/exact/long": 0.2,
    "state/kept/*": 0.1,
    "mul-mat-calls/*": 0.15,
    "environment/threads/*": 0.2,
    "lengths/quantize_*/8201-65537": 0.3,
    "lengths/*/8201-65537": 0.1,
    "flush/*": 0.1,
    "every-value/amax/*": 0.1,
    "every-value/halves-*": 0.1,
    "environment/first*": 0.08,
}
"""Seconds of a processor that long cases take with a plain C kernel, by case id: the first match."""


def divide(cases: Iterable[tuple[str, str]], of: int) -> list[int]:
    """Return which of `of` processes judges each case.

    A long case goes to the process that has had the least of these. Of the rest, those of a check take about
    as long: they go to the processes in turn, as do those that are alone in theirs.

    Parameters
    ----------
    cases
        The check and the id of each case.
    of
        The number of processes.
    """
    pairs = list(cases)
    size = Counter(check for check, _ in pairs)
    turn: Counter[str] = Counter()
    seconds = [0.0] * of
    indices = []
    for check, case in pairs:
        took = next((took for pattern, took in LONG_CASES.items() if fnmatchcase(case, pattern)), 0.0)
        key = check if size[check] > 1 else ""
        index = seconds.index(min(seconds)) if took else turn[key] % of
        seconds[index] += took
        turn[key] += not took
        indices.append(index)
    return indices


class Helper:
    """Another process that judges a share of the cases: started at once, asked for its findings at the end.

    Parameters
    ----------
    module
        What it runs: a module that reads `Work` from standard input and writes `Findings` to standard output.
    work
        What it has to do.
    """

    def __init__(self, module: str, work: Work) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        write(self._pipe(self._process.stdin), work)

    @staticmethod
    def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
        if stream is None:  # pragma: no cover -- both are pipes
            raise AssertionError
        return stream

    def findings(self) -> Findings | None:
        """Wait for what it found; None where it ended without."""
        found = read(self._pipe(self._process.stdout))
        return found if isinstance(found, Findings) else None

    def close(self) -> None:
        """End it, and its worker."""
        if self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            self._process.communicate(timeout=_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()


def write(stream: IO[bytes], what: Work | Findings) -> None:
    """Write one object; nothing where nobody reads any more."""
    try:
        pickle.dump(what, stream, pickle.HIGHEST_PROTOCOL)
        stream.flush()
    except BrokenPipeError:
        return


def read(stream: IO[bytes]) -> object:
    """Read one object of our own; None at the end of the stream."""
    try:
        return pickle.load(stream)  # noqa: S301 -- from a process of ours, over a pipe
    except (EOFError, pickle.UnpicklingError):
        return None
