"""The rows hold what they promise, and the sign error is modelled by hand-made products."""

from __future__ import annotations

import numpy as np
import pytest

from q8a8.layout import pack
from q8a8_lab.peers import rows


@pytest.mark.parametrize("kind", rows.KINDS)
def test_batches_cover_the_lengths(kind: str) -> None:
    """At least the rows asked for, an even number of each length, scales finite, every length once."""
    found = list(rows.batches(kind, 501))
    assert [batch.x.shape[1] for batch in found] == list(rows.BLOCKS)
    assert sum(len(batch.x) for batch in found) >= 501
    for batch in found:
        assert batch.x.shape == batch.y.shape
        assert len(batch.x) % 2 == 0
        assert np.isfinite(batch.x["weight_scale"]).all()


def test_lengths_are_32_to_8192() -> None:
    """N = 32 and 8192 are there, and odd and even numbers of blocks."""
    assert rows.BLOCKS[0] * 32 == 32
    assert rows.BLOCKS[-1] * 32 == 8192
    assert {nb % 4 for nb in rows.BLOCKS} == {0, 1, 2, 3}


@pytest.mark.parametrize("kind", rows.KINDS)
def test_minus_128_is_apart(kind: str) -> None:
    """Only one kind has -128, in x and in y, and never in both places of one product."""
    for batch in rows.batches(kind, 300):
        qx, qy = batch.x["weight_qs"] == -128, batch.y["weight_qs"] == -128
        if kind != "int8-128":
            assert not (qx | qy).any()
            continue
        assert qx.any()
        assert qy.any()
        assert not (qx & qy).any()


def _row(*q: int) -> np.ndarray[tuple[int, ...], np.dtype[np.void]]:
    """One block for each three numbers."""
    qs = np.zeros((len(q) // 3, 32), np.int8)
    qs[:, :3] = np.reshape(q, (-1, 3))
    return pack(np.ones(len(qs), np.float16), qs)


def test_the_sign_error_takes_the_sign_of_negative_x() -> None:
    """-5 * -128 becomes 5 * -128; 5 * -128 and -5 * -127 stay."""
    x, y = rows.sign_error(_row(-5, 5, -5), _row(-128, -128, -127))
    assert x["weight_qs"][0, :3].tolist() == [5, 5, -5]
    assert y["weight_qs"][0, :3].tolist() == [-128, -128, -127]


def test_a_step_left_over_is_right() -> None:
    """With two blocks a step, the third block is multiplied by C code."""
    x, _ = rows.sign_error(_row(-5, 0, 0, -5, 0, 0, -5, 0, 0), _row(*(-128, 0, 0) * 3), step=2)
    assert x["weight_qs"][:, 0].tolist() == [5, 5, -5]


def test_plus_128_is_refused() -> None:
    """X = y = -128 has no int8 that says what comes out."""
    with pytest.raises(ValueError, match="same place"):
        rows.sign_error(_row(-128, 0, 0), _row(-128, 0, 0))


def test_the_pairs_are_all_there() -> None:
    """511 products have -128 in them."""
    x, y = rows.minus_128_pairs()
    pairs = set(zip(x["weight_qs"][:, 0, 0].tolist(), y["weight_qs"][:, 0, 0].tolist(), strict=True))
    assert len(pairs) == len(x) == 511
    assert all(-128 in pair for pair in pairs)
    assert not x["weight_qs"].reshape(511, -1)[:, 1:].any()
