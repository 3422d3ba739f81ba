"""The recipes, bit for bit against the exact oracle and against gguf-py."""

from __future__ import annotations

import dataclasses
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import pytest
from gguf.quants import Q8_0
from hypothesis import given
from hypothesis import strategies as st

from q8a8 import RECIPES, defined, errors, get_recipe, quantize_blocks, quantize_row
from q8a8.recipe import apply_recipe
from q8a8_golden import oracle

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAMES = ("design", "ggml-ref", "ggml-neon", "ggml-avx2", "division")
INFINITE_SCALE = 65520 * 127


def block(*values: float) -> NDArray[np.float32]:
    """Make a block of 32 elements that starts with these values; the others are +0."""
    x = np.zeros(32, np.float32)
    x[: len(values)] = values
    return x


def check(x: NDArray[np.float32], recipe: str) -> None:
    """Compare one block, any length, with the oracle: bits of the scale, quants, and where it is defined."""
    patterns = x.view(np.uint32).tolist()
    wanted = oracle.quantize(patterns, recipe)
    if wanted is None:
        # The oracle knows no infinite scale; for the reference it is outside the domain of `design` alone.
        if recipe != "design" and abs(x).max() >= INFINITE_SCALE:
            return
        assert not defined(x, recipe)
        with pytest.raises(errors.DomainError):
            quantize_blocks(x, recipe)
        return
    assert defined(x, recipe)
    h, q = quantize_blocks(x, recipe)
    assert (int(h.view(np.uint16)), q.tolist()) == (wanted.scale, list(wanted.codes))


def tie_blocks() -> list[NDArray[np.float32]]:
    """Blocks whose scaled elements are exact halves of every sign and size, and one ULP beside them."""
    blocks = []
    for exponent in (-24, -10, 0, 3, 15):
        scale = np.float32(2.0**exponent)
        halves = (np.arange(-126.5, 127.5, dtype=np.float32) * scale).reshape(-1, 2)
        for step in (np.float32(-np.inf), None, np.float32(np.inf)):
            moved = halves if step is None else np.nextafter(halves, step)
            padded = np.append(moved, np.zeros(31 * 9 - moved.size, np.float32)).reshape(9, 31)
            blocks += [np.append(part, np.float32(127 * scale)) for part in padded]
    return blocks


EDGE_VALUES = (
    0.0,
    -0.0,
    # h = 0 from 127 * 2^-25 down: the tie, and one ULP to either side.
    *(sign * 127 * 2.0**-25 * (1 + ulp * 2.0**-23) for sign in (1, -1) for ulp in (-1, 0, 1, 2)),
    # d subnormal in half precision, and the smallest normal half.
    *(127 * 2.0**e for e in (-24, -20, -15, -14, -13)),
    # f16 ties of the scale: d = 1 + 2^-11, 1 + 3 * 2^-11.
    127 * (1 + 2.0**-11),
    127 * (1 + 3 * 2.0**-11),
    float(np.nextafter(np.float32(INFINITE_SCALE), np.float32(0))),
    -float(np.nextafter(np.float32(INFINITE_SCALE), np.float32(0))),
    65504.0 * 127,
    1.0,
    1 / 3,
    1e-30,
)


@pytest.mark.rule("Q8A8-QNT-13")
@pytest.mark.parametrize("recipe", NAMES)
def test_ties(recipe: str) -> None:
    """Exact halves of each sign and size, and one ULP to either side of them."""
    for x in tie_blocks():
        check(x, recipe)


@pytest.mark.rule("Q8A8-QNT-13")
@pytest.mark.parametrize("recipe", NAMES)
@pytest.mark.parametrize("value", EDGE_VALUES)
def test_edges(recipe: str, value: float) -> None:
    """The edges of the scale: zero, tiny, subnormal halves, ties of halves, the largest."""
    check(block(value), recipe)
    check(block(value, -value / 2, value / 3, value / 254), recipe)
    check(np.full(32, value, np.float32), recipe)


@pytest.mark.rule("Q8A8-QNT-13")
@pytest.mark.parametrize("recipe", NAMES)
@given(
    mantissas=st.lists(st.integers(-(2**24), 2**24), min_size=1, max_size=40),
    exponent=st.integers(-160, 20),
)
def test_like_magnitudes(recipe: str, mantissas: list[int], exponent: int) -> None:
    """Blocks of any length and of any magnitude, down to the last subnormal."""
    check(np.array([m * 2.0**exponent for m in mantissas], np.float32), recipe)


@pytest.mark.rule("Q8A8-QNT-13")
@pytest.mark.parametrize("recipe", NAMES)
@given(
    patterns=st.lists(st.integers(0, 0xFF7FFFFF).filter(lambda b: b & 0x7FFFFFFF < 0x7F800000), min_size=1)
)
def test_any_bits(recipe: str, patterns: list[int]) -> None:
    """Finite float32 numbers of any bits."""
    check(np.array(patterns, np.uint32).view(np.float32), recipe)


@pytest.mark.rule("Q8A8-QNT-13")
def test_ggml_ref_is_gguf_py() -> None:
    """`ggml-ref` gives the bytes of gguf-py's Q8_0 on gaussian, bf16-sourced, tie and grid data."""
    rng = np.random.default_rng(3)
    gaussian = rng.standard_normal((128, 1024)).astype(np.float32)
    sources = [
        gaussian,
        (gaussian.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32),
        (rng.integers(-254, 255, gaussian.shape) / 2).astype(np.float32),
        (rng.integers(-127, 128, gaussian.shape) * 2.0 ** rng.integers(-12, 9, (128, 1))).astype(np.float32),
    ]
    for x in sources:
        assert quantize_row(x, "ggml-ref").tobytes() == Q8_0.quantize_rows(x).tobytes()


@pytest.mark.rule("Q8A8-QNT-13")
@pytest.mark.parametrize(
    ("recipe", "quants"),
    [
        # amax = 127: inv = d = 1, so the ties are exact, and only the rounding shows.
        ("design", [127, 1, -1, 3, -3, 2]),
        ("ggml-ref", [127, 1, -1, 3, -3, 2]),
        ("ggml-neon", [127, 0, 0, 2, -2, 2]),
        ("ggml-avx2", [127, 0, 0, 2, -2, 2]),
        ("division", [127, 1, -1, 3, -3, 2]),
    ],
)
def test_recipes_differ_in_rounding(recipe: str, quants: list[int]) -> None:
    """Halves tell the recipes that round away from those that round to even."""
    h, q = quantize_blocks(block(127, 0.5, -0.5, 2.5, -2.5, 1.5), recipe)
    assert h == 1
    assert q[:6].tolist() == quants


@pytest.mark.rule("Q8A8-QNT-13")
@pytest.mark.parametrize(
    ("recipe", "largest"), [("design", 0), ("ggml-ref", 127), ("ggml-neon", 127), ("ggml-avx2", 127)]
)
def test_recipes_differ_in_the_zero_test(recipe: str, largest: int) -> None:
    """Where the stored half is zero and d is not, only `design` drops the block."""
    h, q = quantize_blocks(block(127 * 2.0**-26), recipe)
    assert h == 0
    assert q[0] == largest


@pytest.mark.rule("Q8A8-QNT-13")
@pytest.mark.parametrize("recipe", NAMES)
def test_zero_block(recipe: str) -> None:
    """A block of zeros of both signs is zeros for all, but 0/0 for `division`."""
    x = np.copysign(np.zeros(32, np.float32), np.tile(np.array([1, -1], np.float32), 16))
    if recipe == "division":
        assert not defined(x, recipe)
        with pytest.raises(errors.DomainError, match="recipe division is not defined"):
            quantize_blocks(x, recipe)
    else:
        h, q = quantize_blocks(x, recipe)
        assert h.tobytes() == b"\0\0"
        assert not q.any()


def test_where_one_over_d_ends() -> None:
    """1/d is infinite up to d = 2^-128, and finite one subnormal step above."""
    x = np.stack([block(127 * 2.0**-128), block(127 * (2.0**-128 + 2.0**-149)), block(1e-45), block(1e-39)])
    for recipe in ("ggml-ref", "ggml-neon"):
        # 1e-45 / 127 underflows to d = 0: a zero block, and defined.
        assert defined(x, recipe).tolist() == [False, True, True, False]


def test_where_division_ends() -> None:
    """x/d is undefined for d = 0, and where a subnormal d is too coarse for the quotient to fit."""
    full = np.stack([np.full(32, n * 2.0**-149, np.float32) for n in (63, 64, 127, 128, 190, 191)])
    assert defined(full, "division").tolist() == [False, True, True, False, False, True]
    assert quantize_blocks(full[1], "division")[1].tolist() == [64] * 32
    # 191 / 127 rounds to d = 2: half away from 95.5.
    assert quantize_blocks(full[5], "division")[1].tolist() == [96] * 32
    assert quantize_blocks(block(127 * 2.0**-149), "division")[1].tolist() == [127] + [0] * 31


def test_saturation() -> None:
    """With an infinite inverse x86 makes -128 of every element, zeros too."""
    h, q = quantize_blocks(block(1e-39, -1e-39), "ggml-avx2")
    assert h == 0
    assert q.tolist() == [-128] * 32


def test_infinite_scale_is_no_limit_elsewhere() -> None:
    """An infinite scale is what ggml stores then; only `design` counts it as outside its domain."""
    x = block(INFINITE_SCALE, -INFINITE_SCALE / 2)
    for recipe in NAMES[1:]:
        assert defined(x, recipe)
        h, q = quantize_blocks(x, recipe)
        assert h == np.inf
        assert q[0] == 127
    assert not defined(x, "design")


@pytest.mark.rule("Q8A8-QNT-12")
@pytest.mark.parametrize("recipe", NAMES)
@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
def test_no_recipe_takes_nan_or_infinity(recipe: str, value: float) -> None:
    """NaN and infinities are refused, wherever in the block, naming the first of them."""
    x = np.ones((2, 3, 32), np.float32)
    x[1, 2, [7, 9]] = value
    x[1, 2, 3] = 1e30
    assert defined(x, recipe).tolist() == [[True] * 3, [True, True, False]]
    with pytest.raises(errors.DomainError, match="x: row 1, block 2, element 7: value") as caught:
        quantize_blocks(x, recipe)
    assert (caught.value.row, caught.value.block, caught.value.element) == ((1,), 2, 7)
    assert np.array_equal(caught.value.value, abs(value) if np.isnan(value) else value, equal_nan=True)


@pytest.mark.rule("Q8A8-QNT-12")
@pytest.mark.parametrize("sign", [1, -1])
def test_design_refuses_the_infinite_scale(sign: int) -> None:
    """65520 * 127 is refused by name, its float32 neighbour below is taken."""
    below = float(np.nextafter(np.float32(INFINITE_SCALE), np.float32(0)))
    assert quantize_blocks(block(1, sign * below))[0] == 65504
    with pytest.raises(
        errors.DomainError, match=r"element 1: value -?8321040: its block's scale would be inf"
    ):
        quantize_blocks(block(1, sign * INFINITE_SCALE))


def test_empty_blocks() -> None:
    """No blocks, and blocks of no elements: scale +0."""
    h, q = quantize_blocks(np.zeros((2, 0), np.float32))
    assert h.view(np.uint16).tolist() == [0, 0]
    assert q.shape == (2, 0)
    h, q = quantize_blocks(np.zeros((0, 4, 32), np.float32))
    assert (h.shape, q.shape) == ((0, 4), (0, 4, 32))


def test_strided_blocks() -> None:
    """Elements need not lie next to each other."""
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    h, q = quantize_blocks(x.T[::2])
    for i, column in enumerate((0, 2, 4)):
        wanted = oracle.quantize(x[:, column].copy().view(np.uint32).tolist())
        assert wanted is not None
        assert (int(h[i : i + 1].view(np.uint16)[0]), q[i].tolist()) == (wanted.scale, list(wanted.codes))


def test_recipes_are_data() -> None:
    """The table holds the five recipes under their own names, cannot be changed, and says who does what."""
    assert tuple(RECIPES) == NAMES
    assert isinstance(RECIPES, MappingProxyType)
    for name, recipe in RECIPES.items():
        assert recipe.name == name
        assert recipe.source
        assert get_recipe(name) is recipe
        assert get_recipe(recipe) is recipe
        with pytest.raises(dataclasses.FrozenInstanceError):
            recipe.name = "other"  # type: ignore[misc]  # the mistake under test
    with pytest.raises(
        errors.UnknownNameError, match="no recipe is called 'ggml'; there are design, ggml-ref"
    ):
        get_recipe("ggml")


def test_a_recipe_of_ones_own() -> None:
    """A recipe is data: a new combination runs without new code."""
    own = dataclasses.replace(RECIPES["design"], name="own", rounding="half-even")
    assert quantize_blocks(block(127, 0.5, 1.5), own)[1][:3].tolist() == [127, 0, 2]


def test_limits_of_inverse_and_codes() -> None:
    """An inverse that is limited, and codes that are clipped: of amax 127 and 1/64 it is 1 and 8128."""
    x = np.zeros((2, 32), np.float32)
    x[0, :3], x[1, :3] = (127, -127, 126), (1 / 64, -1 / 64, 1 / 128)
    limited = dataclasses.replace(RECIPES["design"], name="own", inverse_limit=4096.0)
    _, q, inside = apply_recipe(x, limited)
    assert q[:, :3].tolist() == [[127, -127, 126], [64, -64, 32]]
    assert inside.all()
    # A recipe that divides has no inverse.
    _, q, _ = apply_recipe(x, dataclasses.replace(limited, inverse="x/d"))
    assert q[:, 0].tolist() == [127, 127]
    _, q, _ = apply_recipe(x, dataclasses.replace(RECIPES["design"], name="own", code_limits=(-126, 100)))
    assert q[:, :3].tolist() == [[100, -126, 100], [100, -126, 64]]


def test_refuses_other_arrays() -> None:
    """Only float32 is taken, and only arrays with an axis."""
    with pytest.raises(errors.DtypeError, match="x: expected float32, got float64"):
        quantize_blocks(np.zeros(32))  # type: ignore[arg-type]  # the mistake under test
    with pytest.raises(errors.ShapeError, match="x: a block has at least one axis"):
        defined(np.zeros((), np.float32))


def test_codes_outside_the_domain_are_zero() -> None:
    """A block that a recipe does not take has no codes."""
    _, q, inside = apply_recipe(np.array([[np.nan, 5], [1, 2]], np.float32), get_recipe("design"))
    assert q.tolist() == [[0, 0], [64, 127]]
    assert inside.tolist() == [False, True]
