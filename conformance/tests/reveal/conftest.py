"""Dot products in this process, under experiment, and the random results that their orders are tried on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from q8a8 import layout
from q8a8.dot import vec_dot
from q8a8_conformance.inputs.calls import DOT
from q8a8_conformance.reveal.asking import Dot
from q8a8_conformance.reveal.dots import Revealed, reveal_dot
from q8a8_conformance.reveal.held import ask_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from q8a8.order import AnyOrder

Array = NDArray[Any]

LENGTHS = (1, 2, 3, 4, 5, 7, 9, 12, 17)


def as_v1(row: Array, field: str) -> Array:
    """Return blocks of either version as version 1 blocks."""
    return row if row.dtype == layout.BLOCK_Q8_A8 else layout.pack(row[field], row["weight_qs"])


def asker(multiply: Callable[[Array, Array], Array]) -> Callable[[str, int, Array, Array], bytes | None]:
    """Return what makes dot products with a function of rows of version 1 blocks [..., nb]."""

    def ask(function: str, nrc: int, x: Array, y: Array) -> bytes | None:
        del function
        x, y = as_v1(x, "weight_scale"), as_v1(y, "activation_scale")
        if nrc == 2:
            x, y = x[np.newaxis, :, :], y[:, np.newaxis, :]
        return np.asarray(multiply(x, y), "<f4").tobytes()

    return ask


def reveal(
    multiply: Callable[[Array, Array], Array],
    lengths: Sequence[int] = LENGTHS,
    function: str = DOT,
    nrc: int = 1,
) -> Revealed:
    """Reveal a dot product, and try the order on a few random rows of each length."""
    ask = asker(multiply)
    tried = [ask_rows(Dot(ask, function, nrc), nb, 2) for nb in lengths]
    return reveal_dot(ask, function, nrc, tried)


def in_order(order: AnyOrder) -> Callable[[Array, Array], Array]:
    """Return the reference's dot product in an order."""
    return lambda x, y: vec_dot(x, y, order)


def of_terms(total: Callable[[Array], Array]) -> Callable[[Array, Array], Array]:
    """Return a dot product that adds the blocks' float32 terms [nb] with a function."""

    def multiply(x: Array, y: Array) -> Array:
        sums = (x["weight_qs"].astype(np.int32) * y["weight_qs"]).sum(axis=-1).astype(np.float32)
        d = x["weight_scale"].astype(np.float32) * y["weight_scale"].astype(np.float32)
        return np.asarray(total(sums * d), np.float32)

    return multiply


@pytest.fixture(name="reveal")
def reveal_fixture() -> Callable[..., Revealed]:
    """Return `reveal`."""
    return reveal


@pytest.fixture(name="asker")
def asker_fixture() -> Callable[..., Any]:
    """Return `asker`."""
    return asker


@pytest.fixture(name="of_terms")
def of_terms_fixture() -> Callable[..., Any]:
    """Return `of_terms`."""
    return of_terms


@pytest.fixture(name="in_order")
def in_order_fixture() -> Callable[..., Any]:
    """Return `in_order`."""
    return in_order
