"""The fast functions have the bits and the errors of their definitions in plain NumPy.

Inputs: every golden case, the edges of the rules, and random rows of every magnitude, in chunks and tiles so
small that an array spans several.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from q8a8 import RECIPES, _fast_dot, _fast_quantize, as_blocks
from q8a8.dot import dot_rows, lane_sums, plain_lane_sums, plain_vec_dot, vec_dot
from q8a8.errors import DomainError
from q8a8.layout import BLOCK_Q8_A8, BLOCK_Q8_A8_V2
from q8a8.matmul import mul_mat, mul_mat_quantized, plain_mul_mat, plain_mul_mat_quantized
from q8a8.order import ORDERS
from q8a8.quantize import (
    dequantize_row,
    plain_dequantize_row,
    plain_quantize_row,
    plain_quantize_row_v2,
    quantize_row,
    quantize_row_v2,
)
from q8a8_golden import load_cases

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from q8a8.recipe import Recipe

Array: TypeAlias = "NDArray[Any]"

INFINITE_SCALE = 65520.0 * 127
LARGEST = float(np.finfo(np.float32).max)
ROWS = hnp.arrays(
    np.uint32,
    st.tuples(st.integers(1, 3), st.sampled_from([0, 32, 64, 160])),
    elements=st.integers(0, 2**32 - 1),
)


def outcome(function: Callable[..., Array], *args: Any, **options: Any) -> object:  # noqa: ANN401 - of any function
    """Return the dtype, shape and bytes of a result, or the text and the place of the error."""
    try:
        result = function(*args, **options)
    except DomainError as error:
        place = (error.reason, error.array, error.row, error.block, error.element, repr(error.value))
        return (str(error), *place)
    return str(result.dtype), result.shape, result.tobytes()


def golden_floats() -> list[Array]:
    """Return the float32 rows and vectors of the golden cases."""
    return [
        np.frombuffer(case.inputs[name], "<f4")
        for case in load_cases()
        for name in ("x", "input")
        if name in case.inputs and case.function.startswith("quantize")
    ]


def golden_rows(dtype: np.dtype[Any]) -> list[Array]:
    """Return the rows of blocks of one version in the golden cases: operands of dot products, and others."""
    version_2 = dtype == BLOCK_Q8_A8_V2
    rows = []
    for case in load_cases():
        if case.function.startswith(("dequantize", "ggml_vec_dot")) and version_2 == case.function.endswith(
            "real"
        ):
            rows += [case.inputs[name] for name in ("x", "vx", "vy") if name in case.inputs]
    return [as_blocks(data[: len(data) // dtype.itemsize * dtype.itemsize], dtype) for data in rows]


def around(value: float) -> list[float]:
    """Return a float32 of both signs, and the numbers one ULP beside it."""
    x = np.float32(value)
    beside = [np.nextafter(x, np.float32(-np.inf)), x, np.nextafter(x, np.float32(np.inf))]
    return [float(sign * v) for sign in (1, -1) for v in beside]


def edge_rows() -> Array:
    """Return rows at the edges of the quantizer's rules, float32 [n, 64]: an ordinary block and an edge."""
    blocks = []
    largest = (
        # h = 0 up to the tie of 2^-25, subnormal and normal halves, ties of halves.
        *(127 * 2.0**e for e in (-26, -25, -24, -20, -15, -14, -13, 0)),
        127 * (1 + 2.0**-11), 127 * (1 + 3 * 2.0**-11), 65504.0 * 127,
        # The first infinite scale; the largest number.
        INFINITE_SCALE, LARGEST,
        # Where 1/d and 127/amax become infinite; subnormal d; the smallest numbers.
        127 * 2.0**-128, 127 * 2.0**-126, 127 * 2.0**-149, 190 * 2.0**-149, 63 * 2.0**-149, 2.0**-149,
        1.0, 1 / 3,
    )  # fmt: skip
    for top in largest:
        with np.errstate(over="ignore"):
            values = [v for v in around(top) if np.isfinite(v)]
        for value in values:
            blocks += [[value, -value / 2, value / 3, value / 254, 0.0, -0.0], [value] * 32]
    # Exact halves under every scale 2^e, and the numbers one ULP beside them.
    for exponent in (-24, -10, 0, 15):
        halves = (np.arange(-126.5, 127.5) * 2.0**exponent).tolist()
        for first in range(0, len(halves), 10):
            ties = [v for half in halves[first : first + 10] for v in around(half)[:3]]
            blocks.append([127 * 2.0**exponent, *ties])
    blocks += [[0.0] * 32, [-0.0] * 32, [0.0, -0.0] * 16]
    rows = np.zeros((len(blocks), 64), np.float32)
    rows[:, :32] = np.linspace(-3, 5, 32)
    for row, block in zip(rows, blocks, strict=True):
        row[32 : 32 + len(block)] = block
    return rows


@pytest.fixture(params=[64, 96, 1 << 17])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut arrays into chunks of two and three blocks, and leave them whole."""
    monkeypatch.setattr(_fast_quantize, "CHUNK", request.param)


def compare_quantizers(x: Array, recipe: str | Recipe) -> None:
    """Quantize to blocks of both versions, by both ways."""
    assert outcome(quantize_row, x, recipe) == outcome(plain_quantize_row, x, recipe)
    for field in ("weight_scale", "activation_scale"):
        expected = outcome(plain_quantize_row_v2, x, field, recipe)
        assert outcome(quantize_row_v2, x, field, recipe) == expected


def test_a_recipe_of_other_steps() -> None:
    """A recipe with steps that no table has, such as halves rounded up, gives the same bits."""
    recipe = replace(RECIPES["design"], name="half up", rounding="half-up")
    assert not recipe.is_plain
    x = edge_rows()[:, 32:]
    compare_quantizers(x[np.abs(x).max(axis=1) < INFINITE_SCALE].reshape(-1), recipe)
    compare_quantizers(np.repeat(np.array([127, 2.5], np.float32), 16), recipe)


@pytest.mark.parametrize("code", [-130, -129, -128, 127, 128, 129])
def test_the_ends_of_int8(code: int) -> None:
    """Divided by the smallest d a subnormal gives its own code: what int8 cannot hold is refused, by both."""
    x = np.zeros(32, np.float32)
    x[5] = code * 2.0**-149
    expected = outcome(plain_quantize_row, x, "division")
    assert outcome(quantize_row, x, "division") == expected
    if -128 <= code <= 127:
        assert quantize_row(x, "division")["weight_qs"][0, 5] == code
    else:
        with pytest.raises(DomainError):
            quantize_row(x, "division")


def test_defaults_of_version_2() -> None:
    """By default both quantize by the specification's recipe, and the scale is the activation's."""
    x = np.linspace(-3, 5, 32, dtype=np.float32)
    for blocks in (plain_quantize_row_v2(x), quantize_row_v2(x)):
        assert np.array_equal(blocks["activation_scale"], plain_quantize_row(x)["weight_scale"])
        assert np.array_equal(blocks["weight_qs"], plain_quantize_row(x, "design")["weight_qs"])
        assert not blocks["weight_scale"].any()


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("recipe", RECIPES)
def test_quantizing_golden_rows(recipe: str) -> None:
    """Golden rows, those outside the domain too."""
    rows = golden_floats()
    assert len(rows) > 50
    for x in rows:
        compare_quantizers(x[: len(x) // 32 * 32], recipe)


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("recipe", RECIPES)
def test_quantizing_edges(recipe: str) -> None:
    """Edges of the rules, row by row: where a recipe is not defined, the error is the same."""
    for x in edge_rows():
        compare_quantizers(x, recipe)


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("recipe", RECIPES)
def test_quantizing_all_edges_that_are_defined(recipe: str) -> None:
    """Edges beside each other, in one array."""
    rows = [x for x in edge_rows() if len(outcome(plain_quantize_row, x, recipe)) == 3]  # type: ignore[arg-type] # a tuple
    assert len(rows) > 50
    compare_quantizers(np.array(rows), recipe)


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf, INFINITE_SCALE, -LARGEST, 2.0**-149])
@pytest.mark.parametrize("recipe", RECIPES)
def test_the_place_of_a_value_outside_the_domain(recipe: str, value: float) -> None:
    """Row, block, element and value are the same wherever the value lies, beyond the first chunk too."""
    for place in ((0, 0, 0), (0, 2, 95), (1, 0, 64), (1, 2, 33)):
        x = np.ones((2, 3, 96), np.float32)
        x[place] = value
        x[1, 2, 94] = np.nan
        compare_quantizers(x, recipe)
        compare_quantizers(x.transpose(1, 0, 2)[:, ::-1], recipe)


@pytest.mark.parametrize("size", [64, 1 << 17])
@pytest.mark.parametrize("recipe", RECIPES)
@given(bits=ROWS)
def test_quantizing_any_bits(recipe: str, size: int, bits: Array) -> None:
    """Rows of any bits: NaNs, infinities and subnormal numbers among them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_fast_quantize, "CHUNK", size)
        compare_quantizers(bits.view(np.float32), recipe)


@pytest.mark.parametrize("recipe", RECIPES)
@given(seed=st.integers(0, 2**32 - 1), exponent=st.integers(-150, 127))
def test_quantizing_random_rows(recipe: str, seed: int, exponent: int) -> None:
    """Blocks of one magnitude each, of every magnitude."""
    x = np.random.default_rng(seed).uniform(-1, 1, (2, 96)) * 2.0**exponent
    compare_quantizers(x.astype(np.float32), recipe)


def compare_dequantizers(blocks: Array) -> None:
    """Dequantize by both ways, with every scale field that the blocks have."""
    for field in (blocks.dtype.names or ())[:-1]:
        expected = outcome(plain_dequantize_row, blocks, field=field)
        assert outcome(dequantize_row, blocks, field=field) == expected


@pytest.mark.usefixtures("chunk")
def test_dequantizing_golden_rows() -> None:
    """Golden blocks of both versions."""
    for dtype in (BLOCK_Q8_A8, BLOCK_Q8_A8_V2):
        rows = golden_rows(dtype)
        assert len(rows) > 20
        for blocks in rows:
            compare_dequantizers(blocks)


@pytest.mark.parametrize("size", [64, 1 << 17])
@pytest.mark.parametrize("dtype", [BLOCK_Q8_A8, BLOCK_Q8_A8_V2])
@given(data=st.binary(min_size=36 * 12, max_size=36 * 12))
def test_dequantizing_any_bytes(dtype: np.dtype[Any], size: int, data: bytes) -> None:
    """Blocks of any bytes; scales that are not finite are refused at the same place."""
    blocks = np.frombuffer(data[: dtype.itemsize * 12], dtype).reshape(2, 2, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_fast_quantize, "CHUNK", size)
        compare_dequantizers(blocks)
        compare_dequantizers(blocks.transpose(2, 0, 1)[::-1])


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("bits", [0x7C00, 0xFC00, 0x7E00, 0xFFFF])
def test_the_place_of_a_scale_that_is_not_finite(bits: int) -> None:
    """Row, block and value are the same in any chunk."""
    for place in ((0, 0, 0), (1, 2, 4), (2, 1, 3)):
        blocks = np.zeros((3, 3, 5), BLOCK_Q8_A8)
        blocks["weight_scale"].view(np.uint16)[place] = bits
        blocks["weight_scale"].view(np.uint16)[2, 2, 4] = 0x7E00
        compare_dequantizers(blocks)


def random_blocks(*shape: int, seed: int) -> Array:
    """Make blocks of any int8, -128 among them, and any finite scale: subnormal, zero, negative."""
    rng = np.random.default_rng([seed, *shape])
    blocks = np.zeros(shape, BLOCK_Q8_A8)
    blocks["weight_qs"] = rng.integers(-128, 128, (*shape, 32))
    blocks["weight_qs"][..., rng.integers(0, 32, 16)] = rng.choice([-128, 0, 127])
    signs = rng.integers(0, 2, shape) << 15
    blocks["weight_scale"] = (rng.integers(0, 0x7C00, shape) | signs).astype(np.uint16).view(np.float16)
    return blocks


def test_golden_dot_products() -> None:
    """Golden rows, each times the next."""
    rows = golden_rows(BLOCK_Q8_A8)
    for x, y in pairwise(rows):
        nb = min(len(x), len(y))
        assert outcome(vec_dot, x[:nb], y[:nb]) == outcome(plain_vec_dot, x[:nb], y[:nb])


@pytest.mark.parametrize("size", [1, 64, 200, 1 << 19])
@given(nb=st.integers(0, 9), seed=st.integers(0, 2**32 - 1), bad=st.booleans())
def test_dot_products(size: int, nb: int, seed: int, bad: bool) -> None:
    """Rows that broadcast, in chunks as small as a block; a scale that is not finite has the same place."""
    x, y = random_blocks(2, 1, nb, seed=seed), random_blocks(3, nb, seed=seed + 1)
    if bad and nb:
        y["weight_scale"][seed % 3, seed % nb] = np.nan
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_fast_dot, "CHUNK", size)
        assert outcome(vec_dot, x, y) == outcome(plain_vec_dot, x, y)


@given(nb=st.integers(0, 5), seed=st.integers(0, 2**32 - 1), name=st.sampled_from(sorted(ORDERS)))
def test_lane_sums(nb: int, seed: int, name: str) -> None:
    """The lanes of every order, of any int8."""
    qx, qy = (random_blocks(3, nb, seed=seed + i)["weight_qs"] for i in (0, 1))
    lanes = ORDERS[name].lanes
    assert outcome(lane_sums, qx, qy, lanes) == outcome(plain_lane_sums, qx, qy, lanes)


@given(nb=st.integers(0, 7), seed=st.integers(0, 2**32 - 1))
def test_the_scalar_order_interpreted(nb: int, seed: int) -> None:
    """`dot_rows` with the data of the order `scalar` is the specification's loop."""
    x, y = random_blocks(4, nb, seed=seed), random_blocks(4, nb, seed=seed + 1)
    d = x["weight_scale"].astype(np.float32) * y["weight_scale"].astype(np.float32)
    total = dot_rows(ORDERS["scalar"], x["weight_qs"], y["weight_qs"], d)
    assert total.tobytes() == plain_vec_dot(x, y).tobytes()


@pytest.mark.parametrize("threads", [1, 3])
def test_golden_rows_multiplied(threads: int) -> None:
    """Golden rows of blocks as W, times themselves and times the golden floats of the same length."""
    by_length: dict[int, list[Array]] = {}
    for row in golden_rows(BLOCK_Q8_A8):
        by_length.setdefault(len(row), []).append(row)
    products = 0
    for nb, rows in by_length.items():
        w = np.stack(rows)
        expected = outcome(plain_mul_mat_quantized, w, w)
        assert outcome(mul_mat_quantized, w, w, threads=threads) == expected
        finite = w[np.isfinite(w["weight_scale"]).all(axis=1)]
        for x in golden_floats():
            if len(x) == 32 * nb:
                expected = outcome(plain_mul_mat, finite, x[np.newaxis])
                assert outcome(mul_mat, finite, x[np.newaxis], threads=threads) == expected
                products += 1
    assert products > 20


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("m", "nb", "n"), [(33, 129, 31), (257, 2, 3), (2, 3, 513), (0, 2, 3), (3, 0, 2)])
def test_products_of_any_blocks(m: int, nb: int, n: int, threads: int) -> None:
    """Shapes on both sides of a slice, a tile, a band and a panel, and empty ones."""
    w, xq = random_blocks(m, nb, seed=1), random_blocks(n, nb, seed=2)
    assert outcome(mul_mat_quantized, w, xq, threads=threads) == outcome(plain_mul_mat_quantized, w, xq)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("recipe", RECIPES)
def test_products_of_edges(recipe: str, threads: int) -> None:
    """Edges of the quantizer's rules as activations; the first that is outside the domain is named."""
    x = np.concatenate([edge_rows()[:50], np.random.default_rng(3).standard_normal((600, 64), np.float32)])
    w = random_blocks(5, 2, seed=4)
    for rows in (x, x[::-1], x[100:]):
        expected = outcome(plain_mul_mat, w, rows, recipe=recipe)
        assert outcome(mul_mat, w, rows, recipe=recipe, threads=threads) == expected


@pytest.mark.parametrize("threads", [1, 2])
def test_the_place_of_a_bad_factor(threads: int) -> None:
    """NaN in X in any slice and band, and scales of both factors that are not finite, have the same place."""
    w, x = random_blocks(3, 2, seed=5), np.ones((600, 64), np.float32)
    for place in ((0, 0), (31, 63), (32, 32), (511, 1), (512, 40), (599, 63)):
        bad = x.copy()
        bad[place] = np.nan
        bad[599, 63] = np.inf
        assert outcome(mul_mat, w, bad, threads=threads) == outcome(plain_mul_mat, w, bad)
    for xq in (random_blocks(4, 2, seed=6), random_blocks(4, 2, seed=7)):
        for factor in (xq, w):
            factor["weight_scale"][2, 1] = np.inf
            expected = outcome(plain_mul_mat_quantized, w, xq)
            assert outcome(mul_mat_quantized, w, xq, threads=threads) == expected


def test_the_scale_of_version_2_is_the_weights_by_default() -> None:
    """Dequantizing uses `weight_scale` of a version 2 block where the caller names no field."""
    blocks = np.zeros(1, BLOCK_Q8_A8_V2)
    blocks["weight_qs"], blocks["weight_scale"], blocks["activation_scale"] = 1, 2, 3
    for function in (dequantize_row, plain_dequantize_row):
        assert function(blocks).tolist() == [2.0] * 32


def test_a_row_longer_than_its_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dot product by lanes takes every block of a row that spans more chunks than a block has bytes."""
    monkeypatch.setattr(_fast_dot, "CHUNK", 64)
    x = np.zeros(70, BLOCK_Q8_A8)
    x["weight_qs"], x["weight_scale"] = 1, 1
    assert vec_dot(x, x, "avx2") == 70 * 32
