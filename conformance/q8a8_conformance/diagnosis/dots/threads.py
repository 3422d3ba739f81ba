"""What calls of other threads make wrong: a failed call again, with one thing changed at a time.

Which call the other threads make shows what is shared, the least number of threads how many have memory of
their own, and a new process whether it is the first call alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from q8a8_conformance.diagnosis.facts import Evidence, Fact
from q8a8_conformance.faults.catalogue import MUTANTS
from q8a8_conformance.inputs.calls import ACTIVATION
from q8a8_conformance.inputs.samples import call_of, other_values
from q8a8_conformance.protocol.messages import NO_OPTIONS, Fault, Together
from q8a8_conformance.spec.abi import ROW_FUNCTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from q8a8_conformance.protocol.messages import Call, Result

    Ask = Callable[[Call], Result | None]

TRIES, ROUNDS, MILLISECONDS = 3, 25, 8
"""How often a call of several threads is made before it counts as right, and how long threads call."""

AGAIN = 6
"""How often a call is made from another thread that is to be wrong in the same way each time."""

THREADS = (2, 3, 5, 9, 16)
"""Numbers of threads that are tried; more than a power of two share its slots."""

LENGTHS = (1, 2, 4, 8, 16, 32)
"""Blocks, or tens of elements, of the rows that show from which length on memory is shared."""

SCRATCH = MUTANTS["scratch-of-all-threads"]


@dataclass(frozen=True)
class _Wrong:
    """A call of several threads that is wrong: its results alone, what came, and where they differ."""

    call: Call
    alone: tuple[bytes, ...]
    outputs: tuple[bytes, ...]
    detail: str

    def evidence(self, text: str) -> Evidence:
        """Return the call with what it gives; with words alone where another thread's results differ."""
        if self.outputs == self.alone:
            return Evidence(self.call, (), (), f"{text}: {self.detail}")
        return Evidence(self.call, self.alone, self.outputs, text)


def of_threads(failed: Sequence[Call], ask: Ask, restart: Callable[[], object] | None = None) -> Fact | None:
    """Find what makes one function's calls of several threads wrong that are right by themselves.

    `ask` makes a call: what the worker answers, or None where it did not return. Without `restart`, which
    ends the kernel's process, first calls are not made. None where no call, of one at least, is wrong again.
    """
    running = [call for call in failed if not (call.together and call.together.fresh)]
    for call in sorted(running, key=lambda one: (one.threads, one.n)):
        if wrong := _wrong(call, ask):
            return _in_one_thread(wrong, ask) or _while_others_call(wrong, ask)
    if restart is None:
        return None

    def ask_first(call: Call) -> Result | None:
        restart()
        return ask(call)

    for call in failed:
        if call.together and call.together.fresh and (wrong := _wrong(call, ask_first)):
            return _in_first_calls(wrong)
    return None


def _wrong(call: Call, ask: Ask) -> _Wrong | None:
    """Return a call that is wrong from several threads; None where it is right each time."""
    together = Together(fresh=1) if call.together and call.together.fresh else None
    alone = ask(replace(call, threads=1, repeat=1, together=together, options=NO_OPTIONS))
    for _ in range(TRIES if alone else 0):
        result = ask(call)
        if alone and result and result.outputs != alone.outputs:
            return _Wrong(call, alone.outputs, result.outputs, "")
        if alone and result and Fault.THREAD_RESULT_VARIES in result.faults:
            lines = [one for one in result.detail.splitlines() if " varies" in one] or [""]
            if (other := _only_other(call, lines)) and (wrong := _wrong(other, ask)):
                return wrong
            return _Wrong(call, alone.outputs, result.outputs, lines[0])
    return None


def _only_other(call: Call, lines: Sequence[str]) -> Call | None:
    """Return the other threads' call, beside this one, where theirs alone are the results that vary."""
    other = call.together.other if call.together else None
    if not (call.together and other) or any(f"({other.function})" not in line for line in lines):
        return None
    mine = replace(call, threads=1, repeat=1, together=None)
    return replace(
        other, threads=call.threads, repeat=call.repeat, together=replace(call.together, other=mine)
    )


def _beside(call: Call, other: Call, threads: int) -> Call:
    """Return a call of so many threads, of which every second one makes another call."""
    together = Together(MILLISECONDS, other=replace(other, threads=1, repeat=1, together=None))
    return replace(call, threads=threads, repeat=ROUNDS, together=together)


def _in_one_thread(wrong: _Wrong, ask: Ask) -> Fact | None:
    """Return the fact that a call is wrong, always the same, in all threads but the one of the first call."""
    plain = replace(wrong.call, threads=2, repeat=1, together=None, options=NO_OPTIONS)
    results = [ask(plain) for _ in range(AGAIN)]
    first = results[0]
    if first is None or first.outputs == wrong.alone or any(result != first for result in results):
        return None
    function = plain.function
    return Fact(
        "prepared-in-one-thread",
        {"threads": 2},
        "Q8A8-ENV-3",
        "A call is right in the thread that made the first one and wrong, always the same, in any other: "
        "what the first call prepares is memory of its thread alone.",
        "Prepare it in each thread (ask a flag of the thread's own), or once for all of them (call_once).",
        "",
        function=function,
        evidence=(Evidence(plain, wrong.alone, first.outputs, "a thread that did not make the first call"),),
        nrc=plain.nrc,
    )


def _while_others_call(wrong: _Wrong, ask: Ask) -> Fact:
    """Return the fact about a call that is wrong while other threads call."""
    call, function = wrong.call, wrong.call.function
    other = call.together.other if call.together else None
    if other is None:
        return _fact(wrong, (), "race-between-threads", {"threads": call.threads}, "")
    seen, where = [wrong], dict[str, Any]()
    threads = next(
        (n for n in THREADS if n < call.threads and _wrong(_beside(call, other, n), ask)), call.threads
    )
    where["threads"] = threads
    if same := _wrong(_beside(call, call, threads), ask):
        return _fact(same, (), "race-between-threads", {**where, "beside": "the same call"}, "")
    beside = f"a call of {other.function}" if other.function != function else "another call of the function"
    where["beside"] = other.function
    words = f" beside {beside}, and right beside the same call"
    for count in LENGTHS if other.function == function and function in ROW_FUNCTIONS else ():
        short = count * 10 if function == ACTIVATION else count
        mine, others = (make(function, short, call.nrc) for make in (call_of, other_values))
        if least := _wrong(_beside(mine, others, threads), ask):
            seen, where["least"] = [least, wrong], short
            if count > 1:
                words += f", in rows of {short} {'elements' if function == ACTIVATION else 'blocks'} or more"
            break
    if threads > THREADS[0]:
        where["right_with"] = max(n for n in THREADS if n < threads)
    return _fact(seen[0], seen[1:], "shared-by-threads", where, words)


def _fact(wrong: _Wrong, more: Sequence[_Wrong], fact: str, where: dict[str, Any], words: str) -> Fact:
    """Return a fact about calls that are wrong while other threads call."""
    function = wrong.call.function
    if fact == "shared-by-threads":
        right = f" (and not yet {where['right_with']})" if "right_with" in where else ""
        sentence = f"From {where['threads']} threads on{right} they share memory: a result is wrong{words}."
        fix = "Keep scratch memory on the stack, or one in each thread (thread_local): not static."
    else:
        sentence = f"From {where['threads']} threads on a result is not the one of a single thread."
        fix = "Write nothing that threads share; where it cannot be avoided, lock it for the whole call."
    cause = SCRATCH.slug if function in SCRATCH.functions else ""
    texts = [f"{one.call.threads} threads" for one in (wrong, *more)]
    evidence = tuple(one.evidence(text) for one, text in zip((wrong, *more), texts, strict=True))
    named = (fact, where, "Q8A8-ENV-3", sentence, fix, cause)
    return Fact(*named, function=function, evidence=evidence, nrc=wrong.call.nrc)


def _in_first_calls(wrong: _Wrong) -> Fact:
    """Return the fact about a call that is wrong as the first one of a process alone."""
    threads = wrong.call.threads
    return Fact(
        "race-of-first-calls",
        {"threads": threads},
        "Q8A8-ENV-3",
        f"Where {threads} threads make the first call of a process, a result is wrong, and right later: "
        "what the first call makes is used before it is ready.",
        "Make tables when compiling, or by call_once (pthread_once): set no flag before they are ready.",
        "",
        function=wrong.call.function,
        evidence=(wrong.evidence(f"the first call of a process, by {threads} threads"),),
    )
