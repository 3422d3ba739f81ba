"""A mutant's wrong result is attributed to the rule that it breaks, and to no other rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8 import dequantize_row, layout, vec_dot, vec_dot_real
from q8a8_conformance.attribution import quantizers
from q8a8_conformance.attribution.probes import DotProbes, Probe
from q8a8_conformance.faults.in_process import InProcessSession
from q8a8_conformance.inputs import blocks, calls, dot_rows
from q8a8_conformance.mutants import MUTANTS, make
from q8a8_conformance.spec.abi import NAMES
from q8a8_conformance.suite import absorbing_rows

if TYPE_CHECKING:
    from collections.abc import Callable

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


def test_a_neighbour_s_scale() -> None:
    """Blocks dequantized with the scale of the block before break the order of blocks."""
    rows = dot_rows.random_pair(9, seed=3)[0]
    call = calls.dequantize(rows)
    moved = rows.copy()
    moved["weight_scale"][4] = rows["weight_scale"][3]
    expected, actual = ({"y": dequantize_row(x).astype("<f4").tobytes()} for x in (rows, moved))
    rules = tuple(f"Q8A8-{rule}" for rule in DEQUANTIZED)
    probe = Probe(call, lambda _: None)
    assert quantizers.broken_rules(probe, rules, expected, actual) == ("Q8A8-LAY-2",)


def in_sums(sum_up: Callable[[Array, Array], np.float32]) -> Callable[[Call], dict[str, bytes]]:
    """Return a function that makes a dot product's call of a kernel in Python, whatever n."""

    def made(call: Call) -> dict[str, bytes]:
        dtype = layout.BLOCK_Q8_A8 if call.function == calls.DOT else layout.BLOCK_Q8_A8_V2
        x, y = (np.frombuffer(calls.inputs_of(call)[name], dtype) for name in ("vx", "vy"))
        return {"s": np.float32(sum_up(x, y)).tobytes()}

    return made


@pytest.mark.parametrize("slug", ["float-products", "truncating-accumulator"])
def test_lost_terms(slug: str) -> None:
    """What is right without the one large term breaks the bound, and no other rule."""
    session = InProcessSession(lambda: make(slug), NAMES)
    rows = absorbing_rows.absorbing(300)
    rules = tuple(f"Q8A8-{rule}" for rule in ("LAY-1", "DOT-2", "DOT-3", "ORD-2"))
    wrong = 0
    for x, y, product in zip(rows.x, rows.y, rows.products, strict=True):
        call = calls.dot(x, y)
        actual = session.call(call).outputs[0]
        if not product.holds(actual):
            wrong += 1
            probe = Probe(call, lambda call: {"s": session.call(call).outputs[0]}, in_bound=True)
            found = quantizers.broken_rules(probe, rules, {"s": product.bits}, {"s": actual})
            assert found == ("Q8A8-DOT-3", "Q8A8-ORD-2")
    assert wrong


def test_a_large_term_lost() -> None:
    """A kernel that loses the large term itself is not said to lose small ones."""
    rows = absorbing_rows.absorbing(40)
    x, y, product = rows.x[1], rows.y[1], rows.products[1]
    make_call = in_sums(lambda x, y: np.float32(vec_dot(x, y)))
    call = calls.dot(x, y)
    assert DotProbes(Probe(call, make_call, in_bound=True), product.bits).all_right
    largest = int(np.argmax(x["weight_scale"]))
    lost = np.float32(vec_dot(np.delete(x, largest), np.delete(y, largest))).tobytes()
    assert not DotProbes(Probe(call, make_call, in_bound=True), lost).loses_small_terms
    assert not DotProbes(Probe(calls.dot(x[:1], y[:1]), make_call, in_bound=True), lost).loses_small_terms


def test_the_other_scale_in_a_tail() -> None:
    """A kernel that reads y's other scale in long rows alone breaks the rule about the two scales."""

    def sum_up(x: Array, y: Array) -> np.float32:
        if len(y) > 8:
            y = y.copy()
            y["activation_scale"][8:] = y["weight_scale"][8:]
        return np.float32(vec_dot_real(x, y))

    x, y = dot_rows.to_v2(*dot_rows.exact_pair(11, positive=True), unused=0x4200)
    make_call = in_sums(sum_up)
    call = calls.dot_real(x, y)
    rules = tuple(f"Q8A8-{rule}" for rule in ("DOT-9", "DOT-10"))
    right = {"s": np.float32(vec_dot_real(x, y)).tobytes()}
    assert quantizers.broken_rules(Probe(call, make_call), rules, right, make_call(call)) == ("Q8A8-DOT-9",)
