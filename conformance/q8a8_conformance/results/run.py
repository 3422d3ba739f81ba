"""One finished run, as every report renders it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from q8a8_conformance.results.record import CallData, Record, Status, count, short_id
from q8a8_conformance.results.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from q8a8_conformance.protocol.messages import Hello
    from q8a8_conformance.results.bias import Bias
    from q8a8_conformance.results.bound_use import BoundUse
    from q8a8_conformance.results.setup import Stage
    from q8a8_conformance.results.verdict import Judgement

PROFILES = ("exact", "kernel", "ggml")
"""What counts as conforming: every bit; any order within the bound; ggml's recipes besides."""


@dataclass(frozen=True)
class Smallest:
    """The smallest input found on which a kernel goes wrong: a call, and in a line what its inputs hold.

    The call has no results where the kernel did not return.
    """

    call: CallData
    text: str


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis.

    Attributes
    ----------
    function
        The ABI function it is about.
    cause
        A slug: ``recipe:ggml-ref``, ``round-half-even``, ``order:neon-dotprod``, ``scalar``, ``scalar-fma``,
        ``fp16-scale-product``, ``block-not-counted``.
    explained, of
        How many of the function's results (blocks of a quantizer, floats of a dot product) the cause
        reproduces, of how many. For a recipe and for an order these are all results, the right ones too; for
        mistakes and facts, the wrong ones.
    fix
        What to change, in one sentence; empty where nothing is wrong.
    detail
        Further words, such as the orders that give the same bits.
    nrc
        Rows at a time of the dot products that it is about; 1 for what one and two rows share.
    orders
        Names (of `q8a8.ORDERS`) of the accumulation orders in it, the likeliest first: the one that is the
        cause and those that give the same bits, or the nearest.
    smallest
        For what is not explained, the smallest input on which it shows.
    fact, where
        What an experiment measured: a slug, and its parameters as JSON data; empty where none was made.
    rule, sentence
        The full id of the rule that the fact breaks, and what the kernel does, in its author's terms.
    evidence
        The calls that show the fact, the smallest first.
    revealed
        For an order that is not in the catalogue, what experiments on the kernel show: as ``q8a8 reveal
        --json`` has it for a function.
    """

    function: str
    cause: str
    explained: int
    of: int
    fix: str = ""
    detail: str = ""
    nrc: int = 1
    orders: tuple[str, ...] = ()
    smallest: Smallest | None = None
    fact: str = ""
    where: Mapping[str, Any] = field(default_factory=dict)
    rule: str = ""
    sentence: str = ""
    evidence: tuple[Smallest, ...] = ()
    revealed: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Notice:
    """A warning: something that a kernel should not do, and what it means for its callers.

    Attributes
    ----------
    slug
        ``load:flush-mode``, ``init:signal-mask``, ``process:left``.
    function, case
        The ABI function, or ``the library``; and the case that showed it.
    message
        What was found, and its effect.
    """

    slug: str
    function: str
    case: str
    message: str


@dataclass(frozen=True)
class Request:
    """What a run was asked to judge: enough to run it again."""

    sut: str
    profile: str = "kernel"
    symbols: tuple[str, ...] = ()
    init: str | None = None
    rules: str | None = None
    case: str | None = None
    timeout: float | None = None

    def command(self, *, case: str | None = None) -> str:
        """Return the shell command that runs this again, or one case of it."""
        words = ["q8a8", "test", self.sut]
        if self.profile != "kernel":
            words += ["--profile", self.profile]
        for symbol in self.symbols:
            words += ["--symbol", symbol]
        if self.init is not None:
            words += ["--init", self.init]
        if self.timeout is not None:
            words += ["--timeout", f"{self.timeout:g}"]
        if self.rules is not None:
            words += ["--rules", self.rules]
        case = case if case is not None else self.case
        if case is not None:
            words += ["--case", case]
        return shlex.join(words)


@dataclass(frozen=True)
class Run:
    """Everything a report may say.

    Attributes
    ----------
    request
        What was asked for.
    judgement
        The verdict, the rules, the failures.
    diagnosis
        The likely causes.
    hello
        What the worker reported of itself at the start; None where none started.
    message
        Why the run has no verdict on the kernel, or nothing ran.
    setup
        What the questions about the kernel's setup, with which a run begins, found wrong.
    complete
        Whether every case that was asked for ran, or has its reason in the kernel or its worker.
    notes
        Things a reader should know that are no failures (a recipe accepted by the profile, say).
    bound
        Where in the bound the results of each function lie.
    warnings
        What is within the rules and should not go unseen: errors that all lean to one side, effects of
        loading.
    version, manifest
        Of this suite, and the SHA-256 of the golden vectors' manifest.
    started, seconds, calls, call_seconds
        ISO 8601 UTC time of the start; wall time; calls of the kernel and the time spent in them.
    overlap_seconds, stops
        The time in which calls of several threads were in progress; how many of them were stopped in the
        middle until each other thread had made one.
    records
        Every record, for reports that count cases.
    """

    request: Request
    judgement: Judgement
    diagnosis: tuple[Finding, ...] = ()
    hello: Hello | None = None
    message: str = ""
    setup: tuple[Stage, ...] = ()
    complete: bool = True
    notes: tuple[str, ...] = ()
    bound: tuple[BoundUse, ...] = ()
    warnings: tuple[Bias | Notice, ...] = ()
    version: str = ""
    manifest: str = ""
    started: str = ""
    seconds: float = 0.0
    calls: int = 0
    call_seconds: float = 0.0
    overlap_seconds: float = 0.0
    stops: int = 0
    records: Sequence[Record] = ()

    def again(self, record: Record) -> str:
        """Return the command that runs one record's case again.

        It does not name the record's rule: a case may break one that it is not about, and is not run for it.
        """
        return self.request.command(case=record.case)

    def overlap(self) -> str:
        """Describe how far calls of several threads overlapped; empty where there were none."""
        if not self.overlap_seconds:
            return ""
        return (
            f"threads: calls overlapped for {1000 * self.overlap_seconds:.0f} ms; "
            f"{self.stops} were stopped in the middle until each other thread had made one"
        )

    def not_run(self) -> dict[str, int]:
        """Count the cases that did not run, by reason."""
        reasons: dict[str, set[str]] = {}
        for record in self.records:
            if record.status is Status.NOT_RUN:
                reasons.setdefault(record.message, set()).add(record.case)
        return {reason: len(cases) for reason, cases in reasons.items()}

    def summary(self) -> str:
        """Return the verdict and what it rests on, in one line."""
        return f"{self.judgement.words}: {self.basis()}"

    def basis(self) -> str:
        """Return what the verdict rests on, in one line."""
        judgement = self.judgement
        ran = [rule for rule in judgement.rules if rule.status is not Status.NOT_RUN]
        cases = len({record.case for record in self.records if record.status is not Status.NOT_RUN})
        failing = [rule for rule in ran if rule.failed > rule.known]
        judged, done = count(len(ran), "rule"), count(cases, "case")
        parts = [f"{judged} judged, {len(judgement.rules) - len(ran)} not run, {done}"]
        if failing:
            names = ", ".join(short_id(rule.id) for rule in failing[:8])
            more = f" and {len(failing) - 8} more" if len(failing) > 8 else ""
            parts.append(f"failed: {names}{more}")
        if judgement.known and judgement.verdict is not Verdict.CONFORMS:
            parts.append(f"{len(judgement.known)} known failures")
        if judgement.stale:
            parts.append(f"{len(judgement.stale)} known failures no longer fail")
        if self.message:
            parts.append(" ".join(self.message.split()))
        parts.append(f"{self.seconds:.1f} s")
        return "; ".join(parts)
