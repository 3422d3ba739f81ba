"""The families hold what they promise, by exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from q8a8.recipe import RECIPES, defined
from q8a8_lab.peers import families


def _blocks(family: str, n: int = 64) -> list[list[Fraction]]:
    x = next(families.chunks(family, n))
    return [[Fraction(float(value)) for value in block] for block in x]


@pytest.mark.parametrize("family", families.FAMILIES)
def test_a_shorter_run_is_a_prefix(family: str) -> None:
    """Chunks are streams of their own: the first blocks do not depend on how many follow."""
    n = families.CHUNK + 5
    longer = np.concatenate(list(families.chunks(family, n)))
    assert longer.shape == (n, 32)
    assert longer.dtype == np.float32
    np.testing.assert_array_equal(next(families.chunks(family, 7)), longer[:7])


@pytest.mark.parametrize("family", families.FAMILIES)
def test_seeds_and_chunks_differ(family: str) -> None:
    """Another seed gives other data, and so does the next chunk."""
    first, second = families.chunks(family, 2 * families.CHUNK)
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, next(families.chunks(family, families.CHUNK, seed=1)))


@pytest.mark.parametrize("family", families.FAMILIES)
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_is_defined(family: str, recipe: str) -> None:
    """No block lies beyond a recipe's own arithmetic."""
    assert defined(next(families.chunks(family, 5000)), recipe).all()


def test_exact_ties_are_exact() -> None:
    """Every element but the largest is halfway between two integers times d, and d is a power of two."""
    for block in _blocks("exact-tie"):
        d = max(map(abs, block)) / 127
        assert d.numerator == 1 or d.denominator == 1
        ties = [x / d for x in block if abs(x) != 127 * d]
        assert len(ties) == 31
        assert all(tie.denominator == 2 for tie in ties)


def test_near_ties_are_near() -> None:
    """Every element but the largest is within two ULPs of a tie, on it and on either side of it."""
    sides = set()
    for block in _blocks("near-tie"):
        amax = max(map(abs, block))
        ties = [(2 * k + 1) * amax / 254 for k in range(-127, 127)]
        for x in block:
            if abs(x) != amax:
                off = min((x - tie for tie in ties), key=abs)
                assert abs(off) <= 2 * Fraction(float(np.spacing(np.float32(abs(float(x))))))
                sides.add((off > 0) - (off < 0))
    assert sides >= {-1, 1}


def test_bf16_has_eight_bits() -> None:
    """The lower half of every float is zero."""
    assert not np.any(next(families.chunks("bf16", 100)).view(np.uint32) & 0xFFFF)


def test_the_grid_is_integers_times_a_half() -> None:
    """Every element is an int8 times one half-precision number of its block."""
    for block in _blocks("int8-grid"):
        amax = max(map(abs, block))
        steps = (amax / q for q in range(1, 128))
        assert any(
            Fraction(float(np.float32(float(d)).astype(np.float16))) == d
            and all((x / d).denominator == 1 for x in block)
            for d in steps
            if d < 65504
        )
