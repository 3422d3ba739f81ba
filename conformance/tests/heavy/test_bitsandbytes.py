"""LLM.int8() against the authors' code: codes, statistics, outlier columns, int32 sums, results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from bitsandbytes import functional
from bitsandbytes.nn.modules import Int8Params, Linear8bitLt

from q8a8.methods import llm_int8
from q8a8.methods.integer import int_matmul

if TYPE_CHECKING:
    from numpy.typing import NDArray

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "methods" / "vectors" / "llm_int8.json").read_text("utf-8")
)["quantize"]


def number(text: float | str) -> float:
    """Parse a number of the vectors: decimal if that is exact, else hexadecimal."""
    return float.fromhex(text) if isinstance(text, str) else float(text)


def agree(a: NDArray[np.float16], threshold: float) -> None:
    """Assert that codes, statistics and columns equal the authors'."""
    before = a.copy()
    codes, stats, columns = functional.int8_vectorwise_quant(torch.from_numpy(a.copy()), threshold=threshold)
    mine = llm_int8.vectorwise_quantize(a, threshold)
    assert np.array_equal(a.view(np.uint16), before.view(np.uint16))
    assert np.array_equal(mine.absmax.view(np.uint32), stats.numpy().view(np.uint32))
    assert mine.columns.tolist() == ([] if columns is None else columns.tolist())
    assert np.array_equal(mine.q, codes.numpy())


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: str(case["id"]))
def test_vectors(case: dict[str, Any]) -> None:
    """LI8-1 to LI8-4: the golden vectors equal the authors' results."""
    agree(np.array([[number(each) for each in row] for row in case["a"]], np.float16), case["threshold"])


@pytest.mark.parametrize("threshold", [0.0, 2.5, 6.0, 6.001, 5.999])
def test_rows(hard_matrix: NDArray[np.float32], threshold: float) -> None:
    """LI8-1 to LI8-4: difficult rows, one by one and together, and every float16 around the threshold."""
    halves = np.clip(hard_matrix, -60000, 60000).astype(np.float16)
    agree(halves, threshold)
    for row in halves:
        agree(row[None], threshold)
    around = np.float16(6).view(np.uint16) + np.arange(-20, 20)
    agree(around.astype(np.uint16).view(np.float16).reshape(8, 5), threshold)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        agree((rng.standard_normal((7, 96)) * 2).astype(np.float16), threshold)


@pytest.mark.parametrize("k", [32, 576, 1024])
def test_sums(k: int) -> None:
    """DYN-6: int32 sums; beyond 1024 columns the authors' fallback for CPUs without AVX-512 is not exact."""
    rng = np.random.default_rng(k)
    a, b = (rng.integers(-127, 128, (n, k)).astype(np.int8) for n in (9, 14))
    a[0], b[0] = 127, 127
    theirs = functional.int8_linear_matmul(torch.from_numpy(a), torch.from_numpy(b))
    assert np.array_equal(int_matmul(a, b), theirs.numpy())


def test_way_back() -> None:
    """LI8-6: numbers from sums, float32 and float16, with the authors' CPU constant."""
    rng = np.random.default_rng(3)
    acc = rng.integers(-(2**26), 2**26, (40, 50)).astype(np.int32)
    rows, columns = (np.exp(rng.standard_normal(n)).astype(np.float32) for n in (40, 50))
    mine = llm_int8.dequantize_sums(acc, rows, columns, "bitsandbytes-cpu")
    arguments = [torch.from_numpy(each) for each in (acc, rows, columns)]
    theirs = torch.ops.bitsandbytes.int8_mm_dequant.default(*arguments, dtype=torch.float32)
    assert np.array_equal(mine.view(np.uint32), theirs.numpy().view(np.uint32))
    # The constant is 6.200124e-05 for 1/127² = 6.2000124e-05: 1.8e-5 off, beyond any rounding.
    exact = acc * (rows[:, None].astype(np.float64) * columns) / 127**2
    some = acc != 0
    assert np.abs(theirs.numpy()[some] / exact[some] - 1 - 1.8e-5).max() < 1e-6


def test_weight_columns() -> None:
    """LI8-5: the outlier columns of the weight, from their codes."""
    w = np.random.default_rng(4).standard_normal((60, 40)).astype(np.float16)
    quantized = llm_int8.vectorwise_quantize(w)
    theirs = torch.ops.bitsandbytes.int8_vectorwise_dequant.default(
        torch.from_numpy(quantized.q), torch.from_numpy(quantized.absmax)
    ).to(torch.float16)
    columns = np.arange(0, 40, 3)
    mine = llm_int8.dequantize_columns(quantized, columns)
    assert np.array_equal(mine.view(np.uint16), theirs.numpy()[:, columns].view(np.uint16))


def their_layer(x: NDArray[np.float16], w: NDArray[np.float32], threshold: float) -> NDArray[np.float16]:
    """Run the authors' layer in evaluation mode, weights in int8."""
    layer = Linear8bitLt(w.shape[1], w.shape[0], bias=False, has_fp16_weights=False, threshold=threshold)
    layer.weight = Int8Params(torch.from_numpy(w).to(torch.float16), requires_grad=False)
    layer.eval()
    with torch.no_grad():
        result: NDArray[np.float16] = layer.to("cpu")(torch.from_numpy(x)).numpy()
    return result


def test_layer_without_outliers() -> None:
    """LI8-8: the whole layer, rounded to float16 as the authors do, bit for bit."""
    rng = np.random.default_rng(5)
    x, w = rng.uniform(-5, 5, (20, 576)).astype(np.float16), rng.standard_normal((30, 576)).astype(np.float32)
    layer = llm_int8.LlmInt8Linear(w, way="bitsandbytes-cpu")
    mine = layer(x.astype(np.float32)).astype(np.float16)
    assert np.array_equal(mine.view(np.uint16), their_layer(x, w, 6.0).view(np.uint16))


def test_layer_with_outliers() -> None:
    """LI8-8: with outlier columns, within the bound of the roundings to float16."""
    rng = np.random.default_rng(6)
    x, w = rng.uniform(-5, 5, (20, 576)).astype(np.float16), rng.standard_normal((30, 576)).astype(np.float32)
    x[:, [3, 100, 401]] *= np.float16(20)
    layer = llm_int8.LlmInt8Linear(w, way="bitsandbytes-cpu")
    mine = layer(x.astype(np.float32)).astype(np.float64)
    theirs = their_layer(x, w, 6.0).astype(np.float64)
    # The authors round the int8 part P to float16, and the total; possibly the outliers' sum O too. With size
    # =
    # |P| + sum |x w| and u = 2^-11 that is u |P| + u |O| <= u size, and u (1 + u) size; float32's roundings
    # are below a thousandth of it: 2.002 u size.
    part = llm_int8.LlmInt8Linear(w, way="bitsandbytes-cpu")
    columns = llm_int8.outlier_columns(x)
    assert columns.tolist() == [3, 100, 401]
    quantized = llm_int8.vectorwise_quantize(x, 6.0)
    acc = int_matmul(quantized.q, part.weight.q)
    rest = np.abs(llm_int8.dequantize_sums(acc, quantized.absmax, part.weight.absmax, "bitsandbytes-cpu"))
    weights = np.abs(llm_int8.dequantize_columns(part.weight, columns).astype(np.float64))
    size = rest + np.abs(x[:, columns]).astype(np.float64) @ weights.T
    bound = 2.002 * 2.0**-11 * size
    assert (np.abs(mine - theirs) <= bound).all()
    # Without one of the outlier columns nearly every result is outside the bound.
    missing = np.abs(x[:, columns[:1]]).astype(np.float64) @ weights[:, :1].T
    assert (missing > bound).mean() > 0.9
