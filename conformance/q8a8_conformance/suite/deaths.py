"""Limits on what a kernel that dies may cost: which calls are not made, and how long one may take.

Every death costs a new worker, and a hang the time-out as well. So a call is not made

- if `HANDFUL` calls of its function died, none of them longer than it, and none as long as they are returned:
  then a kernel that dies on long rows is still judged on short ones;
- if `HANDFUL` calls of its function died in cases about the same rules;
- if deaths have cost `MAX_SECONDS`, and its function has died before in a call that was no longer.

Calls with guard pages, at an offset, under other modes or of several threads are counted apart from plain
ones: their deaths say nothing about those, though a function that dies in plain calls dies in others, too.
Where deaths have cost too much, one that hangs anywhere counts as one that hangs in plain calls.

The first call that hangs may take the whole time limit, or half of it where its function has returned before
in the same process. From then on a call may take a small multiple of the slowest one of its function that
returned and is about as long, or of any function's where none of its own has. Where a function is called for
the first time in a process it may have to warm up: such calls are compared among themselves, as are calls
that are repeated often or made by several threads.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from q8a8_conformance.protocol.messages import Call

HANDFUL = 3
"""Deaths from which it is inferred that calls of their kind die."""

MAX_SECONDS = 5.0
"""What deaths may cost in a run, restarts among it, besides the first hang."""

QUANTUM_SECONDS = 0.5
"""A restart costs a multiple of this, which is more than an ordinary one takes: so the same calls are made in
every run."""

HALVED_ABOVE_SECONDS = 4.0
"""The time limit is not halved to less than this."""

FLOOR_SECONDS, FIRST_FLOOR_SECONDS = 0.5, 1.0
"""The shortest time-outs after a hang, of ordinary calls and of a function's first one in a process."""

MANY_FLOOR_SECONDS = 2.0
"""The shortest time-out after a hang of many calls at once: a busy machine may interrupt them often."""

CEILING_SECONDS = 2.0
"""The longest time-out after a hang, once deaths have cost too much."""

SLOWER, FIRST_SLOWER, MUCH_SLOWER = 5.0, 3.0, 20.0
"""How many times longer than the slowest one that returned such calls may take; the last before any hang."""

MANY = 10
"""Repetitions from which on a call is compared with other calls that are many."""

OVERHEAD_BLOCKS = 64
"""A call costs about as much as so many blocks, besides those of its rows."""


@dataclass
class _Function:
    """What became of the calls of one function: lengths by conditions (`_conditions`)."""

    died: dict[tuple[int, bool], list[int]] = field(default_factory=dict)
    longest: dict[tuple[int, bool], int] = field(default_factory=dict)
    by_rules: Counter[tuple[tuple[int, bool], tuple[str, ...]]] = field(default_factory=Counter)
    hung: list[int] = field(default_factory=list)


class Deaths:
    """The deaths of a run, and the calls that are not made because of them."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._functions: defaultdict[str, _Function] = defaultdict(_Function)

    @property
    def cost_too_much(self) -> bool:
        """Whether deaths have cost so much that no function may die again."""
        return self.seconds > MAX_SECONDS

    def add(self, call: Call, rules: tuple[str, ...], restart: float, timeout: float | None = None) -> None:
        """Add a call that died in a case about these rules: what a restart takes, and what a hang costs.

        How long a call took until it crashed does not count: that depends on what else the machine does.
        """
        state = self._functions[call.function]
        conditions = _conditions(call)
        state.died.setdefault(conditions, []).append(call.n)
        state.by_rules[conditions, rules] += 1
        if timeout is not None:
            state.hung.append(call.n)
        self.seconds += QUANTUM_SECONDS * ceil(restart / QUANTUM_SECONDS) + (timeout or 0.0)

    def add_return(self, call: Call) -> None:
        """Add a call that returned."""
        state = self._functions[call.function]
        # A call that returns under some conditions would return plainly, too.
        for conditions in (_conditions(call), (call.nrc, False)):
            state.longest[conditions] = max(state.longest.get(conditions, -1), call.n)

    def reason_against(self, call: Call, rules: tuple[str, ...]) -> str:
        """Return why a call of a case about these rules is not made; empty if it is."""
        state = self._functions.get(call.function)
        if state is None or not state.died:
            return ""
        conditions = _conditions(call)
        for one in dict.fromkeys((conditions, (call.nrc, False))):
            beyond = state.longest.get(one, -1)
            hopeless = [n for n in state.died.get(one, ()) if beyond < n <= call.n]
            if len(hopeless) >= HANDFUL:
                return (
                    f"{call.function} died in all calls with {min(hopeless)} elements or more, "
                    f"{len(hopeless)} times: longer ones are not made"
                )
        plain = [n for (_, placed), lengths in state.died.items() if not placed for n in lengths]
        plain += state.hung
        shortest = min([*plain, *state.died.get(conditions, ())], default=call.n + 1)
        if (plain or conditions in state.died) and (call.nrc, False) not in state.longest:
            shortest = 0  # None has returned, so that there is no hope for shorter ones.
        if self.cost_too_much and call.n >= shortest:
            times = sum(map(len, state.died.values()))
            return (
                f"{call.function} died {times} times, with {shortest} elements or more, and all deaths have "
                f"cost {self.seconds:.0f} s"
            )
        if state.by_rules[conditions, rules] >= HANDFUL:
            return f"{call.function} died {HANDFUL} times in cases about the same rules"
        return ""


class Timeouts:
    """How long a call may take: `first` calls are those of a function that this process has not called yet.

    Parameters
    ----------
    limit
        Seconds that any call may take.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._hung: set[str] = set()
        self._slowest: defaultdict[tuple[bool, str], dict[int, float]] = defaultdict(dict)
        # By calls of many, and function: seconds by the power of two that their work is below.
        self._slowest_first = 0.0

    @property
    def has_hung(self) -> bool:
        """Whether a call has hung."""
        return bool(self._hung)

    @property
    def warm_up_seconds(self) -> float:
        """How long the slowest first call took that returned."""
        return self._slowest_first

    def of(self, call: Call, *, first: bool) -> float:
        """Return the seconds that a call may take."""
        many = _is_many(call)
        if first and not many:
            if not self._hung:
                return self._limit
            floor = FLOOR_SECONDS if call.function in self._hung else FIRST_FLOOR_SECONDS
            return min(self._limit, max(floor, FIRST_SLOWER * self._slowest_first))
        half = max(self._limit / 2, min(self._limit, HALVED_ABOVE_SECONDS))
        expected = self._expected(call, many=many)
        if many and not expected:
            return half if self._hung else self._limit
        expected = expected or self._slowest_first
        if not self._hung:
            return min(self._limit, max(half, MUCH_SLOWER * expected))
        return min(self._limit, max(MANY_FLOOR_SECONDS if many else FLOOR_SECONDS, SLOWER * expected))

    def add_return(self, call: Call, seconds: float, *, first: bool) -> None:
        """Add a call that returned."""
        many = _is_many(call)
        if first and not many:
            self._slowest_first = max(self._slowest_first, seconds)
        else:
            slowest, size = self._slowest[many, call.function], _work(call).bit_length()
            slowest[size] = max(slowest.get(size, 0.0), seconds)

    def _expected(self, call: Call, *, many: bool) -> float:
        """Return what the slowest call about as long took, or a shorter one in proportion; 0 without any."""
        slowest = self._slowest.get((many, call.function), {})
        if not slowest:
            for (of_many, _), others in self._slowest.items():
                for size, seconds in others.items() if of_many == many else ():
                    slowest[size] = max(slowest.get(size, 0.0), seconds)
        if not slowest:
            return 0.0
        work = _work(call)
        longest = max(slowest)
        if work >> longest:
            return slowest[longest] * work / (1 << longest - 1)
        enough = min(size for size in slowest if not work >> size)
        return max(seconds for size, seconds in slowest.items() if size <= enough)

    def add_hang(self, function: str) -> None:
        """Add a call of a function that hung."""
        self._hung.add(function)


def _conditions(call: Call) -> tuple[int, bool]:
    """Return rows at a time, and whether a call is made under conditions of its own: not plainly."""
    if call.options or call.threads > 1:
        return call.nrc, True
    return call.nrc, any(buffer.offset for buffer in call.buffers)


def _is_many(call: Call) -> bool:
    """Return whether a call is many calls of the kernel, so that its time says nothing about one."""
    return call.repeat > MANY or call.threads > 1 or call.together is not None


def _work(call: Call) -> int:
    """Return about how much a call has to do, in blocks."""
    return (call.n // 32 * call.nrc**2 + OVERHEAD_BLOCKS) * call.repeat * call.threads
