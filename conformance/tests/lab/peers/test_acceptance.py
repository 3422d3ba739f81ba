"""The acceptance of the reference: real quantizers and kernels, and not a bit unexplained.

A fifth of what ``make peers``, the release check, compares for the page "Real kernels, compared".
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import pytest

from q8a8.layout import BLOCK_Q8_A8, as_bytes
from q8a8.order import ORDERS, get_order
from q8a8.quantize import dequantize_row
from q8a8_lab.peers import compare, families, legs
from q8a8_lab.peers.kernels import QUANTIZE_REF

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8.order import Order
    from q8a8_lab.peers.kernels import Kernel
    from q8a8_lab.peers.legs import Leg

    Opener: TypeAlias = Callable[[Leg], Kernel]

BLOCKS = 200_000
DOTS = 2_000


def _order(leg: Leg) -> Order:
    """Return the order of a leg that has one."""
    return get_order(leg.order or "none")


@pytest.mark.rule("Q8A8-QNT-13")
@pytest.mark.parametrize("family", families.FAMILIES)
def test_every_block_is_the_recipes(quantizer: Leg, kernel_of: Opener, family: str) -> None:
    """Many blocks of a family (a tenth in QEMU), each quantizer against its recipe: no byte differs."""
    blocks = legs.blocks_of(quantizer, BLOCKS)
    counts = compare.quantize_counts(kernel_of(quantizer), quantizer.recipes, blocks, [family])
    assert [(count.blocks, count.differing_bytes) for count in counts] == [(blocks, 0)] * len(
        quantizer.recipes
    )


@pytest.mark.rule("Q8A8-ORD-1")
def test_every_dot_product_is_the_orders(multiplier: Leg, kernel_of: Opener) -> None:
    """Dot products of 32 to 8192 elements and others with -128, errors included: no bit differs."""
    kernel = kernel_of(multiplier)
    flawed = bool(compare.differing_products(kernel))
    counts = compare.row_counts(kernel, _order(multiplier).name, DOTS, flawed=flawed)
    assert sum(count.dots for count in counts if count.kind != "int8-128") >= 2 * DOTS
    assert [count.differing_bits for count in counts] == [0] * len(counts)


def test_no_other_order_would_do(multiplier: Leg, kernel_of: Opener) -> None:
    """Of the table only orders with the arithmetic of a peer's order give its bits."""

    def arithmetic(order: Order) -> Order:
        return replace(order, name="", nrc=1, source="")

    same = [name for name, order in ORDERS.items() if arithmetic(order) == arithmetic(_order(multiplier))]
    assert list(compare.matching_orders(kernel_of(multiplier))) == same


def test_the_sign_error_is_there_on_x86_alone(multiplier: Leg, kernel_of: Opener) -> None:
    """The x86 kernel gets x * -128 wrong for every negative x, by its sign; C and the Arm kernel do not."""
    wrong = compare.differing_products(kernel_of(multiplier))
    expected = [(x, -128, 128.0 * x) for x in range(-128, 0)] if multiplier.name == "x86" else []
    assert list(wrong) == expected


def test_the_layouts_are_one(quantizer: Leg, kernel_of: Opener) -> None:
    """What a peer quantized, the reference dequantizes to within half a step of what it was."""
    x = next(families.chunks("uniform", 1000))
    blocks = kernel_of(quantizer).quantize(QUANTIZE_REF, x).view(BLOCK_Q8_A8)
    assert as_bytes(blocks).shape == (1000, 34)
    step = blocks["weight_scale"].astype("f4")
    # Half a step, and what the half-precision scale is off: 127 * 2^-12 of a step.
    assert (abs(dequantize_row(blocks) - x) <= step * 0.55).all()
