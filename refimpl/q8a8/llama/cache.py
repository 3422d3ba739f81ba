"""Keys and values of the positions that the model has seen, so that none is computed twice.

`KVCache` is the interface that the model uses; `FloatCache` keeps them as they are, or rounded to half
precision as llama.cpp does by default. Quantized ones are in `q8a8.llama.quantized_cache`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from q8a8.errors import DtypeError
from q8a8.llama.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from q8a8.llama.config import Config

    Heads = NDArray[Any]
    """Keys or values, `[positions, n_kv_heads, d_head]`."""

__all__ = ["FloatCache", "KVCache"]


class KVCache(Protocol):
    """A memory of keys and values, layer by layer.

    One pass of the model appends to each layer once, first to last. ``len(cache)`` is the number of
    positions that every layer holds.
    """

    @property
    def nbytes(self) -> int:
        """Bytes that the positions held take, scales included."""

    def __len__(self) -> int:
        """Return the positions that every layer holds."""

    def append(self, layer: int, keys: Heads, values: Heads, /) -> tuple[Heads, Heads]:
        """Store keys and values `[t, n_kv_heads, d_head]` of t new positions; return those of all so far."""


class FloatCache:
    """Keys and values in floating point, in memory that is allocated once.

    Parameters
    ----------
    config
        The model's shape.
    capacity
        Positions that the cache can hold.
    dtype
        The stored dtype: float32, float16 (half the memory; values are rounded), or float64.

    Raises
    ------
    DtypeError
        for another dtype.
    """

    def __init__(self, config: Config, capacity: int, dtype: DTypeLike = np.float32) -> None:
        if np.dtype(dtype) not in (np.float16, np.float32, np.float64):
            raise DtypeError(f"dtype: expected float16, float32 or float64, got {np.dtype(dtype)}")
        self.capacity = capacity
        shape = (2, config.n_layers, capacity, config.n_kv_heads, config.d_head)
        self._memory = np.empty(shape, dtype)
        self._lengths = [0] * config.n_layers

    @property
    def nbytes(self) -> int:
        """Bytes that the positions held take."""
        # One K and one V of one position in one layer.
        return sum(self._lengths) * 2 * self._memory[0, 0, :1].nbytes

    def __len__(self) -> int:
        """Return the positions that every layer holds."""
        return min(self._lengths)

    def append(self, layer: int, keys: Heads, values: Heads) -> tuple[Heads, Heads]:
        """Store the keys and values of t new positions of a layer.

        Parameters
        ----------
        layer
            The layer's index.
        keys, values
            `[t, n_kv_heads, d_head]`, of one dtype.

        Returns
        -------
        keys, values
            `[T, n_kv_heads, d_head]`, all positions so far, in the dtype of `keys`. They may be views
            of the memory, valid until the next call.

        Raises
        ------
        ModelError
            where there is no room for t more.
        """
        start = self._lengths[layer]
        stop = start + len(keys)
        if stop > self.capacity:
            raise ModelError(f"cache: position {self.capacity} does not fit, capacity {self.capacity}")
        self._memory[0, layer, start:stop] = keys
        self._memory[1, layer, start:stop] = values
        self._lengths[layer] = stop
        held = self._memory[:, layer, :stop].astype(keys.dtype, copy=False)
        return held[0], held[1]

    def truncate(self, length: int) -> None:
        """Forget all positions from `length` on."""
        self._lengths = [min(length, held) for held in self._lengths]
