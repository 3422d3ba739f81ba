"""Versions of a buffer differ by so little that keys made of samples or sums do not see each of them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from q8a8_conformance.inputs import dot_rows
from q8a8_conformance.inputs.versions import SINGLE, versions


@pytest.mark.parametrize(("unit", "row"), [(34, 136), (36, 144), (4, 128), (4, 2048)])
def test_versions(unit: int, row: int) -> None:
    """Each version has another byte than the one before, or the same words in another order."""
    rng = dot_rows.generator("test-versions", unit)
    data = rng.standard_normal(1024).astype("<f4").tobytes() if unit == 4 else rng.bytes(unit * 64)
    made = [data, *versions(data, unit, row)]
    steps = [np.array([list(one), list(other)], np.uint8) for one, other in pairwise(made)]
    changed = [np.flatnonzero(one != other) for one, other in steps]
    assert [places.size for places in changed[:SINGLE]] == [1] * SINGLE
    assert len({int(places[0]) % 16 for places in changed[:SINGLE]}) > 2
    assert all(places.size > 1 for places in changed[SINGLE:])
    for one, other in steps[SINGLE:]:
        assert sorted(one) == sorted(other)
    for one, other in steps[SINGLE + 1 :: 2]:
        assert one.view("<u8").sum() == other.view("<u8").sum()
        assert np.bitwise_xor.reduce(one.view("<u8")) == np.bitwise_xor.reduce(other.view("<u8"))


def test_values_stay_legal() -> None:
    """Of floats signs change, of blocks codes by one and signs of scales: nothing leaves the domain."""
    x = dot_rows.generator("test-values").standard_normal(256).astype("<f4")
    for data in versions(x.tobytes(), 4, 128):
        assert sorted(np.abs(np.frombuffer(data, "<f4"))) == sorted(np.abs(x))
    row, _ = dot_rows.exact_pair(40)
    for data in versions(row.tobytes(), 34, 136):
        scales = np.frombuffer(data, row.dtype)["weight_scale"]
        assert sorted(np.abs(scales)) == sorted(np.abs(row["weight_scale"]))
