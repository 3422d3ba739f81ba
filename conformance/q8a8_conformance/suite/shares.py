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
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from q8a8_conformance.results.bias import Bias
    from q8a8_conformance.results.bound_use import Margins
    from q8a8_conformance.results.observations import Observations
    from q8a8_conformance.results.record import Record
    from q8a8_conformance.results.run import Notice, Request
    from q8a8_conformance.results.verdict import KnownFailure

__all__ = ["ALONE", "Findings", "Helper", "Share", "Work", "divide"]

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


def divide(groups: Iterable[str], of: int) -> list[int]:
    """Return which of `of` processes judges each case.

    Parameters
    ----------
    groups
        For each case what it has in common with others that take about as long: its check. The cases of a
        group go to the processes in turn, as do those that have a group to themselves.
    of
        The number of processes.
    """
    names = list(groups)
    size = Counter(names)
    turn: Counter[str] = Counter()
    indices = []
    for name in names:
        key = name if size[name] > 1 else ""
        indices.append(turn[key] % of)
        turn[key] += 1
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
