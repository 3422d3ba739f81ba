"""ggml's arithmetic in NumPy, against its own functions and against formulas."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from q8a8 import quantize_row, vec_dot
from q8a8.layout import BLOCK_Q8_A8
from q8a8_evaluation import llamacpp
from q8a8_evaluation.llamacpp import LlamaCppUnavailableError
from q8a8_lab.evaluation import ggml_arithmetic

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

CHILD = """
import ctypes, json, sys
import numpy as np
library = ctypes.CDLL(sys.argv[1])
library.ggml_cpu_init()
flags = [name for name in ("avx2", "fma", "f16c", "avx512") if getattr(library, "ggml_cpu_has_" + name)()]
if flags != ["avx2", "fma", "f16c"]:
    sys.exit("another build: " + " ".join(flags))
given = np.load(sys.argv[2])
x, y, w, a, g = (np.ascontiguousarray(given[name]) for name in "xywag")
at = lambda array: array.ctypes.data_as(ctypes.c_void_p)
n = x.shape[1]
out = {name: np.zeros_like(x) for name in ("exp", "swiglu")}
out["dot"], out["sum"] = np.zeros(len(x), np.float32), np.zeros(len(x))
out["q8"] = np.zeros((len(x), n // 32 * 34), np.uint8)
out["product"] = np.zeros(len(x), np.float32)
size = ctypes.c_size_t
library.ggml_vec_soft_max_f32.restype = ctypes.c_double
for i in range(len(x)):
    library.ggml_vec_dot_f32(n, at(out["dot"][i:]), size(0), at(x[i]), size(0), at(y[i]), size(0), 1)
    out["sum"][i] = library.ggml_vec_soft_max_f32(n, at(out["exp"][i]), at(a[i]), ctypes.c_float(0))
    library.ggml_vec_swiglu_f32(n, at(out["swiglu"][i]), at(g[i]), at(y[i]))
    library.quantize_row_q8_0(at(x[i]), at(out["q8"][i]), ctypes.c_int64(n))
    library.ggml_vec_dot_q8_0_q8_0(
        n, at(out["product"][i:]), size(0), at(w[i]), size(0), at(out["q8"][i]), size(0), 1
    )
np.savez(sys.argv[3], **out)
"""
"""Calls ggml's own functions, in a process of its own."""


@pytest.fixture(scope="module")
def given() -> dict[str, NDArray[Any]]:
    """Return operands: x and y of many sizes, weights w, arguments a of e^x everywhere, gates g."""
    rng = np.random.default_rng(70)
    x = (rng.normal(size=(60, 576)) * np.exp(rng.normal(size=(60, 576)))).astype(np.float32)
    y = rng.normal(size=x.shape).astype(np.float32)
    a = np.resize(np.linspace(-110, 88.5, x.size // 2, dtype=np.float32), x.shape)
    a[40:] = rng.normal(size=(20, 576)) * 3
    a[0, :6] = 0.0, -0.0, -np.inf, -1e30, 1e-30, -1e-30
    w = quantize_row(rng.normal(size=x.shape).astype(np.float32))
    return {"x": x, "y": y, "w": w.view(np.uint8), "a": a, "g": np.where(np.isinf(a), 1, a)}


@pytest.fixture(scope="module")
def theirs(
    need: Callable[[object, str], None],
    given: dict[str, NDArray[Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, NDArray[Any]]:
    """Return what ggml's own functions make of them; skip where this build has another arithmetic."""
    folder: Path = tmp_path_factory.mktemp("ggml")
    try:
        library = llamacpp.library()
    except LlamaCppUnavailableError as error:
        need(False, str(error))
    np.savez(folder / "in.npz", allow_pickle=False, **given)
    words = [sys.executable, "-c", CHILD, str(library), str(folder / "in.npz"), str(folder / "out.npz")]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    if "another build" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, json.dumps(done.stderr)
    with np.load(folder / "out.npz") as out:
        return dict(out)


def same(ours: NDArray[Any], theirs: NDArray[Any]) -> bool:
    """Compare bits."""
    return ours.dtype == theirs.dtype and ours.tobytes() == theirs.tobytes()


def test_functions_are_theirs(given: dict[str, NDArray[Any]], theirs: dict[str, NDArray[Any]]) -> None:
    """e^x, SwiGLU, float32 and Q8_0 products, quantization: every bit of every result."""
    x, y, a = given["x"], given["y"], given["a"]
    assert same(ggml_arithmetic.exp(a), theirs["exp"])
    assert same(ggml_arithmetic.swiglu(given["g"], y), theirs["swiglu"])
    assert same(ggml_arithmetic.float_dot(x, y), theirs["dot"])
    xq = quantize_row(x, "ggml-avx2")
    assert same(xq.view(np.uint8), theirs["q8"])
    w = given["w"].view(BLOCK_Q8_A8)
    assert same(np.diagonal(ggml_arithmetic.ordered_product(w, xq)).copy(), theirs["product"])


def test_reciprocals_of_sums(theirs: dict[str, NDArray[Any]]) -> None:
    """The softmax's sum is theirs, a double: its reciprocal is rounded once to float32."""
    ours = ggml_arithmetic._reciprocal_of_sum(theirs["exp"][40:])[:, 0]
    assert same(ours, (1 / theirs["sum"][40:]).astype(np.float32))


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 4), (2, 300, 2), (70, 3, 18), (0, 4, 2)])
def test_product_is_the_order_avx2(shape: tuple[int, int, int]) -> None:
    """Any int8 and scales of many sizes, in one tile or several: `vec_dot` in order avx2."""
    t, m, nb = shape
    rng = np.random.default_rng(71)
    blocks = []
    for rows in (m, t):
        part = np.zeros((rows, nb), BLOCK_Q8_A8)
        part["weight_scale"] = rng.normal(size=(rows, nb)) * 2.0 ** rng.integers(-12, 9, (rows, nb))
        part["weight_qs"] = rng.integers(-128, 128, (rows, nb, 32))
        blocks.append(part)
    w, x = blocks
    assert same(ggml_arithmetic.ordered_product(w, x), vec_dot(w[np.newaxis], x[:, np.newaxis], "avx2"))


def test_product_rounds_once() -> None:
    """2^30 + 64 + 2^-24 lies above a tie of float32: float64 would lose the last term, and round down."""
    w, x = np.zeros((1, 2), BLOCK_Q8_A8), np.zeros((1, 2), BLOCK_Q8_A8)
    # 2^12 · 2^18, then (13·25·41) · (61·1321) · 2^-24 = (2^30 + 1) · 2^-24.
    w["weight_scale"], x["weight_scale"] = [[512, 61 / 2**10]], [[512, 1321 / 2**14]]
    w["weight_qs"][0, :, :2], x["weight_qs"][0, :, :2] = [[64, 0], [127, 117]], [[64, 0], [104, 1]]
    assert ggml_arithmetic.ordered_product(w, x)[0, 0] == 2**30 + 128
    assert np.float32(2.0**30 + 64 + 2.0**-24) == 2**30


def test_exp_is_e_to_the_x() -> None:
    """Within 2 ulp of a correctly rounded e^x wherever that is normal, and beyond 0, infinity and NaN."""
    x = np.linspace(-87, 88, 20001, dtype=np.float32)
    exact = np.array([math.exp(float(value)) for value in x])
    error = np.abs(ggml_arithmetic.exp(x) - exact) / np.spacing(exact.astype(np.float32))
    assert error.max() < 2
    special = np.array([0, -0.0, 89, 200, np.inf, -104.5, -np.inf, np.nan], np.float32)
    expected = np.array([1, 1, np.inf, np.inf, np.inf, 0, 0, np.nan], np.float32)
    np.testing.assert_array_equal(ggml_arithmetic.exp(special), expected)


@pytest.mark.parametrize("batch", [False, True])
def test_float_dot_sums(batch: bool) -> None:
    """Integers have one sum in any order."""
    rng = np.random.default_rng(72)
    x, y = rng.integers(-9, 10, (2, 5, 64)).astype(np.float32)
    np.testing.assert_array_equal(ggml_arithmetic.float_dot(x, y, batch=batch), (x * y).sum(axis=-1))


@pytest.mark.parametrize(
    ("ones", "single", "batch"),
    [
        ((8, 24), 2, 0),  # a1 + a3 in lane 0; in a batch one after the other onto 2^24
        ((8, 16), 0, 0),  # a2 onto a0 first, then a1
        ((1, 3), 0, 2),  # (l0 + l1) + (l2 + l3); in a batch (l0 + l2) + (l1 + l3)
        ((2, 3), 2, 0),
        ((1, 5), 2, 2),  # l5 onto l1 in both
    ],
)
def test_float_dot_order(ones: tuple[int, int], single: int, batch: int) -> None:
    """2^24 in lane 0 swallows each of two ones, unless they meet before: what is left tells the order."""
    x = np.zeros(32, np.float32)
    x[0], x[list(ones)] = 2**24, 1
    one = np.ones_like(x)
    assert ggml_arithmetic.float_dot(x, one) == 2**24 + single
    assert ggml_arithmetic.float_dot(x, one, batch=True) == 2**24 + batch


@pytest.mark.parametrize("batch", [False, True])
def test_attention_is_attention(batch: bool) -> None:
    """Against float64 and the paper's formula: within a few units of the last place."""
    rng = np.random.default_rng(73)
    q, k, v = (rng.normal(size=(40, heads, 32)).astype(np.float32) for heads in (6, 2, 2))
    out = ggml_arithmetic.attention(q, k, v, batch=batch).reshape(40, 6, 32)
    for head in range(6):
        scores = q[:, head].astype(np.float64) @ k[:, head // 3].T / np.sqrt(32)
        scores[np.triu_indices(40, 1)] = -np.inf
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        exact = shares / shares.sum(axis=1, keepdims=True) @ v[:, head // 3]
        np.testing.assert_allclose(out[:, head], exact, atol=2e-6)
