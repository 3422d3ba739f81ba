"""The acceptance of the reference: real quantizers and kernels, and not a bit unexplained."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from q8a8.layout import BLOCK_Q8_A8, as_bytes
from q8a8.order import ORDERS
from q8a8.quantize import dequantize_row
from q8a8_conformance.peers import compare, families, legs
from q8a8_conformance.peers.kernels import QUANTIZE_REF

if TYPE_CHECKING:
    from q8a8_conformance.peers.kernels import Kernel
    from q8a8_conformance.peers.legs import Leg

BLOCKS = 1_000_000
DOTS = 10_000


@pytest.mark.rule("Q8A8-QNT-13")
@pytest.mark.parametrize("family", families.FAMILIES)
def test_every_block_is_the_recipes(leg: Leg, kernel: Kernel, family: str) -> None:
    """A million blocks a family (a tenth in QEMU), each quantizer against its recipe: no byte differs."""
    if not leg.recipes:
        pytest.skip(f"{leg.title} is compared by its dot product")
    counts = compare.quantize_counts(kernel, leg.recipes, legs.blocks_of(leg, BLOCKS), [family])
    assert len(counts) == len(leg.recipes)
    assert [count.differing_bytes for count in counts] == [0] * len(counts)


@pytest.mark.rule("Q8A8-ORD-1")
def test_every_dot_product_is_the_orders(leg: Leg, kernel: Kernel) -> None:
    """20,000 dot products of 32 to 8192 elements and 10,000 with -128, errors included: no bit differs."""
    if leg.order is None:
        pytest.skip(f"{leg.title} multiplies nothing")
    flawed = bool(compare.differing_products(kernel))
    counts = compare.row_counts(kernel, leg.order, DOTS, flawed=flawed)
    assert sum(count.dots for count in counts if count.kind != "int8-128") >= 2 * DOTS
    assert [count.differing_bits for count in counts] == [0] * len(counts)


def test_no_other_order_would_do(leg: Leg, kernel: Kernel) -> None:
    """Of the table only orders with the arithmetic of a peer's order give its bits."""
    if leg.order is None:
        pytest.skip(f"{leg.title} multiplies nothing")
    plain = replace(ORDERS[leg.order], name="", nrc=1, source="")
    same = [name for name, order in ORDERS.items() if replace(order, name="", nrc=1, source="") == plain]
    assert list(compare.matching_orders(kernel)) == same


def test_the_sign_error_is_there_on_x86_alone(leg: Leg, kernel: Kernel) -> None:
    """The x86 kernel gets x * -128 wrong for every negative x, by its sign; the Arm kernel does not."""
    if leg.order is None:
        pytest.skip(f"{leg.title} multiplies nothing")
    wrong = compare.differing_products(kernel)
    expected = [(x, -128, 128.0 * x) for x in range(-128, 0)] if leg.name == "x86" else []
    assert list(wrong) == expected


def test_dequantizing_agrees_with_the_peers_own_bytes(kernel: Kernel) -> None:
    """What a peer quantized lies within half a step of what it was: the layouts are one."""
    x = next(families.chunks("uniform", 1000))
    blocks = kernel.quantize(QUANTIZE_REF, x).view(BLOCK_Q8_A8)
    assert as_bytes(blocks).shape == (1000, 34)
    step = blocks["weight_scale"].astype("f4")
    # Half a step, and what the half-precision scale is off: 127 * 2^-12 of a step.
    assert (abs(dequantize_row(blocks) - x) <= step * 0.55).all()
