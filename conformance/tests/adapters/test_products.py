"""Matrix products of other packages, by their adapters: what `reveal` and the suite find of each is true.

What is true is said by the packages' operators: they are called in the adapters as they are.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8 import dequantize_row
from q8a8_conformance.faults.in_process import InProcessSession
from q8a8_conformance.inputs.calls import MUL_MAT
from q8a8_conformance.reveal.products.revealed import Extent, reveal_product
from q8a8_conformance.reveal.products.shapes import activations, weights

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.reveal.products.regimes import RevealedProduct

SHORT = Extent((1, 2, 3, 9), 64, 32, (1, 2, 3, 5), (32, 64))


def revealed(name: str) -> RevealedProduct:
    """Reveal an adapter's product: ``gguf_py:product``."""
    module, _, attribute = name.partition(":")
    kernel = getattr(import_module(f"q8a8_conformance.adapters.{module}"), attribute)
    w, x = weights(5, 96), activations(3, 96)
    out = np.empty(15, np.float32)
    kernel.mul_mat_q8_a8(5, 3, 96, w.view(np.uint8).reshape(-1), x.reshape(-1), out)
    floats = x.astype(np.float64) @ dequantize_row(w).T.astype(np.float64)
    # A product at all: to the error of quantization, five of 127 steps of each element.
    assert np.abs(out.reshape(3, 5) - floats).max() < 0.05 * np.abs(floats).max()
    out = np.ones(6, np.float32)
    kernel.mul_mat_q8_a8(2, 3, 0, w.view(np.uint8).reshape(-1)[:0], x.reshape(-1)[:0], out)
    assert not out.any()
    return reveal_product(InProcessSession(lambda: kernel, (MUL_MAT,)), SHORT)


def test_gguf_py(need: Callable[[object, str], None]) -> None:
    """Weights are dequantized and multiplied by NumPy in float32: nothing is quantized, in any shape.

    Of one output alone OpenBLAS's `sdot` adds by the processor: on some of AMD's it adds pairs of elements in
    float32 and these in a wider sum, which no tree of float32 is. Of others each result is explained.
    """
    need(find_spec("gguf"), "gguf is not installed")
    found = revealed("gguf_py:product")
    for regime in found.regimes:
        assert regime.names == ("activations:float32", "accumulator:float32")
        is_of_dot = (regime.place.m, regime.place.n) == (1, 1)
        assert regime.unexplained < regime.of if is_of_dot else regime.unexplained == 0 < regime.of


@pytest.mark.parametrize(("name", "scales"), [("kernel", ()), ("optimized", ("weight-scale-first",))])
def test_onnxruntime(need: Callable[[object, str], None], name: str, scales: tuple[str, ...]) -> None:
    """QuantizeLinear's arithmetic by blocks, and `MatMulInteger`; scales are not halves, blocks in order.

    The optimizer joins the operators that scale the sums: they are multiplied by one scale after the other.
    """
    need(find_spec("onnxruntime"), "onnxruntime is not installed")
    found = revealed(f"onnxruntime_py:{name}")
    (regime,) = found.regimes
    assert regime.names == ("division-half-even", "activation-scale:float32", *scales, "order:scalar")
    assert regime.unexplained == 0 < regime.of
    assert found.is_invariant
