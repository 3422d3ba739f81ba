"""A wrong result speaks against the rule that the mutant breaks, and against no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8_conformance.attribution import quantizers
from q8a8_conformance.attribution.probes import Probe
from q8a8_conformance.faults.in_process import Here
from q8a8_conformance.inputs import blocks, calls, dot_rows
from q8a8_conformance.mutants import make
from q8a8_conformance.spec.abi import NAMES

if TYPE_CHECKING:
    from q8a8_conformance.protocol.messages import Call

ROW = calls.QUANTIZERS[1]
QUANTIZED = (
    "LAY-1",
    "LAY-2",
    "HLF-1",
    "HLF-2",
    "HLF-4",
    "QNT-1",
    "QNT-2",
    "QNT-3",
    "QNT-4",
    "QNT-6",
    "QNT-7",
)
DEQUANTIZED = ("LAY-1", "LAY-2", "HLF-2", "HLF-3", "DEQ-1", "DEQ-2")
DOTS = ("DOT-1", "DOT-4", "DOT-10")


def outputs(slug: str, call: Call) -> dict[str, bytes]:
    """Give the output buffers of a call of a mutant, or of the specification."""
    result = Here(lambda: make(slug) if slug else make(), NAMES).call(call)
    return {
        call.spec.buffers[i].name: found for i, found in zip(call.spec.outputs, result.outputs, strict=True)
    }


def blamed(slug: str, call: Call, rules: tuple[str, ...]) -> set[str]:
    """Give the rules that a mutant's result speaks against, short."""
    found = quantizers.broken_rules(
        Probe(call, lambda again: outputs(slug, again)),
        tuple(f"Q8A8-{rule}" for rule in rules),
        outputs("", call),
        outputs(slug, call),
    )
    return {rule.removeprefix("Q8A8-") for rule in found}


@pytest.mark.parametrize(
    ("slug", "name", "rule"),
    [
        ("round-half-even", "ties", "QNT-4"),
        ("round-half-up", "ties", "QNT-4"),
        ("inverse-ulp-high", "near-ties", "QNT-3"),
        ("inverse-truncated", "near-ties", "QNT-3"),
        ("half-infinite-early", "huge", "HLF-4"),
        ("scale-of-128", "ties", "QNT-2"),
        ("amax-last-skipped", "peaks", "QNT-1"),
        ("zero-block-scale-one", "zeros", "QNT-6"),
        ("zero-scale-signed", "zeros", "QNT-6"),
        ("lowest-code", "peaks", "QNT-5"),
        ("scale-big-endian", "gaussian", "LAY-1"),
        ("scale-last", "gaussian", "LAY-1"),
        ("scales-first", "gaussian", "LAY-2"),
        ("elements-interleaved", "gaussian", "LAY-2"),
        ("blocks-exchanged", "gaussian", "LAY-2"),
    ],
)
def test_quantizers(slug: str, name: str, rule: str) -> None:
    """A quantizer's mistake is told by its scales, its codes, or the places of its bytes."""
    x = blocks.SETS[name][0]().reshape(-1)
    assert blamed(slug, calls.quantize(ROW, x), QUANTIZED) == {rule}


def test_an_unwritten_block() -> None:
    """A block that is not written is missing from its row."""
    call = calls.quantize(ROW, blocks.gaussian(7).reshape(-1))
    assert blamed("quantize-odd-block-lost", call, QUANTIZED) == {"LAY-2"}


@pytest.mark.parametrize(
    ("slug", "rule"),
    [
        ("half-flushed-in-dequantize", "HLF-2"),
        ("half-bit-lost-in-dequantize", "HLF-3"),
        ("scale-read-big-endian", "LAY-1"),
        ("elements-read-interleaved", "LAY-2"),
        ("dequantize-tail-lost", "LAY-2"),
        ("dequantize-zero-unsigned", "DEQ-1"),
        ("dequantize-minus-128", "DEQ-2"),
        ("dequantize-scale-magnitude", "DEQ-2"),
        ("dequantize-in-half", "DEQ-1"),
    ],
)
def test_dequantization(slug: str, rule: str) -> None:
    """A mistake in dequantization is told by which elements are wrong."""
    scales = np.array([1.0, -0.5, 0.0, 3 * 2.0**-24, 1025 * 2.0**-3, -(2.0**-20), 2.0])
    codes = dot_rows.generator("blame").integers(-128, 128, (7, 32))
    codes[:, :4] = (-128, 0, 127, -1)
    assert blamed(slug, calls.dequantize(dot_rows.blocks(scales, codes)), DEQUANTIZED) == {rule}


def test_dots() -> None:
    """A few ULP on exact inputs speak against exactness; a lost block does not."""
    call = calls.dot(*dot_rows.exact_pair(7, positive=True))
    assert blamed("result-one-up", call, DOTS) == {"DOT-4"}
    assert blamed("odd-block-lost", call, DOTS) == {"DOT-1", "DOT-10"}
