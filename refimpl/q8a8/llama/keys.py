"""The keys of one architecture in a file's metadata, with their types checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from q8a8.llama.errors import ModelError, shortened

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Keys"]

SCALINGS = ("none", "linear", "yarn", "longrope")


class Keys:
    """The keys of an architecture.

    Parameters
    ----------
    metadata
        Values by key.
    architecture
        What the keys begin with.
    """

    def __init__(self, metadata: Mapping[str, object], architecture: str) -> None:
        self._metadata, self._architecture = metadata, architecture

    def name(self, key: str) -> str:
        """Return a key as it is in the file."""
        return f"{self._architecture}.{key}"

    def has(self, key: str) -> bool:
        """Return whether the file has a key."""
        return self.name(key) in self._metadata

    def _get(self, key: str, default: object) -> tuple[str, object]:
        key = self.name(key)
        value = self._metadata.get(key, default)
        if value is None:
            raise ModelError(f"{key}: the key is missing")
        return key, value

    def integer(self, key: str, default: int | None = None) -> int:
        """Return an integer; a list of equal ones, one a layer, counts as one."""
        key, value = self._get(key, default)
        if isinstance(value, np.ndarray) and value.size and (value == value.flat[0]).all():
            value = value.flat[0].item()
        if not isinstance(value, int) or isinstance(value, bool):
            raise ModelError(f"{key}: expected one integer, got {shortened(value)}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """Return a number."""
        key, value = self._get(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ModelError(f"{key}: expected a number, got {shortened(value)}")
        try:
            return float(value)
        except OverflowError:
            raise ModelError(f"{key}: expected a number, got {shortened(value)}") from None

    def require(self, key: str, wanted: int, why: str) -> None:
        """Refuse any other value of a key that may be missing."""
        if self.integer(key, wanted) != wanted:
            raise ModelError(f"{self.name(key)}: expected {wanted}, got {self.integer(key, wanted)}: {why}")

    def require_number(self, key: str, wanted: float, why: str) -> None:
        """Refuse any other value of a key that may be missing."""
        found = self.number(key, wanted)
        if found != wanted:
            raise ModelError(f"{self.name(key)}: expected {wanted}, got {found}: {why}")

    def rope_scaling(self) -> str:
        """Return how rotary positions are scaled; a missing type means linear."""
        key, kind = self._get("rope.scaling.type", "linear")
        if not isinstance(kind, str) or kind not in SCALINGS:
            raise ModelError(f"{key}: {shortened(kind)} is not supported, only {', '.join(SCALINGS)} are")
        return kind

    def rope_scale(self) -> float:
        """Return the factor on positions.

        llama.cpp: a factor of 0 means none, rope_freq_scale_train = 1 / factor; `rope.scale_linear` is the
        key's older name.
        """
        factor = self.number("rope.scaling.factor", self.number("rope.scale_linear", 0.0))
        return 1.0 if self.rope_scaling() == "none" or factor == 0.0 else 1.0 / factor

    def local_layers(self, default: tuple[bool, ...]) -> tuple[bool, ...]:
        """Return which layers are local, as a cycle: a period whose last layer is not, or a list."""
        key, value = self._get("attention.sliding_window_pattern", default)
        if isinstance(value, int) and not isinstance(value, bool):
            # llama.cpp, `set_swa_pattern`: layer i is local where i mod period < period − 1; 0 means all are.
            if not 0 <= value <= 512:
                raise ModelError(f"{key}: expected 0 to 512, got {value}")
            return (*[True] * (value - 1), False) if value else (True,)
        if not isinstance(value, list | tuple | np.ndarray) or not len(value) or len(value) > 512:
            raise ModelError(f"{key}: expected a period or a list of layers, got {shortened(value)}")
        return tuple(bool(local) for local in value)
