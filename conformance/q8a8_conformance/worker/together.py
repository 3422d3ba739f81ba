"""Calls of several threads that are in progress at the same time, whatever else the machine does.

In a *round* one thread is stopped in the middle of its call (`q8a8_conformance.worker.stopping`), each other
one then makes a whole call, and the stopped one goes on. What a call keeps in memory that others write is
overwritten by then, on a single processor too: of the others one that makes another call than the stopped one
is the last. After the rounds all threads call freely.

A kernel may take a lock in its calls: the others then wait for the stopped thread, which is let go on once
all of them sleep, or have computed for much longer than a call takes.
"""

from __future__ import annotations

import ctypes
import threading
import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from q8a8_conformance.worker.fresh import can_copy, survives
from q8a8_conformance.worker.native_calls import CallChain, NativeCall, Stack, library_call
from q8a8_conformance.worker.process_state import join
from q8a8_conformance.worker.stopping import Stopper, cannot_stop, sleeps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from q8a8_conformance.worker.caller import PreparedCall

STEPS = (*range(1, 25), *(round(24 * 1.25**power) for power in range(1, 9)))
"""Instructions after which calls are stopped: each of the first 24, and then fewer, up to 143."""
ROUNDS = 6
"""Rounds of a batch. Its chains are built before the first one, so their number is fixed."""
FREE_CALLS = 4
"""Calls that all threads make freely after the rounds of a batch."""
CALLS_OF_A_BATCH = 1 + ROUNDS + FREE_CALLS
"""Calls of each thread."""
_NAP_SECONDS = 2e-5
_ASLEEP_SECONDS = 4e-3
_LONE_WAKE_SECONDS = 2e-3
_SPIN_SECONDS = 0.1
_STOP_SECONDS = 2.0
_MAX_LOCKED = 3
_COPY_SECONDS, _PLACES = 0.3, 4
"""How long a copy may compute whose calls are stopped, at so many pages: an ordinary one takes a tenth."""
_SEMAPHORE_SIZE = 64
"""Space for a `sem_t`; glibc's has 32 bytes."""
_GAPS = {8: 9, 12: 4, 14: 6, 15: 30}
"""Threads that make one call and end before the thread of this number makes its first one.

Kernels that number their threads, and share memory by the number's remainder, then do so among the threads
that stay: these get 0 to 7, 17 to 20, 25, 26, 33 and 64. Those that share make different calls.
"""


@dataclass
class Tally:
    """What the calls of a batch have shown: their times in nanoseconds, and the completed stops."""

    spans: list[tuple[int, int]] = field(default_factory=list)
    stops: int = 0
    rounds: int = 0
    locked: int = 0


class Lane:
    """The calls of one thread, made as they are asked for.

    Parameters
    ----------
    stack : Stack
        Of its chain.
    """

    def __init__(self, stack: Stack) -> None:
        self._library = ctypes.PyDLL(None)
        self._stack = stack
        self._semaphores = ctypes.create_string_buffer(2 * _SEMAPHORE_SIZE)
        self._go = ctypes.addressof(self._semaphores)
        self._done = self._go + _SEMAPHORE_SIZE
        for semaphore in (self._go, self._done):
            self._library.sem_init(ctypes.c_void_p(semaphore), 0, 0)
        self._calls: list[NativeCall] = []
        self._clocks: list[ctypes.Array[ctypes.c_long]] = []
        self._asked = 0
        self._chain: CallChain | None = None
        self._ready = threading.Event()
        self.thread = 0
        """The system's number of the thread that runs this."""
        self.prepared: list[PreparedCall] = []

    def add(self, calls: Sequence[PreparedCall], arm: tuple[NativeCall, NativeCall] | None = None) -> None:
        """Add calls, to be made one after another on request; `arm` is called before and after."""
        start, end = (ctypes.c_long * 2)(), (ctypes.c_long * 2)()
        self._clocks += [start, end]
        before, after = ([arm[0]], [arm[1]]) if arm else ([], [])
        kernels = [
            NativeCall(one.native.function, one.native.arguments, stoppable=arm is not None)
            for one in calls
            if one.native
        ]
        self._calls += [
            library_call("sem_wait", self._go),
            library_call("clock_gettime", 1, ctypes.addressof(start)),
            *before,
            *kernels,
            *after,
            library_call("clock_gettime", 1, ctypes.addressof(end)),
            library_call("sem_post", self._done),
        ]
        self.prepared += calls

    def build(self) -> None:
        """Make the chain of what was added, so that `run` goes on."""
        self._chain = CallChain(self._calls, self._stack)
        self._ready.set()

    def give_up(self) -> None:
        """Let `run` return where there is no chain."""
        self._ready.set()

    def run(self) -> None:
        """Run the chain, in this lane's thread, once it is built."""
        self._ready.wait()
        if self._chain:
            self._chain.run()

    def ask(self) -> None:
        """Ask for the next calls."""
        self._asked += 1
        self._library.sem_post(ctypes.c_void_p(self._go))

    @property
    def is_done(self) -> bool:
        """Whether all that was asked for is done."""
        value = ctypes.c_int()
        self._library.sem_getvalue(ctypes.c_void_p(self._done), ctypes.byref(value))
        return value.value == self._asked

    @property
    def has_begun(self) -> bool:
        """Whether the calls asked for last have begun."""
        return self._asked > 0 and any(self._clocks[2 * self._asked - 2])

    def spans(self) -> Iterator[tuple[int, int]]:
        """Yield the start and the end of the calls, in nanoseconds."""
        for start, end in zip(self._clocks[::2], self._clocks[1::2], strict=True):
            yield start[0] * 10**9 + start[1], end[0] * 10**9 + end[1]


class ConcurrentCalls:
    """Makes the calls of several threads; their stacks are reused from call to call."""

    def __init__(self) -> None:
        self._stopper = Stopper()
        self._stacks: list[Stack] = []

    def run_batch(
        self,
        threads: int,
        prepare: Callable[[int, int | None], PreparedCall],
        first_round: int,
        typical_ns: int,
        tally: Tally,
        *,
        closes: bool = True,
    ) -> list[Lane]:
        """Make a first call of each thread, `ROUNDS` rounds of stopped calls and some free ones.

        Parameters
        ----------
        threads : int
            Their number.
        prepare : callable
            Prepares a call of a thread (its number), with a border of pages at a place that depends on the
            second argument where it is not None.
        first_round : int
            The number of the first round, which decides on the places.
        typical_ns : int
            The time of a call, within which timers run out.
        tally : Tally
            Takes the results.
        closes : bool
            Whether calls may be stopped at a closed page.
        """
        with _Crew(self._stopper, self._lanes(threads)) as crew:
            plan = [_Stop(first_round + number, threads, typical_ns) for number in range(ROUNDS)]
            for number, lane in enumerate(crew.lanes):
                lane.add([prepare(number, None)])
                for stop in plan:
                    if number == stop.thread:
                        stop.prepared = prepare(number, stop.place if closes else None)
                        crew.add_stopped(number, stop.prepared, stop.delay_ns)
                    else:
                        lane.add([prepare(number, None)])
                lane.add([prepare(number, None) for _ in range(FREE_CALLS)])
            crew.build()
            for number, lane in enumerate(crew.lanes):
                for _ in range(_GAPS.get(number, 0)):
                    spent = threading.Thread(target=prepare(0, None).step, daemon=True)
                    spent.start()
                    join(spent)
                lane.ask()
                crew.wait_for_all()
            for stop in plan:
                crew.run_round(stop.thread, stop.prepared, tally)
            crew.ask_all()
        return crew.finish(tally)

    def blocks_stops(self, prepare: Callable[[int, int | None], PreparedCall], number: int) -> bool:
        """Return whether calls, or threads of the kernel's own, block the signals of stops, as they may.

        Calls of one version are stopped at a page of each buffer, in a copy of this process. A fault that is
        blocked ends the copy; where it is the wakening, the copy does not end.
        """
        if _has_masked_threads():
            return True
        return can_copy() and not survives(partial(self._stop_at_each, prepare, number), _COPY_SECONDS)

    def _stop_at_each(self, prepare: Callable[[int, int | None], PreparedCall], number: int) -> None:
        """Stop calls at the first pages to be closed."""
        with _Crew(self._stopper, self._lanes(2)) as crew:
            stopped = [prepare(number, place) for place in range(_PLACES)]
            for one in stopped:
                crew.add_stopped(0, one, 0)
                crew.lanes[1].add([prepare(number, None)])
            crew.build()
            for one in stopped:
                crew.run_round(0, one, Tally())

    def survives_steps(self, prepare: Callable[[int, int | None], PreparedCall]) -> bool:
        """Return whether a call goes on under traps, in a copy of this process: a blocked one ends it.

        A kernel may block all signals for a few instructions, as where it makes threads.
        """
        return can_copy() and survives(partial(self.run_steps, prepare, Tally(), STEPS[-1:]), _COPY_SECONDS)

    def run_steps(
        self,
        prepare: Callable[[int, int | None], PreparedCall],
        tally: Tally,
        counts: Sequence[int] = STEPS,
    ) -> list[Lane]:
        """Stop calls of one thread after each number of instructions, while another calls.

        What a call keeps in shared memory for a few instructions alone is then overwritten: a plan that is
        made anew for another length, and used.
        """
        with self._stopper.stepping() as stepper:
            if stepper is None:
                return []
            with _Crew(self._stopper, self._lanes(2)) as crew:
                for _ in counts:
                    one = prepare(0, None)
                    if one.native:
                        counted = replace(one, native=stepper.counted(one.native))
                        crew.lanes[0].add([counted], (stepper.off, stepper.off))
                    crew.lanes[1].add([prepare(1, None)])
                crew.build()
                for steps in counts:
                    stepper.stop_after(steps)
                    crew.run_round(0, None, tally)
            return crew.finish(tally)

    def run_first(
        self, threads: int, prepare: Callable[[int, int | None], PreparedCall], delay_ns: int, tally: Tally
    ) -> list[Lane]:
        """Make one call of each thread: the first one is stopped after a delay, or all start at once (0)."""
        with _Crew(self._stopper, self._lanes(threads)) as crew:
            for number, lane in enumerate(crew.lanes):
                one = prepare(number, None)
                if number == 0 and delay_ns:
                    crew.add_stopped(number, one, delay_ns)
                else:
                    lane.add([one])
            crew.build()
            if delay_ns:
                crew.run_round(0, None, tally)
            else:
                crew.ask_all()
        return crew.finish(tally)

    def _lanes(self, threads: int) -> list[Lane]:
        self._stacks += [Stack() for _ in range(threads - len(self._stacks))]
        return [Lane(stack) for stack in self._stacks[:threads]]


def _has_masked_threads() -> bool:
    """Return whether a thread of the kernel's own blocks the signals of stops, and not only as it begins."""
    found = []
    for _ in range(2):
        known = {thread.native_id for thread in threading.enumerate()}
        every = {int(entry.name) for entry in Path("/proc/self/task").iterdir()}
        found.append({thread for thread in every - known if cannot_stop([thread])})
        if not found[-1]:
            return False
        time.sleep(_ASLEEP_SECONDS)
    return bool(found[0] & found[1])


class _Stop:
    """What is stopped in a round, and where."""

    def __init__(self, number: int, threads: int, typical_ns: int) -> None:
        self.thread = int(_spread(number) * threads) if number % 8 == 7 else number // 3 % 2
        by_time = number % 3 == 2
        self.delay_ns = 1 + int(_spread(number) * typical_ns) if by_time else 0
        self.place = None if by_time else number - number // 3
        self.prepared: PreparedCall | None = None


def _spread(number: int) -> float:
    """Return a number in [0, 1), evenly spread over the numbers of rounds."""
    return number * 0.6180339887498949 % 1.0


class _Crew:
    """Running lanes, of which one at a time is stopped."""

    def __init__(self, stopper: Stopper, lanes: list[Lane]) -> None:
        self.lanes = lanes
        self._stopper = stopper
        self._timers: list[int] = []
        self._threads = [threading.Thread(target=lane.run, daemon=True) for lane in lanes]

    def __enter__(self) -> Self:
        """Start the threads, which wait for their chains."""
        for lane, thread in zip(self.lanes, self._threads, strict=True):
            thread.start()
            lane.thread = thread.native_id or 0
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Wait for the threads' ends; after an error those without a chain end."""
        for lane, thread in zip(self.lanes, self._threads, strict=True):
            if kind is not None:
                lane.give_up()
            join(thread)
        for timer in self._timers:
            self._stopper.delete_timer(timer)

    def add_stopped(self, number: int, one: PreparedCall, delay_ns: int) -> None:
        """Add a call that is to be stopped, with a delay by a timer."""
        arm = None
        if delay_ns:
            timer = self._stopper.timer(self.lanes[number].thread)
            self._timers.append(timer)
            arm = (self._stopper.set_timer(timer, delay_ns), self._stopper.set_timer(timer, 0))
        self.lanes[number].add([one], arm)

    def build(self) -> None:
        """Build all chains."""
        for lane in self.lanes:
            lane.build()

    def ask_all(self) -> None:
        """Ask all lanes for their next calls, and wait for them."""
        for lane in self.lanes:
            lane.ask()
        self.wait_for_all()

    def wait_for_all(self) -> None:
        """Wait until all that was asked for is done."""
        while not all(lane.is_done for lane in self.lanes):
            time.sleep(_NAP_SECONDS)

    def run_round(self, number: int, stopped: PreparedCall | None, tally: Tally) -> None:
        """Let one lane call until it stops, and the others meanwhile."""
        victim = self.lanes[number]
        last = self.lanes[last_of(number, len(self.lanes))]
        first = [lane for lane in self.lanes if lane not in {victim, last}]
        tries = tally.locked < _MAX_LOCKED
        if tries and stopped and stopped.closed:
            self._stopper.close(stopped.closed)
        victim.ask()
        while not (stops := victim.has_begun and sleeps(victim.thread)) and not victim.is_done:
            time.sleep(_NAP_SECONDS)
        passed = tries and stops and not victim.is_done
        for others in filter(None, (first, [last])):
            for lane in others:
                lane.ask()
            if passed and not _wait_for(others, hasty=tally.locked > 0):
                passed = False
                tally.locked += 1
        tally.stops += passed
        self._stopper.open(writable=stopped is None or stopped.closed_writable)
        self._let_go(victim)
        tally.rounds += 1

    def _let_go(self, victim: Lane) -> None:
        """End the stop and wait for all lanes; a signal may come before a thread waits: it is repeated."""
        patience = time.monotonic() + _LONE_WAKE_SECONDS
        while not all(lane.is_done for lane in self.lanes):
            if time.monotonic() < patience:
                self._stopper.wake(victim.thread)
            else:  # the kernel may have threads of its own
                self._stopper.wake_all()
            time.sleep(_NAP_SECONDS)

    def finish(self, tally: Tally) -> list[Lane]:
        """Add the calls' times to the tally, and return the lanes."""
        for lane in self.lanes:
            tally.spans += lane.spans()
        return self.lanes


def _wait_for(lanes: list[Lane], *, hasty: bool) -> bool:
    """Wait until the lanes are done; return False if they wait for the stopped one."""
    start = awake = time.monotonic()
    used = time.process_time()
    while busy := [lane for lane in lanes if not lane.is_done]:
        time.sleep(_NAP_SECONDS)
        now = time.monotonic()
        if not all(sleeps(lane.thread) for lane in busy) or any(lane.is_done for lane in busy):
            awake = now  # who is done sleeps, too
        if (
            now - awake > _ASLEEP_SECONDS / (4 if hasty else 1)
            or now - start > _STOP_SECONDS
            or time.process_time() - used > _SPIN_SECONDS / (10 if hasty else 1)
        ):
            return False
    return True


def last_of(stopped: int, threads: int) -> int:
    """Return the thread that calls last while one is stopped: threads of odd and of even numbers differ."""
    return stopped + 1 if stopped % 2 == 0 and stopped + 1 < threads else stopped - 1


def overlap_of(spans: list[tuple[int, int]]) -> int:
    """Return the nanoseconds in which at least two calls were in progress."""
    last = second = total = 0
    for start, end in sorted(spans):
        begin, stop = max(start, second), min(end, last)
        if stop > begin:
            total += stop - begin
            second = stop
        last = max(last, end)
    return total
