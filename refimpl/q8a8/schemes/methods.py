"""The schemes of the other methods of quantization that documents 003 and 004 describe (`q8a8.methods`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from q8a8.llama.linear import FloatLinear
from q8a8.llama.quantized_cache import QuantizedCache
from q8a8.methods.awq import AwqGrid, AwqLinear
from q8a8.methods.fp8 import Fp8Linear
from q8a8.methods.gptq import GptqLinear
from q8a8.methods.gptq_grid import Grid
from q8a8.methods.llm_int8 import LlmInt8Linear
from q8a8.methods.static_linear import AsymmetricStaticLinear, StaticLinear
from q8a8.methods.weight_only import GROUPS, ChannelInt8Linear, Int4GroupLinear
from q8a8.schemes.scheme import Scheme

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["METHODS"]

GROUP = 64
"""Columns of a group for GPTQ and AWQ. Their authors take 128, which does not divide 576 channels."""

AWQ = "document 003; Lin et al., AWQ (2023), arXiv:2306.00978; mit-han-lab/llm-awq"
GPTQ = "document 003; Frantar et al., GPTQ (2023), arXiv:2210.17323; IST-DASLab/gptq"


def _weight_only() -> Iterator[Scheme]:
    """Yield int8 by channel, and int4 in groups."""
    yield Scheme(
        "int8-weight",
        "Weights in int8 with one float32 scale for each output channel, activations in float16.",
        "documents 003 and 004; torchao, Int8WeightOnlyConfig",
        weight_bits=8,
        activation_bits=16,
        linear=ChannelInt8Linear,
    )
    for group in GROUPS:
        for suffix, symmetric in (("", True), ("-asym", False)):
            yield Scheme(
                f"int4-g{group}{suffix}",
                f"Weights in int4 in groups of {group}, {'symmetric' if symmetric else 'with zero points'}, "
                "rounded to nearest; activations in float16.",
                "documents 003 and 004; compressed-tensors, pack-quantized",
                weight_bits=4,
                activation_bits=16,
                linear=Int4GroupLinear,
                # 576 channels are not a whole number of groups of 128: the last group is shorter.
                options={"group": group, "symmetric": symmetric, "tail": "short"},
            )


def _coarse_int4() -> Iterator[Scheme]:
    """Yield int4 with one scale an output channel, and with one for the matrix."""
    for granularity, of in (("channel", "an output channel"), ("tensor", "a matrix")):
        yield Scheme(
            f"int4-{granularity}",
            f"Weights in int4, one scale for {of}, symmetric, rounded to nearest; activations in float16.",
            "documents 003 and 004; compressed-tensors",
            weight_bits=4,
            activation_bits=16,
            linear=Int4GroupLinear,
            options={"group": granularity},
        )


def _llm_int8() -> Iterator[Scheme]:
    """Yield LLM.int8()."""
    yield Scheme(
        "llm-int8",
        "int8 by row and token, but for columns with an activation of 6 or more, which stay in float16.",
        "document 003; Dettmers et al., LLM.int8() (2022), arXiv:2208.07339; bitsandbytes",
        weight_bits=8,
        activation_bits=8,
        linear=LlmInt8Linear,
    )


def _fp8() -> Iterator[Scheme]:
    """Yield both formats, by tensor and by channel."""
    for name, fmt in (("e4m3", "e4m3fn"), ("e5m2", "e5m2")):
        for granularity in ("tensor", "channel"):
            scales = "one scale each" if granularity == "tensor" else "a scale a channel and a token"
            yield Scheme(
                f"fp8-{name}-{granularity}",
                f"Weights and activations in FP8 {name.upper()}, {scales}.",
                "document 003; Micikevicius et al. (2022), arXiv:2209.05433",
                weight_bits=8,
                activation_bits=8,
                linear=Fp8Linear,
                options={"format": fmt, "granularity": granularity},
            )


def _kv_cache() -> Iterator[Scheme]:
    """Yield float operators with quantized caches."""
    for bits in (8, 4):
        yield Scheme(
            f"kv-int{bits}",
            f"Keys (by channel, 32 tokens a group) and values (by token, 32 channels a group) in int{bits}, "
            "the newest 32 to 63 positions in float; weights and activations in float.",
            "document 003; Liu et al., KIVI (2024), arXiv:2402.02750",
            weight_bits=32,
            activation_bits=32,
            linear=FloatLinear,
            cache=QuantizedCache,
            cache_options={"bits": bits},
            cache_bits=bits,
        )


def _gptq() -> Iterator[Scheme]:
    """Yield GPTQ and, on the same grids, rounding to nearest."""
    for bits in (4, 3):
        grid = Grid(bits=bits, group=GROUP)
        yield Scheme(
            f"rtn-int{bits}-g{GROUP}",
            f"int{bits} weights on GPTQ's grid, groups of {GROUP}, rounded to nearest, for comparison.",
            GPTQ,
            weight_bits=bits,
            activation_bits=32,
            linear=GptqLinear,
            options={"hessian": None, "grid": grid},
        )
        for suffix, more in (("", {}), ("-act", {"act_order": True, "parameters": "static"})):
            order = ", columns by falling diagonal of H, static groups" if more else ""
            yield Scheme(
                f"gptq-int{bits}-g{GROUP}{suffix}",
                f"GPTQ: int{bits} weights, groups of {GROUP}, a column's error made good by the next{order}.",
                GPTQ,
                weight_bits=bits,
                activation_bits=32,
                linear=GptqLinear,
                options={"grid": grid, **more},
                statistics={"hessian": "hessian"},
            )


def _awq() -> Iterator[Scheme]:
    """Yield AWQ; its authors clip neither q nor k."""
    for bits in (4, 3):
        yield Scheme(
            f"awq-int{bits}-g{GROUP}",
            f"AWQ: int{bits} weights, groups of {GROUP}, active channels scaled up, groups clipped.",
            AWQ,
            weight_bits=bits,
            activation_bits=32,
            linear=AwqLinear,
            options={"grid": AwqGrid(bits=bits, group=GROUP)},
            exceptions={"attn_q": {"clip": False}, "attn_k": {"clip": False}},
            statistics={"mean": "mean", "rows": "rows"},
        )


def _static() -> Iterator[Scheme]:
    """Yield static quantization with the observers' thresholds."""
    for method in ("absmax", "percentile-99.99", "mse", "entropy"):
        yield Scheme(
            f"w8a8-static-{method}",
            f"int8 by output channel; one scale for each operator's activations, calibrated by {method}.",
            "document 003; NVIDIA TensorRT and pytorch-quantization, calib/histogram.py",
            weight_bits=8,
            activation_bits=8,
            linear=StaticLinear,
            statistics={"threshold": method},
        )
    for method in ("absmax", "percentile-99.99"):
        yield Scheme(
            f"w8a8-static-asym-{method}",
            "int8 by output channel; a scale and a zero point for each operator's activations, both ends "
            f"calibrated by {method}.",
            "document 003; ONNX QuantizeLinear; PyTorch's HistogramObserver",
            weight_bits=8,
            activation_bits=8,
            linear=AsymmetricStaticLinear,
            statistics={"ends": f"ends-{method}"},
        )


METHODS = (
    *_weight_only(),
    *_coarse_int4(),
    *_llm_int8(),
    *_fp8(),
    *_static(),
    *_kv_cache(),
    *_gptq(),
    *_awq(),
)
"""In the order of the tables in the documentation."""
