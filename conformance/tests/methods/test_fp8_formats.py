"""FP8 codes, bit for bit against ml_dtypes and gfloat: every code, every boundary and its neighbours."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import gfloat
import ml_dtypes
import numpy as np
import pytest
from gfloat.formats import format_info_ocp_e4m3, format_info_ocp_e5m2
from gfloat.types import Domain, FormatInfo
from hypothesis import given
from hypothesis import strategies as st

from q8a8 import errors
from q8a8.methods.fp8 import FORMATS, OVERFLOWS, decode, encode, get_format

if TYPE_CHECKING:
    from numpy.typing import NDArray

VECTORS = json.loads((Path(__file__).parent / "vectors" / "fp8.json").read_text("utf-8"))
NAMES = ("e4m3fn", "e4m3", "e5m2", "e4m3fnuz", "e5m2fnuz", "e4m3b11fnuz", "e3m4")
CODES = np.arange(256, dtype=np.uint8)


def gfloat_format(bits: int, bias: int, *, infinite: bool, nans: int, negative_zero: bool) -> FormatInfo:
    """Describe a format of 8 bits in gfloat's words: `nans` counts the magnitudes that are NaN."""
    return FormatInfo(
        name="",
        k=8,
        precision=bits + 1,
        bias=bias,
        is_signed=True,
        domain=Domain.Extended if infinite else Domain.Finite,
        has_nz=negative_zero,
        num_high_nans=nans,
        has_subnormals=True,
        is_twos_complement=False,
    )


# Written from the published tables of the formats, not from the reference's.
GFLOAT = {
    "e4m3fn": format_info_ocp_e4m3,
    "e4m3": gfloat_format(3, 7, infinite=True, nans=7, negative_zero=True),
    "e5m2": format_info_ocp_e5m2,
    "e4m3fnuz": gfloat_format(3, 8, infinite=False, nans=0, negative_zero=False),
    "e5m2fnuz": gfloat_format(2, 16, infinite=False, nans=0, negative_zero=False),
    "e4m3b11fnuz": gfloat_format(3, 11, infinite=False, nans=0, negative_zero=False),
    "e3m4": gfloat_format(4, 3, infinite=True, nans=15, negative_zero=True),
}


def by_ml_dtypes(x: NDArray[np.float32], name: str) -> NDArray[np.uint8]:
    """Encode with ml_dtypes, which does not saturate."""
    with np.errstate(all="ignore"):
        return x.astype(getattr(ml_dtypes, f"float8_{name}")).view(np.uint8)


def by_gfloat(x: NDArray[np.float32], name: str, *, saturate: bool) -> NDArray[np.uint8]:
    """Encode with gfloat, number by number; its NaN is another one, so they become the reference's."""
    info, codes = GFLOAT[name], []
    for value in x.tolist():
        rounded = gfloat.round_float(info, value, sat=saturate)
        if np.isnan(rounded):
            codes.append(FORMATS[name].nan_code | (0x80 if np.signbit(value) else 0))
        else:
            codes.append(gfloat.encode_float(info, rounded))
    return np.array(codes, np.uint8)


def boundaries(name: str) -> NDArray[np.float32]:
    """List every number of a format, every midpoint and the end of the range, with their float32 neighbours.

    The numbers come from ml_dtypes. One step above the largest number the list goes on as if the exponent had
    no end: the midpoint there is where overflow begins. Both signs.
    """
    every = CODES.view(getattr(ml_dtypes, f"float8_{name}")).astype(np.float32)
    numbers = np.unique(np.abs(every[np.isfinite(every)]))
    numbers = np.append(numbers, 2 * numbers[-1] - numbers[-2])
    points = np.concatenate([numbers, (numbers[:-1] + numbers[1:]) / 2])
    points = np.concatenate([np.nextafter(points, np.float32(d)) for d in (-np.inf, np.inf)] + [points])
    extremes = [0.0, 2.0**-149, 2.0**-126, 65504.0, 65520.0, 3.4028234663852886e38, np.inf, np.nan]
    points = np.concatenate([points, np.array(extremes, np.float32)])
    return np.concatenate([points, -points])


@pytest.mark.parametrize("name", NAMES)
def test_every_code_decodes(name: str) -> None:
    """FP8-1, FP8-2: all 256 codes mean what they mean to ml_dtypes and to gfloat; zeros keep their sign."""
    values = decode(CODES, name)
    peer = CODES.view(getattr(ml_dtypes, f"float8_{name}")).astype(np.float32)
    finite = ~np.isnan(values)
    assert np.array_equal(values.view(np.uint32)[finite], peer.view(np.uint32)[finite])
    assert np.array_equal(np.isnan(values), np.isnan(peer))
    other = np.array([gfloat.decode_float(GFLOAT[name], code).fval for code in range(256)])
    assert np.array_equal(values, other, equal_nan=True)


@pytest.mark.parametrize("name", NAMES)
def test_every_code_comes_back(name: str) -> None:
    """Encoding a decoded code gives the code again; of the NaNs it gives one, with the sign."""
    values = decode(CODES, name)
    codes = encode(values, name)
    nan = np.isnan(values)
    assert np.array_equal(codes[~nan], CODES[~nan])
    assert set(codes[nan] & 0x7F) <= {FORMATS[name].nan_code & 0x7F}


@pytest.mark.parametrize("name", NAMES)
def test_every_boundary(name: str) -> None:
    """FP8-3 to FP8-6: numbers, midpoints and the overflow threshold, one ULP to either side, and specials."""
    x = boundaries(name)
    assert np.array_equal(encode(x, name), by_ml_dtypes(x, name))
    assert np.array_equal(encode(x, name), by_gfloat(x, name, saturate=False))
    assert np.array_equal(encode(x, name, "saturating"), by_gfloat(x, name, saturate=True))
    # Saturating all but infinities: each is known from the other two.
    wanted = np.where(np.isinf(x), encode(x, name), encode(x, name, "saturating"))
    assert np.array_equal(encode(x, name, OVERFLOWS["saturating-finite"]), wanted)


@pytest.mark.parametrize("name", NAMES)
@given(patterns=st.lists(st.integers(0, 2**32 - 1), min_size=1))
def test_any_float32(name: str, patterns: list[int]) -> None:
    """FP8-3 to FP8-6: float32 of any bits, NaNs of any payload too, as ml_dtypes encodes them."""
    x = np.array(patterns, np.uint32).view(np.float32)
    assert np.array_equal(encode(x, name), by_ml_dtypes(x, name))


@pytest.mark.parametrize("name", NAMES)
@given(mantissas=st.lists(st.integers(-(2**24), 2**24), min_size=1), exponent=st.integers(-50, 0))
def test_numbers_of_the_range(name: str, mantissas: list[int], exponent: int) -> None:
    """FP8-3: numbers in and around a format's range, saturating, as gfloat rounds them."""
    x = np.array([m * 2.0**exponent for m in mantissas], np.float32)
    assert np.array_equal(encode(x, name, "saturating"), by_gfloat(x, name, saturate=True))


@pytest.mark.parametrize("vector", VECTORS["encode"], ids=lambda v: f"{v['format']}-{v['x']}-{v['overflow']}")
def test_vectors(vector: dict[str, str]) -> None:
    """Choices worked out by hand, each with its reason."""
    x = np.array([float.fromhex(vector["x"])], np.float32)
    assert float(x[0]) == float.fromhex(vector["x"]) or np.isnan(x[0])
    assert encode(x, vector["format"], vector["overflow"]).tobytes().hex() == vector["code"]


def test_one_rounding() -> None:
    """FP8-3: going by way of half precision would round twice, and some codes would be wrong."""
    x = np.array([1.125 + 2.0**-23, -(1.375 - 2.0**-23)], np.float32)
    halves = x.astype(np.float16).astype(np.float32)
    assert encode(x, "e5m2").tolist() == [0x3D, 0xBD]
    assert encode(halves, "e5m2").tolist() == [0x3C, 0xBE]


def test_shapes() -> None:
    """Any shape, none and empty ones too."""
    assert encode(np.array(1.5, np.float32), "e4m3fn").tolist() == 0x3C
    assert decode(np.array(0x3C, np.uint8), "e4m3fn").tolist() == 1.5
    assert encode(np.zeros((2, 0, 3), np.float32), "e5m2").shape == (2, 0, 3)


def test_formats_are_data() -> None:
    """The table holds the formats under their own names, cannot be changed, and a new one needs no code."""
    assert tuple(FORMATS) == NAMES
    assert isinstance(FORMATS, MappingProxyType)
    assert isinstance(OVERFLOWS, MappingProxyType)
    for name, entry in FORMATS.items():
        assert entry.name == name
        assert entry.source
        assert entry.exponent_bits + entry.mantissa_bits == 7
        assert get_format(entry) is entry
        assert entry.largest == GFLOAT[name].max
        with pytest.raises(dataclasses.FrozenInstanceError):
            entry.name = "other"  # type: ignore[misc]  # the mistake under test
    # A format of one's own: e2m5 with IEEE's specials, 1 + 1/32 times 2^0 and bias 1.
    own = dataclasses.replace(
        FORMATS["e3m4"], name="e2m5", exponent_bits=2, mantissa_bits=5, bias=1, largest_code=0x5F
    )
    own = dataclasses.replace(own, infinity_code=0x60, nan_code=0x70)
    assert encode(np.array([1 + 1 / 32], np.float32), own).tolist() == [0x21]
    assert decode(np.array([0x5F, 0x60], np.uint8), own).tolist() == [2 * (1 + 31 / 32), np.inf]


def test_refusals() -> None:
    """Other dtypes and unknown names are refused by name."""
    with pytest.raises(errors.DtypeError, match="x: expected float32, got float64"):
        encode(np.zeros(1), "e4m3fn")  # type: ignore[arg-type]  # the mistake under test
    with pytest.raises(errors.DtypeError, match="codes: expected uint8, got int8"):
        decode(np.zeros(1, np.int8), "e4m3fn")
    with pytest.raises(
        errors.UnknownNameError, match="no FP8 format is called 'e4m4'; there are e4m3fn, e4m3"
    ):
        encode(np.zeros(1, np.float32), "e4m4")
    with pytest.raises(errors.UnknownNameError, match="no overflow is called 'wrap'; there are nonsat"):
        encode(np.zeros(1, np.float32), "e4m3fn", "wrap")


def test_the_table_of_values_is_safe() -> None:
    """What decoding returns is the caller's own: writing to it changes no later result."""
    first = decode(CODES, "e4m3fn")
    first[:] = 0
    assert decode(CODES, "e4m3fn")[0x38] == 1
