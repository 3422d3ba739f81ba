"""Statistics of the inputs of a model's linear operators, for the schemes that need them.

===================  ========================================================  =============================
statistic            definition                                                used by
===================  ========================================================  =============================
`maximum`            float32 `[in]`, the largest |x| of each channel           (smoothing)
`mean`               float64 `[in]`, the mean of |x|                           AWQ
`rows`               float32 `[k, in]`, a sample of x                          AWQ
`hessian`            float64 `[in, in]`, 2/n · Σ x xᵀ                          GPTQ
`absmax`, `mse` ...  a number: the threshold of a method of `observers`        static quantization
`ends-absmax` ...    float64 `[2]`: both ends by such a method                 static, with zero points
===================  ========================================================  =============================

The first three are in a `Calibration`, which can be saved; the others are gathered by `gather_inputs`. All
are of the float model. The authors of GPTQ and AWQ go layer by layer instead, each on the output of the
quantized layers before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.errors import ArgumentError, UnknownNameError
from q8a8.llama.config import HEAD, linear_names
from q8a8.methods.calibration import input_of, observe_model
from q8a8.methods.gptq import Hessian
from q8a8.methods.observers import METHODS, Observer
from q8a8.methods.signed_observer import SignedObserver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray

    from q8a8.llama.config import Config
    from q8a8.llama.model import Model
    from q8a8.methods.calibration import Calibration

__all__ = ["CALIBRATED", "GATHERED", "HESSIAN", "InputStatistics", "SeenInput", "gather_inputs"]

CALIBRATED = ("maximum", "mean", "rows")
"""The statistics of a `Calibration`."""

HESSIAN = "hessian"

GATHERED = (HESSIAN, *METHODS, *(f"ends-{method}" for method in METHODS))
"""The statistics of `gather_inputs`."""


class SeenInput:
    """Statistics of one input: its Hessian, the histogram of its magnitudes, or both.

    Parameters
    ----------
    width
        Elements of a row.
    hessian, histogram
        Which of them to keep.
    """

    def __init__(self, width: int, *, hessian: bool = True, histogram: bool = True) -> None:
        self.hessian = Hessian(width) if hessian else None
        self.observer = Observer() if histogram else None
        self.signed = SignedObserver() if histogram else None
        self._thresholds: dict[str, float] = {}

    def joined(self, other: SeenInput) -> SeenInput:
        """Return the same with what the other one has of the same rows and this one has not."""
        found = SeenInput(0, hessian=False, histogram=False)
        found.hessian = self.hessian or other.hessian
        found.observer, found.signed = self.observer or other.observer, self.signed or other.signed
        return found

    def update(self, x: NDArray[np.float32]) -> None:
        """Add rows, float32 `[t, width]`; errors as `Hessian.update` and `Observer.observe`."""
        if self.hessian is not None:
            self.hessian.update(x)
        if self.observer is not None and self.signed is not None:
            self.observer.observe(x)
            self.signed.observe(x)
            self._thresholds.clear()

    def threshold(self, method: str) -> float:
        """Find the threshold of a method, once for all operators that share the input.

        Raises
        ------
        ArgumentError
            where no histogram was kept.
        """
        if self.observer is None:
            raise ArgumentError("no histogram was kept")
        if method not in self._thresholds:
            self._thresholds[method] = self.observer.threshold(method)
        return self._thresholds[method]


@dataclass(frozen=True)
class InputStatistics:
    """Calibration data, from which a scheme takes the statistics that it needs.

    Attributes
    ----------
    calibration
        Maxima, means and rows of the operators' inputs.
    inputs
        Hessians and histograms, by `input_of` name.
    """

    calibration: Calibration | None = None
    inputs: Mapping[str, SeenInput] | None = None

    def require_calibration(self, who: str) -> Calibration:
        """Return the calibration.

        Raises
        ------
        ArgumentError
            naming the scheme that needs it, where there is none.
        """
        if self.calibration is None:
            raise ArgumentError(f"{who}: this scheme needs a calibration, got none")
        return self.calibration

    def get(self, statistic: str, name: str, who: str) -> NDArray[Any] | float:
        """Return one statistic of an operator's input.

        Parameters
        ----------
        statistic
            Its name.
        name
            The operator's weight.
        who
            The scheme that needs it, for errors.

        Raises
        ------
        UnknownNameError
            for an unknown statistic.
        ArgumentError
            naming the scheme, where it was not gathered.
        CalibrationError
            for an operator that was not run.
        """
        if statistic in CALIBRATED:
            calibration = self.require_calibration(who)
            if statistic == "rows":
                return calibration.rows(name)
            return calibration[name].maximum if statistic == "maximum" else calibration[name].mean
        if statistic not in GATHERED:
            raise UnknownNameError("statistic", statistic, (*CALIBRATED, *GATHERED))
        inputs = self.inputs or {}
        seen = inputs.get(input_of(name, inputs))
        if seen is not None and statistic == "hessian" and seen.hessian is not None:
            return seen.hessian.matrix()
        if seen is not None and statistic.startswith("ends-") and seen.signed is not None:
            return np.array(seen.signed.ends(statistic.removeprefix("ends-")))
        if seen is not None and statistic in METHODS and seen.observer is not None:
            return seen.threshold(statistic)
        raise ArgumentError(
            f"{who}: this scheme needs the {statistic} of the input of {name}; it was not gathered"
        )


def _width(config: Config, name: str) -> int:
    """Count the channels of an operator's input."""
    operator = name.split(".")[-2]
    if operator == "ffn_down":
        return config.d_ff
    return config.n_heads * config.d_head if operator == "attn_output" else config.d_model


def gather_inputs(
    model: Model,
    windows: Iterable[NDArray[np.integer[Any]]],
    *,
    hessian: bool = True,
    histogram: bool = True,
    head: bool = False,
    progress: Callable[[int], None] | None = None,
) -> dict[str, SeenInput]:
    """Run windows of tokens through the float model, and gather statistics of its linear operators' inputs.

    Parameters
    ----------
    model
        The float model.
    windows
        Token ids `[t]`.
    hessian, histogram
        The statistics to gather.
    head
        Include the head's input.
    progress
        Called with the number of windows done, after each.

    Returns
    -------
    By `input_of` name.

    Raises
    ------
    CalibrationError, DomainError
        as `observe_model` and `SeenInput.update`.
    """
    names = [*linear_names(model.config), *([HEAD] if head else [])]
    seen = {
        name: SeenInput(_width(model.config, name), hessian=hessian, histogram=histogram)
        for name in names
        if input_of(name, names) == name
    }
    observe_model(model, windows, seen, progress=progress)
    return seen
