"""What it means for a program that loading a kernel has changed its process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from q8a8_conformance.protocol.messages import LoadChange

MODES, LOADING = "Q8A8-ENV-1", "Q8A8-ENV-9"
_THREADS = "of the loading thread, and of the threads that it starts,"


@dataclass(frozen=True)
class Effect:
    """The rule that a change breaks, its name in a sentence, and its effect."""

    rule: str
    name: str
    effect: str


EFFECTS: Mapping[str, Effect] = {
    "rounding-mode": Effect(
        MODES,
        "the rounding mode",
        f"every later float operation {_THREADS} rounds in another direction or to another precision",
    ),
    "flush-mode": Effect(
        MODES,
        "the flush-to-zero bits",
        f"every later float operation {_THREADS} takes subnormal numbers for zero, in all code; linking with "
        "-Ofast or -ffast-math does this (it adds crtfastmath.o): drop the option when linking",
    ),
    "trap-masks": Effect(
        MODES,
        "the exception masks",
        f"a later division by zero, overflow or NaN {_THREADS} ends the program with SIGFPE",
    ),
    "signal-mask": Effect(
        LOADING,
        "the signal mask",
        "a blocked signal no longer reaches the program: Ctrl-C or a request to terminate is ignored",
    ),
    "signal-handlers": Effect(
        LOADING,
        "signal handlers",
        "the program's own reaction to these signals is replaced: Ctrl-C, a closed pipe or its crash report",
    ),
    "locale": Effect(
        LOADING,
        "the locale",
        "printf, scanf and strtod of the whole program may use another decimal point and character set",
    ),
    "working-directory": Effect(
        LOADING, "the working directory", "the program no longer finds files by relative paths"
    ),
    "umask": Effect(
        LOADING, "the file mode mask", "files that the program creates later have other permissions"
    ),
    "resource-limits": Effect(
        LOADING,
        "resource limits",
        "the program fails at limits that it did not set, as its child processes do",
    ),
    "cpu-affinity": Effect(
        LOADING, "the CPU affinity", f"all work {_THREADS} is confined to other processors"
    ),
    "standard-output": Effect(
        LOADING,
        "standard output",
        "what the program writes there for others to read (a result, a protocol) has foreign lines in it",
    ),
    "threads": Effect(
        LOADING,
        "the threads",
        "one that remains takes processor time, is lost by fork, and crashes the program when the library is "
        "unloaded",
    ),
    "descriptors": Effect(
        LOADING, "open descriptors", "they count toward the program's limit and are inherited by its children"
    ),
}
"""By slug of `LoadChange.what`."""

_WHEN = {"load": "loading the library", "init": "the --init function"}


def describe(change: LoadChange, *, flushing: bool = False) -> tuple[str, str]:
    """Return the rule that a change breaks, and a sentence about the change and its effect.

    With `flushing`, the program had set flush modes before.
    """
    known = EFFECTS.get(change.what, Effect(LOADING, change.what, "the program is not asked"))
    detail = f" ({change.detail})" if change.detail else ""
    said = f"{_WHEN.get(change.when, change.when)} changed {known.name}{detail}"
    if flushing:
        return known.rule, f"where flush modes are set, {said}: what the program has chosen is lost"
    return known.rule, f"{said}: {known.effect}"
