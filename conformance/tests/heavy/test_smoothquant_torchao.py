"""SmoothQuant's statistics and factors against torchao's observer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchao.prototype.smoothquant.core import RunningAbsMaxSmoothQuantObserver

from q8a8.methods.calibration import Source, calibrate
from q8a8.methods.smoothquant import column_maxima, smoothing_factors

NAME = "blk.0.ffn_down.weight"
U = 2.0**-24


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 0.85, 1.0])
def test_factors(alpha: float) -> None:
    """Maxima are bit-equal; factors differ by what torchao adds to both maxima, and by rounding.

    torchao computes (x + 2^-23)^α / (w + 2^-23)^(1−α) in float32. With x and w of at least 1 the sums differ
    from x and w by 2^-23, and as much again in rounding: 4 u at most; the exponents add up to 1. α and 1 − α
    are rounded to float32, u of at most ln 2^10 = 7 in the exponent each. Two powers within 2 u of the true
    ones (one unit in the last place), a quotient and our rounding make 6 u more: 4 + 14 + 6 = 24 u.
    """
    rng = np.random.default_rng(9)
    weight = (rng.standard_normal((40, 64)) * 30).astype(np.float32)
    weight[0] = np.sign(weight[0]) * 40
    batches = [(rng.standard_normal((16, 64)) * 50).astype(np.float32) for _ in range(3)]
    batches[1][4, 7] = -1000
    observer = RunningAbsMaxSmoothQuantObserver(torch.from_numpy(weight), alpha)

    class Model:
        """A model that only passes its batches to the observer."""

        def forward(self, tokens: object, /, *, observe: object, logits_from: int) -> None:
            """Pass the batch of the first token to the observer."""
            assert logits_from == 16
            batch = batches[tokens[0] // 16]  # type: ignore[index] # an array
            observer(torch.from_numpy(batch))
            observe(NAME, batch)  # type: ignore[operator] # a function

    windows = [np.arange(i * 16, i * 16 + 16) for i in range(3)]
    calibration = calibrate(Model(), windows, [NAME], Source("t", 16, 0, 3), model_sha256="m")
    maximum = calibration[NAME].maximum
    assert observer.x_abs_max is not None
    assert np.array_equal(maximum, observer.x_abs_max.numpy())
    assert min(maximum.min(), column_maxima([weight]).min()) >= 1
    assert max(maximum.max(), column_maxima([weight]).max()) <= 2**10
    theirs = observer.compute_smoothing_factor().numpy().astype(np.float64)
    mine = smoothing_factors(maximum, column_maxima([weight]), alpha)
    assert (np.abs(mine - theirs) <= 24 * U * mine).all()
    # The check detects the inverted formula and another α.
    assert (np.abs(1 / mine - theirs) > 24 * U * mine).any()
    other = smoothing_factors(maximum, column_maxima([weight]), abs(alpha - 0.001))
    assert (np.abs(other - theirs) > 24 * U * mine).any()
