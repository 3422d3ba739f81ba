"""Dynamic quantization against onnxruntime, bit for bit: each operator as a model of one node."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest

from q8a8.methods import dynamic
from q8a8.methods.affine import Quantized, quantize

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

ELEMENT_TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6}

# ---- ONNX files are protocol buffers: fields of (number, wire type), then a varint, or a length and bytes --


def varint(number: int) -> bytes:
    """Encode an unsigned integer, seven bits a byte, the low ones first."""
    low, rest = number & 127, number >> 7
    return bytes([low | 128]) + varint(rest) if rest else bytes([low])


def integer(field: int, number: int) -> bytes:
    """Encode a field that is an integer."""
    return varint(field << 3) + varint(number)


def message(field: int, *parts: bytes | str) -> bytes:
    """Encode a field that is a string or a message."""
    body = b"".join(part.encode() if isinstance(part, str) else part for part in parts)
    return varint(field << 3 | 2) + varint(len(body)) + body


def model(operator: str, inputs: dict[str, str], outputs: dict[str, str], domain: str) -> bytes:
    """Encode a ModelProto of one node; inputs and outputs map names to types."""

    def values(field: int, of: dict[str, str]) -> bytes:
        # ValueInfoProto: name, TypeProto { tensor_type { elem_type } }.
        return b"".join(
            message(field, message(1, name), message(2, message(1, integer(1, ELEMENT_TYPES[dtype]))))
            for name, dtype in of.items()
        )

    names = [message(1, name) for name in inputs] + [message(2, name) for name in outputs]
    node = b"".join(names) + message(4, operator) + message(7, domain)
    graph = message(1, node) + message(2, operator) + values(11, inputs) + values(12, outputs)
    # IR version 8; operator set 17 of ONNX itself, and version 1 of onnxruntime's own.
    opset = message(8, message(1, ""), integer(2, 17))
    own = message(8, message(1, "com.microsoft"), integer(2, 1))
    return integer(1, 8) + message(7, graph) + opset + own


def run(
    operator: str, inputs: Mapping[str, NDArray[np.generic]], outputs: dict[str, str], domain: str = ""
) -> list[NDArray[np.generic]]:
    """Run one operator on the CPU, in one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    encoded = model(operator, {name: array.dtype.name for name, array in inputs.items()}, outputs, domain)
    session = onnxruntime.InferenceSession(encoded, options, providers=["CPUExecutionProvider"])
    results: list[NDArray[np.generic]] = session.run(None, dict(inputs))
    return results


def hard_vectors() -> list[NDArray[np.float32]]:
    """Zeros, ties, neighbours of ties, subnormals, single outliers, one sign, random ones."""
    rng = np.random.default_rng(99)
    ties = np.array([-127.5, 127.5, 0.5, 1.5, -0.5, 2.5, -2.5, 100.5, -100.5], np.float32)
    vectors = [ties, np.nextafter(ties, np.float32(np.inf)), np.nextafter(ties, np.float32(-np.inf))]
    vectors += [ties * np.float32(scale) for scale in (0.1, 3.0, 2.0**-120, 2.0**-140, 1e30)]
    vectors += [np.append(ties, np.float32(end)) for end in (252.5, -252.5, 251.5, -251.5, 200, -200)]
    vectors += [np.zeros(5, np.float32), np.full(3, -0.0, np.float32), np.zeros(0, np.float32)]
    vectors += [np.array([1, 2, 3], np.float32), np.array([-1, -2, -3], np.float32), np.ones(1, np.float32)]
    vectors += [
        rng.integers(-m, m + 1, 50).astype(np.float32) * np.float32(2.0**-149) for m in (128, 300, 9000)
    ]
    for n in (1, 2, 7, 64, 1000):
        vectors += [rng.standard_normal(n).astype(np.float32) * np.float32(scale) for scale in (1, 1e-3, 50)]
    outlier = rng.standard_normal(500).astype(np.float32)
    outlier[77] = 6e4
    return [*vectors, outlier, -outlier]


def test_dynamic_quantize_linear() -> None:
    """DYN-1 to DYN-5: scale, zero point and codes of every hard vector."""
    for x in hard_vectors():
        q, scale, zero = run("DynamicQuantizeLinear", {"x": x}, {"q": "uint8", "s": "float32", "z": "uint8"})
        mine = quantize(x, "onnx")
        assert mine.zero is not None
        assert np.asarray(mine.scale).view(np.uint32) == np.asarray(scale).view(np.uint32), x
        assert int(mine.zero) == int(zero), x
        assert np.array_equal(mine.q, q), x


def test_underflow_stands_for_zero() -> None:
    """DYN-4: where s underflows onnxruntime's zero point comes from 0/0; all codes still stand for 0."""
    x = np.array([0, 2.0**-149, -(2.0**-149)], np.float32)
    _, scale, zero = run("DynamicQuantizeLinear", {"x": x}, {"q": "uint8", "s": "float32", "z": "uint8"})
    mine = quantize(x, "onnx")
    assert scale == mine.scale == 0
    assert zero == 255
    assert mine.zero is not None
    assert mine.q.tolist() == [mine.zero] * 3


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("zero", [0, 3, 127])
def test_quantize_linear(dtype: str, zero: int) -> None:
    """DYN-9: hard vectors with scales that are powers of two and others, saturating ones included."""
    for x in hard_vectors():
        for scale in (1.0, 0.5, 0.1, 2.0**-20, 3e5):
            inputs = {"x": x, "s": np.array(scale, np.float32), "z": np.array(zero, dtype)}
            (theirs,) = run("QuantizeLinear", inputs, {"q": dtype})
            assert np.array_equal(dynamic.quantize_linear(x[None], scale, zero, dtype)[0], theirs), (x, scale)


@pytest.mark.parametrize("k", [1, 3, 64, 300, 1025])
def test_mat_mul_integer(k: int) -> None:
    """DYN-6: all of uint8 times all of uint8, with zero points."""
    rng = np.random.default_rng(k)
    # Not uint8 by int8: x86 kernels without VNNI add pairs of those products in saturating 16 bits.
    a, b = (rng.integers(0, 256, (n, k)).astype(np.uint8) for n in (4, 6))
    a[0], b[0], b[1] = 255, 255, 0
    za, zb = np.uint8(255), np.uint8(7)
    inputs = {"a": a, "b": np.ascontiguousarray(b.T), "za": np.array(za), "zb": np.array(zb)}
    (theirs,) = run("MatMulInteger", inputs, {"y": "int32"})
    one = np.ones(6, np.float32)
    mine = dynamic.accumulate(Quantized(a, one[:4], np.full(4, za)), Quantized(b, one, np.full(6, zb)))
    assert np.array_equal(mine, theirs)


def test_mat_mul_integer_signed() -> None:
    """DYN-6: uint8 by int8 of half the range, which no kernel saturates."""
    rng = np.random.default_rng(1)
    a = rng.integers(0, 256, (5, 500)).astype(np.uint8)
    b = rng.integers(-64, 65, (3, 500)).astype(np.int8)
    inputs = {
        "a": a,
        "b": np.ascontiguousarray(b.T),
        "za": np.array(128, np.uint8),
        "zb": np.array(0, np.int8),
    }
    (theirs,) = run("MatMulInteger", inputs, {"y": "int32"})
    x = Quantized(a, np.ones(5, np.float32), np.full(5, 128, np.uint8))
    w = Quantized(b, np.ones(3, np.float32), None)
    assert np.array_equal(dynamic.accumulate(x, w), theirs)


def test_q_linear_mat_mul() -> None:
    """DYN-8: requantized sums, ties and saturation among them."""
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 256, (8, 96)).astype(np.uint8), rng.integers(0, 256, (40, 96)).astype(np.uint8)
    for sx, sw, sy, zero in ((0.5, 0.25, 64.0, 100), (0.1, 0.3, 11.0, 3), (1.0, 1.0, 2.0**12, 128)):
        scales = {name: np.array(v, np.float32) for name, v in (("sa", sx), ("sb", sw), ("sy", sy))}
        zeros = {name: np.array(v, np.uint8) for name, v in (("za", 120), ("zb", 130), ("zy", zero))}
        inputs: dict[str, NDArray[np.generic]] = {
            "a": a,
            "sa": scales["sa"],
            "za": zeros["za"],
            "b": np.ascontiguousarray(b.T),
            "sb": scales["sb"],
            "zb": zeros["zb"],
            "sy": scales["sy"],
            "zy": zeros["zy"],
        }
        (theirs,) = run("QLinearMatMul", inputs, {"y": "uint8"})
        x = Quantized(a, np.full(8, scales["sa"]), np.full(8, zeros["za"]))
        w = Quantized(b, np.full(40, scales["sb"]), np.full(40, zeros["zb"]))
        factor = dynamic.multiplier(x.scale, w.scale, sy)
        mine = dynamic.requantize(dynamic.accumulate(x, w), factor, zero, np.uint8)
        assert np.array_equal(mine, theirs), (sx, sw, sy)


def test_dynamic_quantize_mat_mul() -> None:
    """DYN-7, DYN-10: onnxruntime's fused layer is per tensor, in the order acc*(sx*sw)."""
    rng = np.random.default_rng(3)
    for n, k in ((1, 16), (7, 200), (32, 640)):
        x, w = rng.standard_normal((n, k)).astype(np.float32), rng.standard_normal((24, k)).astype(np.float32)
        qw = dynamic.quantize_matrix(w, "tensor", "onnx")
        assert qw.zero is not None
        inputs: dict[str, NDArray[np.generic]] = {
            "x": x,
            "w": np.ascontiguousarray(qw.q.T),
            "sw": np.array(qw.scale[0]),
            "zw": np.array(qw.zero[0]),
        }
        (theirs,) = run("DynamicQuantizeMatMul", inputs, {"y": "float32"}, "com.microsoft")
        layer = dynamic.DynamicLinear(
            w, activations="tensor", weights="tensor", rule="onnx", weight_rule="onnx", order="acc*(sx*sw)"
        )
        assert np.array_equal(layer(x).view(np.uint32), theirs.view(np.uint32))
