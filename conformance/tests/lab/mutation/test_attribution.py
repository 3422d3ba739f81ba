"""A mutant's wrong result is attributed to the rule that it breaks, and to no other rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8_conformance.attribution import quantizers
from q8a8_conformance.attribution.probes import Probe
from q8a8_conformance.faults.in_process import InProcessSession
from q8a8_conformance.inputs import blocks, calls, dot_rows
from q8a8_conformance.mutants import MUTANTS, make
from q8a8_conformance.spec.abi import NAMES

if TYPE_CHECKING:
    from q8a8_conformance.inputs.calls import Array
    from q8a8_conformance.protocol.messages import Call

ROW = calls.QUANTIZERS[1]
QUANTIZED = (
    *(f"LAY-{number}" for number in (1, 2)),
    *(f"HLF-{number}" for number in (1, 2, 4)),
    *(f"QNT-{number}" for number in (1, 2, 3, 4, 6, 7)),
)
DEQUANTIZED = ("LAY-1", "LAY-2", "HLF-2", "HLF-3", "DEQ-1", "DEQ-2")
DOTS = ("DOT-1", "DOT-4", "DOT-10")


def attributed(slug: str, call: Call, rules: tuple[str, ...]) -> set[str]:
    """Return the rules to which a mutant's result is attributed, short; the mutant answers further calls."""
    session = InProcessSession(lambda: make(slug), NAMES)

    def outputs(call: Call, session: InProcessSession = session) -> dict[str, bytes]:
        names = [call.spec.buffers[index].name for index in call.spec.outputs]
        return dict(zip(names, session.call(call).outputs, strict=True))

    right = outputs(call, InProcessSession(make, NAMES))
    full = tuple(f"Q8A8-{rule}" for rule in rules)
    found = quantizers.broken_rules(Probe(call, outputs), full, right, outputs(call))
    return {rule.removeprefix("Q8A8-") for rule in found}


@pytest.mark.parametrize(
    ("slug", "name"),
    [
        ("round-half-even", "ties"),
        ("round-half-up", "ties"),
        ("inverse-ulp-high", "near-ties"),
        ("inverse-truncated", "near-ties"),
        ("half-infinite-early", "huge"),
        ("scale-of-128", "ties"),
        ("amax-last-skipped", "peaks"),
        ("amax-carried", "gaussian"),
        ("amax-one-late", "gaussian"),
        ("zero-block-scale-one", "zeros"),
        ("zero-scale-signed", "zeros"),
        ("lowest-code", "peaks"),
        ("scale-big-endian", "gaussian"),
        ("scale-last", "gaussian"),
        ("scales-first", "gaussian"),
        ("elements-interleaved", "gaussian"),
        ("blocks-exchanged", "gaussian"),
    ],
)
def test_quantizers(slug: str, name: str) -> None:
    """A quantizer's mistake is found from its scales, its codes, its places, or its blocks alone."""
    call = calls.quantize(ROW, blocks.SETS[name][0]().reshape(-1))
    assert attributed(slug, call, QUANTIZED) == {MUTANTS[slug].rule.removeprefix("Q8A8-")}


def test_an_unwritten_block() -> None:
    """A block that is not written breaks the row's layout."""
    call = calls.quantize(ROW, blocks.gaussian(7).reshape(-1))
    assert attributed("quantize-odd-block-lost", call, QUANTIZED) == {"LAY-2"}


@pytest.mark.parametrize(
    "slug",
    [
        "half-flushed-in-dequantize",
        "half-bit-lost-in-dequantize",
        "scale-read-big-endian",
        "elements-read-interleaved",
        "dequantize-tail-lost",
        "dequantize-zero-unsigned",
        "dequantize-minus-128",
        "dequantize-scale-magnitude",
        "dequantize-in-half",
    ],
)
def test_dequantization(slug: str) -> None:
    """A mistake in dequantization is found from the elements that are wrong."""
    scales = np.array([1.0, -0.5, 0.0, 3 * 2.0**-24, 1025 * 2.0**-3, -(2.0**-20), 2.0])
    codes = dot_rows.generator("attribution").integers(-128, 128, (7, 32))
    codes[:, :4] = (-128, 0, 127, -1)
    call = calls.dequantize(dot_rows.blocks(scales, codes))
    assert attributed(slug, call, DEQUANTIZED) == {MUTANTS[slug].rule.removeprefix("Q8A8-")}


def one_block(dx: float, dy: float, code: int) -> tuple[Array, Array]:
    """Return two rows of five blocks; four products of the second one are not zero, and are exact."""
    codes = np.zeros((5, 32), np.int8)
    codes[1, :4] = code
    return dot_rows.blocks(dx, codes), dot_rows.blocks(dy, codes)


@pytest.mark.parametrize(
    ("slug", "rows"),
    [
        ("result-one-up", dot_rows.exact_pair(7, positive=True)),
        ("tail-of-four-lost", dot_rows.exact_pair(7, positive=True)),
        ("block-padded", dot_rows.exact_pair(7, positive=True)),
        ("pairs-saturate", one_block(1.0, 1.0, -128)),
        ("fp16-scale-product", one_block(1031 / 1024, 1049 / 1024, 1)),
        ("half-bit-lost", one_block(1031 / 1024, 1.0, 1)),
        ("negative-scales-lost", one_block(-1.0, 1.0, 1)),
        ("s-added", one_block(1.0, 1.0, 1)),
    ],
)
def test_dots(slug: str, rows: tuple[Array, Array]) -> None:
    """A dot product's mistake is found from an exact result, and from further calls."""
    call = calls.dot(*rows, s=calls.float_bytes(1.5))
    assert attributed(slug, call, DOTS) == {MUTANTS[slug].rule.removeprefix("Q8A8-")}


def test_an_unexplained_dot() -> None:
    """Where nothing explains a wrong result, it is attributed to all rules of the case but exactness."""
    call = calls.dot(*dot_rows.exact_pair(7, positive=True))
    assert attributed("odd-block-lost", call, DOTS) == {"DOT-1", "DOT-10"}
