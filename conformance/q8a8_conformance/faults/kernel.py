"""The specification as a kernel whose steps are data: a mutant is one that changes a step.

`Steps` has one field for each step of the arithmetic, of the layout and of the walk over blocks and rows,
each a function over arrays; unchanged, a `Kernel` gives the bits of `q8a8.abi.Reference`. Steps are changed
by name and for some functions of the C interface only, so mistakes can be put together: a wrong rounding in
the quantizers and a scale product in half precision in the dot product make one kernel.

What no step can express (state between calls, an input that is written to) wraps the call: an `Around`
gets the call and makes it, or does something else.

Unlike the reference, a kernel here takes any values, as a C function does.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from q8a8_conformance.faults import steps as plain
from q8a8_conformance.spec.abi import NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    Array = NDArray[Any]

ROW_REF, ROW, DEQUANTIZE, ACTIVATION, DOT, DOT_REAL, MUL_MAT = (
    "quantize_row_q8_a8_ref",
    "quantize_row_q8_a8",
    "dequantize_row_q8_a8",
    "quantize_activation_q8_a8",
    "ggml_vec_dot_q8_a8_q8_a8",
    "ggml_vec_dot_q8_a8_q8_a8_real",
    "mul_mat_q8_a8",
)
ROWS = (ROW_REF, ROW)
QUANTIZERS = (*ROWS, ACTIVATION)
DOTS = (DOT, DOT_REAL)
READERS = (DEQUANTIZE, DOT)

Step: TypeAlias = "Callable[..., Any]"


@dataclass(frozen=True)
class Steps:
    """The steps of a kernel. Shapes: n blocks of s elements (32, or an activation vector's size).

    Attributes
    ----------
    visited
        (nb) -> the numbers of the blocks that a function treats, in order.
    reach
        (size) -> how many elements the activation quantizer looks at for amax, and how many codes it writes.
    amax
        (x f32 [n, s]) -> f32 [n]: the largest magnitude of each block. All blocks of the call come at once.
    scale
        (amax) -> f32 [n]: d.
    to_half
        (d) -> f16 [n]: h.
    vanishes
        (amax, d, h) -> bool [n]: where the inverse is zero.
    inverse
        (amax, d, h) -> float [n]: what elements are multiplied by.
    scaled
        (x, inverse, d) -> float [n, s]: the product.
    to_integer
        (v) -> float [n, s], integers: the rounding.
    to_int8
        (v) -> int8 [n, s]: the conversion, of anything.
    finish
        (x, h, q) -> (h, q): a last look at the blocks.
    pack
        (h, q) -> uint8 [n, 34]: a block's bytes.
    unpack
        (data uint8 [...], nb) -> (h f16 [nb], q int8 [nb, 32]).
    unpack_v2
        (data, nb) -> (weight_scale, activation_scale, q).
    pick
        (x's weight_scale and activation_scale, y's) -> (hx, hy): the scales that a v2 dot product uses.
    widen
        (h) -> f32 [n]: a half as a float.
    value
        (d, q) -> f32 [n, 32]: dequantized elements.
    products
        (qx, qy int8 [nb, 32]) -> int64 [nb, 32]; the sum of a pair may stand in one place of the pair.
    block_sum
        (products) -> f32 [nb].
    scale_product
        (dx, dy f32 [nb]) -> f32 [nb].
    total
        (products, sums, d) -> f32: the result, added up.
    strides
        (n, bx, by) -> (bx, by) in bytes, for two rows.
    places
        (bs) -> where x0·y0, x1·y0, x0·y1 and x1·y1 go, in floats.
    store
        (s, place, value, nb) -> None: writes a result.
    activations
        (x f32 [n, nb, 32]) -> (h f16 [n, nb], q int8 [n, nb, 32]): how a matrix product quantizes.
    matrix
        (hx [n, nb], qx, hw [m, nb], qw) -> f32 [n, m]: the results of a matrix product, added up.
    deliver
        (out, result f32 [n, m], nb) -> None: writes them.
    """

    visited: Step = plain.visited
    reach: Step = plain.reach
    amax: Step = plain.amax
    scale: Step = plain.scale
    to_half: Step = plain.to_half
    vanishes: Step = plain.vanishes
    inverse: Step = plain.inverse
    scaled: Step = plain.scaled
    to_integer: Step = plain.to_integer
    to_int8: Step = plain.to_int8
    finish: Step = plain.finish
    pack: Step = plain.pack
    unpack: Step = plain.unpack
    unpack_v2: Step = plain.unpack_v2
    pick: Step = plain.pick
    widen: Step = plain.widen
    value: Step = plain.value
    products: Step = plain.products
    block_sum: Step = plain.block_sum
    scale_product: Step = plain.scale_product
    total: Step = plain.total
    strides: Step = plain.strides
    places: Step = plain.places
    store: Step = plain.store
    activations: Step = plain.activations
    matrix: Step = plain.matrix
    deliver: Step = plain.deliver


STEP_NAMES = tuple(field.name for field in fields(Steps))

_QUANTIZING = ("amax", "scale", "to_half", "vanishes", "inverse", "scaled", "to_integer", "to_int8", "finish")
_ADDING = ("products", "block_sum", "scale_product", "total", "store")
FUNCTIONS_OF_STEP: Mapping[str, tuple[str, ...]] = {
    "visited": (*ROWS, DEQUANTIZE, *DOTS),
    "reach": (ACTIVATION,),
    **dict.fromkeys(_QUANTIZING, QUANTIZERS),
    "pack": ROWS,
    "unpack": READERS,
    "unpack_v2": (DOT_REAL,),
    "pick": (DOT_REAL,),
    "widen": (*READERS, DOT_REAL),
    "value": (DEQUANTIZE,),
    **dict.fromkeys(_ADDING, DOTS),
    "strides": (DOT,),
    "places": (DOT,),
    **dict.fromkeys(("activations", "matrix", "deliver"), (MUL_MAT,)),
}
"""The functions of the C interface that take a step."""


class Around(Protocol):
    """The code around a call."""

    def __call__(self, call: Callable[[], None], function: str, arguments: Sequence[Any]) -> None:
        """Make the call, and whatever else this kernel does; arguments as in C, arrays for pointers."""


PLAIN = Steps()


class Kernel:
    """The functions of the C interface over NumPy arrays, as `q8a8.abi.Reference` has them.

    Parameters
    ----------
    steps
        The steps by function, for those that are not the specification's.
    around
        What goes around every call, the first one innermost.
    """

    def __init__(self, steps: Mapping[str, Steps] | None = None, around: Sequence[Around] = ()) -> None:
        self._steps = {name: (steps or {}).get(name, PLAIN) for name in NAMES}
        self._around = tuple(around)

    def quantize_row_q8_a8(self, x: Array, y: Array, k: int) -> None:
        """Quantize k elements of x to k/32 blocks in y."""
        self._call(self._quantize_row, ROW, x, y, k)

    def quantize_row_q8_a8_ref(self, x: Array, y: Array, k: int) -> None:
        """Quantize k elements of x to k/32 blocks in y."""
        self._call(self._quantize_row, ROW_REF, x, y, k)

    def dequantize_row_q8_a8(self, x: Array, y: Array, k: int) -> None:
        """Turn k/32 blocks of x into k elements of y."""
        self._call(self._dequantize_row, DEQUANTIZE, x, y, k)

    def quantize_activation_q8_a8(
        self,
        input: Array,  # noqa: A002 - the C parameter's name
        output: Array,
        scale: Array,
        size: int,
    ) -> None:
        """Quantize `size` elements with one scale."""
        self._call(self._quantize_activation, ACTIVATION, input, output, scale, size)

    def ggml_vec_dot_q8_a8_q8_a8(
        self, n: int, s: Array, bs: int, vx: Array, bx: int, vy: Array, by: int, nrc: int
    ) -> None:
        """Take one dot product, or four of two rows each."""
        self._call(self._vec_dot, DOT, n, s, bs, vx, bx, vy, by, nrc)

    def ggml_vec_dot_q8_a8_q8_a8_real(self, n: int, s: Array, vx: Array, vy: Array) -> None:
        """Take one dot product of version 2 blocks."""
        self._call(self._vec_dot_real, DOT_REAL, n, s, vx, vy)

    def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
        """Multiply m rows of blocks by n rows of k elements."""
        self._call(self._mul_mat, MUL_MAT, m, n, k, w, x, out)

    # Inside.

    def _call(self, function: Callable[..., None], name: str, *arguments: Any) -> None:  # noqa: ANN401 - as in C
        """Make a call with everything that goes around it."""

        def call() -> None:
            with np.errstate(all="ignore"):
                function(self._steps[name], *arguments)

        for around in self._around:
            call = _Wrapped(around, call, name, arguments)
        call()

    @staticmethod
    def _quantize_row(steps: Steps, x: Array, y: Array, k: int) -> None:
        nb = k // 32
        h, q = _quantize(steps, x[: 32 * nb].reshape(nb, 32))
        target = y[: 34 * nb].reshape(nb, 34)
        visited = steps.visited(nb)
        target[visited] = steps.pack(h, q)[visited]

    @staticmethod
    def _quantize_activation(steps: Steps, x: Array, output: Array, scale: Array, size: int) -> None:
        looked_at, written = steps.reach(size)
        h, q = _quantize(steps, x[:size].reshape(1, size), looked_at)
        output[:written] = q[0, :written]
        scale[:1] = h.view(np.uint16)

    @staticmethod
    def _dequantize_row(steps: Steps, x: Array, y: Array, k: int) -> None:
        nb = k // 32
        h, q = steps.unpack(x, nb)
        visited = steps.visited(nb)
        y[: 32 * nb].reshape(nb, 32)[visited] = steps.value(steps.widen(h), q)[visited]

    @staticmethod
    def _vec_dot(  # noqa: PLR0913, PLR0917 - the C function's parameters
        steps: Steps, n: int, s: Array, bs: int, vx: Array, bx: int, vy: Array, by: int, nrc: int
    ) -> None:
        nb = n // 32
        if nrc == 1:
            steps.store(s, 0, _dot(steps, *steps.unpack(vx, nb), *steps.unpack(vy, nb)), nb)
            return
        bx, by = steps.strides(n, bx, by)
        x = [steps.unpack(vx[start:], nb) for start in (0, bx)]
        y = [steps.unpack(vy[start:], nb) for start in (0, by)]
        for number, place in enumerate(steps.places(bs)):
            steps.store(s, place, _dot(steps, *x[number % 2], *y[number // 2]), nb)

    @staticmethod
    def _vec_dot_real(steps: Steps, n: int, s: Array, vx: Array, vy: Array) -> None:
        nb = n // 32
        *x_scales, qx = steps.unpack_v2(vx, nb)
        *y_scales, qy = steps.unpack_v2(vy, nb)
        hx, hy = steps.pick(*x_scales, *y_scales)
        steps.store(s, 0, _dot(steps, hx, qx, hy, qy), nb)

    @staticmethod
    def _mul_mat(steps: Steps, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
        nb = k // 32
        h, q = plain.unpack(w, m * nb)
        hw, qw = h.reshape(m, nb), q.reshape(m, nb, 32)
        hx, qx = steps.activations(x[: n * k].reshape(n, nb, 32))
        steps.deliver(out, steps.matrix(hx, qx, hw, qw), nb)


class _Wrapped:
    """A call with one thing around it."""

    def __init__(self, around: Around, call: Callable[[], None], name: str, arguments: Sequence[Any]) -> None:
        self._parts = around, call, name, arguments

    def __call__(self) -> None:
        """Make the call."""
        around, call, name, arguments = self._parts
        around(call, name, arguments)


def _quantize(steps: Steps, x: Array, looked_at: int | None = None) -> tuple[Array, Array]:
    """Quantize blocks [n, s]: h [n], q [n, s]."""
    amax = steps.amax(x[:, :looked_at])
    d = steps.scale(amax)
    h = steps.to_half(d)
    inverse = np.where(steps.vanishes(amax, d, h), np.float32(0), steps.inverse(amax, d, h))
    q = steps.to_int8(steps.to_integer(steps.scaled(x, inverse, d)))
    h, q = steps.finish(x, h, q)
    return h, q


def _dot(steps: Steps, hx: Array, qx: Array, hy: Array, qy: Array) -> Any:  # noqa: ANN401 - a NumPy scalar
    """Multiply two rows of blocks: f32."""
    visited = steps.visited(len(hx))
    products = steps.products(qx[visited], qy[visited])
    d = steps.scale_product(steps.widen(hx)[visited], steps.widen(hy)[visited])
    return steps.total(products, steps.block_sum(products), d)
