"""Golden cases: one call of an ABI function, and the expected contents of its output buffers.

    id        a path: ``dot/exact/blocks-257``; the path is the name
    inputs    the bytes of each input buffer, by the ABI's parameter name
    outputs   the length of each output buffer
    before    the contents of output buffers before the call, if the case sets them
    outcome   exact        these bytes at these places, every other byte as it was before the call
              bound        each dot, or output of a product, within Q8A8-ORD-2's bound of the exact sum (or
                           the scalar order's bits)
              unspecified  any value is right; the call must return and stay inside its buffers

Before a case is run, its output buffers are filled (`Case.poisoned`), so that bytes which the kernel must not
write, or failed to write, are detected. `q8a8_golden.conform.conforms` checks the outcome.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from q8a8_golden.edges import Edges

__all__ = [
    "FUNCTIONS",
    "POISON",
    "Bound",
    "Case",
    "DotResult",
    "Exact",
    "Function",
    "Outcome",
    "Unspecified",
    "Written",
    "filled",
]

# As a float it is a quiet NaN, so that a kernel that adds to the output gives a NaN; as int8 codes or half
# scales it differs from the expected values.
POISON = bytes.fromhex("a55ae57f")


@dataclass(frozen=True)
class Function:
    """An ABI function: its parameters in C's order, and which of them are input and output buffers."""

    parameters: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


FUNCTIONS: Mapping[str, Function] = {
    "quantize_row_q8_a8_ref": Function(("x", "y", "k"), ("x",), ("y",)),
    "quantize_row_q8_a8": Function(("x", "y", "k"), ("x",), ("y",)),
    "dequantize_row_q8_a8": Function(("x", "y", "k"), ("x",), ("y",)),
    "quantize_activation_q8_a8": Function(
        ("input", "output", "scale", "size"), ("input",), ("output", "scale")
    ),
    "ggml_vec_dot_q8_a8_q8_a8": Function(
        ("n", "s", "bs", "vx", "bx", "vy", "by", "nrc"), ("vx", "vy"), ("s",)
    ),
    "ggml_vec_dot_q8_a8_q8_a8_real": Function(("n", "s", "vx", "vy"), ("vx", "vy"), ("s",)),
    "mul_mat_q8_a8": Function(("m", "n", "k", "w", "x", "out"), ("w", "x"), ("out",)),
}


@dataclass(frozen=True)
class Written:
    """A run of bytes that the kernel must write, at an offset in an output buffer."""

    offset: int
    data: bytes


Outputs: TypeAlias = "Mapping[str, tuple[Written, ...]]"


@dataclass(frozen=True)
class Exact:
    """Every output byte is known.

    Parameters
    ----------
    outputs
        For each output buffer, the runs that must be written; all other bytes must not change.
    alternatives
        The results of other recipes, by name (``recipe:ggml-ref``): only where the recipe is defined for
        these inputs and differs from the specification. They do not conform; they are used in diagnoses.
    """

    outputs: Outputs
    alternatives: Mapping[str, Outputs] = field(default_factory=dict)
    kind: Literal["exact"] = "exact"


@dataclass(frozen=True)
class DotResult:
    """One float that rounds: a dot product, or an output of a matrix product.

    Parameters
    ----------
    offset
        The float's offset in `s`, or `out`, in bytes.
    bits
        The f32 bits in the specification's scalar order.
    exact, magnitude
        The unrounded sum, and sum |dx dy| sum |qx qy|, as multiples of 2^-48.
    m
        The exponent of Q8A8-ORD-2's bound: |computed - exact| <= ((1 + 2^-24)^m - 1) * magnitude.
    edges
        The last f32 inside that bound and the first outside, below and above.
    """

    offset: int
    bits: int
    exact: int
    magnitude: int
    m: int
    edges: Edges


@dataclass(frozen=True)
class Bound:
    """Dot products whose bits depend on the order of summation: each within its bound, other bytes kept."""

    results: tuple[DotResult, ...]
    kind: Literal["bound"] = "bound"


@dataclass(frozen=True)
class Unspecified:
    """Inputs outside the domain: any value may be written to the outputs, and to nothing else."""

    kind: Literal["unspecified"] = "unspecified"


Outcome: TypeAlias = Exact | Bound | Unspecified


def filled(
    outputs: Mapping[str, int], before: Mapping[str, bytes], poison: bytes = POISON
) -> dict[str, bytes]:
    """Return output buffers before a call: `before` where it has the buffer, else `poison`."""
    return {
        name: before.get(name, (poison * (length // len(poison) + 1))[:length])
        for name, length in outputs.items()
    }


@dataclass(frozen=True)
class Case:
    """One golden case; see the module's docstring.

    Parameters
    ----------
    id
        The case's unique path.
    function
        The ABI function to call.
    rules
        The rules that the case tests, by full id (``Q8A8-QNT-4``).
    why
        One sentence: the plausible bug that this case detects.
    args
        The function's integer arguments, by the ABI's names: k, size, or n, bs, bx, by and nrc; of a product
        m, n and k.
    inputs, outputs
        Bytes of each input buffer, length in bytes of each output buffer, by the ABI's parameter names.
    outcome
        The expected outputs.
    before
        The contents of output buffers before the call; the others are filled with poison.
    kills
        The slugs of the mutants (`q8a8_conformance.mutants`) that this case alone kills, sorted.
    """

    id: str
    function: str
    rules: tuple[str, ...]
    why: str
    args: Mapping[str, int]
    inputs: Mapping[str, bytes]
    outputs: Mapping[str, int]
    outcome: Outcome
    before: Mapping[str, bytes] = field(default_factory=dict)
    kills: tuple[str, ...] = ()

    @property
    def output(self) -> str:
        """The name of the only output buffer; ValueError where there are several."""
        (name,) = self.outputs
        return name

    def poisoned(self, poison: bytes = POISON) -> dict[str, bytes]:
        """Return each output buffer before the call: `before`, or repeated `poison`."""
        return filled(self.outputs, self.before, poison)

    def written(self, recipe: str | None = None) -> dict[str, tuple[Written, ...]]:
        """Return the runs that must be written, by output buffer (bound: the scalar order's bits).

        With `recipe`, one of the alternatives (``recipe:ggml-ref``), return its bytes; these are the
        specification's where the two do not differ. ValueError for an unspecified outcome.
        """
        if isinstance(self.outcome, Exact):
            outputs = self.outcome.outputs
            return dict(outputs if recipe is None else self.outcome.alternatives.get(recipe, outputs))
        if isinstance(self.outcome, Bound):
            runs = [Written(r.offset, r.bits.to_bytes(4, "little")) for r in self.outcome.results]
            return {self.output: tuple(runs)}
        raise ValueError(f"{self.id}: the outcome is unspecified, no bytes are expected")

    def expected(self, recipe: str | None = None, poison: bytes = POISON) -> dict[str, bytes]:
        """Return each whole output buffer expected after a call that started with `poisoned(poison)`."""
        buffers = {name: bytearray(data) for name, data in self.poisoned(poison).items()}
        for name, runs in self.written(recipe).items():
            for run in runs:
                buffers[name][run.offset : run.offset + len(run.data)] = run.data
        return {name: bytes(data) for name, data in buffers.items()}
