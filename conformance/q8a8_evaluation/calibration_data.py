"""What schemes are calibrated with: a text or a saved calibration, and the statistics made from it so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from q8a8.arithmetic import is_own
from q8a8.errors import ArgumentError
from q8a8.methods.calibration import Calibration, CalibrationError
from q8a8.schemes.statistics import InputStatistics, gather_inputs
from q8a8_evaluation.calibration import calibrate_model
from q8a8_evaluation.fingerprint import fingerprint
from q8a8_evaluation.machine import machine
from q8a8_evaluation.store import key_of
from q8a8_evaluation.text import read_text, sha256, windows

if TYPE_CHECKING:
    from pathlib import Path

    from q8a8.llama.load import LoadedModel
    from q8a8.schemes.scheme import Scheme

__all__ = ["CALIBRATION_WINDOWS", "CalibrationData"]

CALIBRATION_WINDOWS = 32
"""Windows of the calibration text, by default."""

_PACKAGE = "q8a8_evaluation"


@dataclass
class CalibrationData:
    """The inputs of a calibration, and the statistics made from them so far.

    Attributes
    ----------
    source
        A text, or a calibration that `q8a8 calibrate` saved (`.npz`); None for none.
    window, count
        Tokens of a window of the text, and how many windows.
    """

    source: Path | None = None
    window: int = 512
    count: int = CALIBRATION_WINDOWS
    _statistics: InputStatistics = field(default_factory=InputStatistics)

    @property
    def is_file(self) -> bool:
        """Whether the calibration is a saved one."""
        return self.source is not None and self.source.suffix == ".npz"

    @cached_property
    def facts(self) -> dict[str, Any]:
        """The inputs that the calibration depends on, for JSON; errors as `sha256`."""
        if self.source is None:
            return {}
        found: dict[str, Any] = {"file": self.source.name, "sha256": sha256(self.source)}
        return found if self.is_file else {**found, "window": self.window, "windows": self.count}

    def statistics(
        self, loaded: LoadedModel, scheme: Scheme, *, head: bool, folder: Path | None = None
    ) -> InputStatistics:
        """Calibrate as far as a scheme needs it; what can be saved is kept in a folder.

        Raises
        ------
        ArgumentError, CalibrationError, FileError, ArchiveError
            There is nothing to calibrate with; it is of another model; the text cannot be used.
        """
        if not (scheme.needs_calibration or scheme.needs_inputs):
            return self._statistics
        if self.source is None:
            raise ArgumentError(f"{scheme.name}: this scheme needs --calibration")
        calibration, inputs = self._statistics.calibration, self._statistics.inputs
        if scheme.needs_calibration and calibration is None:
            if self.is_file:
                calibration = Calibration.load(self.source)
                if calibration.model_sha256 != loaded.sha256:
                    raise CalibrationError(f"{self.source}: a calibration of another model")
            else:
                calibration = self._calibration(loaded, self.source, folder, head=head)
        seen = next(iter((inputs or {}).values()), None)
        hessian = scheme.needs_hessian and (seen is None or seen.hessian is None)
        histogram = scheme.needs_histogram and (seen is None or seen.observer is None)
        if hessian or histogram:
            if self.is_file:
                raise ArgumentError(
                    f"{scheme.name}: what it needs is not saved; give the text to --calibration"
                )
            tokens = loaded.tokenizer.encode(read_text(self.source))
            found = gather_inputs(
                loaded.model(),
                windows(tokens, self.window, self.count),
                hessian=hessian,
                histogram=histogram,
                head=head,
            )
            inputs = {name: each.joined(inputs[name]) if inputs else each for name, each in found.items()}
        self._statistics = InputStatistics(calibration, inputs)
        return self._statistics

    def _calibration(
        self, loaded: LoadedModel, source: Path, folder: Path | None, *, head: bool
    ) -> Calibration:
        """Calibrate on the text, or take the calibration that an earlier run has kept."""
        tokens = self.count * self.window
        if folder is None:
            return calibrate_model(loaded, source, tokens=tokens, window=self.window, head=head)
        modules = {"q8a8.llama.model", "q8a8.methods.calibration"}
        code = fingerprint(modules, {f"{_PACKAGE}.calibration", f"{_PACKAGE}.text"})
        arithmetic = "own" if is_own() else machine()
        facts = {"text": self.facts, "model": loaded.sha256, "code": code, "arithmetic": arithmetic}
        key = key_of({**facts, "head": True} if head else facts)
        path = folder / f"calibration-{key}.npz"
        if path.exists():
            return Calibration.load(path)
        folder.mkdir(parents=True, exist_ok=True)
        calibration = calibrate_model(loaded, source, tokens=tokens, window=self.window, head=head)
        calibration.save(path)
        return calibration
