"""What matrix products are found to compute, in which shapes; confirmed to the bit on random rows."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from q8a8.recipe import quantize_blocks
from q8a8_conformance.faults import catalogue
from q8a8_conformance.faults.in_process import InProcessSession
from q8a8_conformance.inputs.calls import MUL_MAT
from q8a8_conformance.reveal.products.elements import tree_words
from q8a8_conformance.reveal.products.revealed import Extent, reveal_product

if TYPE_CHECKING:
    from q8a8_conformance.reveal.products.regimes import RevealedProduct

Array = NDArray[Any]
F16, F32 = np.float16, np.float32


SHORT = Extent((*range(1, 18), 20, 40), 128, 60, (1, 2, 3, 4, 7, 12), (32, 64, 96))
"""Few shapes and lengths."""


def revealed(*slugs: str) -> RevealedProduct:
    """Measure a kernel of the catalogue."""
    return reveal_product(InProcessSession(lambda: catalogue.make(*slugs), (MUL_MAT,)), SHORT)


class Shaders:
    """A device as GPUs are: floats in groups of four for few rows of x, halves for many."""

    few, is_double = 2, False

    def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
        """Multiply."""
        if not m * n * k:
            out[: m * n] = 0
            return
        blocks = w[: m * k // 32 * 34].reshape(m, -1, 34)
        scale = np.ascontiguousarray(blocks[..., :2]).view(F16)[..., 0].astype(F32)
        codes = blocks[..., 2:].view(np.int8).astype(F32)
        multiply = self._floats if n <= self.few else self._halves
        with np.errstate(over="ignore"):
            out[: m * n] = multiply(scale, codes, x[: n * k].reshape(n, 1, k // 32, 32)).reshape(-1)

    def _floats(self, scale: Array, codes: Array, x: Array) -> Array:
        """Multiply the scale with sums of four elements, and add these up; or everything in double."""
        if self.is_double:
            terms = (codes * scale[..., np.newaxis]).astype(np.float64) * x
            return np.cumsum(terms.reshape(*terms.shape[:2], -1), axis=-1)[..., -1].astype(F32)
        products = (codes * x).reshape(len(x), len(codes), -1, 4)
        groups = ((products[..., 0] + products[..., 1]) + products[..., 2]) + products[..., 3]
        terms = groups * np.repeat(scale, 8, axis=-1)
        return np.cumsum(terms, axis=-1, dtype=F32)[..., -1]

    def _halves(self, scale: Array, codes: Array, x: Array) -> Array:
        """Make everything halves, and add elements up one after the other."""
        weights = (codes * scale[..., np.newaxis]).astype(F16)
        terms = (weights * x.astype(F16)).reshape(len(x), len(codes), -1)
        total = np.zeros(terms.shape[:2], F16)
        for term in np.moveaxis(terms, -1, 0):
            total = total + term
        return total.astype(F32)


def test_floats_and_halves_by_the_number_of_rows() -> None:
    """Of a device without quantization: formats, roundings, tree and the number of rows, to the bit."""
    found = reveal_product(InProcessSession(Shaders, (MUL_MAT,)), SHORT)
    few, many = found.regimes
    assert few.names == ("activations:float32", "accumulator:float32")
    assert many.names == ("activations:float16", "accumulator:float16", "weights:float16")
    assert (few.where, many.where) == ("every row of x where n <= 2", "every row of x where n >= 3")
    assert few.unexplained == many.unexplained == 0 < few.of
    assert few.elements is not None
    assert few.elements.rounding is not None
    assert few.elements.rounding.group == 4
    assert few.error < 1e-5 < few.quantization_error < 0.1
    assert many.past_half == "infinite"
    assert not found.is_invariant
    text = found.text()
    assert "groups of 4 consecutive elements, their sums from left to right" in text
    assert "weights are made float16; sums are kept in float16" in text
    assert "sums past 65504 are infinite" in text
    document = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert document["regimes"][1]["where"]["rule"]["length"] == [{"kind": "from", "least": 3}]
    assert document["unexplained"] == 0
    assert not found.svg()


def test_a_sum_in_double() -> None:
    """Sums in double are named, and explained."""

    class Double(Shaders):
        few, is_double = 1 << 20, True

    (regime,) = reveal_product(InProcessSession(Double, (MUL_MAT,)), SHORT).regimes
    assert regime.names == ("activations:float32", "accumulator:float64")
    assert not regime.unexplained


def test_sizes_without_a_rule_are_listed() -> None:
    """Where no rule says in which shapes an arithmetic is, the sizes and rows that were seen are shown."""

    class Chunks(Shaders):
        halves = frozenset({4, 5, 6, 9, 11, 40})

        def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
            self.few = n if n not in self.halves else 0
            super().mul_mat_q8_a8(m, n, k, w, x, out)

    found = reveal_product(InProcessSession(Chunks, (MUL_MAT,)), SHORT)
    floats, halves = found.regimes
    assert halves.where.startswith("every row of x where n = 4 to 6, 9, 11")
    assert halves.where.endswith("40, of the sizes looked at")
    assert [bool(halves.rows(n).any()) for n in (9, 10, 40, 512)] == [True, False, True, False]
    assert [bool(floats.rows(n).all()) for n in (1, 9, 17)] == [True, False, True]
    assert floats.names != halves.names


class Summing(Shaders):
    """A device that adds floats in another way, whatever the number of rows."""

    few = 1 << 20

    def _floats(self, scale: Array, codes: Array, x: Array) -> Array:
        terms = (codes * scale[..., np.newaxis]).astype(np.float64) * x
        exact = np.array([[math.fsum(of.ravel()) for of in row] for row in terms])
        return np.asarray(exact, F32)


class HalfInputs(Summing):
    """A device of half activations, and of float sums."""

    def _floats(self, scale: Array, codes: Array, x: Array) -> Array:
        return Shaders._floats(self, scale, codes, x.astype(F16).astype(F32))


class FloatScales(Summing):
    """A device that quantizes activations, and keeps their scales as floats."""

    def _floats(self, scale: Array, codes: Array, x: Array) -> Array:
        d = (np.abs(x).max(axis=-1) / F32(127)).astype(F32)
        inverse = np.where(d.astype(F16) == 0, 0, F32(127) / np.maximum(np.abs(x).max(axis=-1), F32(1e-30)))
        q = (x * inverse.astype(F32)[..., np.newaxis]).astype(F32)
        q = np.trunc(q) + np.copysign(np.abs(q - np.trunc(q)) >= 0.5, q)
        terms = (codes * q).sum(axis=-1) * (scale * d).astype(F32)
        return np.cumsum(terms, axis=-1, dtype=F32)[..., -1]


class NudgedScales(FloatScales):
    """The same, with sums that are rounded in another way."""

    def _floats(self, scale: Array, codes: Array, x: Array) -> Array:
        out = super()._floats(scale, codes, x)
        return np.nextafter(out, F32(0)) if x.shape[2] > 2 else out


class Uneven(Summing):
    """A device whose results are larger with three blocks."""

    def _floats(self, scale: Array, codes: Array, x: Array) -> Array:
        return Shaders._floats(self, scale, codes, x) * F32(1.5 if x.shape[2] == 3 else 1)


class OtherForEachShape(Summing):
    """A device whose results depend on n."""

    def _floats(self, scale: Array, codes: Array, x: Array) -> Array:
        return Shaders._floats(self, scale, codes, x) * F32(1 + len(x) * (x.shape[2] > 2) * 2.0**-20)


@pytest.mark.parametrize(
    ("device", "names", "said"),
    [
        (HalfInputs, ("activations:float16", "accumulator:float32"), "sums are kept in float32"),
        (FloatScales, ("recipe:design", "activation-scale:float32", "order:scalar"), "not rounded to a half"),
        (NudgedScales, ("recipe:design", "activation-scale:float32"), "0 of 192 results of random rows"),
        (Summing, ("activations:float32", "accumulator:79-bits"), "no tree of additions: the smallest sum"),
        (Uneven, ("activations:float32", "accumulator:float32"), "no tree of additions: of 94 units"),
        (OtherForEachShape, ("activations:float32", "accumulator:float32"), "of which six are shown"),
    ],
)
def test_other_devices(device: type[Summing], names: tuple[str, ...], said: str) -> None:
    """Other arithmetics of devices are named as far as they are known."""
    found = reveal_product(InProcessSession(device, (MUL_MAT,)), SHORT)
    assert found.regimes[0].names == names
    assert said in found.text()


def test_floats_in_no_known_way() -> None:
    """A sum whose roundings nothing explains is named by its bits, and its results are counted."""

    class Odd(Shaders):
        few = 1 << 20

        def _floats(self, scale: Array, codes: Array, x: Array) -> Array:
            out = super()._floats(scale, codes, x)
            odd = np.abs(out) % 1 > (0.5 if x.shape[2] > 2 else 1)
            return np.where(odd, np.nextafter(out, F32(0)), out)

    (regime,) = reveal_product(InProcessSession(Odd, (MUL_MAT,)), SHORT).regimes
    assert regime.names == ("activations:float32", "accumulator:float32")
    assert 0 < regime.unexplained < regime.of
    assert "products in no known way" in "\n".join(regime.lines())


@pytest.mark.parametrize(
    ("slug", "names"),
    [
        ("recipe:ggml-neon", [("recipe:design", "order:scalar")]),
        ("matrix-scale-of-row", [("activations:int8-per-row", "recipe:design", "order:scalar")]),
        ("matrix-half-sum", [("recipe:design", "accumulator:float16", "order:scalar")]),
        ("matrix-half-scales", [("recipe:design", "fp16-scale-product", "order:scalar")]),
        ("matrix-neighbour", [("activations:unknown",)]),
        (
            "matrix-one-row-otherwise",
            [("recipe:design", "order:measured"), ("recipe:design", "order:scalar")],
        ),
        ("matrix-columns-lost", [("recipe:design", "order:scalar"), ("not-written",)]),
    ],
)
def test_kernels_of_the_catalogue(slug: str, names: list[tuple[str, ...]]) -> None:
    """Recipe, precision, order and shape of wrong products, with nothing left unexplained."""
    found = revealed(slug)
    assert [regime.names for regime in found.regimes] == names
    assert found.to_json()["batch_invariant"] == (len(names) == 1)
    assert not any(regime.unexplained for regime in found.regimes)
    assert found.text().endswith(" calls\n")
    assert "nan" not in json.dumps(found.to_json(), allow_nan=False)


def test_places() -> None:
    """Where bits differ is a rule of rows and shapes."""
    wrong = revealed("matrix-columns-lost").regimes[1]
    assert wrong.where == "the rows of w beyond a multiple of 8 where m >= 9, n = 1"
    assert wrong.why == "the outputs are not written"


def test_bits_that_vary() -> None:
    """A product with other bits each time has no order."""
    found = revealed("matrix-split-k")
    assert found.notes == ["the same call gives other bits each time"]
    assert found.regimes[0].names == ("recipe:design",)
    assert "n = 1: recipe:design" in found.text()


def test_a_kernel_that_raises() -> None:
    """A product that does not return ends the experiments."""

    class Raising:
        def mul_mat_q8_a8(self, *arguments: object) -> None:
            raise ValueError(arguments)

    found = reveal_product(InProcessSession(Raising, (MUL_MAT,)), SHORT)
    assert found.notes[0].startswith("a product of m = 32, n = 1, k = 128")
    assert not found.regimes


def test_words_of_trees() -> None:
    """A chain is described by its order, groups by their size and accumulators, else by the number."""
    swapped = ((1, 0), (4, 3), (5, 2))
    assert tree_words(4, swapped) == "elements one after the other: 0, 1, 3, 2"
    assert tree_words(4, ((0, 1), (2, 3), (4, 5))) == "elements in 2 accumulators, each a part of them"
    assert tree_words(3, ((0, 1), (2, 3))) == "3 elements in a tree"
    assert tree_words(4, ((0, 2), (1, 3), (4, 5))) == "elements in 2 accumulators, by turns"


class Codes(Shaders):
    """A device that quantizes by a recipe, and adds blocks one after the other."""

    few = 1 << 20

    def _recipe(self, n: int) -> str:
        """Name the recipe of a product of n rows."""
        return "ggml-ref" if n <= 3 else "ggml-avx2"

    def _floats(self, scale: Array, codes: Array, x: Array) -> Array:
        h, q = quantize_blocks(np.ascontiguousarray(x[:, 0]), self._recipe(len(x)))
        terms = (codes * q[:, np.newaxis]).sum(axis=-1, dtype=np.float32)
        return self._add(terms, h.astype(F32)[:, np.newaxis], scale)

    def _add(self, sums: Array, activation: Array, weight: Array) -> Array:
        """Add up integer sums [n, m, nb] under scales [n, 1, nb] and [m, nb]."""
        return np.cumsum(sums * (activation * weight), axis=-1, dtype=F32)[..., -1]


class NarrowSums(Codes):
    """The same, with sums in bfloat16."""

    def _recipe(self, n: int) -> str:
        del n
        return "design"

    def _add(self, sums: Array, activation: Array, weight: Array) -> Array:
        total = np.zeros(sums.shape[:2], F32)
        for term in np.moveaxis(sums * (activation * weight), -1, 0):
            total = self._narrow(total + term)
        return total

    @staticmethod
    def _narrow(v: Array) -> Array:
        """Round to the upper sixteen bits by the nearest of both neighbours, ties to even."""
        down = (v.view(np.uint32) & np.uint32(0xFFFF0000)).view(F32)
        up = (down.view(np.uint32) + np.uint32(0x10000)).view(F32)
        below, above = np.abs(v.astype(float) - down), np.abs(up.astype(float) - v)
        odd = (down.view(np.uint32) >> np.uint32(16) & np.uint32(1)).astype(bool)
        return np.where((above < below) | ((above == below) & odd), up, down)


class HalfTerms(NarrowSums):
    """The same, with products and sums in half precision."""

    def _add(self, sums: Array, activation: Array, weight: Array) -> Array:
        total = np.zeros(sums.shape[:2], F16)
        for term in np.moveaxis(sums * (activation * weight), -1, 0):
            total = total + term.astype(F16)
        return total.astype(F32)


class DoubleSums(NarrowSums):
    """The same, with sums in double."""

    def _add(self, sums: Array, activation: Array, weight: Array) -> Array:
        exact = sums.astype(np.float64) * (activation * weight)
        return np.cumsum(exact, axis=-1)[..., -1].astype(F32)


class ScaleOfRow(Codes):
    """A device of codes under one scale for a row, which is multiplied last."""

    def _floats(self, scale: Array, codes: Array, x: Array) -> Array:
        d = (np.abs(x).max(axis=(1, 2, 3), keepdims=True) / F32(127)).astype(F32)
        v = x * np.where(d == 0, 0, F32(1) / np.maximum(d, F32(1e-38)))
        q = np.trunc(v + np.copysign(F32(0.5), v))
        sums = (codes * q).sum(axis=-1, dtype=np.float32)
        total: Array = np.cumsum(sums * scale, axis=-1, dtype=F32)[..., -1]
        return np.asarray(total * d[:, 0, :, 0])


class NarrowInputs(Shaders):
    """A device of weights and activations in bfloat16."""

    few = 1 << 20

    def _floats(self, scale: Array, codes: Array, x: Array) -> Array:
        w = NarrowSums._narrow(codes * scale[..., np.newaxis])
        terms = (w * NarrowSums._narrow(x)).reshape(len(x), len(codes), -1)
        return np.cumsum(terms, axis=-1, dtype=F32)[..., -1]


@pytest.mark.parametrize(
    ("device", "names"),
    [
        (Codes, [("recipe:ggml-ref", "order:scalar"), ("recipe:ggml-avx2", "order:scalar")]),
        (NarrowSums, [("recipe:design", "accumulator:bfloat16", "order:scalar")]),
        (HalfTerms, [("recipe:design", "accumulator:float16", "order:scalar")]),
        (DoubleSums, [("recipe:design", "sums-in-double")]),
        (NarrowInputs, [("activations:bfloat16", "accumulator:float32", "weights:bfloat16")]),
        (
            ScaleOfRow,
            [
                (
                    "activations:int8-per-row",
                    "recipe:ggml-ref",
                    "activation-scale:float32",
                    "activation-scale-last",
                    "order:scalar",
                )
            ],
        ),
    ],
)
def test_formats_and_recipes(device: type[Shaders], names: list[tuple[str, ...]]) -> None:
    """Recipes that change with n, formats of weights and of sums, and scales of rows, to the bit."""
    found = reveal_product(InProcessSession(device, (MUL_MAT,)), SHORT)
    assert [regime.names for regime in found.regimes] == names
    assert not any(regime.unexplained for regime in found.regimes)
    assert all(regime.of for regime in found.regimes)
    if device is Codes:
        assert [regime.where for regime in found.regimes] == [
            "every row of x where n <= 3",
            "every row of x where n >= 4",
        ]


def test_other_rows() -> None:
    """Where a row's bits depend on the rows beside it, a product is not batch-invariant."""

    class OneScale(ScaleOfRow):
        def _floats(self, scale: Array, codes: Array, x: Array) -> Array:
            d = np.abs(x).max() / F32(127) or F32(1)
            return Codes._add(
                self, (codes * np.rint(x / d)).sum(axis=-1, dtype=F32), np.full(1, d, F32), scale
            )

    found = reveal_product(InProcessSession(OneScale, (MUL_MAT,)), SHORT)
    assert found.notes == ["the bits of an output depend on the other rows of x"]
    assert not found.is_invariant
    assert "depend on the shape" not in found.text()


def test_activations_of_long_rows() -> None:
    """Activations that stay floats from some length on are named, with the length."""

    class Long(NarrowSums):
        def _floats(self, scale: Array, codes: Array, x: Array) -> Array:
            of_floats = x.shape[2] >= 6
            return Shaders._floats(self, scale, codes, x) if of_floats else super()._floats(scale, codes, x)

        def _add(self, sums: Array, activation: Array, weight: Array) -> Array:
            return Codes._add(self, sums, activation, weight)

    (regime,) = reveal_product(InProcessSession(Long, (MUL_MAT,)), SHORT).regimes
    assert regime.names[:2] == ("recipe:design", "activations:float32")
    assert regime.longer is not None
    assert regime.longer[0] == 6
    assert regime.unexplained
    assert any("from 6 blocks on: activations are kept in float32" in line for line in regime.lines())
    assert regime.to_json()["longer"] == {"blocks": 6, "names": ["activations:float32"]}
