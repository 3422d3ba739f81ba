"""A scheme: a model's linear operators, the smoothing folded into it first, and its cache.

A scheme is data: a class of `q8a8.llama.linear` or `q8a8.methods` with its options, the statistics that its
constructor takes, and perhaps a smoothing and a cache. `build` makes a model of it. All are in
`SCHEMES` in `q8a8.schemes.table`::

    float weights ──fold──> weights ──linear(weight, **options, **statistics)──> Linear, for every weight
                  smoothing                                                      of `linear_names`

The head stays a float product by default: it is a fifth of this project's small model, where llama.cpp keeps
it in 8 bits as well, and would dominate the measurement.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from q8a8.errors import DomainError, ShapeError, UnknownNameError
from q8a8.llama.config import EMBEDDING, HEAD, linear_names
from q8a8.llama.model import Model
from q8a8.llama.tensors import check_shapes
from q8a8.methods.smoothquant import make_smoothing
from q8a8.schemes.statistics import CALIBRATED, GATHERED, HESSIAN, InputStatistics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from q8a8.llama.cache import KVCache
    from q8a8.llama.config import Config
    from q8a8.llama.linear import Linear

    F32 = NDArray[np.float32]

__all__ = ["Built", "InputStatistics", "Scheme", "build", "get_scheme"]


@dataclass(frozen=True)
class Scheme:
    """How a model is quantized.

    Attributes
    ----------
    name
        Its name on the command line: lower case, the smoothing after a plus sign.
    summary
        One sentence.
    source
        The document, paper or library that describes it.
    weight_bits, activation_bits
        Bits of a number without its scales; a `Built` model has the stored ones.
    linear
        Called with a weight float32 `[out, in]` and the options, returns the operator.
    options
        Keyword arguments for `linear`.
    exceptions
        More of them for single operators, by their name in GGUF: `attn_q`.
    statistics
        More of them, by the name of a statistic of the operator's input (`q8a8.schemes.statistics`).
    smoothing
        Keyword arguments for `make_smoothing`; None for no smoothing.
    cache
        Called with the model's shape, the positions to hold, and `cache_options`, returns the cache; None for
        a scheme that leaves keys and values in float32.
    cache_options
        Keyword arguments for `cache`.
    cache_bits
        Bits of a key's or value's number without its scales.
    """

    name: str
    summary: str
    source: str
    weight_bits: float
    activation_bits: float
    linear: Callable[..., Linear]
    options: Mapping[str, Any] = field(default_factory=dict)
    exceptions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    statistics: Mapping[str, str] = field(default_factory=dict)
    smoothing: Mapping[str, Any] | None = None
    cache: Callable[..., KVCache] | None = None
    cache_options: Mapping[str, Any] = field(default_factory=dict)
    cache_bits: float = 32.0

    @property
    def needs_calibration(self) -> bool:
        """Whether a `Calibration` is needed."""
        return self.smoothing is not None or not set(CALIBRATED).isdisjoint(self.statistics.values())

    @property
    def needs_inputs(self) -> bool:
        """Whether Hessians or histograms of the inputs are needed (`gather_inputs`)."""
        return self.needs_hessian or self.needs_histogram

    @property
    def needs_hessian(self) -> bool:
        """Whether Hessians of the inputs are needed."""
        return HESSIAN in self.statistics.values()

    @property
    def needs_histogram(self) -> bool:
        """Whether histograms of the inputs are needed."""
        return not (set(GATHERED) - {HESSIAN}).isdisjoint(self.statistics.values())


@dataclass(frozen=True, eq=False)
class Built:
    """A model of a scheme.

    Attributes
    ----------
    scheme
        The scheme.
    model
        Ready to run.
    replaced
        The weights that the scheme stores its own way, by name, with their number of elements.
    """

    scheme: Scheme
    model: Model
    replaced: Mapping[str, int]

    @property
    def weight_bytes(self) -> int:
        """Bytes that the weights of the scheme's operators take, scales included."""
        return sum(self.model.linears[name].weight_bytes for name in self.replaced)

    @property
    def weight_bits(self) -> float:
        """Bits a weight, scales included."""
        return 8 * self.weight_bytes / sum(self.replaced.values())

    @property
    def activation_bits(self) -> float:
        """Bits an activation, scales included where they are stored: the mean over products with a weight.

        For a scheme that decides at run time, the mean over the calls so far.
        """
        bits = [self.model.linears[name].activation_bits * size for name, size in self.replaced.items()]
        return sum(bits) / sum(self.replaced.values())

    def new_cache(self, capacity: int) -> KVCache | None:
        """Return an empty cache, or None where the scheme has none of its own."""
        if self.scheme.cache is None:
            return None
        return self.scheme.cache(self.model.config, capacity, **self.scheme.cache_options)


def get_scheme(name: str, schemes: Mapping[str, Scheme]) -> Scheme:
    """Find a scheme.

    Raises
    ------
    UnknownNameError
        listing the known ones.
    """
    if name not in schemes:
        raise UnknownNameError("scheme", name, schemes)
    return schemes[name]


def build(
    scheme: Scheme,
    config: Config,
    weights: Mapping[str, F32],
    statistics: InputStatistics | None = None,
    *,
    head: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Built:
    """Quantize a model.

    Parameters
    ----------
    scheme
        The scheme.
    config
        The model's shape.
    weights
        float32 by GGUF name; left as they are.
    statistics
        Statistics of the operators' inputs, from a calibration.
    head
        Quantize the head as well.
    progress
        Called with the number of weights done, after each.

    Raises
    ------
    ArgumentError, CalibrationError
        where calibration is needed and missing, or has no statistics of an operator.
    ShapeError, DtypeError, DomainError, ModelError
        as the scheme's operators, `make_smoothing` and `Model`. Every weight is checked before any of them is
        replaced, as `q8a8.llama.tensors.check_shapes`.
    """
    check_shapes(config, {name: weight.shape for name, weight in weights.items()})
    statistics = statistics or InputStatistics()
    folded = dict(weights)
    if scheme.smoothing is not None:
        calibration = statistics.require_calibration(scheme.name)
        folded = make_smoothing(weights, config, calibration, **scheme.smoothing).fold(weights)
    names = [*linear_names(config), *([HEAD] if head else [])]
    linears: dict[str, Linear] = {}
    replaced: dict[str, int] = {}
    for done, name in enumerate(names, 1):
        weight = folded[EMBEDDING] if name == HEAD and HEAD not in folded else folded[name]
        found = {
            parameter: statistics.get(statistic, name, scheme.name)
            for parameter, statistic in scheme.statistics.items()
        }
        special = scheme.exceptions.get(name.split(".")[-2], {})
        try:
            linears[name] = scheme.linear(weight, **{**scheme.options, **special, **found})
        except DomainError as error:
            raise error.named(f"{name}: {error.array}") from None
        except ShapeError as error:
            raise ShapeError(f"{name}: {error}") from None
        replaced[name] = weight.size
        if progress is not None:
            progress(done)
    kept = {name: array for name, array in folded.items() if name not in linears}
    return Built(scheme, Model(config, kept, linears=linears), replaced)
