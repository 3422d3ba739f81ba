"""A case is written only where its witnesses agree: this module asks them and compares.

exact        the output buffers of all three, byte for byte; what other recipes give, of oracle and reference
bound        the scalar order's bits of all three; the exact sum, the magnitude, and whether the floats at the
             bound's edges are inside, of oracle and reference
unspecified  oracle and reference refuse the inputs; the C kernel returns
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from q8a8_golden import oracle
from q8a8_golden.cases import Bound, Case, DotResult, Exact, Unspecified, filled
from q8a8_golden.edges import bound_edges
from q8a8_golden.generate.witness import OracleWitness, dot_rows, overlay

if TYPE_CHECKING:
    from collections.abc import Mapping

    from q8a8_golden.cases import Outcome, Outputs
    from q8a8_golden.generate.draft import Draft
    from q8a8_golden.generate.witness import Witness

__all__ = ["BoundWitness", "DisagreementError", "Witnesses", "settle"]


class DisagreementError(RuntimeError):
    """The truths differ about a case; the message names the case and what each of them says."""


class BoundWitness(Protocol):
    """A second opinion on the exact sum and the magnitude of a dot product, and on the bound."""

    name: str

    def sums(self, vx: bytes, vy: bytes, *, v2: bool) -> tuple[int, int, int]:
        """Give (exact sum, magnitude, m) of two rows: the first two as multiples of 2^-48."""

    def within(self, bits: int, vx: bytes, vy: bytes, *, v2: bool) -> bool:
        """Tell whether an f32 is within the bound of two rows."""


@dataclass(frozen=True)
class Witnesses:
    """Who vouches.

    Parameters
    ----------
    oracle
        Decides which bytes a call writes, and says which.
    reference
        The NumPy reference.
    bounds
        The NumPy reference's exact sums.
    kernel
        The C scalar kernel; None where there is none, which only a check may do.
    """

    oracle: OracleWitness
    reference: Witness
    bounds: BoundWitness
    kernel: Witness | None


def settle(draft: Draft, witnesses: Witnesses) -> Case:
    """Give the case of a draft: with its first function, and the outcome that all witnesses agree on.

    Raises
    ------
    DisagreementError
        They do not agree, for one of the draft's functions; or an ``exact`` dot is not exact in every order.
    """
    outcomes = [_outcome(draft, function, witnesses) for function in draft.functions]
    return Case(
        id=draft.id,
        function=draft.functions[0],
        rules=draft.rules,
        why=draft.why,
        args=draft.args,
        inputs=draft.inputs,
        outputs=draft.outputs,
        outcome=outcomes[0],
        before=draft.before,
    )


def _outcome(draft: Draft, function: str, witnesses: Witnesses) -> Outcome:
    before = filled(draft.outputs, draft.before)
    outputs = witnesses.oracle.outputs(draft, function)
    after = {witnesses.oracle.name: None if outputs is None else overlay(before, outputs)}
    after[witnesses.reference.name] = witnesses.reference.after(draft, function, before)
    if witnesses.kernel is not None:
        kernel_says = witnesses.kernel.after(draft, function, before)
        if draft.kind != "unspecified":
            after[witnesses.kernel.name] = kernel_says
    _require_agreement(f"{draft.id}, {function}", after)
    if (outputs is None) != (draft.kind == "unspecified"):
        raise DisagreementError(f"{draft.id}, {function}: drafted as {draft.kind}, the oracle says otherwise")
    if outputs is None:
        return Unspecified()
    if draft.kind == "bound":
        return _bound(draft, function, outputs, witnesses)
    if "s" in outputs:
        _require_exact_dots(draft, function)
    return Exact(outputs, _alternatives(draft, function, before, outputs, witnesses))


def _require_agreement(what: str, after: Mapping[str, object]) -> None:
    """Compare what the witnesses say; name the first thing that differs, with every value."""
    said = list(after.values())
    if all(one == said[0] for one in said):
        return
    raise DisagreementError(f"{what}: " + "; ".join(_differences(after)))


def _differences(after: Mapping[str, object]) -> list[str]:
    """Say for each witness what it has: of buffers, eight bytes from the first place where two differ."""
    buffers = {name: one for name, one in after.items() if isinstance(one, dict)}
    if len(buffers) < len(after):
        return [
            f"{name} {'gives values' if name in buffers else f'says {one}'}" for name, one in after.items()
        ]
    for key in next(iter(buffers.values())):
        values = [one[key] for one in buffers.values()]
        at = next((i for i, column in enumerate(zip(*values, strict=True)) if len(set(column)) > 1), None)
        if at is not None:
            return [
                f"{name} has {key}[{at}:] = {one[key][at : at + 8].hex()}" for name, one in buffers.items()
            ]
    return []


def _require_exact_dots(draft: Draft, function: str) -> None:
    for offset, vx, vy, v2 in dot_rows(draft, function):
        if not oracle.order_independent(vx, vy, v2=v2):
            raise DisagreementError(f"{draft.id}: drafted as exact, but s + {offset} depends on the order")


def _bound(draft: Draft, function: str, outputs: Outputs, witnesses: Witnesses) -> Bound:
    results = []
    for (offset, vx, vy, v2), run in zip(dot_rows(draft, function), outputs["s"], strict=True):
        m = len(vx) // (36 if v2 else 34) + oracle.LANE_FOLD_ROUNDINGS
        sums = (oracle.exact_dot(vx, vy, v2=v2), oracle.magnitude(vx, vy, v2=v2), m)
        said = {witnesses.oracle.name: sums, witnesses.bounds.name: witnesses.bounds.sums(vx, vy, v2=v2)}
        _require_agreement(f"{draft.id}, (exact sum, magnitude, m) at offset {offset}", said)
        bits = int.from_bytes(run.data, "little")
        if not oracle.within_bound(bits, *sums):
            raise DisagreementError(
                f"{draft.id}: the scalar order's {bits:08x} breaks the bound at offset {offset}"
            )
        edges = bound_edges(*sums)
        patterns = (*edges.inside, *edges.outside)
        verdicts: dict[str, object] = {
            witnesses.oracle.name: [oracle.within_bound(one, *sums) for one in patterns],
            witnesses.bounds.name: [witnesses.bounds.within(one, vx, vy, v2=v2) for one in patterns],
            "the edges' meaning": [True, True, False, False],
        }
        _require_agreement(f"{draft.id}, edges of the bound at offset {offset}", verdicts)
        results.append(DotResult(offset, bits, *sums, edges))
    return Bound(tuple(results))


def _alternatives(
    draft: Draft, function: str, before: Mapping[str, bytes], outputs: Outputs, witnesses: Witnesses
) -> dict[str, Outputs]:
    """Give what other recipes make of a quantizer's inputs, where they are defined and differ."""
    if not _quantizes(function):
        return {}
    alternatives = {}
    for recipe in oracle.RECIPES:
        runs = witnesses.oracle.outputs(draft, function, recipe)
        said: dict[str, object] = {
            witnesses.oracle.name: None if runs is None else overlay(before, runs),
            witnesses.reference.name: witnesses.reference.after(draft, function, before, recipe),
        }
        _require_agreement(f"{draft.id}, {function}, recipe {recipe}", said)
        if runs is not None and runs != outputs:
            alternatives[f"recipe:{recipe}"] = runs
    return alternatives


def _quantizes(function: str) -> bool:
    return function.startswith("quantize")
