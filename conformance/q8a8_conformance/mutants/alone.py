"""For every rule that a kernel must follow, a mutant that only the checks of this rule can catch.

Where two rules overlap by design, no mistake breaks one of them alone: what else then fails is listed, with
the reason, and nothing beyond that list may fail.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from q8a8_conformance.record import full_id

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Alone:
    """The mutant that shows what a rule's checks are for.

    Attributes
    ----------
    slug
        Of the mutant.
    besides
        Full ids of other rules that it cannot help breaking.
    why
        Why not; empty where there are none.
    """

    slug: str
    besides: frozenset[str] = frozenset()
    why: str = ""


def _alone(slug: str, besides: str = "", why: str = "") -> Alone:
    return Alone(slug, frozenset(full_id(rule) for rule in besides.split()), why)


_V2 = "DOT-1 DOT-2 DOT-8 DOT-9 DOT-10 HLF-2 LAY-3 LAY-5 ORD-2"
"""Rules with cases of version 2 blocks."""

_DOTS = "DOT-1 DOT-2 DOT-3 DOT-6 DOT-8 DOT-9 DOT-10 HLF-2 HLF-3 LAY-3 LAY-5 ORD-1 ORD-2"
"""Rules about the value of a dot product."""

ALONE: Mapping[str, Alone] = MappingProxyType(
    {
        full_id(rule): alone
        for rule, alone in {
            "LAY-1": _alone(
                "scale-big-endian", "LAY-2",
                "a check that is about both rules of layout, and nothing else, cannot tell them apart",
            ),
            "LAY-2": _alone("elements-reversed", "LAY-1", "as Q8A8-LAY-1"),
            "LAY-3": _alone(
                "v2-fields-exchanged", _V2,
                "version 2 blocks are seen through dot products alone; a wrong layout makes each wrong",
            ),
            "LAY-5": _alone(
                "v2-whichever-is-set", "DOT-9",
                "the property test of Q8A8-DOT-9 leaves a NaN in the unused scales",
            ),
            "HLF-1": _alone("half-ties-up"),
            "HLF-2": _alone(
                "half-flushed-in-dequantize", "DEQ-2",
                "-128 under a subnormal scale is about both",
            ),
            "HLF-3": _alone(
                "half-bit-lost-in-dequantize", "DEQ-2 HLF-2",
                "a case in which all scales are subnormal, or negative, cannot tell that others are wrong",
            ),
            "HLF-4": _alone("half-infinite-early"),
            "QNT-1": _alone(
                "amax-last-skipped", "HLF-1 QNT-3 QNT-9 QNT-10",
                "the activation quantizer has an amax too; a little less is the next half, or codes",
            ),
            "QNT-2": _alone(
                "scale-reciprocal", "HLF-1",
                "d is seen through the half alone: an ULP of d moves it to its neighbour",
            ),
            "QNT-3": _alone("inverse-ulp-high"),
            "QNT-4": _alone("round-half-even"),
            "QNT-5": _alone(
                "lowest-code", "QNT-10",
                "both quantizers hold -128, so what Q8A8-QNT-10 compares is looked at too",
            ),
            "QNT-6": _alone("zero-block-scale-one"),
            "QNT-7": _alone(
                "amax-kept-for-zero", "QNT-1 HLF-2",
                "the scale kept from another block may be the half of an element, or zero",
            ),
            "QNT-8": _alone(
                "ref-rounds-even", "QNT-4", "of two functions that differ, one is wrong by another rule",
            ),
            "QNT-9": _alone(
                "activation-tail-unseen", "QNT-1", "the activation quantizer's amax is Q8A8-QNT-1's too",
            ),
            "QNT-10": _alone(
                "activation-block-path", "QNT-4",
                "of two quantizers that differ on 32 elements, one is wrong by another rule",
            ),
            "QNT-11": _alone("nan-reads-behind"),
            "DEQ-1": _alone("dequantize-zero-unsigned"),
            "DEQ-2": _alone("dequantize-minus-128"),
            "DEQ-3": _alone(
                "dequantize-one-at-least", "MEM-2", "what is written for no blocks is outside the output",
            ),
            "DOT-1": _alone("minus-128-sign"),
            "DOT-2": _alone(
                "scale-product-capped", "DOT-3 DOT-8 DOT-9 ORD-1 ORD-2",
                "a wrong product of scales is a wrong result: the bound and the exact cases see it as well",
            ),
            "DOT-3": _alone(
                "scale-of-next-block", _DOTS + " DOT-7 DOT-12",
                "the default profile judges Q8A8-DOT-3 by Q8A8-ORD-2's bound; exact cases are dots too",
            ),
            "DOT-4": _alone("result-one-up"),
            "DOT-5": _alone(
                "empty-minus-zero", "DOT-1 DOT-6 DOT-7",
                "there are empty rows among two at a time, among those of what s held, and among those drawn",
            ),
            "DOT-6": _alone(
                "bs-ignored", "ORD-2 DOT-3 DOT-5",
                "cases of two rows are about what they hold as well: sums within the bound, empty rows",
            ),
            "DOT-7": _alone("s-added-if-finite", "DOT-5", "an empty row into a float that held something"),
            "DOT-8": _alone(
                "zero-scale-ends-row", "HLF-2 HLF-3 ORD-2 DOT-2 DOT-3 DOT-9 ORD-1",
                "zero scales come up among subnormal ones, in version 2 blocks, and in the property tests",
            ),
            "DOT-9": _alone(
                "v2-weight-scale-of-both", _V2,
                "it is the whole dot product again: each part of it has checks on version 2 blocks",
            ),
            "DOT-10": _alone(
                "remainder-of-three-lost", "DOT-3 DOT-9 ORD-2",
                "a lost block leaves the bound, and version 2 blocks are counted by the same loop",
            ),
            "DOT-12": _alone("single-stored-far"),
            "ORD-2": _alone(
                "tf32-terms", _DOTS + " DOT-4 DOT-7 DOT-12",
                "what leaves the bound is no legal order's result (Q8A8-DOT-3), and rounds on exact inputs",
            ),
            "MEM-1": _alone("over-read-byte"),
            "MEM-2": _alone("over-write-byte", "DEQ-3", "a byte is written behind an empty output too"),
            "MEM-3": _alone("input-as-scratch"),
            "MEM-4": _alone("address-masked"),
            "ENV-1": _alone("rounding-mode-left"),
            "ENV-2": _alone(
                "scratch-of-another", "DEQ-1 DEQ-2 ENV-3 MEM-4",
                "a result that depends on the call before differs wherever one call is compared with another",
            ),
            "ENV-3": _alone("scratch-of-all-threads"),
            "ENV-4": _alone("refuses-fifty-blocks"),
        }.items()
    }
)  # fmt: skip
"""By full rule id."""
