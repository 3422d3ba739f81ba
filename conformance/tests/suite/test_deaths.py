"""What a kernel that dies or is wrong everywhere may cost: calls, deaths and time-outs are counted."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.faults.catalogue import make
from q8a8_conformance.faults.in_process import InProcessSession
from q8a8_conformance.inputs import calls
from q8a8_conformance.inputs.samples import sample
from q8a8_conformance.protocol.messages import Option
from q8a8_conformance.protocol.session import SessionError, WorkerCrashed, WorkerHung
from q8a8_conformance.results.record import Recorder, Status
from q8a8_conformance.suite import deaths
from q8a8_conformance.suite.accepted_recipes import Recipes
from q8a8_conformance.suite.deaths import HANDFUL, MAX_SECONDS, Deaths, Timeouts
from q8a8_conformance.suite.judge import KEPT, CaseOver, Judge
from q8a8_conformance.suite.target import KernelDiedError, NotRunError, Target
from q8a8_lab.mutation.judging import cases

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.protocol.messages import Call, Result
    from q8a8_conformance.results.record import Record

RULES, OTHERS = ("Q8A8-DOT-1",), ("Q8A8-DOT-2",)
LIMIT = 10.0


def dot(nb: int) -> Call:
    """Return a dot product of two rows of so many blocks."""
    return sample(calls.DOT, nb)


class Mortal(InProcessSession):
    """The reference, which dies in some calls as a worker's kernel would.

    Attributes
    ----------
    deaths
        How many calls died.
    timeouts
        Of the calls that hung.
    """

    def __init__(self, dies: Callable[[Call, int], type[SessionError] | None]) -> None:
        super().__init__(make, [calls.DOT, calls.DOT_REAL])
        self._dies = dies
        self._count = 0
        self.deaths = 0
        self.timeouts: list[float] = []

    def call(self, call: Call, timeout: float | None = None) -> Result:
        """Make the call, or raise what a session does where the worker dies."""
        self._count += 1
        how = self._dies(call, self._count)
        if how is None:
            return super().call(call, timeout)
        self.deaths += 1
        if how is WorkerHung:
            self.timeouts.append(timeout or 0.0)
            self.start_seconds = 0.5  # no call takes any time here, and deaths are to cost some
        self.close()
        self._count = 0
        raise how("died")


class Announced(Mortal):
    """One that is told the next call, and dies in placed ones; `lost` are announced, not made, and deadly."""

    def __init__(self) -> None:
        super().__init__(lambda call, _: WorkerCrashed if _is_placed(call) else None)
        self.hello = replace(self.hello, capabilities=(*self.hello.capabilities, "ahead"))
        self.lost = 0
        self._next: Call | None = None

    def announce(self, call: Call) -> None:
        """Take the call after the next one."""
        self._next = call

    def call(self, call: Call, timeout: float | None = None) -> Result:
        """Make a call, and count a worker that is lost for nothing."""
        announced, self._next = self._next, None
        if announced is not None and not announced.options and _is_placed(announced):
            self.lost += 1
        return super().call(call, timeout)


def _is_placed(call: Call) -> bool:
    return bool(call.options) or any(buffer.offset for buffer in call.buffers)


def judged(session: InProcessSession, pattern: str) -> list[Record]:
    """Run the cases whose names begin so, and return their records."""
    target = Target(session, "kernel", LIMIT)  # type: ignore[arg-type]  # all of a session that it uses
    recipes, recorder = Recipes(target), Recorder()
    for case in cases():
        if case.name.startswith(pattern):
            judge = Judge(target, recipes, recorder, case.name, case.rules)
            try:
                case.check(judge=judge, **case.parameters)
            except CaseOver:
                judge.finish()
            except NotRunError as reason:
                judge.not_run(reason)
            else:
                judge.finish()
    return list(recorder)


class TestDeaths:
    """Which calls are made after deaths."""

    def test_long_calls_that_all_die_are_not_made(self) -> None:
        """After a handful of deaths, calls as long are not made; shorter ones are."""
        seen = Deaths()
        for count in (60, 70, 61):
            assert not seen.reason_against(dot(count), RULES)
            seen.add(dot(count), RULES, 0.0)
            seen.add_return(dot(50))
        assert "1920 elements or more, 3 times" in seen.reason_against(dot(70), OTHERS)
        assert not seen.reason_against(dot(59), OTHERS)
        assert not seen.reason_against(sample(calls.DOT_REAL, 70), RULES)

    def test_a_return_of_a_long_call_keeps_the_function(self) -> None:
        """Where a longer call returns, also at an offset, only cases about the same rules are left out."""
        seen = Deaths()
        for count in (60, 70, 61):
            seen.add(dot(count), RULES, 0.0)
        seen.add_return(calls.misaligned(dot(80), {"s": 4}))
        assert "same rules" in seen.reason_against(dot(70), RULES)
        assert not seen.reason_against(dot(70), OTHERS)

    def test_guarded_calls_are_counted_apart(self) -> None:
        """Deaths in guarded calls do not prevent plain ones; deaths in plain calls prevent guarded ones."""
        guarded = calls.with_options(dot(8), Option.GUARD_AFTER)
        seen = Deaths()
        for _ in range(HANDFUL):
            seen.add(guarded, RULES, 0.0)
        assert seen.reason_against(guarded, OTHERS)
        assert not seen.reason_against(dot(8), OTHERS)
        seen = Deaths()
        for _ in range(HANDFUL):
            seen.add(dot(8), RULES, 0.0)
        assert seen.reason_against(guarded, OTHERS)

    def test_a_slower_restart_makes_no_difference(self) -> None:
        """What restarts cost is counted in steps: a busy machine leaves the same calls out."""
        quick, busy = Deaths(), Deaths()
        for seen, seconds in ((quick, 0.2), (busy, 0.45)):
            for _ in range(20):
                seen.add(dot(60), RULES, seconds)
        assert quick.seconds == busy.seconds

    def test_the_cost_is_limited(self) -> None:
        """Once deaths cost too much, calls as long as one that died are not made; others may die once."""
        seen = Deaths()
        seen.add(dot(60), RULES, MAX_SECONDS + 1)
        assert seen.cost_too_much
        assert "cost 6 s" in seen.reason_against(dot(60), OTHERS)
        assert seen.reason_against(calls.with_options(dot(70), Option.GUARD_AFTER), OTHERS)
        assert seen.reason_against(dot(59), OTHERS)
        seen.add_return(dot(1))
        assert not seen.reason_against(dot(59), OTHERS)
        other = sample(calls.DOT_REAL, 1)
        assert not seen.reason_against(other, RULES)
        seen.add(other, RULES, 0.0)
        assert seen.reason_against(other, OTHERS)

    @pytest.mark.parametrize("timeout", [None, 0.0])
    def test_one_that_hangs_at_a_placement(self, timeout: float | None) -> None:
        """It is not tried plainly once deaths have cost too much; one that crashes there is."""
        seen = Deaths()
        seen.add_return(dot(1))
        seen.add(calls.with_options(dot(60), Option.GUARD_AFTER), RULES, MAX_SECONDS + 1, timeout)
        assert bool(seen.reason_against(dot(60), OTHERS)) == (timeout is not None)
        assert not seen.reason_against(dot(59), OTHERS)


class TestTimeouts:
    """How long a call may take."""

    def test_before_a_hang(self) -> None:
        """The limit holds, and half of it where the process has called the function before."""
        for limit, later in ((LIMIT, LIMIT / 2), (3.0, 3.0), (60.0, 30.0)):
            timeouts = Timeouts(limit)
            timeouts.add_return(dot(3), 0.001, first=False)
            assert timeouts.of(dot(3), first=True) == limit
            assert timeouts.of(dot(3), first=False) == later
            assert timeouts.of(replace(dot(3), repeat=1000), first=False) == limit
        timeouts.add_return(dot(3), 2.0, first=False)
        assert timeouts.of(dot(3), first=False) == 40.0

    def test_after_a_hang(self) -> None:
        """A multiple of the slowest call about as long that returned, but no less than a floor."""
        timeouts = Timeouts(LIMIT)
        timeouts.add_return(dot(32), 1.5, first=True)
        timeouts.add_return(dot(36), 0.25, first=False)
        timeouts.add_hang(calls.DOT_REAL)
        assert timeouts.has_hung
        assert timeouts.warm_up_seconds == 1.5
        assert timeouts.of(dot(32), first=True) == 4.5
        assert timeouts.of(dot(36), first=False) == 1.25
        assert timeouts.of(dot(1), first=False) == 1.25
        assert timeouts.of(dot(64), first=False) == 2.5
        assert timeouts.of(replace(dot(16), nrc=2), first=False) == 2.5
        assert timeouts.of(dot(192), first=False) == 5.0
        timeouts.add_return(dot(1000), 0.5, first=False)
        assert timeouts.of(dot(100), first=False) == 2.5
        assert timeouts.of(dot(192), first=False) == 2.5
        assert timeouts.of(dot(1984), first=False) == 5.0
        timeouts.add_return(dot(1), 0.3, first=False)
        assert timeouts.of(dot(1), first=False) == 1.5
        many = replace(dot(32), repeat=100)
        assert timeouts.of(many, first=True) == LIMIT / 2
        timeouts.add_return(many, 0.5, first=False)
        assert timeouts.of(replace(many, repeat=200), first=True) == 2.5 * 19200 / 8192
        assert timeouts.of(many, first=False) == 2.5
        assert timeouts.of(replace(many, repeat=20), first=False) == 2.5

    def test_other_functions(self) -> None:
        """A function is compared with its own calls, and with those of all others where none has returned."""
        timeouts = Timeouts(LIMIT)
        timeouts.add_return(sample(calls.DOT_REAL, 36), 1.0, first=False)
        timeouts.add_hang(calls.DOT)
        assert timeouts.of(dot(36), first=False) == 5.0
        timeouts.add_return(dot(36), 0.2, first=False)
        assert timeouts.of(dot(36), first=False) == 1.0

    def test_the_floors(self) -> None:
        """A quick kernel has half a second, a second where a function may have to warm up."""
        timeouts = Timeouts(LIMIT)
        timeouts.add_hang(calls.DOT)
        assert timeouts.of(dot(1), first=False) == deaths.FLOOR_SECONDS
        assert timeouts.of(dot(1), first=True) == deaths.FLOOR_SECONDS
        many = replace(dot(1), repeat=100)
        timeouts.add_return(many, 0.1, first=False)
        assert timeouts.of(many, first=False) == deaths.MANY_FLOOR_SECONDS
        assert timeouts.of(sample(calls.DOT_REAL, 1), first=True) == deaths.FIRST_FLOOR_SECONDS


@pytest.mark.parametrize("died", [WorkerCrashed, WorkerHung])
def test_a_kernel_that_always_dies(died: type[SessionError]) -> None:
    """It dies a handful of times; the other cases are not run, and say why."""
    session = Mortal(lambda call, _: died if call.n else None)
    records = judged(session, "dot/")
    assert session.deaths <= 8 * HANDFUL  # of two functions, one of them with one row and with two
    assert sum(session.timeouts) <= LIMIT + 2 * HANDFUL
    assert {record.status for record in records if record.rule == "Q8A8-ENV-4"} == {Status.CRASHED}
    assert all(record.message for record in records if record.status is Status.NOT_RUN)


def test_a_kernel_that_dies_here_and_there() -> None:
    """It dies a handful of times in cases about the same rules, and not in all of them."""
    session = Mortal(lambda _, count: WorkerCrashed if count == 7 else None)
    records = judged(session, "dot/")
    rules = {case.rules for case in cases() if case.name.startswith("dot/")}
    assert HANDFUL < session.deaths <= 2 * HANDFUL * len(rules)
    assert len({record.case for record in records if record.status is Status.CRASHED}) <= session.deaths


@pytest.mark.parametrize(("hangs", "limit"), [(False, LIMIT), (True, deaths.CEILING_SECONDS)])
def test_the_ceiling_comes_with_a_hang(monkeypatch: pytest.MonkeyPatch, hangs: bool, limit: float) -> None:
    """Crashes that cost too much leave a call its time: on a busy machine that is no hang; a hang cuts it."""
    died = {(calls.DOT, 96): WorkerCrashed, (calls.DOT_REAL, 32): WorkerHung}
    session = Mortal(lambda call, _: died.get((call.function, call.n)))
    session.start_seconds = MAX_SECONDS + 1
    seen: list[float | None] = []
    make_call = session.call

    def watched(call: Call, timeout: float | None = None) -> Result:
        seen.append(timeout)
        return make_call(call, timeout)

    monkeypatch.setattr(session, "call", watched)
    target = Target(session, "kernel", LIMIT)  # type: ignore[arg-type]  # all of a session that it uses
    target.call(dot(1))
    with pytest.raises(KernelDiedError):
        target.call(dot(3))
    if hangs:
        with pytest.raises(KernelDiedError):
            target.call(sample(calls.DOT_REAL, 1))
    target.call(replace(dot(1), repeat=1000))
    assert seen[-1] == limit


def test_the_first_death_at_a_placement_is_explained() -> None:
    """However long a start takes, what dies where inputs are read-only breaks the rule about them."""
    session = Mortal(lambda call, _: WorkerCrashed if call.options & Option.READONLY else None)
    session.start_seconds = MAX_SECONDS + 1
    records = judged(session, "dot/exact/blocks-")
    assert {record.rule for record in records if record.status is Status.CRASHED} == {"Q8A8-MEM-3"}


def test_a_kernel_that_dies_on_long_rows_is_judged_on_short_ones() -> None:
    """Short rows pass, and the suite does not go on to try long ones."""
    session = Mortal(lambda call, _: WorkerCrashed if call.n >= 9 * 32 else None)
    records = judged(session, "dot/exact")
    assert HANDFUL <= session.deaths <= 2 * HANDFUL
    assert any("died in all calls with" in record.message for record in records)
    short = [record for record in records if record.case.endswith("-8")]
    assert short
    assert {record.status for record in short} == {Status.PASS}


def test_a_diagnosis_may_ask_again() -> None:
    """A call for the diagnosis is made whatever died before: it is what is shown as the smallest."""
    session = Mortal(lambda call, _: WorkerCrashed if call.n >= 64 else None)
    target = Target(session, "kernel", LIMIT)  # type: ignore[arg-type]
    for _ in range(HANDFUL):
        with pytest.raises(KernelDiedError):
            target.call(dot(2))
    with pytest.raises(NotRunError):
        target.call(dot(2))
    assert target.probe(dot(2)) is None
    assert target.probe(dot(1)) is not None


def test_wrong_results_are_not_asked_about() -> None:
    """A kernel that is wrong in every call of a long case is called about as often as a right one."""

    def calls_of(slug: str) -> int:
        session = InProcessSession(lambda: make(slug) if slug else make(), [calls.DOT])
        target = Target(session, "kernel", LIMIT)  # type: ignore[arg-type]
        (case,) = [case for case in cases() if case.name == "dot/bias/plain"]
        judge = Judge(target, Recipes(target), Recorder(), case.name, case.rules)
        case.check(judge=judge, **case.parameters)
        assert bool(judge.finish()) is bool(slug)
        return target.calls

    assert calls_of("") <= calls_of("scale-read-big-endian") < calls_of("") + 3 * KEPT


def test_what_is_not_made_is_not_announced() -> None:
    """Where placed calls die, only a few of them are announced: each kills a worker, made or not."""
    session = Announced()
    records = judged(session, "dot/bias/plain")
    assert any(record.status is Status.CRASHED for record in records)
    assert session.deaths <= 2 * HANDFUL
    assert session.lost <= 2 * HANDFUL


@pytest.mark.parametrize(("seconds", "starts"), [(0.0, range(9, 20)), (5.0, range(1, 4))])
def test_a_slow_start_is_seldom_paid(seconds: float, starts: range) -> None:
    """Where a start takes long, each function's first calls are made in few processes."""
    made = []

    def make_and_count() -> object:
        made.append(make())
        return made[-1]

    session = InProcessSession(make_and_count, [calls.DOT, calls.DOT_REAL])
    session.start_seconds = seconds
    for pattern in ("environment/first", "state/process"):
        judged(session, pattern)
    assert len(made) in starts
