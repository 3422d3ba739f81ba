"""Q8_A8: the NumPy reference implementation of the block format.

One module a concept, each readable alone, in the order of the specification::

    errors     the exceptions, and the checks that several modules share
    layout     the 34-byte block, and the 36-byte one; views of bytes as blocks
    rounding   to integers, to half precision, and of the fused multiply-add
    recipe     the arithmetics of quantization, as data, and what they compute
    quantize   rows to blocks, and back
    order      the orders in which dot products are summed, as data
    dot        the dot product, in any of these orders
    bound      how far a dot product may lie from the exact one
    matmul     the matrix product with run-time activation quantization
    ops        clamp, get_rows, cpy
    traits     the type's facts for a runtime, and its form in GGUF files
    abi        the functions of the C interface over NumPy buffers
    install    the version, and how an extra is installed

`recipe`, `quantize`, `dot` and `matmul` define each result in plain NumPy (`apply_recipe`, `plain_...`). The
other public functions compute the same bits fast, with the private modules `_fast_quantize`, `_fast_dot` and
`_fast_matmul`; `_pages` gives the pages of memory-mapped inputs back to the system.

Around the format, each imported by its own name::

    ggufio     models in GGUF files, in and out
    llama      a Llama model, its linear operators to choose
    methods    the other methods of quantization, one module each

The specification overrides the code. What the package's users need is importable from here.
"""

from q8a8.abi import Reference
from q8a8.bound import dot_bound, exact_dot, fraction_of_bound, within_bound
from q8a8.dot import block_sums, vec_dot, vec_dot_real
from q8a8.errors import (
    ArgumentError,
    BufferSizeError,
    DomainError,
    DtypeError,
    Q8A8Error,
    ShapeError,
    UnknownNameError,
    UnsupportedOperationError,
)
from q8a8.install import VERSION
from q8a8.layout import (
    BLOCK_Q8_A8,
    BLOCK_Q8_A8_V2,
    QK8_A8,
    as_blocks,
    as_bytes,
    pack,
    pack_v2,
    unpack,
)
from q8a8.matmul import mul_mat, mul_mat_quantized
from q8a8.ops import clamp, cpy, forward, get_rows
from q8a8.order import ORDERS, Order, get_order
from q8a8.quantize import dequantize_row, quantize_activation, quantize_row, quantize_row_v2
from q8a8.recipe import RECIPES, Recipe, defined, get_recipe, quantize_blocks
from q8a8.rounding import f16_to_f32, f32_to_f16, fma32, round_half_away, round_half_even
from q8a8.traits import GGUF, TRAITS, rows_at_a_time

__version__ = VERSION

__all__ = [
    "BLOCK_Q8_A8",
    "BLOCK_Q8_A8_V2",
    "GGUF",
    "ORDERS",
    "QK8_A8",
    "RECIPES",
    "TRAITS",
    "ArgumentError",
    "BufferSizeError",
    "DomainError",
    "DtypeError",
    "Order",
    "Q8A8Error",
    "Recipe",
    "Reference",
    "ShapeError",
    "UnknownNameError",
    "UnsupportedOperationError",
    "__version__",
    "as_blocks",
    "as_bytes",
    "block_sums",
    "clamp",
    "cpy",
    "defined",
    "dequantize_row",
    "dot_bound",
    "exact_dot",
    "f16_to_f32",
    "f32_to_f16",
    "fma32",
    "forward",
    "fraction_of_bound",
    "get_order",
    "get_recipe",
    "get_rows",
    "mul_mat",
    "mul_mat_quantized",
    "pack",
    "pack_v2",
    "quantize_activation",
    "quantize_blocks",
    "quantize_row",
    "quantize_row_v2",
    "round_half_away",
    "round_half_even",
    "rows_at_a_time",
    "unpack",
    "vec_dot",
    "vec_dot_real",
    "within_bound",
]
