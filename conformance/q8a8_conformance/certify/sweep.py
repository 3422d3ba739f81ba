"""The sweep over a domain: evaluate, compare, record coverage; resume an earlier run."""

from __future__ import annotations

import hashlib
import signal
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from q8a8_conformance.certify import ranges
from q8a8_conformance.certify.certificate import Entry
from q8a8_conformance.certify.functions import POISON
from q8a8_conformance.certify.products import ProductsNrc2
from q8a8_conformance.certify.runners import RunnerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

    from q8a8_conformance.certify.domains import Domain
    from q8a8_conformance.certify.ranges import Interval
    from q8a8_conformance.certify.runners import Runner
    from q8a8_conformance.certify.state import State

SAVE_EVERY_S = 5.0
"""Seconds between writes of the state during a sweep."""


class InterruptedSweepError(Exception):
    """The run received SIGINT or SIGTERM; `number` is the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@dataclass(frozen=True)
class Plan:
    """The part of each domain to cover: a shard (I, N), and a sample of about so many of its points."""

    shard: tuple[int, int] = (1, 1)
    sample: int | None = None

    def pieces(self, domain: Domain) -> list[Interval]:
        """Return the pieces of a domain to evaluate, each at most its chunk long."""
        pieces = ranges.shard(domain.size, domain.chunk, *self.shard)
        return pieces if self.sample is None else ranges.sample(pieces, self.sample, domain.grain)


def oracle_sha256() -> str:
    """Return the SHA-256 of the source of the expected results: the domains and the oracle."""
    from q8a8_golden import oracle  # noqa: PLC0415 -- for its file alone

    here = Path(__file__).parent
    names = ("steps.py", "domains.py", "products.py", "quantizers.py")
    files = [*(here / name for name in names), Path(oracle.__file__)]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise `InterruptedSweepError` on SIGINT and SIGTERM within the block."""

    def interrupt(number: int, _frame: FrameType | None) -> None:
        raise InterruptedSweepError(number)

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Progress:
    """A progress line on standard error, if that is a terminal."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._last = 0.0

    def show(self, domain: Domain, done: int, of: int, seconds: float) -> None:
        """Rewrite the line, at most a few times a second."""
        now = time.monotonic()
        if not self._shown or now - self._last < 0.25:
            return
        self._last = now
        rate = done / seconds if seconds else 0.0
        left = f", {(of - done) / rate:,.0f} s left" if rate else ""
        sys.stderr.write(f"\r\x1b[K{domain.name}: {100 * done / of:.1f} % of {of:,}{left}")
        sys.stderr.flush()

    def clear(self) -> None:
        """Remove the line."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def takes_two_rows(domain: Domain, runner: Runner) -> bool:
    """Return whether the kernel supports nrc = 2: some crash, others write one of the four results."""
    try:
        answer = runner.evaluate(domain, 0, 4)
    except RunnerError:
        return False
    return len(answer) != 16 or answer[4:] != bytes([POISON]) * 12


def sweep(domain: Domain, runner: Runner, plan: Plan, state: State, progress: Progress) -> Entry:
    """Cover one domain, starting from the state.

    Returns
    -------
    The entry; its result is ``equal`` only if every piece of the plan is covered. The first mismatch ends the
    sweep of the domain.

    Raises
    ------
    InterruptedSweepError
        The state holds the pieces covered so far.
    """
    entry = Entry(domain.name, domain.size, domain.rules)
    wanted = plan.pieces(domain)
    entry.asked = ranges.count(wanted)
    names = tuple(runner.names)
    if not domain.offered(names):
        entry.result = "not-offered"
        entry.message = f"the kernel has no {' and no '.join(domain.functions)}"
        return entry
    if isinstance(domain, ProductsNrc2) and not takes_two_rows(domain, runner):
        entry.result, entry.message = "not-offered", "the kernel does not take two rows at a time (nrc = 2)"
        return entry
    state.covered.setdefault(domain.name, [])
    state.seconds.setdefault(domain.name, 0.0)
    _cover(domain, runner, wanted, state, progress, entry)
    entry.covered = state.covered[domain.name]
    entry.seconds = state.seconds[domain.name]
    state.save()
    return entry


def _cover(
    domain: Domain,
    runner: Runner,
    wanted: Sequence[Interval],
    state: State,
    progress: Progress,
    entry: Entry,
) -> None:
    missing = ranges.missing(state.covered[domain.name], wanted)
    of, done = ranges.count(missing), 0
    begun = saved = time.monotonic()
    for start, stop in missing:
        before = time.monotonic()
        try:
            answer = runner.evaluate(domain, start, stop)
            entry.mismatch = domain.check(start, stop, answer)
        except (RunnerError, ValueError) as error:
            entry.result = "crashed"
            entry.message = f"points {start} to {stop}: {error}"
            break
        now = time.monotonic()
        if entry.mismatch:
            entry.result = "mismatch"
            state.seconds[domain.name] += now - before
            break
        state.add(domain.name, (start, stop), now - before)
        done += stop - start
        progress.show(domain, done, of, now - begun)
        if now - saved > SAVE_EVERY_S:
            state.save()
            saved = now
    else:
        entry.result = "equal"
    progress.clear()
