"""The table of schemes: this format's and those of plain integers; the others in `methods`."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from q8a8.llama.linear import FloatLinear, Int8WeightLinear, Q8A8Linear
from q8a8.methods.dynamic import DynamicLinear
from q8a8.schemes.methods import METHODS
from q8a8.schemes.scheme import Scheme

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["SCHEMES"]

SMOOTHINGS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "smooth": ("SmoothQuant, alpha 0.5, into the norms", {"alpha": 0.5}),
    "smooth-down": (
        "SmoothQuant, alpha 0.5, into the norms, and of down_proj into up_proj",
        {"alpha": 0.5, "fold_down": True},
    ),
}
"""The suffixes after a plus sign."""

FLOAT = Scheme(
    "float",
    "Everything in float32: what the others are measured against.",
    "Touvron et al., LLaMA (2023)",
    weight_bits=32,
    activation_bits=32,
    linear=FloatLinear,
)

W8A16 = Scheme(
    "w8a16",
    "Weights in blocks of 32 with a float16 scale (ggml's q8_0), activations in float.",
    "the format's layout; ggml, block_q8_0",
    weight_bits=8,
    activation_bits=32,
    linear=Int8WeightLinear,
)

Q8_A8 = Scheme(
    "q8_a8",
    "Weights and activations in blocks of 32 with a float16 scale each: this format.",
    "documents 000 and 001; the specification, Q8A8-MUL",
    weight_bits=8,
    activation_bits=8,
    linear=Q8A8Linear,
)

W8A8_TENSOR = Scheme(
    "w8a8-tensor",
    "int8 with one scale for a whole weight and one for all activations of a call.",
    "documents 003 and 004; Jacob et al. (2018), arXiv:1712.05877",
    weight_bits=8,
    activation_bits=8,
    linear=DynamicLinear,
    options={"activations": "tensor", "weights": "tensor"},
)

W8A8_CHANNEL = Scheme(
    "w8a8-channel",
    "int8 with one scale for each output channel of a weight and one for each token.",
    "document 004; ZeroQuant (2022), arXiv:2206.01861, section 4.1",
    weight_bits=8,
    activation_bits=8,
    linear=DynamicLinear,
    options={"activations": "token", "weights": "channel"},
)


def _smoothed(scheme: Scheme) -> Iterator[Scheme]:
    """Yield a scheme without smoothing, and with each."""
    yield scheme
    for suffix, (what, options) in SMOOTHINGS.items():
        yield Scheme(
            f"{scheme.name}+{suffix}",
            f"{scheme.summary.rstrip('.')}; {what}.",
            f"{scheme.source}; Xiao et al., SmoothQuant (2023), arXiv:2211.10438",
            weight_bits=scheme.weight_bits,
            activation_bits=scheme.activation_bits,
            linear=scheme.linear,
            options=scheme.options,
            smoothing=options,
        )


def _all() -> Iterator[Scheme]:
    """Yield all schemes, in the order of the tables in the documentation."""
    yield from (FLOAT, W8A16)
    for scheme in (Q8_A8, W8A8_TENSOR, W8A8_CHANNEL):
        yield from _smoothed(scheme)
    yield from METHODS


SCHEMES: Mapping[str, Scheme] = MappingProxyType({scheme.name: scheme for scheme in _all()})
"""All schemes by name."""
