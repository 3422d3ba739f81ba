"""onnxruntime's integer product: ``py:q8a8_conformance.adapters.onnxruntime_py:kernel``.

A model of ONNX operators, as dynamic quantization by blocks is written with them: a row's block is divided by
amax/127 and rounded to int8, `MatMulInteger` multiplies the codes of each block, and the sums are scaled and
added in float32. ONNX has no type for a block, so weights are given as codes and scales apart. The operators
compute, each as it is written. ``onnxruntime_py:optimized`` is the same with onnxruntime's optimizer, which
multiplies the sums by one scale after the other: with another rounding.

ONNX files are protocol buffers: fields of (number, wire type), then a varint, or a length and bytes.
"""

from __future__ import annotations

from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

if TYPE_CHECKING:
    from numpy.typing import NDArray

FLOAT, INT8, INT64 = 1, 3, 7
"""Numbers of TensorProto.DataType."""

INPUTS = {"x": FLOAT, "w": INT8, "dw": FLOAT, "n": FLOAT, "least": FLOAT, "low": FLOAT, "high": FLOAT}
AXES = {"first": INT64, "last": INT64}

NODES = (
    ("Abs", ("x",), "magnitudes"),
    ("ReduceMax", ("magnitudes", "last"), "amax"),
    ("Div", ("amax", "n"), "quotient"),
    ("Max", ("quotient", "least"), "d"),
    ("Div", ("x", "d"), "scaled"),
    ("Round", ("scaled",), "rounded"),
    ("Clip", ("rounded", "low", "high"), "clipped"),
    ("Cast", ("clipped",), "q"),
    ("MatMulInteger", ("q", "w"), "sums"),
    ("Cast", ("sums",), "floats"),
    ("Mul", ("d", "dw"), "scales"),
    ("Mul", ("floats", "scales"), "terms"),
    ("ReduceSum", ("terms", "first"), "out"),
)
"""Operator, inputs and output: x [nb, n, 32], w [nb, 32, m], dw [nb, 1, m], out [1, n, m]."""

TARGETS = {"q": INT8, "floats": FLOAT}
"""What Cast casts to, by its output."""


def _varint(number: int) -> bytes:
    low, rest = number & 127, number >> 7
    return bytes([low | 128]) + _varint(rest) if rest else bytes([low])


def _integer(field: int, number: int) -> bytes:
    return _varint(field << 3) + _varint(number)


def _message(field: int, *parts: bytes | str) -> bytes:
    body = b"".join(part.encode() if isinstance(part, str) else part for part in parts)
    return _varint(field << 3 | 2) + _varint(len(body)) + body


def _node(operator: str, inputs: tuple[str, ...], output: str) -> bytes:
    """Encode a NodeProto; Cast has the attribute ``to``."""
    names = [*(_message(1, name) for name in inputs), _message(2, output), _message(4, operator)]
    if operator == "Cast":
        names.append(_message(5, _message(1, "to"), _integer(3, TARGETS[output]), _integer(20, 2)))
    return b"".join(names)


def _value(field: int, name: str, kind: int) -> bytes:
    """Encode a ValueInfoProto of any shape."""
    return _message(field, _message(1, name), _message(2, _message(1, _integer(1, kind))))


def _model() -> bytes:
    """Encode the ModelProto: IR version 8, operator set 18."""
    nodes = b"".join(_message(1, _node(*node)) for node in NODES)
    inputs = b"".join(_value(11, name, kind) for name, kind in (INPUTS | AXES).items())
    graph = nodes + _message(2, "product") + inputs + _value(12, "out", FLOAT)
    return _integer(1, 8) + _message(7, graph) + _message(8, _message(1, ""), _integer(2, 18))


class OnnxRuntime:
    """onnxruntime's operators on its CPU provider, with one thread.

    Parameters
    ----------
    is_optimized
        Whether its optimizer may join operators.
    """

    version = version("onnxruntime")

    def __init__(self, *, is_optimized: bool = False) -> None:
        self._is_optimized = is_optimized

    @cached_property
    def _session(self) -> Any:  # noqa: ANN401 (onnxruntime has no types)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        levels = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = (
            levels.ORT_ENABLE_ALL if self._is_optimized else levels.ORT_DISABLE_ALL
        )
        return onnxruntime.InferenceSession(_model(), options, providers=["CPUExecutionProvider"])

    def mul_mat_q8_a8(
        self, m: int, n: int, k: int, w: NDArray[np.uint8], x: NDArray[np.float32], out: NDArray[np.float32]
    ) -> None:
        """Multiply m rows of blocks in ``w`` by n rows of ``x``."""
        if not m * n * k:
            out[: m * n] = 0
            return
        blocks = w[: m * k // 32 * 34].reshape(m, k // 32, 34)
        scales = np.ascontiguousarray(blocks[..., :2]).view(np.float16)[..., 0]
        given = {
            "x": np.ascontiguousarray(x[: n * k].reshape(n, k // 32, 32).swapaxes(0, 1)),
            "w": np.ascontiguousarray(blocks[..., 2:].view(np.int8).transpose(1, 2, 0)),
            "dw": np.ascontiguousarray(scales.T[:, np.newaxis].astype(np.float32)),
            **{name: np.float32(value) for name, value in _NUMBERS.items()},
            "first": np.array([0], np.int64),
            "last": np.array([-1], np.int64),
        }
        given = {name: np.asarray(value) for name, value in given.items()}
        out[: m * n] = self._session.run(["out"], given)[0].reshape(-1)


_NUMBERS = {"n": 127, "least": 2.0**-126, "low": -128, "high": 127}

kernel = OnnxRuntime()
optimized = OnnxRuntime(is_optimized=True)
