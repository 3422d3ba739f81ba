"""Drafts: cases whose outcome is not computed yet, and functions that create them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from q8a8_golden.cases import FUNCTIONS
from q8a8_golden.generate.numbers import f32_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "Draft",
    "activation",
    "dequantize",
    "dot",
    "dot_pairs",
    "dot_v2",
    "mul_mat",
    "quantize_row",
    "rules",
]

DOT = "ggml_vec_dot_q8_a8_q8_a8"
DOT_V2 = "ggml_vec_dot_q8_a8_q8_a8_real"
MUL_MAT = "mul_mat_q8_a8"


@dataclass(frozen=True)
class Draft:
    """A call and the kind of its outcome; the other fields are those of `q8a8_golden.cases.Case`."""

    id: str
    functions: tuple[str, ...]
    rules: tuple[str, ...]
    why: str
    args: Mapping[str, int]
    inputs: Mapping[str, bytes]
    outputs: Mapping[str, int]
    kind: Literal["exact", "bound", "unspecified"] = "exact"
    before: Mapping[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise if the buffers are not those of the functions."""
        for name in self.functions:
            function = FUNCTIONS[name]
            if tuple(self.inputs) != function.inputs or tuple(self.outputs) != function.outputs:
                raise ValueError(f"{self.id}: the buffers are not those of {name}")
        if any(len(data) != self.outputs.get(name) for name, data in self.before.items()):
            raise ValueError(f"{self.id}: the contents before the call do not fill an output buffer")


def rules(*short: str) -> tuple[str, ...]:
    """Return full rule ids: ``rules("QNT-4")`` is ``("Q8A8-QNT-4",)``."""
    return tuple(f"Q8A8-{name}" for name in short)


def quantize_row(
    name: str,
    why: str,
    about: tuple[str, ...],
    xs: Sequence[int],
    *,
    kind: Literal["exact", "unspecified"] = "exact",
    spare: int = 0,
) -> Draft:
    """Draft a call of quantize_row_q8_a8 and its _ref with a row of f32 patterns.

    The output has `spare` trailing bytes, which must not change.
    """
    return Draft(
        id=name,
        functions=("quantize_row_q8_a8", "quantize_row_q8_a8_ref"),
        rules=about,
        why=why,
        args={"k": len(xs)},
        inputs={"x": f32_bytes(xs)},
        outputs={"y": len(xs) // 32 * 34 + spare},
        kind=kind,
    )


def activation(
    name: str,
    why: str,
    about: tuple[str, ...],
    xs: Sequence[int],
    *,
    kind: Literal["exact", "unspecified"] = "exact",
    spare: int = 0,
) -> Draft:
    """Draft a call of quantize_activation_q8_a8 with any number of f32 patterns."""
    return Draft(
        id=name,
        functions=("quantize_activation_q8_a8",),
        rules=about,
        why=why,
        args={"size": len(xs)},
        inputs={"input": f32_bytes(xs)},
        outputs={"output": len(xs) + spare, "scale": 2},
        kind=kind,
    )


def dequantize(name: str, why: str, about: tuple[str, ...], blocks: bytes, *, spare: int = 0) -> Draft:
    """Draft a call of dequantize_row_q8_a8."""
    k = len(blocks) // 34 * 32
    return Draft(
        id=name,
        functions=("dequantize_row_q8_a8",),
        rules=about,
        why=why,
        args={"k": k},
        inputs={"x": blocks},
        outputs={"y": 4 * k + spare},
    )


def dot(
    name: str,
    why: str,
    about: tuple[str, ...],
    vx: bytes,
    vy: bytes,
    *,
    kind: Literal["exact", "bound"] = "exact",
    strides: tuple[int, int, int] = (0, 0, 0),
) -> Draft:
    """Draft a call of the dot product with nrc = 1; `strides` are bs, bx and by, all ignored."""
    bs, bx, by = strides
    return Draft(
        id=name,
        functions=(DOT,),
        rules=about,
        why=why,
        args={"n": len(vx) // 34 * 32, "bs": bs, "bx": bx, "by": by, "nrc": 1},
        inputs={"vx": vx, "vy": vy},
        outputs={"s": 4},
        kind=kind,
    )


def dot_pairs(
    name: str,
    why: str,
    about: tuple[str, ...],
    xs: tuple[bytes, bytes],
    ys: tuple[bytes, bytes],
    *,
    kind: Literal["exact", "bound"] = "exact",
    bs: int = 2,
    gaps: tuple[bytes, bytes] = (b"", b""),
) -> Draft:
    """Draft a call of the dot product with nrc = 2: two rows of x and two of y.

    `gaps` are the bytes between x0 and x1 and between y0 and y1: a stride is a row's length plus its gap.
    """
    vx, vy = xs[0] + gaps[0] + xs[1], ys[0] + gaps[1] + ys[1]
    return Draft(
        id=name,
        functions=(DOT,),
        rules=about,
        why=why,
        args={
            "n": len(xs[0]) // 34 * 32,
            "bs": bs,
            "bx": len(xs[0]) + len(gaps[0]),
            "by": len(ys[0]) + len(gaps[1]),
            "nrc": 2,
        },
        inputs={"vx": vx, "vy": vy},
        outputs={"s": 4 * (bs + 2)},
        kind=kind,
    )


def dot_v2(
    name: str,
    why: str,
    about: tuple[str, ...],
    vx: bytes,
    vy: bytes,
    *,
    kind: Literal["exact", "bound"] = "exact",
) -> Draft:
    """Draft a call of the dot product of version 2, with two rows of 36-byte blocks."""
    return Draft(
        id=name,
        functions=(DOT_V2,),
        rules=about,
        why=why,
        args={"n": len(vx) // 36 * 32},
        inputs={"vx": vx, "vy": vy},
        outputs={"s": 4},
        kind=kind,
    )


def mul_mat(
    name: str,
    why: str,
    about: tuple[str, ...],
    w: Sequence[bytes],
    x: Sequence[Sequence[int]],
    *,
    k: int,
    kind: Literal["exact", "bound"] = "exact",
    before: bytes | None = None,
) -> Draft:
    """Draft a call of the matrix product with rows of blocks and rows of f32 patterns, k elements each."""
    size = 4 * len(w) * len(x)
    return Draft(
        id=name,
        functions=(MUL_MAT,),
        rules=about,
        why=why,
        args={"m": len(w), "n": len(x), "k": k},
        inputs={"w": b"".join(w), "x": b"".join(f32_bytes(row) for row in x)},
        outputs={"out": size},
        kind=kind,
        before={} if before is None else {"out": (before * size)[:size]},
    )
