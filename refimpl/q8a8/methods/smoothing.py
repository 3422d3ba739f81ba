"""Smoothing factors, and how they are folded into a model's weights.

Any factors s > 0 leave the model's output as it is, but for one rounding a product or quotient.
`q8a8.methods.smoothquant` computes them, and defines the groups that share them.

::

    columns of W times s           W'_ij = f32(W_ij · s_j)
    the layer before over s        g'_j  = f32(g_j / s_j),   rows: W'_ji = f32(W_ji / s_j)
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.errors import ArgumentError, require_dtype
from q8a8.methods.archive import ArchiveError, read_archive, write_archive

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    F32 = NDArray[np.float32]

__all__ = ["FoldGroup", "SmoothedGroup", "Smoothing", "SmoothingError"]

KIND, VERSION = "q8a8-smoothing", 1


class SmoothingError(ArgumentError):
    """Factors that do not fit a tensor or a model; the message names the tensor, and the place in it."""


@dataclass(frozen=True)
class FoldGroup:
    """Weights that one vector of factors goes into.

    Attributes
    ----------
    name
        The group's name.
    multiplied
        Weights `[out, in]` of which column j is multiplied by s_j: they share their input.
    divided
        Tensors `[in]` or `[in, ...]` of which entry or row j is divided by s_j; biases of the layer before
        among them, which a Llama model does not have.
    """

    name: str
    multiplied: tuple[str, ...]
    divided: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class SmoothedGroup:
    """A group with its factors.

    Attributes
    ----------
    group
        The weights that they are folded into.
    factors
        float32 `[in]`, positive.
    alpha
        Their α; None where nothing is smoothed, and all factors are 1.
    """

    group: FoldGroup
    factors: F32
    alpha: float | None


@dataclass(frozen=True, eq=False)
class Smoothing:
    """Factors for a model, and how they go into its weights, one tensor at a time.

    Attributes
    ----------
    groups
        In the order in which they are folded.
    provenance
        For JSON: the model and data that they were made from. `model_sha256`, `alpha`, `fold_down` and
        `rounding`, as `q8a8.methods.smoothquant.make_smoothing` takes them, and more.
    """

    groups: tuple[SmoothedGroup, ...]
    provenance: Mapping[str, Any]

    @property
    def model_sha256(self) -> str:
        """The hash of the file that the factors were made for; another model's output they would change."""
        return str(self.provenance["model_sha256"])

    def folds(self, name: str) -> bool:
        """Return whether there are factors for a tensor."""
        return any(name in (*s.group.multiplied, *s.group.divided) for s in self.groups)

    def metadata(self) -> dict[str, str]:
        """Return the metadata of the factors for a GGUF file, by key."""
        return {"q8_a8.smoothing": self.summary, "q8_a8.smoothing.sha256": self.sha256()}

    def fold_tensor(self, name: str, array: F32) -> F32:
        """Put the factors into one tensor.

        One product or quotient an element and group that it belongs to, each rounded once to float32
        (ffn_up belongs to two with `fold_down`: first its rows are divided).

        Parameters
        ----------
        name
            Its GGUF name.
        array
            float32 `[out, in]` or `[n]`; left as it is.

        Returns
        -------
        A new array; `array` itself, where no factor belongs to the tensor.

        Raises
        ------
        DtypeError, SmoothingError
            Not float32; a shape that the factors do not fit; a result that is NaN or infinite, naming the
            tensor and the place.
        """
        out = array
        for smoothed in self.groups:
            if name in smoothed.group.multiplied:
                out = self._apply(name, out, smoothed, axis=-1)
            if name in smoothed.group.divided:
                out = self._apply(name, out, smoothed, axis=0)
        return out

    def _apply(self, name: str, array: F32, smoothed: SmoothedGroup, axis: int) -> F32:
        """Multiply columns (axis -1) or divide rows (axis 0)."""
        require_dtype(array, np.float32, name)
        s = smoothed.factors
        if array.ndim not in (1, 2) or array.shape[axis] != len(s):
            raise SmoothingError(
                f"{name}: shape {array.shape} does not fit the {len(s)} factors of {smoothed.group.name}"
            )
        with np.errstate(over="ignore"):
            out: F32 = array * s if axis else array / (s if array.ndim == 1 else s[:, None])
        if not np.isfinite(out).all():
            place = [int(i) for i in np.unravel_index(int(np.argmin(np.isfinite(out))), out.shape)]
            raise SmoothingError(
                f"{name}: element {place}: {array[tuple(place)]:.9g} with the factor {s[place[axis]]:.9g} of "
                f"{smoothed.group.name} is not a finite float32"
            )
        return out

    def fold(self, weights: Mapping[str, F32]) -> dict[str, F32]:
        """Put the factors into all weights of a model; tensors without factors are passed on.

        Raises
        ------
        SmoothingError, DtypeError
            as `fold_tensor`; a group of which the model lacks a weight.
        """
        for smoothed in self.groups:
            for name in (*smoothed.group.multiplied, smoothed.group.divided[0]):
                if name not in weights:
                    raise SmoothingError(f"{name}: missing, but {smoothed.group.name} has factors for it")
        return {name: self.fold_tensor(name, array) for name, array in weights.items()}

    def sha256(self) -> str:
        """Hash the factors and their groups: two smoothings of one hash fold the same."""
        digest = hashlib.sha256()
        for smoothed in self.groups:
            digest.update(f"{smoothed.group}\0".encode())
            digest.update(smoothed.factors.astype("<f4").tobytes())
        return digest.hexdigest()

    @property
    def summary(self) -> str:
        """A summary in a few words: `smoothquant alpha=0.5 fold-down`."""
        words = ["smoothquant", f"alpha={self.provenance['alpha']}"]
        if self.provenance["fold_down"]:
            words.append("fold-down")
        if self.provenance["rounding"] != "nearest":
            words.append(self.provenance["rounding"])
        return " ".join(words)

    def save(self, path: Path) -> None:
        """Write a file of these factors (`q8a8.methods.archive`); errors as `write_archive`."""
        groups = [
            {
                "name": smoothed.group.name,
                "multiplied": smoothed.group.multiplied,
                "divided": smoothed.group.divided,
                "alpha": smoothed.alpha,
            }
            for smoothed in self.groups
        ]
        arrays = {f"factors/{smoothed.group.name}": smoothed.factors for smoothed in self.groups}
        metadata = {"groups": groups, "provenance": dict(self.provenance)}
        write_archive(path, KIND, VERSION, metadata, arrays)

    @classmethod
    def load(cls, path: Path) -> Smoothing:
        """Read a file that `save` wrote.

        Raises
        ------
        ArchiveError
            naming the file, and the entry in it that is not valid.
        """
        entries = read_archive(path, KIND, VERSION)
        groups = []
        for entry in entries.value("groups", list):
            try:
                group = FoldGroup(entry["name"], tuple(entry["multiplied"]), tuple(entry["divided"]))
                alpha = entry["alpha"]
            except (KeyError, TypeError) as error:
                raise ArchiveError(path, f"metadata: groups: {entry!r}: {error}") from error
            factors = entries.array(f"factors/{group.name}", np.float32, 1)
            if not (factors > 0).all():
                raise ArchiveError(path, f"factors/{group.name}: not all factors are positive")
            groups.append(SmoothedGroup(group, factors, alpha))
        provenance = entries.value("provenance", dict)
        if missing := {"model_sha256", "alpha", "fold_down", "rounding"} - provenance.keys():
            raise ArchiveError(path, f"metadata: provenance: {min(missing)} is missing")
        return cls(tuple(groups), provenance)
