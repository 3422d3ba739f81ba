"""The mutants that each golden case kills by itself, and those that no golden case can show.

A case is one call with given bytes. It *kills* a mutant if a kernel with this one mistake, which has made no
call before, does not do what the case asks (`q8a8_golden.conform.conforms`), changes an input, raises an
exception, or does not return; its outputs hold poison before the call, or the case's own bytes. Other recipes
do not conform. What only guard pages, a watched processor or a second call can see is no kill: whoever uses
the vectors without this suite has the bytes alone.

The C mutants (`q8a8_lab.mutation.native`) are left out: most are for one processor, and the files must not
depend on the machine that wrote them.
"""

from __future__ import annotations

import contextlib
import io
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

from q8a8_conformance.faults.catalogue import MUTANTS, make
from q8a8_conformance.faults.in_process import InProcessSession
from q8a8_conformance.protocol.messages import Buffer, Call, Fault
from q8a8_conformance.protocol.session import CallRefused, WorkerCrashed, WorkerHung
from q8a8_conformance.protocol.sut import parse_sut
from q8a8_conformance.spec.abi import MATRIX_PRODUCT, NAMES, get_function
from q8a8_golden.conform import conforms

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from q8a8_conformance.protocol.messages import Result
    from q8a8_conformance.protocol.session import Session
    from q8a8_golden.cases import Case

__all__ = ["UNSHOWN", "MutantKiller"]

TIMEOUT_SECONDS = 5.0
"""After this a call counts as one that never returns: so long that a busy machine kills no mutant."""

_UNSHOWN = {
    "half-table-entry-of-y1": "the one wrong entry is in no golden case",
    "remembered-by-sum": "the call before decides; a case is one call",
    "infinity-spoils-later": "the call before decides; a case is one call",
    "huge-scale-table-entry": "the one wrong entry is in no golden case",
    "tail-after-odd-tile-lost": "only longer rows than those of the golden cases show it",
    "matrix-infinity-stops": "no golden case compares the rows beside an infinity",
    "matrix-repacked-by-samples": "the call before decides; a case is one call",
    "matrix-flush-in-tiles": "the outputs are right unless the modes flush; a case sets none",
    "matrix-scale-entry": "the one wrong scale is in no golden case",
    "matrix-half-table-entry": "the one wrong entry is in no golden case",
    "matrix-product-table-entry": "the one wrong entry is in no golden case",
    "activation-first-8192": "only longer rows than those of the golden cases show it",
    "address-masked": "where the input lies decides; a case says what is in a buffer, not where it is",
    "alignment-asserted": ("where the input lies decides; a case says what is in a buffer, not where it is"),
    "bs-in-eight-bits": "the golden cases' results are close together",
    "count-of-sixteen-bits": "only longer rows than those of the golden cases show it",
    "dequantize-count-of-sixteen-bits": "only longer rows than those of the golden cases show it",
    "descriptor-leaked": "the outputs are right; the process is no bytes of a case",
    "directory-changed": "the outputs are right; the process is no bytes of a case",
    "errno-of-the-caller": "what errno holds is no bytes of a case",
    "equal-strides-packed": "a gap between rows with two equal strides is in no golden case",
    "every-fourth-call": "the first call is right; a case is one call",
    "matrix-activations-remembered": "the first call is right; a case is one call",
    "float-products": "only rows on which small terms are lost show it",
    "flush-mode-left": "the outputs are right; the processor's modes are no bytes of a case",
    "half-table-entry": "the one wrong entry is in no golden case",
    "half-through-subnormal-float": "the outputs are right unless the modes flush; a case sets none",
    "input-as-scratch": "the input is put back before the call returns",
    "matrix-edge-otherwise": "the order is another, within the bound",
    "matrix-k-in-sixteen-bits": "only longer rows than those of the golden cases show it",
    "matrix-m-in-sixteen-bits": "only more rows than those of the golden cases show it",
    "matrix-n-in-sixteen-bits": "only more rows than those of the golden cases show it",
    "matrix-nan-spreads": "no golden case compares the rows beside a NaN",
    "matrix-one-row-otherwise": "the order is another, within the bound",
    "matrix-repacked-by-address": "the call before decides; a case is one call",
    "matrix-split-k": "the order is another, within the bound",
    "nan-reads-behind": "what is read there is not used; only guarded memory shows it",
    "nan-spoils-next": "no golden case compares the blocks beside a NaN",
    "over-read-before": "what is read there is not used; only guarded memory shows it",
    "over-read-byte": "what is read there is not used; only guarded memory shows it",
    "over-read-remainder": "what is read there is not used; only guarded memory shows it",
    "over-read-vector": "what is read there is not used; only guarded memory shows it",
    "product-table-entry": "the one wrong entry is in no golden case",
    "quantize-tile-tail-lost": "only longer rows than those of the golden cases show it",
    "registers-of-another": "the call before decides; a case is one call",
    "rounding-mode-left": "the outputs are right; the processor's modes are no bytes of a case",
    "same-pointer-symmetric": "a case's rows lie in buffers of their own",
    "scale-of-six-up": "the one wrong scale is in no golden case",
    "scratch-of-all-threads": "a call that runs alone is right",
    "scratch-of-another": "the call before decides; a case is one call",
    "short-tail-after-tile-lost": "only longer rows than those of the golden cases show it",
    "strides-in-sixteen-bits": "the golden cases' rows are close together",
    "truncating-accumulator": "only rows on which small terms are lost show it",
}
UNSHOWN: Mapping[str, str] = MappingProxyType(dict(sorted(_UNSHOWN.items())))
"""The mutants that no golden case can show, by slug, and why; other checks of the suite catch them."""


def _call_of(case: Case) -> Call:
    """Return a case's call; the suite's own function reads the files when it is imported."""
    held = {**case.inputs, **case.poisoned()}
    n = next(case.args[name] for name in ("k", "n", "size") if name in case.args)
    buffers = tuple(Buffer(held[buffer.name]) for buffer in get_function(case.function).buffers)
    bs, bx, by, nrc = (case.args.get(name, int(name == "nrc")) for name in ("bs", "bx", "by", "nrc"))
    if case.function == MATRIX_PRODUCT:
        bs, bx = case.args["m"], case.args["n"]
    return Call(case.function, n, buffers, bs, bx, by, nrc)


class _FreshKernel:
    """A kernel that is created for every call: no state outlives a call."""

    def __init__(self) -> None:
        self.slug = ""

    def __getattr__(self, name: str) -> object:
        """Return a method of a new kernel."""
        if name not in NAMES:
            raise AttributeError(name)
        return getattr(make(*[self.slug] if self.slug else []), name)


class MutantKiller:
    """Runs every mutant on golden cases; a context manager, which ends the workers of those that may crash.

    >>> from q8a8_golden import load_cases
    >>> with MutantKiller() as kills:
    ...     kills(next(case for case in load_cases() if case.id == "quantize/ties/just-below-half/row"))[:2]
    ('amax-last-skipped', 'amax-sixteen-elements')
    """

    def __init__(self) -> None:
        self._kernel = _FreshKernel()
        self._here = InProcessSession(lambda: self._kernel, NAMES)
        self._apart: dict[str, Session] = {}

    def __enter__(self) -> Self:
        """Return the killer itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the workers."""
        for session in self._apart.values():
            session.close()
        self._here.close()

    def __call__(self, case: Case) -> tuple[str, ...]:
        """Return the slugs, sorted, of the mutants that a case kills."""
        call = _call_of(case)
        return tuple(
            slug
            for slug, mutant in sorted(MUTANTS.items())
            if case.function in mutant.functions and self.shows(case, slug, call)
        )

    def shows(self, case: Case, slug: str, call: Call | None = None) -> bool:
        """Return whether a case kills one mutant; an empty slug is the specification."""
        call = call or _call_of(case)
        try:
            result = self._ask(slug)(call)
        except (CallRefused, WorkerCrashed, WorkerHung):
            return True
        outputs = [call.spec.buffers[index].name for index in call.spec.outputs]
        after = dict(zip(outputs, result.outputs, strict=True))
        return Fault.INPUT_WRITTEN in result.faults or not conforms(case, after)

    def _ask(self, slug: str) -> Callable[[Call], Result]:
        """Return a function that calls a mutant: in this process, or in a worker if it may crash or hang.

        Those that get a worker keep nothing from call to call, so a worker serves many calls.
        """
        if slug and MUTANTS[slug].separate_process:
            if slug not in self._apart:
                self._apart[slug] = parse_sut(
                    f"py:q8a8_conformance.mutants:{slug.replace('-', '_')}"
                ).session(TIMEOUT_SECONDS)
            return self._apart[slug].call

        def here(call: Call) -> Result:
            self._kernel.slug = slug
            with contextlib.redirect_stderr(io.StringIO()):  # (a kernel that raises leaves a traceback)
                return self._here.call(call)

        return here
