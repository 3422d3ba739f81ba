"""For every rule that a kernel must follow, a mutant that fails the checks of this rule alone.

No kernel breaks a rule alone that follows from others (`Rule.derived_from`): its mutant fails one of these
besides, and nothing else. Where two rules are equivalent, a mutant of one fails the other: `EQUIVALENT`.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from q8a8_conformance.results.record import full_id
from q8a8_conformance.spec.rules import load_rules

if TYPE_CHECKING:
    from collections.abc import Mapping

ISOLATING: Mapping[str, str] = MappingProxyType(
    {
        full_id(rule): slug
        for rule, slug in {
            "LAY-1": "scale-big-endian",
            "LAY-2": "elements-reversed",
            "LAY-3": "v2-fields-exchanged",
            "LAY-5": "v2-whichever-is-set",
            "HLF-1": "half-ties-up",
            "HLF-2": "half-flushed-in-dequantize",
            "HLF-3": "half-infinite-on-read",
            "HLF-4": "half-infinite-early",
            "QNT-1": "amax-last-skipped",
            "QNT-2": "scale-reciprocal",
            "QNT-3": "inverse-ulp-high",
            "QNT-4": "round-half-even",
            "QNT-5": "lowest-code",
            "QNT-6": "zero-block-scale-one",
            "QNT-7": "amax-kept-for-zero",
            "QNT-8": "ref-rounds-even",
            "QNT-9": "activation-tail-unseen",
            "QNT-10": "activation-block-path",
            "QNT-11": "nan-reads-behind",
            "DEQ-1": "dequantize-zero-unsigned",
            "DEQ-2": "dequantize-minus-128",
            "DEQ-3": "dequantize-one-at-least",
            "DOT-1": "minus-128-sign",
            "DOT-2": "scale-product-capped",
            "DOT-3": "low-part-misscaled",
            "DOT-4": "result-one-up",
            "DOT-5": "empty-minus-zero",
            "DOT-6": "bs-ignored",
            "DOT-7": "s-added-if-finite",
            "DOT-8": "zero-scale-ends-row",
            "DOT-9": "v2-weight-scale-of-both",
            "DOT-10": "remainder-of-three-lost",
            "DOT-12": "single-stored-far",
            "ORD-2": "low-part-misscaled",
            "MUL-4": "matrix-rounds-even",
            "MUL-5": "matrix-k-tail-lost",
            "MUL-6": "matrix-transposed",
            "MUL-7": "matrix-empty-unwritten",
            "MUL-8": "matrix-nan-spreads",
            "MEM-1": "over-read-byte",
            "MEM-2": "over-write-vector",
            "MEM-3": "input-as-scratch",
            "MEM-4": "alignment-asserted",
            "ENV-1": "rounding-mode-left",
            "ENV-2": "registers-of-another",
            "ENV-3": "scratch-of-all-threads",
            "ENV-4": "refuses-fifty-blocks",
            "ENV-6": "directory-changed",
            "ENV-7": "descriptor-leaked",
        }.items()
    }
)
"""Slugs by full rule id."""

NATIVE: frozenset[str] = frozenset({full_id("ENV-5"), full_id("ENV-8")})
"""Rules about registers and the stack, which only C and assembly break: see `q8a8_lab.mutation.native`."""

EQUIVALENT: Mapping[str, str] = MappingProxyType({full_id("ORD-2"): full_id("DOT-3")})
"""Rules that fail together with one that follows from them: the page "Proofs" shows why."""


def allowed(rule: str) -> frozenset[str]:
    """Return the rules that the mutant of a rule may fail: the rule, its sources, and an equivalent one."""
    derived_from = next(each.derived_from for each in load_rules() if each.id == rule)
    equivalent = {EQUIVALENT[rule]} if rule in EQUIVALENT else set()
    return frozenset({rule, *derived_from, *equivalent})
