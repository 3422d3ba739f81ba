"""The C ABI under test as data: the parameters of its functions and the sizes of their buffers.

::

    void quantize_row_q8_a8_ref   (const float *x, void *y, int64_t k);
    void quantize_row_q8_a8       (const float *x, void *y, int64_t k);
    void dequantize_row_q8_a8     (const void *x, float *y, int64_t k);
    void quantize_activation_q8_a8(const float *input, int8_t *output, uint16_t *scale, int size);
    void ggml_vec_dot_q8_a8_q8_a8 (int n, float *s, size_t bs, const void *vx, size_t bx,
                                   const void *vy, size_t by, int nrc);
    void ggml_vec_dot_q8_a8_q8_a8_real(int n, float *s, const void *vx, const void *vy);
    void mul_mat_q8_a8(int64_t m, int64_t n, int64_t k, const void *w, const float *x, float *out);

A function's number in the worker protocol is its index in `FUNCTIONS`. A buffer's index is its index among
the function's pointers, in C order. The element count (`k`, `size` or `n`) is called `n` throughout the
suite; of the matrix product `k` is, its m and n travel as `bs` and `bx` (`Parameter.field`).

To add a function, add an entry to `FUNCTIONS` and a case to `buffer_sizes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

BLOCK_ELEMENTS = 32
"""Elements in a block, QK8_A8."""

Element: TypeAlias = Literal["f32", "i8", "f16", "block_q8_a8", "block_q8_a8_v2"]

ELEMENT_SIZE: dict[Element, int] = {"f32": 4, "i8": 1, "f16": 2, "block_q8_a8": 34, "block_q8_a8_v2": 36}
"""Bytes of one element of a buffer."""

ELEMENT_ALIGNMENT: dict[Element, int] = {"f32": 4, "i8": 1, "f16": 2, "block_q8_a8": 2, "block_q8_a8_v2": 2}
"""The alignment in bytes that a kernel may rely on (rule Q8A8-MEM-4)."""


@dataclass(frozen=True)
class Parameter:
    """One C parameter.

    Parameters
    ----------
    name : str
        Its name in the prototype.
    ctype : str
        Its C type.
    element : Element or None
        The type of the pointer's target; None for an integer.
    travels_as : str
        The `Call` field with this integer, where it is not the one of its name.
    """

    name: str
    ctype: str
    element: Element | None = None
    travels_as: str = ""

    @property
    def is_output(self) -> bool:
        """Whether the kernel writes through this pointer."""
        return self.element is not None and not self.ctype.startswith("const ")

    @property
    def field(self) -> str:
        """The name of the `Call` field with this integer: ``n`` for ``k`` and ``size``."""
        return self.travels_as or ("n" if self.name in ("k", "size") else self.name)


@dataclass(frozen=True)
class BufferSpec:
    """One buffer of a function.

    Parameters
    ----------
    name : str
        The C parameter's name.
    role : {"input", "output"}
        Whether the kernel reads it or writes it.
    element : Element
        The type of its elements.
    """

    name: str
    role: Literal["input", "output"]
    element: Element

    @property
    def element_size(self) -> int:
        """Bytes of one element."""
        return ELEMENT_SIZE[self.element]

    @property
    def alignment(self) -> int:
        """The alignment in bytes that a kernel may rely on."""
        return ELEMENT_ALIGNMENT[self.element]


@dataclass(frozen=True)
class Function:
    """One function of the ABI.

    Parameters
    ----------
    number : int
        Its number in the worker protocol, which is its index in `FUNCTIONS`.
    name : str
        Its exported name.
    parameters : tuple of Parameter
        Its C parameters, in order. The return type is always void.
    """

    number: int
    name: str
    parameters: tuple[Parameter, ...]

    @cached_property
    def buffers(self) -> tuple[BufferSpec, ...]:
        """The buffers, in C order."""
        return tuple(
            BufferSpec(p.name, "output" if p.is_output else "input", p.element)
            for p in self.parameters
            if p.element is not None
        )

    @cached_property
    def outputs(self) -> tuple[int, ...]:
        """The indices of the output buffers in `buffers`."""
        return tuple(i for i, buffer in enumerate(self.buffers) if buffer.role == "output")

    @cached_property
    def inputs(self) -> tuple[int, ...]:
        """The indices of the input buffers in `buffers`."""
        return tuple(i for i, buffer in enumerate(self.buffers) if buffer.role == "input")

    @property
    def prototype(self) -> str:
        """The C prototype, on one line."""
        parameters = ", ".join(
            p.ctype + ("" if p.ctype.endswith("*") else " ") + p.name for p in self.parameters
        )
        return f"void {self.name}({parameters});"


def _p(ctype: str, name: str, element: Element | None = None) -> Parameter:
    return Parameter(name, ctype, element)


_QUANTIZE = (_p("const float *", "x", "f32"), _p("void *", "y", "block_q8_a8"), _p("int64_t", "k"))

FUNCTIONS: tuple[Function, ...] = (
    Function(0, "quantize_row_q8_a8_ref", _QUANTIZE),
    Function(1, "quantize_row_q8_a8", _QUANTIZE),
    Function(
        2,
        "dequantize_row_q8_a8",
        (_p("const void *", "x", "block_q8_a8"), _p("float *", "y", "f32"), _p("int64_t", "k")),
    ),
    Function(
        3,
        "quantize_activation_q8_a8",
        (
            _p("const float *", "input", "f32"),
            _p("int8_t *", "output", "i8"),
            _p("uint16_t *", "scale", "f16"),
            _p("int", "size"),
        ),
    ),
    Function(
        4,
        "ggml_vec_dot_q8_a8_q8_a8",
        (
            _p("int", "n"),
            _p("float *", "s", "f32"),
            _p("size_t", "bs"),
            _p("const void *", "vx", "block_q8_a8"),
            _p("size_t", "bx"),
            _p("const void *", "vy", "block_q8_a8"),
            _p("size_t", "by"),
            _p("int", "nrc"),
        ),
    ),
    Function(
        5,
        "ggml_vec_dot_q8_a8_q8_a8_real",
        (
            _p("int", "n"),
            _p("float *", "s", "f32"),
            _p("const void *", "vx", "block_q8_a8_v2"),
            _p("const void *", "vy", "block_q8_a8_v2"),
        ),
    ),
    Function(
        6,
        "mul_mat_q8_a8",
        (
            Parameter("m", "int64_t", travels_as="bs"),
            Parameter("n", "int64_t", travels_as="bx"),
            _p("int64_t", "k"),
            _p("const void *", "w", "block_q8_a8"),
            _p("const float *", "x", "f32"),
            _p("float *", "out", "f32"),
        ),
    ),
)
"""The ABI, in protocol order."""

MATRIX_PRODUCT = "mul_mat_q8_a8"
"""The function that multiplies matrices; all others take rows."""

ROW_FUNCTIONS: tuple[str, ...] = tuple(f.name for f in FUNCTIONS if f.name != MATRIX_PRODUCT)
"""The exported names of the functions of rows, in protocol order."""

BY_NAME: dict[str, Function] = {function.name: function for function in FUNCTIONS}
"""The ABI, by exported name."""

_BY_EITHER: dict[str | int, Function] = {key: each for each in FUNCTIONS for key in (each.name, each.number)}

NAMES: tuple[str, ...] = tuple(BY_NAME)
"""The exported names, in protocol order."""


def get_function(which: str | int) -> Function:
    """Return a function by its exported name or its number.

    Raises
    ------
    KeyError
        No function has that name or number.
    """
    if found := _BY_EITHER.get(which):
        return found
    if isinstance(which, int):
        raise KeyError(f"no ABI function has the number {which}; there are {len(FUNCTIONS)}")
    raise KeyError(f"no ABI function is called {which!r}; they are {', '.join(NAMES)}")


def buffer_sizes(
    which: str | int, n: int, *, bs: int = 0, bx: int = 0, by: int = 0, nrc: int = 1
) -> tuple[int, ...]:
    """Return the bytes that a call may access in each buffer, in C order (Q8A8-MEM-1, Q8A8-MEM-2).

    Parameters
    ----------
    which : str or int
        The function's name or number.
    n : int
        Elements: ``k``, ``size`` or ``n`` of the prototype.
    bs, bx, by, nrc : int
        The other integers of `ggml_vec_dot_q8_a8_q8_a8`: ``bs`` in floats, ``bx`` and ``by`` in bytes; they
        are ignored with ``nrc = 1``. Of `mul_mat_q8_a8` ``bs`` is m and ``bx`` is n. Ignored by the other
        functions.

    Returns
    -------
    tuple of int
        Bytes, one for each buffer.

    Raises
    ------
    KeyError
        No such function.
    """
    function = get_function(which)
    blocks = n // BLOCK_ELEMENTS
    match function.name:
        case "quantize_row_q8_a8_ref" | "quantize_row_q8_a8":
            return (4 * n, ELEMENT_SIZE["block_q8_a8"] * blocks)
        case "dequantize_row_q8_a8":
            return (ELEMENT_SIZE["block_q8_a8"] * blocks, 4 * n)
        case "quantize_activation_q8_a8":
            return (4 * n, n, 2)
        case "ggml_vec_dot_q8_a8_q8_a8":
            # Q8A8-DOT-6: row r of x starts at byte r·bx; the result of x row i and y row j is s[j·bs + i].
            row = ELEMENT_SIZE["block_q8_a8"] * blocks
            more = nrc - 1
            return (4 * (more * bs + nrc), more * bx + row, more * by + row)
        case "mul_mat_q8_a8":
            return (ELEMENT_SIZE["block_q8_a8"] * blocks * bs, 4 * n * bx, 4 * bs * bx)
        case _:
            row = ELEMENT_SIZE["block_q8_a8_v2"] * blocks
            return (4, row, row)
