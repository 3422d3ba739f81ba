"""Two backends on one model and text: every linear product by both, on the same inputs, beside the bound.

The model runs in the reference's code. Every linear operator quantizes its input and multiplies by the
specification; the same input is given to each backend's `mul_mat_q8_a8`. So inputs do not drift apart, and a
product that is outside the bound is outside by its own arithmetic. Then each backend runs the whole model,
every product on what its own products led to, and the logits are compared.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from q8a8 import dequantize_row, layout
from q8a8.errors import DomainError
from q8a8.ggufio import open_model
from q8a8.ggufio.floats import is_q8_a8, to_blocks
from q8a8.llama.config import EMBEDDING, HEAD, linear_names
from q8a8.quantize import quantize_row
from q8a8.recipe import RECIPES, defined, quantize_blocks
from q8a8_conformance.inputs import calls
from q8a8_conformance.results.expected_product import ExpectedProduct, outputs_of
from q8a8_conformance.results.observations import Failure
from q8a8_evaluation.divergence import divergences

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from q8a8.llama import LoadedModel
    from q8a8.llama.model import NotFinite
    from q8a8_conformance.diagnosis.facts import Fact
    from q8a8_conformance.protocol.session import Session
    from q8a8_conformance.reveal.products.regimes import RevealedProduct

Array = NDArray[Any]
F32, F64 = np.float32, np.float64

TAKEN = ("design", *(name for name in RECIPES if name.startswith("ggml-")))
"""Recipes that activations may be quantized by: those that the profile ``ggml`` accepts."""


@dataclass(frozen=True)
class Weights:
    """The linear operators' weights as blocks.

    Attributes
    ----------
    blocks
        Blocks [out, in / 32], by name.
    stored
        How many are in the file as they are here.
    quantized
        How many were quantized first, by the type that the file has.
    """

    blocks: Mapping[str, Array]
    stored: int
    quantized: Mapping[str, int]


def read_weights(path: Path, loaded: LoadedModel, *, head: bool = False) -> Weights:
    """Read the weights of a model's linear operators; those that are no blocks are quantized by the design.

    Parameters
    ----------
    path, loaded
        The file, and what was loaded of it.
    head
        Whether the head is among them.

    Raises
    ------
    GgufError, DomainError
        as `q8a8.ggufio.open_model` and `q8a8.quantize_row`, naming the tensor.
    """
    blocks: dict[str, Array] = {}
    quantized: dict[str, int] = {}
    with open_model(path) as file:
        for name in (*linear_names(loaded.config), *((HEAD,) if head else ())):
            source = name if name in file.tensors else EMBEDDING
            info = file.tensors[source]
            if is_q8_a8(info.type):
                held = to_blocks(np.array(file.raw(source)), file.header.order)
                blocks[name] = held.reshape(info.shape[0], -1)
                continue
            quantized[info.type_name] = quantized.get(info.type_name, 0) + 1
            try:
                blocks[name] = quantize_row(loaded.weights[source])
            except DomainError as error:
                raise error.named(f"{name}: {error.array}") from None
    return Weights(blocks, len(blocks) - sum(quantized.values()), quantized)


@dataclass(frozen=True)
class Product:
    """One product by a backend, beside what it must be.

    Attributes
    ----------
    tensor
        The weight's name.
    m, n, k
        The shape.
    outside
        Outputs outside the bound.
    fraction
        The largest error, as a fraction of its bound.
    error, quantization_error
        Mean error over the mean output, of the backend and of the specification: from the product of the
        same floats, which is not quantized.
    """

    tensor: str
    m: int
    n: int
    k: int
    outside: int
    fraction: float
    error: float
    quantization_error: float


@dataclass(frozen=True)
class Place:
    """The output that is furthest outside its bound, in the first product that has one.

    Attributes
    ----------
    tensor, token, row
        Which: the row of x is that of the token, the row of w that of the weight.
    outside, of
        Outputs of this product that are outside, and all.
    actual, expected, bound
        The output, the specification's, and how far from the exact sum it may be.
    failure
        The call.
    """

    tensor: str
    token: int
    row: int
    outside: int
    of: int
    actual: float
    expected: float
    bound: float
    failure: Failure


class Backend:
    """A backend on a model.

    Parameters
    ----------
    multiply
        Makes a product; its bytes, as they lie in `out`.

    Attributes
    ----------
    products
        Every product, in the order of the model.
    recipe
        The recipe by which activations are quantized; None before any product, or where none holds.
    first
        The first product outside the bound.
    seconds
        What its products took.
    """

    def __init__(self, multiply: Callable[[Any], bytes]) -> None:
        self._multiply = multiply
        self.products: list[Product] = []
        self.recipe: str | None = None
        self.first: Place | None = None
        self.seconds = 0.0

    def multiply(self, w: Array, x: Array) -> Array:
        """Multiply blocks [m, nb] by float32 [n, 32·nb]: float32 [n, m]."""
        call = calls.mul_mat(w, np.ascontiguousarray(x, "<f4"))
        started = time.monotonic()
        out = self._multiply(call)
        self.seconds += time.monotonic() - started
        return outputs_of(call, out[: 4 * len(w) * len(x)])

    def judge(self, tensor: str, w: Array, x: Array, held: Expected) -> None:
        """Multiply, and keep how it is beside what it must be."""
        out = self.multiply(w, x)
        # The first product tells the recipe; none changes between products.
        names = TAKEN if not self.products else (self.recipe or "design", "design")
        tried = {name: ~held.by(name).holds(out) for name in names if held.knows(name)}
        name = min(tried, key=lambda each: int(tried[each].sum()))
        wrong, expected = tried[name], held.by(name)
        outside = int(wrong.sum())
        if not self.products and not outside:
            self.recipe = name
        error, bound = np.abs(expected.errors(out)), expected.bound
        with np.errstate(all="ignore"):
            share = np.where(error == 0, 0.0, error / bound)
        share = np.where(np.isnan(share), np.inf, share)
        m, n = out.shape[1], out.shape[0]
        self.products.append(
            Product(tensor, m, n, x.shape[1], outside, float(share.max()), *held.relative(out))
        )
        if outside and self.first is None:
            token, row = (int(i) for i in np.unravel_index(np.argmax(np.where(wrong, share, -1)), out.shape))
            call = calls.mul_mat(w, np.ascontiguousarray(x, "<f4"))
            right = expected.outputs.astype("<f4")
            self.first = Place(
                tensor,
                token,
                row,
                outside,
                out.size,
                float(out[token, row]),
                float(right[token, row]),
                float(bound[token, row]),
                Failure(call, (out.astype("<f4").tobytes(),), (right.tobytes(),)),
            )

    @property
    def outside(self) -> list[Product]:
        """The products outside the bound."""
        return [product for product in self.products if product.outside]


class Expected:
    """What one product must be, by each recipe; and what it is of floats."""

    def __init__(self, w: Array, x: Array) -> None:
        self._w, self._x = w, x
        self._by: dict[str, ExpectedProduct] = {}
        self._floats = x @ dequantize_row(w).T
        self._mean = float(np.abs(self._floats).mean(dtype=F64)) or 1.0

    def knows(self, recipe: str) -> bool:
        """Return whether the recipe quantizes all of x."""
        return bool(defined(self._x.reshape(-1, layout.QK8_A8), recipe).all())

    def by(self, recipe: str) -> ExpectedProduct:
        """Return what it must be where activations are quantized by a recipe."""
        if recipe not in self._by:
            scale, codes = quantize_blocks(self._x.reshape(-1, layout.QK8_A8), recipe)
            xq = layout.pack(scale, codes).reshape(len(self._x), -1)
            self._by[recipe] = ExpectedProduct(self._w, xq)
        return self._by[recipe]

    def relative(self, out: Array) -> tuple[float, float]:
        """Return the mean error over the mean output, of outputs and of the specification's."""
        with np.errstate(invalid="ignore"):
            own = np.abs(out - self._floats).mean(dtype=F64) / self._mean
        return float(own), float(
            np.abs(self.by("design").outputs - self._floats).mean(dtype=F64) / self._mean
        )


@dataclass
class _Forced:
    """A linear operator that is judged: the specification's product goes on."""

    tensor: str
    blocks: Array
    backends: Sequence[Backend]
    done: Callable[[], object]
    weight_bytes = 0
    activation_bits = 8.5

    def __call__(self, x: Array) -> Array:
        """Multiply: float32 `[t, in]` to float32 `[t, out]`."""
        # What cannot be quantized is refused here, with its place.
        quantize_row(x)
        held = Expected(self.blocks, x)
        for backend in self.backends:
            backend.judge(self.tensor, self.blocks, x, held)
        self.done()
        return held.by("design").outputs


@dataclass
class _Own:
    """A linear operator that a backend computes."""

    blocks: Array
    backend: Backend
    done: Callable[[], object]
    weight_bytes = 0
    activation_bits = 8.5

    def __call__(self, x: Array) -> Array:
        """Multiply: float32 `[t, in]` to float32 `[t, out]`."""
        self.done()
        if not np.isfinite(x).all():
            # What a kernel makes of it is not specified; what began it is found.
            return np.full((len(x), len(self.blocks)), np.nan, F32)
        return self.backend.multiply(self.blocks, x)


@dataclass
class Side:
    """A backend by name, with what was found out about it.

    Attributes
    ----------
    spec, name
        As the command line has it, and as it calls itself.
    session, backend
        With its worker, and its products.
    facts
        What explains its first product outside the bound.
    revealed
        What it computes where; None where that was not asked.
    why
        Why the experiments ended early.
    """

    spec: str
    name: str
    session: Session
    backend: Backend
    facts: list[Fact] = field(default_factory=list)
    revealed: RevealedProduct | None = None
    why: str = ""


@dataclass
class Comparison:
    """Logits of a text by the reference, by each backend, and in float: float32 [tokens, vocabulary].

    Attributes
    ----------
    reference, floating
        By the specification; without any quantization of activations, and the file's weights.
    backends
        Those of each backend, in order.
    not_finite
        For each backend, where its results stop being numbers; None where they do not.
    """

    reference: Array
    floating: Array
    backends: list[Array] = field(default_factory=list)
    not_finite: list[NotFinite | None] = field(default_factory=list)


def run(
    loaded: LoadedModel,
    weights: Weights,
    tokens: Array,
    backends: Sequence[Backend],
    done: Callable[[], object] = lambda: None,
) -> Comparison:
    """Judge every product, then run the whole model by each backend.

    Parameters
    ----------
    loaded, weights
        The model.
    tokens
        The text.
    backends
        The backends; their products are kept in them.
    done
        Called after each product.

    Raises
    ------
    DomainError
        An input that cannot be quantized, naming the tensor and the token.
    """
    forced = {name: _Forced(name, each, backends, done) for name, each in weights.blocks.items()}
    found = Comparison(loaded.model(linears=forced).forward(tokens), loaded.model().forward(tokens))
    for backend in backends:
        own = {name: _Own(each, backend, done) for name, each in weights.blocks.items()}
        model = loaded.model(linears=own)
        with np.errstate(all="ignore"):
            found.backends.append(model.forward(tokens))
        finite = np.isfinite(found.backends[-1]).all()
        found.not_finite.append(None if finite else model.first_not_finite(tokens))
    return found


@dataclass(frozen=True)
class Drift:
    """How far one model's predictions are from another's.

    Attributes
    ----------
    mean, largest
        KL(base ‖ other) of a token's prediction, in nats.
    changes, tokens
        Predictions whose most probable token is another one, and all.
    """

    mean: float
    largest: float
    changes: int
    tokens: int


def drift(base: Array, other: Array) -> Drift | None:
    """Compare logits, float32 [t, v] each; None where some are not finite."""
    if not (np.isfinite(base).all() and np.isfinite(other).all()):
        return None
    kl, same, _ = divergences(other, base, np.zeros(len(base), np.int64))
    # What rounding makes of zero is zero.
    kl = np.maximum(kl, 0.0)
    return Drift(float(kl.mean()), float(kl.max()), int((same == 0).sum()), len(base))
