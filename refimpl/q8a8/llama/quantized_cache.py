"""A model's keys and values in int8 or int4, the newest in float (KVC-1 to KVC-9)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from q8a8.errors import ArgumentError, DtypeError, ShapeError
from q8a8.methods.kv_cache import (
    dequantize,
    largest_code,
    pack_nibbles,
    quantize,
    require_halves,
    unpack_nibbles,
)

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from q8a8.llama.config import Config

    F32 = NDArray[np.float32]
    U8 = NDArray[np.uint8]

__all__ = ["QuantizedCache", "cache_bytes"]


def cache_bytes(  # the formula has as many factors
    config: Config,
    positions: int,
    *,
    bits: int = 8,
    group: int = 32,
    value_group: int = 32,
    residual: int = 32,
    recent_bytes: int = 4,
) -> int:
    """Compute the bytes that a `QuantizedCache` holds for this many positions (KVC-9).

    With T_q = G·floor((T - residual)/G) quantized positions (none below residual), of T::

        per layer and kv head    T_q · d · bits/8 · 2              codes of K and of V
                               + T_q/G · d · 4                     scales and lows of each block of keys
                               + T_q · ceil(d/g) · 4               scales and lows of the groups of values
                               + (T - T_q) · d · recent_bytes · 2  the newest ones, K and V

    Parameters
    ----------
    config
        The model's shape: `n_layers`, `n_kv_heads` (not the query heads, which may be more) and `d_head`.
    positions
        T.
    bits, group, value_group, residual
        As for `QuantizedCache`.
    recent_bytes
        Bytes of a number of the newest positions.
    """
    d = config.d_head
    quantized = max(0, (positions - residual) // group * group)
    codes = 2 * quantized * (d if bits == 8 else (d + 1) // 2)
    scales = 4 * (quantized // group * d + quantized * -(-d // value_group))
    recent = 2 * (positions - quantized) * d * recent_bytes
    return config.n_layers * config.n_kv_heads * (codes + scales + recent)


class QuantizedCache:
    """Keys and values in int8 or int4, in memory that is allocated once (KVC-1 to KVC-9).

    Implements `q8a8.llama.cache.KVCache`. Reading dequantizes one layer at a time into new arrays; nothing in
    float is kept but the newest positions.

    Parameters
    ----------
    config
        The model's shape.
    capacity
        Positions that the cache can hold.
    bits
        8, or 4 (two codes a byte).
    group
        Tokens of a key's group, and positions that are quantized at a time.
    value_group
        Channels of a value's group; the last group of a head may be shorter.
    residual
        Positions that always stay in float, 0 or more.
    recent_dtype
        float32, or float16: then all keys and values are rounded to it first.

    Raises
    ------
    ArgumentError, DtypeError
        for a number or a dtype out of range.
    """

    def __init__(
        self,
        config: Config,
        capacity: int,
        *,
        bits: int = 8,
        group: int = 32,
        value_group: int = 32,
        residual: int = 32,
        recent_dtype: DTypeLike = np.float32,
    ) -> None:
        largest_code(bits)
        for name, number, least in (
            ("capacity", capacity, 0),
            ("group", group, 1),
            ("residual", residual, 0),
            ("value_group", value_group, 1),
        ):
            if number < least:
                raise ArgumentError(f"{name}: expected at least {least}, got {number}")
        if np.dtype(recent_dtype) not in (np.float16, np.float32):
            raise DtypeError(f"recent_dtype: expected float16 or float32, got {np.dtype(recent_dtype)}")
        self.capacity, self.bits = capacity, bits
        self.group, self.value_group, self.residual = group, value_group, residual
        layers, heads, d = config.n_layers, config.n_kv_heads, config.d_head
        self._heads, self._d, self._groups = heads, d, -(-d // value_group)
        blocks = max(0, (capacity - residual) // group)
        width = d if bits == 8 else (d + 1) // 2
        # One entry along the second axis is a block: `group` positions.
        self._codes = np.empty((2, layers, blocks, group, heads, width), np.uint8)
        self._key_scales = np.empty((2, layers, blocks, 1, heads, d), np.float16)
        self._value_scales = np.empty((2, layers, blocks, group, heads, self._groups, 1), np.float16)
        self._recent = np.empty((2, layers, min(capacity, residual + group), heads, d), recent_dtype)
        self._lengths = [0] * layers

    @property
    def nbytes(self) -> int:
        """Bytes that the positions held take: codes, scales, lows, and the newest in float (KVC-9)."""
        total = 0
        for length in self._lengths:
            blocks = self._blocks(length)
            for array in (self._codes, self._key_scales, self._value_scales):
                total += array[:, 0, :blocks].nbytes
            total += self._recent[:, 0, : length - blocks * self.group].nbytes
        return total

    @property
    def allocated(self) -> int:
        """Bytes that the whole capacity takes."""
        arrays = (self._codes, self._key_scales, self._value_scales, self._recent)
        return sum(array.nbytes for array in arrays)

    def __len__(self) -> int:
        """Return the positions that every layer holds."""
        return min(self._lengths)

    def _blocks(self, length: int) -> int:
        """Count the blocks of a layer of this many positions (KVC-5)."""
        return max(0, (length - self.residual) // self.group)

    def append(self, layer: int, keys: F32, values: F32) -> tuple[F32, F32]:
        """Store t new positions of a layer, and return all positions as they are stored (KVC-5 to KVC-7).

        Parameters
        ----------
        layer
            The layer's index.
        keys, values
            float32 `[t, n_kv_heads, d_head]`, below 65520 in magnitude; keys with their rotary positions.

        Returns
        -------
        keys, values
            float32 `[T, n_kv_heads, d_head]`, all positions so far as they are stored: dequantized, and the
            newest in float.

        Raises
        ------
        ShapeError, DtypeError, DomainError
            for other arrays; the cache is then as it was.
        ArgumentError
            where there is no room for t more; the cache is then as it was.
        """
        shape = (len(keys), self._heads, self._d)
        for array, name in ((keys, "keys"), (values, "values")):
            if array.shape != shape:
                raise ShapeError(f"{name}: expected shape {shape}, got {array.shape}")
            require_halves(array, name)
        start = self._lengths[layer]
        if start + len(keys) > self.capacity:
            raise ArgumentError(f"keys: position {self.capacity} does not fit, capacity {self.capacity}")
        taken = 0
        while taken < len(keys):
            held = self._lengths[layer] - self._blocks(self._lengths[layer]) * self.group
            count = min(len(keys) - taken, self.residual + self.group - held)
            self._recent[0, layer, held : held + count] = keys[taken : taken + count]
            self._recent[1, layer, held : held + count] = values[taken : taken + count]
            if held + count == self.residual + self.group:
                self._quantize_oldest(layer, self._blocks(self._lengths[layer]))
            self._lengths[layer] += count
            taken += count
        return self._read(layer)

    def _quantize_oldest(self, layer: int, block: int) -> None:
        """Turn the oldest `group` of the newest positions into a block (KVC-5)."""
        recent = self._recent[:, layer]
        keys, values = recent[:, : self.group].astype(np.float32)
        # KVC-1: keys by channel, along the tokens; values by token, along groups of channels.
        codes, *key_scales = quantize(keys, self.bits, axis=0)
        self._store(0, layer, block, codes)
        self._key_scales[:, layer, block] = key_scales
        # A short last group is filled up with its last channel, which moves neither its minimum nor maximum.
        codes, *value_scales = quantize(self._grouped(values, "edge"), self.bits)
        self._store(1, layer, block, codes.reshape(self.group, self._heads, -1)[..., : self._d])
        self._value_scales[:, layer, block] = value_scales
        recent[:, : self.residual] = recent[:, self.group :].copy()

    def _grouped(self, x: NDArray[Any], fill: Literal["edge", "constant"]) -> NDArray[Any]:
        """Cut the last axis, d_head, into groups of values, the last one filled up: `[..., groups, g]`."""
        missing = -self._d % self.value_group
        if missing:
            x = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, missing)], fill)
        return x.reshape(*x.shape[:-1], self._groups, self.value_group)

    def _store(self, which: int, layer: int, block: int, codes: U8) -> None:
        """Put the codes `[group, n_kv_heads, d_head]` of keys (0) or values (1) in their place."""
        self._codes[which, layer, block] = codes if self.bits == 8 else pack_nibbles(codes)

    def _read(self, layer: int) -> tuple[F32, F32]:
        """Dequantize a layer: keys and values float32 `[T, n_kv_heads, d_head]`."""
        length = self._lengths[layer]
        blocks = self._blocks(length)
        quantized = blocks * self.group
        out = np.empty((2, length, self._heads, self._d), np.float32)
        codes = self._codes[:, layer, :blocks]
        if self.bits == 4:
            codes = unpack_nibbles(codes, self._d)
        keys = dequantize(codes[0], *self._key_scales[:, layer, :blocks])
        out[0, :quantized] = keys.reshape(quantized, self._heads, self._d)
        grouped = self._grouped(codes[1], "constant")
        values = dequantize(grouped, *self._value_scales[:, layer, :blocks])
        out[1, :quantized] = values.reshape(quantized, self._heads, self._groups * self.value_group)[
            ..., : self._d
        ]
        out[:, quantized:] = self._recent[:, layer, : length - quantized]
        return out[0], out[1]
