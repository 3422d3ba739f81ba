"""Count what differs between a peer and the reference: bytes of blocks, bits of dot products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from q8a8.dot import vec_dot
from q8a8.layout import as_bytes
from q8a8.order import ORDERS
from q8a8.quantize import quantize_row
from q8a8.recipe import RECIPES
from q8a8_lab.peers import families, rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from q8a8.layout import Blocks
    from q8a8_lab.peers.kernels import Kernel

    F32: TypeAlias = NDArray[np.float32]

__all__ = [
    "DotCount", "FamilyCount", "differing_bits", "differing_products", "matching_orders", "quantize_counts",
    "row_counts", "shares",
]  # fmt: skip


@dataclass(frozen=True)
class FamilyCount:
    """A quantizer compared on one family.

    Parameters
    ----------
    function
        The peer's function, by its ABI name.
    recipe
        The reference's recipe.
    family
        The data.
    blocks, differing_bytes
        Blocks compared; bytes of them that differ, of 34 a block.
    """

    function: str
    recipe: str
    family: str
    blocks: int
    differing_bytes: int


@dataclass(frozen=True)
class DotCount:
    """A kernel compared on one kind of rows.

    Parameters
    ----------
    order
        The reference's order.
    kind
        The rows: one of `rows.KINDS`.
    nrc
        Rows a call.
    flaw
        The known error that the expected bits have in them: "sign-128", or empty.
    dots, differing_bits
        Dot products compared; bits of them that differ, of 32 each.
    differing_rows_unflawed
        Dot products that differ from the right ones, where there is a flaw.
    """

    order: str
    kind: str
    nrc: int
    dots: int
    differing_bits: int
    flaw: str = ""
    differing_rows_unflawed: int = 0


@dataclass
class _Count:
    n: int = 0
    differing: int = 0
    wrong: int = 0


def differing_bits(a: F32, b: F32) -> int:
    """Count the bits in which two float32 arrays of one shape differ: +0 and -0 differ in one."""
    return int(np.unpackbits((_bits(a) ^ _bits(b)).view(np.uint8)).sum(dtype=np.int64))


def _bits(a: F32) -> NDArray[np.uint32]:
    return np.ascontiguousarray(a, np.float32).view(np.uint32)


def quantize_counts(
    kernel: Kernel, recipes: Mapping[str, str], blocks: int, names: Iterable[str] = tuple(families.FAMILIES)
) -> list[FamilyCount]:
    """Compare quantizers with recipes, family by family.

    Parameters
    ----------
    kernel
        The peer.
    recipes
        ABI name of a quantizer to the recipe that it is held against.
    blocks
        Blocks of each family.
    names
        Families.
    """
    counts = []
    for family in names:
        differing = dict.fromkeys(recipes, 0)
        for x in families.chunks(family, blocks):
            for function, recipe in recipes.items():
                expected = as_bytes(quantize_row(x, recipe)).reshape(len(x), -1)
                differing[function] += int(np.count_nonzero(kernel.quantize(function, x) != expected))
        counts += [
            FamilyCount(function, recipe, family, blocks, differing[function])
            for function, recipe in recipes.items()
        ]
    return counts


def shares(blocks: int, names: Iterable[str] = tuple(families.FAMILIES)) -> dict[str, dict[str, float]]:
    """Return for each family and recipe the share of blocks with any byte that differs from `ggml-ref`."""
    table = {}
    for family in names:
        differing = dict.fromkeys((name for name in RECIPES if name != "ggml-ref"), 0)
        for x in families.chunks(family, blocks):
            reference = as_bytes(quantize_row(x, "ggml-ref")).reshape(len(x), -1)
            for recipe in differing:
                other = as_bytes(quantize_row(x, recipe)).reshape(len(x), -1)
                differing[recipe] += int(np.count_nonzero((other != reference).any(axis=1)))
        table[family] = {recipe: count / blocks for recipe, count in differing.items()}
    return table


def _multiply(kernel: Kernel, x: Blocks, y: Blocks, nrc: int) -> F32:
    """Let the kernel multiply: [rows] with nrc = 1, [rows/2, 2, 2] with nrc = 2."""
    return kernel.dot(x, y) if nrc == 1 else kernel.dot2(x, y)


def _expected(x: Blocks, y: Blocks, nrc: int, order: str) -> F32:
    """Let the reference multiply the same, in the same shape."""
    if nrc == 1:
        return vec_dot(x, y, order)
    nb = x.shape[1]
    return vec_dot(x.reshape(-1, 2, 1, nb), y.reshape(-1, 1, 2, nb), order)


def row_counts(
    kernel: Kernel, order: str, dots: int, *, nrc: int = 1, flawed: bool = False, seed: int = 0
) -> list[DotCount]:
    """Compare a kernel's dot products with an order, kind by kind.

    Parameters
    ----------
    kernel
        The peer.
    order
        The order that it is held against.
    dots
        Dot products of each kind, at least.
    nrc
        Rows a call.
    flawed
        Whether the kernel is known to have the sign error of `rows.sign_error`: the bits expected of the kind
        ``int8-128`` are then the wrong ones, exactly.
    """
    counts = []
    step = len(ORDERS[order].body)
    for kind in rows.KINDS:
        flaw = flawed and kind == "int8-128"
        count = _Count()
        for batch in rows.batches(kind, dots // nrc, seed):
            found = _multiply(kernel, batch.x, batch.y, nrc)
            right = _expected(batch.x, batch.y, nrc, order)
            expected = _expected(*rows.sign_error(batch.x, batch.y, step), nrc, order) if flaw else right
            count.n += found.size
            count.differing += differing_bits(found, expected)
            count.wrong += int(np.count_nonzero(_bits(found) != _bits(right))) if flaw else 0
        name = "sign-128" if flaw else ""
        counts.append(DotCount(order, kind, nrc, count.n, count.differing, name, count.wrong))
    return counts


def matching_orders(kernel: Kernel, dots: int = 400, *, nrc: int = 1) -> tuple[str, ...]:
    """Name every order of the table whose bits are all the kernel's, on rows without -128.

    Two orders may match: `i8mm` and `scalar` are one arithmetic.
    """
    left = list(ORDERS)
    for kind in ("int8", "quantized"):
        for batch in rows.batches(kind, dots, seed=1):
            found = _multiply(kernel, batch.x, batch.y, nrc)
            left = [
                name for name in left if not differing_bits(found, _expected(batch.x, batch.y, nrc, name))
            ]
    return tuple(left)


def differing_products(kernel: Kernel) -> tuple[tuple[int, int, float], ...]:
    """List the products with -128 in them that a kernel gets wrong: (x, y, what it makes of them)."""
    x, y = rows.minus_128_pairs()
    found = kernel.dot(x, y)
    a, b = (blocks["weight_qs"][:, 0, 0].astype(np.int64) for blocks in (x, y))
    return tuple(
        (int(a[i]), int(b[i]), float(found[i])) for i in np.flatnonzero(found.astype(np.float64) != a * b)
    )
