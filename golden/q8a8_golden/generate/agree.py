"""Agreement of the independent implementations on a case, without which it is not written.

exact        the output buffers of all three, byte for byte; the results of other recipes by oracle and
             reference
bound        the scalar order's bits of all three; by oracle and reference, the exact sum, the magnitude, and
             whether the floats at the bound's edges are inside; of a product, that every recipe quantizes x
             to the same bytes
unspecified  oracle and reference refuse the inputs; the C kernel returns
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from q8a8_golden import oracle
from q8a8_golden.cases import Bound, Case, DotResult, Exact, Unspecified, filled
from q8a8_golden.edges import bound_edges
from q8a8_golden.generate.implementations import OracleImplementation, dot_rows, overlay, product_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from q8a8_golden.cases import Outcome, Outputs
    from q8a8_golden.generate.draft import Draft
    from q8a8_golden.generate.implementations import Implementation

__all__ = ["BoundImplementation", "DisagreementError", "Implementations", "agreed_case"]


class DisagreementError(RuntimeError):
    """The implementations disagree on a case; the message has the case and the result of each."""


class BoundImplementation(Protocol):
    """An implementation of a dot product's exact sum, magnitude and bound."""

    name: str

    def sums(self, vx: bytes, vy: bytes, *, v2: bool) -> tuple[int, int, int]:
        """Return (exact sum, magnitude, m) of two rows: the first two as multiples of 2^-48."""

    def within(self, bits: int, vx: bytes, vy: bytes, *, v2: bool) -> bool:
        """Return whether an f32 is within the bound of two rows."""


@dataclass(frozen=True)
class Implementations:
    """The independent implementations.

    Parameters
    ----------
    oracle
        The exact oracle, which also determines the bytes that a call writes.
    reference
        The NumPy reference.
    bounds
        The NumPy reference's exact sums.
    kernel
        The C scalar kernel; None if there is none, which is allowed in a check only.
    """

    oracle: OracleImplementation
    reference: Implementation
    bounds: BoundImplementation
    kernel: Implementation | None


def agreed_case(draft: Draft, implementations: Implementations) -> Case:
    """Return the case of a draft, for its first function, with the outcome that all implementations agree on.

    Raises
    ------
    DisagreementError
        They disagree for one of the draft's functions, an ``exact`` dot product is not exact in every order,
        or recipes quantize the activations of a ``bound`` product to different bytes.
    """
    outcomes = [_outcome(draft, function, implementations) for function in draft.functions]
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


def _outcome(draft: Draft, function: str, implementations: Implementations) -> Outcome:
    before = filled(draft.outputs, draft.before)
    outputs = implementations.oracle.outputs(draft, function)
    after = {implementations.oracle.name: None if outputs is None else overlay(before, outputs)}
    after[implementations.reference.name] = implementations.reference.after(draft, function, before)
    if implementations.kernel is not None:
        kernel_after = implementations.kernel.after(draft, function, before)
        if draft.kind != "unspecified":
            after[implementations.kernel.name] = kernel_after
    _require_agreement(f"{draft.id}, {function}", after)
    if (outputs is None) != (draft.kind == "unspecified"):
        raise DisagreementError(
            f"{draft.id}, {function}: drafted as {draft.kind}, which the oracle contradicts"
        )
    if outputs is None:
        return Unspecified()
    if draft.kind == "bound":
        return _bound(draft, function, overlay(before, outputs), implementations)
    if "s" in outputs or "out" in outputs:
        _require_exact_dots(draft, function)
    return Exact(outputs, _alternatives(draft, function, before, outputs, implementations))


def _require_agreement(what: str, after: Mapping[str, object]) -> None:
    """Raise unless all results are equal, with the first difference and every value."""
    results = list(after.values())
    if all(one == results[0] for one in results):
        return
    raise DisagreementError(f"{what}: " + "; ".join(_differences(after)))


def _differences(after: Mapping[str, object]) -> list[str]:
    """Describe each result: for buffers, eight bytes from the first position where two differ."""
    buffers = {name: one for name, one in after.items() if isinstance(one, dict)}
    if len(buffers) < len(after):
        return [f"{name} returns {'values' if name in buffers else one}" for name, one in after.items()]
    for key in next(iter(buffers.values())):
        values = [one[key] for one in buffers.values()]
        at = next((i for i, column in enumerate(zip(*values, strict=True)) if len(set(column)) > 1), None)
        if at is not None:
            return [
                f"{name} has {key}[{at}:] = {one[key][at : at + 8].hex()}" for name, one in buffers.items()
            ]
    return []


def _require_exact_dots(draft: Draft, function: str) -> None:
    (name,) = draft.outputs
    for offset, vx, vy, v2 in _rows(draft, function):
        if not oracle.order_independent(vx, vy, v2=v2):
            raise DisagreementError(
                f"{draft.id}: drafted as exact, but {name} + {offset} depends on the order"
            )


def _rows(draft: Draft, function: str) -> list[tuple[int, bytes, bytes, bool]]:
    """Return (offset, row of x, row of y, version 2) of each float: of a product, row of w and of x."""
    if "vx" in draft.inputs:
        return dot_rows(draft, function)
    return [(4 * place, w, x, False) for place, (w, x) in enumerate(product_rows(draft) or [])]


def _bound(
    draft: Draft, function: str, after: Mapping[str, bytes], implementations: Implementations
) -> Bound:
    (name,) = draft.outputs
    if _quantizes(function):
        found = {recipe: product_rows(draft, recipe) for recipe in oracle.RECIPES}
        _require_agreement(f"{draft.id}, quantized rows of the recipes", found)
    results = []
    for offset, vx, vy, v2 in _rows(draft, function):
        m = len(vx) // (36 if v2 else 34) + oracle.LANE_FOLD_ROUNDINGS
        sums = (oracle.exact_dot(vx, vy, v2=v2), oracle.magnitude(vx, vy, v2=v2), m)
        both = {
            implementations.oracle.name: sums,
            implementations.bounds.name: implementations.bounds.sums(vx, vy, v2=v2),
        }
        _require_agreement(f"{draft.id}, (exact sum, magnitude, m) at offset {offset}", both)
        bits = int.from_bytes(after[name][offset : offset + 4], "little")
        if not oracle.within_bound(bits, *sums):
            raise DisagreementError(
                f"{draft.id}: the scalar order's {bits:08x} breaks the bound at offset {offset}"
            )
        edges = bound_edges(*sums)
        patterns = (*edges.inside, *edges.outside)
        verdicts: dict[str, object] = {
            implementations.oracle.name: [oracle.within_bound(one, *sums) for one in patterns],
            implementations.bounds.name: [
                implementations.bounds.within(one, vx, vy, v2=v2) for one in patterns
            ],
            "the definition of the edges": [True, True, False, False],
        }
        _require_agreement(f"{draft.id}, edges of the bound at offset {offset}", verdicts)
        results.append(DotResult(offset, bits, *sums, edges))
    return Bound(tuple(results))


def _alternatives(
    draft: Draft,
    function: str,
    before: Mapping[str, bytes],
    outputs: Outputs,
    implementations: Implementations,
) -> dict[str, Outputs]:
    """Return the results of other recipes for a quantizer, where they are defined and differ."""
    if not _quantizes(function):
        return {}
    alternatives = {}
    for recipe in oracle.RECIPES:
        runs = implementations.oracle.outputs(draft, function, recipe)
        found: dict[str, object] = {
            implementations.oracle.name: None if runs is None else overlay(before, runs),
            implementations.reference.name: implementations.reference.after(draft, function, before, recipe),
        }
        _require_agreement(f"{draft.id}, {function}, recipe {recipe}", found)
        if runs is not None and runs != outputs:
            alternatives[f"recipe:{recipe}"] = runs
    return alternatives


def _quantizes(function: str) -> bool:
    return function.startswith("quantize") or function == "mul_mat_q8_a8"
