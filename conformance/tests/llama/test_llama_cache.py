"""The cache of keys and values: what goes in comes back, and room is counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8.errors import DtypeError
from q8a8.llama import FloatCache, ModelError

if TYPE_CHECKING:
    from tests.llama.conftest import Tiny


def rows(start: int, stop: int, dtype: type = np.float32) -> np.ndarray:
    """Return heads whose values encode their position."""
    return np.arange(start * 32, stop * 32, dtype=dtype).reshape(-1, 2, 16)


def test_what_is_appended_comes_back(tiny: Tiny) -> None:
    """Layers are apart, keys and values are, and all positions so far come back in order."""
    cache = FloatCache(tiny.config, 5)
    assert (len(cache), cache.nbytes) == (0, 0)
    for layer in (0, 1):
        keys, values = cache.append(layer, rows(0, 3) + layer, -rows(0, 3))
        assert (keys == rows(0, 3) + layer).all()
        assert (values == -rows(0, 3)).all()
        # A position counts when the last layer has it.
        assert len(cache) == 3 * layer
    keys, values = cache.append(0, rows(3, 5), -rows(3, 5))
    assert (keys == rows(0, 5)).all()
    assert (values == -rows(0, 5)).all()
    assert len(cache) == 3
    # Five positions in one layer and three in the other; 2 heads of 16, keys and values, 4 bytes.
    assert cache.nbytes == (5 + 3) * 2 * 16 * 2 * 4


def test_half_precision_rounds_to_nearest_even(tiny: Tiny) -> None:
    """2049 is a tie in float16 and goes to 2048, 2051 to 2052; memory is halved, dtypes stay."""
    cache = FloatCache(tiny.config, 1, np.float16)
    given = np.full((1, 2, 16), 2049, np.float32)
    given[0, 1] = 2051
    keys, values = cache.append(0, given, given)
    assert keys.dtype == values.dtype == np.float32
    assert keys[0, 0, 0] == 2048
    assert values[0, 1, 0] == 2052
    assert cache.nbytes == 2 * 16 * 2 * 2


def test_double_precision_keeps_everything(tiny: Tiny) -> None:
    """A model in float64 has a cache in float64."""
    cache = FloatCache(tiny.config, 1, np.float64)
    given = np.full((1, 2, 16), 1 / 3)
    assert (cache.append(1, given, given)[0] == given).all()


def test_truncated_positions_are_gone(tiny: Tiny) -> None:
    """The next positions take their place; a length that is not reached changes nothing."""
    cache = FloatCache(tiny.config, 4)
    for layer in (0, 1):
        cache.append(layer, rows(0, 4), rows(0, 4))
    cache.truncate(9)
    assert len(cache) == 4
    cache.truncate(1)
    assert len(cache) == 1
    keys, _ = cache.append(0, rows(7, 8), rows(7, 8))
    assert (keys == np.concatenate([rows(0, 1), rows(7, 8)])).all()


def test_full_cache_refuses(tiny: Tiny) -> None:
    """Nothing is taken of what does not fit."""
    cache = FloatCache(tiny.config, 2)
    cache.append(0, rows(0, 2), rows(0, 2))
    with pytest.raises(ModelError, match="position 2 does not fit, capacity 2"):
        cache.append(0, rows(2, 3), rows(2, 3))
    assert cache.append(0, rows(0, 0), rows(0, 0))[0].shape == (2, 2, 16)


def test_other_dtypes_are_refused(tiny: Tiny) -> None:
    """Only floats."""
    with pytest.raises(DtypeError, match="got int8"):
        FloatCache(tiny.config, 2, np.int8)
