"""The quantized KV cache: groups against exact arithmetic, what is stored, and the memory that it takes."""

from __future__ import annotations

import json
import tracemalloc
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from q8a8 import errors
from q8a8.llama.cache import FloatCache
from q8a8.llama.config import Config
from q8a8.llama.model import Model
from q8a8.llama.quantized_cache import QuantizedCache, cache_bytes
from q8a8.llama.tensors import expected_shapes
from q8a8.methods.kv_cache import (
    dequantize,
    pack_nibbles,
    quantize,
    unpack_nibbles,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from q8a8.llama.cache import KVCache

    F32 = NDArray[np.float32]

VECTORS = json.loads((Path(__file__).parent / "vectors" / "kv_cache.json").read_text("utf-8"))
U = Fraction(1, 2**24)


def config(layers: int = 2, heads: int = 3, d: int = 4) -> Config:
    """Return the shape of a small model."""
    return Config(layers, heads, heads, heads * d, d, 8, 16, 1e-5)


def nearest(value: Fraction, precision: int, lowest: int) -> Fraction:
    """Round to the nearest number of so many bits, a multiple of 2^lowest; ties to even."""
    if value == 0:
        return value
    # 2^(b-1) < |value| < 2^(b+1), so that one of two exponents leaves the wanted number of bits.
    b = abs(value.numerator).bit_length() - value.denominator.bit_length()
    exponent = max(lowest, b - precision)
    if abs(value) >= Fraction(2) ** (exponent + precision):
        exponent += 1
    unit = Fraction(2) ** exponent
    return Fraction(round(value / unit)) * unit  # Python rounds halves to even


def f32(value: Fraction) -> Fraction:
    """Round to binary32, in its range."""
    return nearest(value, 24, -149)


def f16(value: Fraction) -> Fraction:
    """Round to binary16, in its range."""
    return nearest(value, 11, -24)


def by_fractions(group: list[float], bits: int) -> tuple[list[int], Fraction, Fraction, list[Fraction]]:
    """Quantize a group as KVC-2 to KVC-4 say, in fractions: codes, scale, low, and what they stand for."""
    x = [Fraction(v) for v in group]
    levels = (1 << bits) - 1
    low, scale = f16(min(x)), f16(f32(f32(max(x) - min(x)) / levels))
    codes = [0 if scale == 0 else max(0, min(levels, round(f32(f32(v - low) / scale)))) for v in x]
    return codes, scale, low, [f32(f32(scale * q) + low) for q in codes]


def check(x: F32, bits: int) -> None:
    """Compare groups, one a row, with the fractions."""
    codes, scale, low = quantize(x, bits)
    back = dequantize(codes, scale, low)
    assert (scale.shape, low.shape, codes.shape) == ((len(x), 1), (len(x), 1), x.shape)
    for i, row in enumerate(x.tolist()):
        wanted, s, z, values = by_fractions(row, bits)
        assert codes[i].tolist() == wanted
        assert (Fraction(float(scale[i, 0])), Fraction(float(low[i, 0]))) == (s, z)
        assert [Fraction(v) for v in back[i].tolist()] == values


def rows_of_edges() -> F32:
    """List groups with ties and their neighbours, zeros, subnormals, the largest numbers, and constants."""
    ulp = 2.0**-23
    rows = [
        [0.0, 255.0, 0.5, 1.5, 2.5, 254.5, 0.5 + ulp / 2, 0.5 - ulp / 4],
        [0.0, 15.0, 0.5, 1.5, 2.5, 14.5, 0.5 + ulp / 2, 0.5 - ulp / 4],
        [-7.5, 7.5, -7.0, -6.0, 0.0, -0.0, 7.0, 6.0],
        [0.0, -0.0, 0.0, -0.0, 0.0, 0.0, 0.0, 0.0],
        [0.1] * 8,
        [-0.1] * 8,
        [3.0] * 8,
        [1.0, 1.0 + ulp, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        [2.0**-149, -(2.0**-149), 0.0, 2.0**-126, -(2.0**-126), 0.0, 0.0, 0.0],
        # scale: 2^-25 is a tie to zero, just above it is not.
        [0.0, 255 * 2.0**-25, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0**-18],
        [0.0, 255 * 2.0**-25 * (1 + ulp), 0.0, 0.0, 0.0, 0.0, 0.0, 2.0**-18],
        [0.0, 15 * 2.0**-25, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0**-22],
        [0.0, 15 * 2.0**-25 * (1 + ulp), 0.0, 0.0, 0.0, 0.0, 0.0, 2.0**-22],
        [65519.996, -65519.996, 0.0, 1.0, 65504.0, -65504.0, 32.0, 1e-3],
        # low rounds up, so that the smallest element lies below it; and down.
        [1 + 3 * 2.0**-11 - ulp, 2.0, 1.5, 1.25, 1.125, 1.0625 + 2.0**-9, 1.75, 1.9],
        [1 + 2.0**-11 + ulp, 2.0, 1.5, 1.25, 1.125, 1.0625, 1.75, 1.9],
    ]
    return np.array(rows, np.float32)


@pytest.mark.parametrize("bits", [8, 4])
def test_edges(bits: int) -> None:
    """KVC-2 to KVC-4: chosen groups, bit for bit as fractions give them."""
    check(rows_of_edges(), bits)


@pytest.mark.parametrize("bits", [8, 4])
@given(
    mantissas=st.lists(st.integers(-(2**24) + 1, 2**24 - 1), min_size=1, max_size=9),
    exponent=st.integers(-60, -9),
)
def test_groups(mantissas: list[int], exponent: int, bits: int) -> None:
    """KVC-2 to KVC-4: groups of any size and magnitude."""
    check(np.array([[m * 2.0**exponent for m in mantissas]], np.float32), bits)


@pytest.mark.parametrize("vector", VECTORS["groups"], ids=lambda v: v["why"])
def test_vectors(vector: dict[str, Any]) -> None:
    """Choices worked out by hand, each with its reason."""
    x = np.array([float.fromhex(v) for v in vector["x"]], np.float32)
    codes, scale, low = quantize(x, vector["bits"])
    assert codes.tolist() == vector["codes"]
    assert (scale[:1].tobytes()[::-1].hex(), low[:1].tobytes()[::-1].hex()) == (
        vector["scale"],
        vector["low"],
    )


def bound(group: list[float], scale: Fraction, low: Fraction, bits: int) -> Fraction:
    """Compute how far an element may lie from what its code stands for (docs/methods/kv-cache.md, KVC-4).

    max(s/2, |z - lo| + L·|s* - s|) + 3u·(hi - lo + |z - lo|) + u·(L·s + |z|)
    """
    x = [Fraction(v) for v in group]
    levels, spread, shift = (1 << bits) - 1, max(x) - min(x), abs(low - min(x))
    rounding = 3 * U * (spread + shift) + U * (levels * scale + abs(low))
    clamped = shift + levels * abs(spread / levels - scale)
    return max(scale / 2, clamped) + rounding


@pytest.mark.parametrize("bits", [8, 4])
def test_error_bound(bits: int) -> None:
    """KVC-4: no element is further from its value than the bound, and the check finds one that is."""
    rng = np.random.default_rng(8)
    gaussian = rng.standard_normal((64, 8)) * np.exp2(rng.integers(-20, 12, (64, 1)))
    rows = np.concatenate([rows_of_edges(), gaussian.astype(np.float32)])
    codes, scale, low = quantize(rows, bits)
    back = dequantize(codes, scale, low)
    closest = 0.0
    for i, row in enumerate(rows.tolist()):
        limit = bound(row, Fraction(float(scale[i, 0])), Fraction(float(low[i, 0])), bits)
        errors_ = [abs(Fraction(a) - Fraction(b)) for a, b in zip(back[i].tolist(), row, strict=True)]
        assert max(errors_) <= limit
        closest = max(closest, float(max(errors_) / limit) if limit else 0)
        # One code further away than it is, an element is outside the bound.
        if limit < Fraction(float(scale[i, 0])):
            code = int(codes[i, 2]) + (1 if back[i, 2] >= row[2] else -1)
            moved = float(np.float32(float(scale[i, 0]) * code + float(low[i, 0])))
            assert abs(Fraction(moved) - Fraction(row[2])) > limit
    # The bound is no exaggeration: something comes close.
    assert closest > 0.9


def test_constant_groups() -> None:
    """KVC-3: a constant group is its half, with scale 0 and codes 0; no warning, no NaN."""
    for value in (0.0, -0.0, 1.0, -3.25, 0.1, 65504.0, 2.0**-30):
        codes, scale, low = quantize(np.full((1, 5), value, np.float32), 8)
        assert not codes.any()
        assert scale[0, 0] == 0
        assert dequantize(codes, scale, low)[0].tolist() == [float(np.float16(value))] * 5


def test_nibbles() -> None:
    """KVC-5: the first of two codes is in the low half; an odd last one stands alone."""
    codes = np.array([[1, 2, 3, 4], [15, 0, 0, 15]], np.uint8)
    assert pack_nibbles(codes).tolist() == [[0x21, 0x43], [0x0F, 0xF0]]
    assert pack_nibbles(codes[:, :3]).tolist() == [[0x21, 0x03], [0x0F, 0x00]]
    for d in range(6):
        some = np.random.default_rng(d).integers(0, 16, (3, 2, d)).astype(np.uint8)
        assert pack_nibbles(some).shape == (3, 2, (d + 1) // 2)
        assert np.array_equal(unpack_nibbles(pack_nibbles(some), d), some)


def keys_values(t: int, seed: int, heads: int = 3, d: int = 4) -> tuple[F32, F32]:
    """Make keys with an outlier channel and values, float32 `[t, heads, d]`."""
    rng = np.random.default_rng(seed)
    keys = rng.standard_normal((t, heads, d)).astype(np.float32)
    keys[..., 1] += 20
    return keys, rng.standard_normal((t, heads, d)).astype(np.float32)


def wanted(x: F32, bits: int, *, group: int, value_group: int, residual: int, values: bool) -> F32:
    """Work out what a cache should give, group by group, from `quantize` alone (KVC-1, KVC-5)."""
    out = x.copy()
    t, heads, d = x.shape
    count = max(0, (t - residual) // group) * group
    for first in range(0, count, group):
        for h in range(heads):
            if values:
                for token in range(first, first + group):
                    for c in range(0, d, value_group):
                        part = x[token, h, c : c + value_group]
                        out[token, h, c : c + value_group] = dequantize(*quantize(part, bits))
            else:
                for c in range(d):
                    part = x[first : first + group, h, c]
                    out[first : first + group, h, c] = dequantize(*quantize(part, bits))
    return out


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize(
    ("group", "value_group", "residual"), [(4, 2, 3), (1, 4, 0), (5, 1, 5), (3, 4, 8), (3, 3, 2)], ids=str
)
def test_what_is_given_back(bits: int, group: int, value_group: int, residual: int) -> None:
    """KVC-1, KVC-5, KVC-7: keys are grouped along tokens, values along channels; the newest are exact."""
    for t in (0, 1, residual, residual + group - 1, residual + group, residual + group + 1, 29):
        cache = QuantizedCache(
            config(), 40, bits=bits, group=group, value_group=value_group, residual=residual
        )
        keys, values = keys_values(t, t)
        got = cache.append(1, keys, values)
        for mine, x, kind in ((got[0], keys, False), (got[1], values, True)):
            other = wanted(x, bits, group=group, value_group=value_group, residual=residual, values=kind)
            assert mine.dtype == np.float32
            assert np.array_equal(mine, other)
            assert np.array_equal(mine[max(0, t - residual) :], x[max(0, t - residual) :])


def stored(cache: QuantizedCache, layer: int) -> list[bytes]:
    """Return the bytes that hold a layer's positions."""
    blocks = cache._blocks(cache._lengths[layer])
    recent = cache._lengths[layer] - blocks * cache.group
    arrays = (cache._codes, cache._key_scales, cache._value_scales)
    parts = [array[:, layer, :blocks] for array in arrays] + [cache._recent[:, layer, :recent]]
    return [part.tobytes() for part in parts]


@pytest.mark.parametrize("bits", [8, 4])
@given(
    cuts=st.lists(st.integers(0, 9), max_size=12),
    group=st.integers(1, 6),
    residual=st.integers(0, 7),
    half=st.booleans(),
)
def test_pieces(cuts: list[int], group: int, residual: int, bits: int, half: bool) -> None:
    """KVC-6: appending in pieces of any size stores the same bytes, and gives the same, as appending all."""
    t = sum(cuts)
    dtype = np.float16 if half else np.float32
    whole, pieces = (
        QuantizedCache(
            config(), t, bits=bits, group=group, value_group=2, residual=residual, recent_dtype=dtype
        )
        for _ in range(2)
    )
    keys, values = keys_values(t, 9)
    at_once = whole.append(0, keys, values)
    start, got = 0, pieces.append(0, keys[:0], values[:0])
    for cut in cuts:
        got = pieces.append(0, keys[start : start + cut], values[start : start + cut])
        start += cut
        assert len(got[0]) == start
    assert stored(whole, 0) == stored(pieces, 0)
    assert np.array_equal(at_once[0], got[0])
    assert np.array_equal(at_once[1], got[1])


def test_positions_and_layers() -> None:
    """Layers are apart, and a position counts when every layer has it; also, this is a `KVCache`."""
    cache = QuantizedCache(config(), 10, residual=2, group=3, value_group=4)
    as_protocol: KVCache = cache
    assert len(as_protocol) == 0
    a, b = keys_values(6, 1), keys_values(4, 2)
    cache.append(0, *a)
    assert len(cache) == 0
    first = cache.append(1, *b)
    assert len(cache) == 4
    again = cache.append(0, a[0][:0], a[1][:0])
    assert np.array_equal(again[0], wanted(a[0], 8, group=3, value_group=4, residual=2, values=False))
    assert np.array_equal(first[1], wanted(b[1], 8, group=3, value_group=4, residual=2, values=True))


@pytest.mark.parametrize("bits", [8, 4])
def test_in_a_model(bits: int) -> None:
    """In a model: the float cache's logits, bit for bit, while nothing is quantized; then fewer bytes."""
    shape = Config(2, 4, 2, 32, 16, 24, 50, 1e-5)
    rng = np.random.default_rng(10)
    weights = {
        name: (rng.standard_normal(size) / 4).astype(np.float32)
        for name, size in expected_shapes(shape).items()
    }
    model = Model(shape, weights)
    tokens = rng.integers(0, 50, 40)

    def logits(cache: KVCache) -> F32:
        parts = [model.forward(part, cache) for part in (tokens[:25], tokens[25:26], tokens[26:])]
        return np.concatenate(parts)

    exact, window = (
        FloatCache(shape, 40),
        QuantizedCache(shape, 40, bits=bits, group=8, value_group=8, residual=33),
    )
    wanted_logits = logits(exact)
    assert np.array_equal(logits(window), wanted_logits)
    assert window.nbytes == exact.nbytes
    small = QuantizedCache(shape, 40, bits=bits, group=8, value_group=8, residual=8)
    other = logits(small)
    assert len(small) == 40
    assert not np.array_equal(other, wanted_logits)
    assert small.nbytes == cache_bytes(shape, 40, bits=bits, group=8, value_group=8, residual=8)
    assert small.nbytes < exact.nbytes * (0.55 if bits == 8 else 0.45)


def test_half_window() -> None:
    """A float16 window rounds everything once, before anything else."""
    keys, values = keys_values(9, 3)
    cache = QuantizedCache(config(), 9, residual=4, group=2, value_group=4, recent_dtype=np.float16)
    exact = QuantizedCache(config(), 9, residual=4, group=2, value_group=4)
    rounded = [x.astype(np.float16).astype(np.float32) for x in (keys, values)]
    for mine, other in zip(cache.append(0, keys, values), exact.append(0, *rounded), strict=True):
        assert np.array_equal(mine, other)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("positions", [0, 31, 63, 64, 65, 400, 512])
def test_bytes(bits: int, positions: int) -> None:
    """KVC-9: the bytes held are those of the formula, and those of the arrays."""
    shape = config(layers=3, heads=2, d=64)
    cache = QuantizedCache(shape, 512, bits=bits)
    keys, values = keys_values(positions, 4, heads=2, d=64)
    for layer in range(3):
        cache.append(layer, keys, values)
    assert cache.nbytes == cache_bytes(shape, positions, bits=bits)
    assert cache.nbytes == sum(len(part) for layer in range(3) for part in stored(cache, layer))
    # By hand, for 512: (512 - 32)//32 = 15 blocks of 32, 32 in float; 6 = 3 layers · 2 heads.
    if positions == 512:
        codes = 2 * 480 * 64 * bits // 8
        scales = 4 * (15 * 64 + 480 * 2)
        assert cache.nbytes == 6 * (codes + scales + 2 * 32 * 64 * 4)


@pytest.mark.parametrize(("bits", "ratio"), [(8, 0.6), (4, 0.35)])
def test_it_really_is_smaller(bits: int, ratio: float) -> None:
    """KVC-9: by the allocator's count, 2048 positions take less than this share of a float16 cache."""
    shape = config(layers=2, heads=3, d=64)
    keys, values = keys_values(2048, 5, heads=3, d=64)
    held = []
    for make in (
        lambda: FloatCache(shape, 2048, np.float16),
        lambda: QuantizedCache(shape, 2048, bits=bits, recent_dtype=np.float16),
    ):
        tracemalloc.start()
        cache = make()
        for layer in range(2):
            cache.append(layer, keys, values)
        held.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        own = cache.allocated if isinstance(cache, QuantizedCache) else cache.nbytes
        assert cache.nbytes <= own <= held[-1] < 1.01 * own
    assert held[1] < ratio * held[0]


def test_refusals() -> None:
    """Arrays and numbers that do not fit are refused by name, and leave the cache as it was."""
    cache = QuantizedCache(config(), 5, residual=1, group=2, value_group=2)
    keys, values = keys_values(4, 6)
    cache.append(0, keys, values)
    before = stored(cache, 0)
    bad = values[:1].copy()
    bad[0, 2, 1] = np.nan
    with pytest.raises(errors.DomainError, match=r"values: row \(0, 2\), block 0, element 1: value nan"):
        cache.append(0, keys[:1], bad)
    bad[0, 2, 1] = 65520
    with pytest.raises(
        errors.DomainError, match="value 65520: its group's low end would be infinite in half"
    ):
        cache.append(0, keys[:1], bad)
    with pytest.raises(errors.ShapeError, match=r"values: expected shape \(1, 3, 4\), got \(2, 3, 4\)"):
        cache.append(0, keys[:1], values[:2])
    with pytest.raises(errors.DtypeError, match="keys: expected float32, got float64"):
        cache.append(0, keys[:1].astype(np.float64), values[:1])
    with pytest.raises(errors.ArgumentError, match="keys: position 5 does not fit, capacity 5"):
        cache.append(0, keys[:2], values[:2])
    assert stored(cache, 0) == before
    with pytest.raises(errors.ArgumentError, match="bits: expected 4 or 8, got 2"):
        quantize(keys, 2)
    wrongs: tuple[tuple[dict[str, Any], str], ...] = (
        ({"bits": 3}, "bits: expected 4 or 8, got 3"),
        ({"capacity": -1}, "capacity: expected at least 0, got -1"),
        ({"group": 0}, "group: expected at least 1, got 0"),
        ({"residual": -1}, "residual: expected at least 0"),
        ({"value_group": 0}, "value_group: expected at least 1, got 0"),
    )
    for wrong, text in wrongs:
        with pytest.raises(errors.ArgumentError, match=text):
            QuantizedCache(config(), **({"capacity": 8, "value_group": 4} | wrong))
    with pytest.raises(errors.DtypeError, match="recent_dtype: expected float16 or float32, got float64"):
        QuantizedCache(config(), 8, value_group=4, recent_dtype=np.float64)
