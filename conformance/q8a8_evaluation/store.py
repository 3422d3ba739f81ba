"""Log-likelihoods that were measured once: kept by what they depend on, so that a run can be resumed.

One file a scheme, ``<scheme>-<key>.npz``: the key is a hash of all that the numbers depend on but the windows
(`Key`). In it, by the hash of a window's tokens, its log-likelihoods, and what was learned about the scheme.
It is written after every window, to a temporary file, then renamed.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8.atomic import writing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    F64 = NDArray[np.float64]

__all__ = ["Store", "key_of", "tokens_key"]


def key_of(facts: Mapping[str, Any]) -> str:
    """Hash facts, JSON data: 24 hex digits."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]


def tokens_key(tokens: NDArray[np.integer]) -> str:
    """Hash a window's tokens: 24 hex digits."""
    return hashlib.sha256(np.asarray(tokens, "<i8").tobytes()).hexdigest()[:24]


@dataclass
class Store:
    """The stored measurements of one scheme.

    Attributes
    ----------
    path
        The file; None keeps everything in memory.
    windows
        Log-likelihoods float64 `[n]`, by `tokens_key`.
    facts
        What else is known: bytes, bits, seconds.
    """

    path: Path | None
    windows: dict[str, F64] = field(default_factory=dict)
    facts: dict[str, float] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path | None, scheme: str, key: str) -> Store:
        """Read what is known; a file that is truncated or of another kind counts as none."""
        if folder is None:
            return cls(None)
        path = folder / f"{scheme}-{key}.npz"
        store = cls(path)
        try:
            # Opened here: NumPy leaves open what it then finds to be no archive.
            with path.open("rb") as file, np.load(file) as archive:
                facts = json.loads(str(archive["facts"]))
                windows = {name: archive[name] for name in archive.files if name != "facts"}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return store
        if all(
            each.dtype == np.float64 and each.ndim == 1 and np.isfinite(each).all()
            for each in windows.values()
        ):
            store.windows, store.facts = windows, facts
        return store

    def add(self, key: str, nlls: F64, facts: Mapping[str, float]) -> None:
        """Add a window, and what is known now."""
        self.windows[key] = nlls
        self.facts |= facts
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with writing(self.path) as file:
            np.savez(file, facts=np.array(json.dumps(self.facts)), **self.windows)  # type: ignore[arg-type] # NumPy's stub takes **kwds for a bool
