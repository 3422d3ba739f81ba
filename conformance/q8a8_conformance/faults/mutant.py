"""Mutants and legal kernels as data, and kernels built from them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from q8a8_conformance.faults.kernel import FUNCTIONS_OF_STEP, PLAIN, Around, Kernel, Step
from q8a8_conformance.spec.abi import NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


class ConflictError(ValueError):
    """Two mistakes cannot be made at once: they change the same step of the same function."""


@dataclass(frozen=True)
class Change:
    """A change of the specification's kernel: what mutants and legal kernels have in common.

    Attributes
    ----------
    slug
        Its name: lower case, words joined by hyphens.
    sentence
        What it does, in one sentence.
    changes
        Functions that take the place of steps, by the steps' names.
    functions
        The functions of the C interface that it concerns; all that take the changed steps, unless given.
    around
        Returns what wraps the calls of these functions, with its own state, for each kernel.
    """

    slug: str
    sentence: str
    changes: Mapping[str, Step] = field(default_factory=dict)
    functions: tuple[str, ...] = ()
    around: Callable[[], Around] | None = None

    def __post_init__(self) -> None:
        """Fill in the functions, in the ABI's order."""
        taken = {name for step in self.changes for name in FUNCTIONS_OF_STEP[step]}
        if not self.functions:
            object.__setattr__(self, "functions", tuple(name for name in NAMES if name in taken))
        if not self.functions or not set(self.functions) <= set(NAMES):
            raise ValueError(f"{self.slug}: concerns the functions {self.functions}")


@dataclass(frozen=True)
class Mutant(Change):
    """A wrong kernel.

    Attributes
    ----------
    rule
        The full id of the rule that it breaks first of all.
    fix
        What to do about it, in one sentence.
    forms
        The forms of the mistake that exchange the operands, or take one of them alone: changes by the form's
        name. `changes` is one of them, or all at once.
    seen
        Where such a bug was really seen; None where it is only plausible.
    separate_process
        Whether it must run in a process of its own: it may crash or hang.
    """

    rule: str = field(default="", kw_only=True)
    fix: str = field(default="", kw_only=True)
    forms: Mapping[str, Mapping[str, Step]] = field(default_factory=dict, kw_only=True)
    seen: str | None = field(default=None, kw_only=True)
    separate_process: bool = field(default=False, kw_only=True)


@dataclass(frozen=True)
class Legal(Change):
    """A kernel that differs from the reference and conforms.

    Attributes
    ----------
    why
        Why it conforms: the rule, or the proof.
    """

    why: str = field(default="", kw_only=True)


def build(changes: Iterable[Change]) -> Kernel:
    """Return a kernel with all of these changes.

    Raises
    ------
    ConflictError
        Two of them change the same step of a function.
    """
    steps: dict[str, dict[str, Step]] = defaultdict(dict)
    arounds: list[Around] = []
    for change in changes:
        for function in change.functions:
            for step, by in change.changes.items():
                if function not in FUNCTIONS_OF_STEP[step]:
                    continue
                if step in steps[function]:
                    raise ConflictError(f"{change.slug}: {step} of {function} is changed already")
                steps[function][step] = by
        if change.around is not None:
            arounds.append(_only(change.around(), change.functions))
    return Kernel({function: replace(PLAIN, **changed) for function, changed in steps.items()}, arounds)


def _only(around: Around, functions: tuple[str, ...]) -> Around:
    """Wrap the calls of some functions alone."""

    def only(call: Callable[[], None], function: str, arguments: object) -> None:
        if function in functions:
            around(call, function, arguments)  # type: ignore[arg-type]  # as it came
        else:
            call()

    return only
