"""What steps of a product make of their values: outputs, sums, weights, codes and scales."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from q8a8 import layout
from q8a8.abi import Reference
from q8a8.matmul import mul_mat
from q8a8.quantize import quantize_row
from q8a8_conformance.diagnosis.products.steps import step_facts
from q8a8_conformance.faults.in_process import InProcessSession
from q8a8_conformance.inputs import mul_mat_rows
from q8a8_conformance.inputs.calls import MUL_MAT
from q8a8_conformance.inputs.calls import mul_mat as product_call
from q8a8_conformance.results.observations import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

Array = NDArray[Any]
Blocks = tuple[Array, Array]

SHAPES = ((1, 3, 2), (5, 7, 1), (9, 4, 3), (4, 9, 5), (8, 2, 7))
"""m, n and blocks of a row of the calls that are made."""


class Changed(Reference):
    """A kernel that changes its outputs before it stores them."""

    def change(self, out: Array) -> None:
        """Change outputs, float32 [n, m]."""

    def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
        """Multiply, and change."""
        super().mul_mat_q8_a8(m, n, k, w, x, out)
        self.change(out[: m * n].reshape(n, m))


class Clamps(Changed):
    """A kernel that clamps whole groups of four columns."""

    def change(self, out: Array) -> None:
        """Clamp from 0 to 6."""
        whole = out[:, : out.shape[1] // 4 * 4]
        np.clip(whole, 0, 6, out=whole)


class NotBelow(Changed):
    """A kernel that makes the least positive float of what is none."""

    def change(self, out: Array) -> None:
        """Take the larger one."""
        out[:, 1:] = np.maximum(out[:, 1:], np.finfo(np.float32).tiny)


class Saturates(Changed):
    """A kernel whose outputs saturate where there are four rows and more."""

    def change(self, out: Array) -> None:
        """Saturate."""
        np.clip(out, -65504 if len(out) > 3 else -np.inf, 65504 if len(out) > 3 else np.inf, out=out)


class Doubles(Changed):
    """A kernel whose outputs are wrong whatever their values."""

    def change(self, out: Array) -> None:
        """Double them."""
        out *= 2


class Staged(Changed):
    """A kernel that stages its outputs as halves where there are four rows and more."""

    def change(self, out: Array) -> None:
        """Round."""
        if len(out) > 3:
            with np.errstate(over="ignore"):
                out[:] = out.astype(np.float16)


def _kernel(change: Callable[[Blocks, Blocks, Array], Array]) -> type[Reference]:
    """Return a kernel whose terms, float64 [n, m, nb], `change` makes of codes and scales of w and x."""

    class Otherwise(Reference):
        """A kernel that makes its terms otherwise."""

        def mul_mat_q8_a8(self, m: int, n: int, k: int, w: Array, x: Array, out: Array) -> None:
            """Multiply."""
            sides = (
                layout.as_blocks(w[: m * k // 32 * 34]).reshape(m, -1),
                quantize_row(x[: n * k].reshape(n, k)).reshape(n, -1),
            )
            (qw, dw), (qx, dx) = (
                (side["weight_qs"].astype(np.float64), side["weight_scale"].astype(np.float64))
                for side in sides
            )
            found = change((qw, dw), (qx, dx), np.einsum("nbe,mbe->nmb", qx, qw))
            out[: m * n] = found.sum(axis=2).reshape(-1)

    return Otherwise


def _plain(w: Blocks, x: Blocks, sums: Array) -> Array:
    return sums * x[1][:, np.newaxis] * w[1]


def _cut_weights(w: Blocks, x: Blocks, sums: Array) -> Array:
    values = (w[0] * w[1][..., np.newaxis]).astype(np.float32)
    cut = (values.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32).astype(np.float64)
    found, whole = _plain(w, x, sums), len(w[0]) // 4 * 4
    found[:, :whole] = (np.einsum("nbe,mbe->nmb", x[0], cut) * x[1][:, np.newaxis])[:, :whole]
    return found


def _half_scales(w: Blocks, x: Blocks, sums: Array) -> Array:
    with np.errstate(over="ignore"):
        return np.asarray(sums * (x[1][:, np.newaxis] * w[1]).astype(np.float16))


def _clipped(w: Blocks, x: Blocks, _sums: Array) -> Array:
    codes = np.minimum(x[0], 120) if len(x[0]) > 3 else x[0]
    return _plain(w, x, np.einsum("nbe,mbe->nmb", codes, w[0]))


def _first_unsigned(w: Blocks, x: Blocks, sums: Array) -> Array:
    codes = w[0].copy()
    codes[..., 0] += 256 * (codes[..., 0] < 0)
    other = np.einsum("nbe,mbe->nmb", x[0], codes)
    return _plain(w, x, np.where(np.arange(sums.shape[2]) % 2, other, sums))


def _least_code(w: Blocks, x: Blocks, _sums: Array) -> Array:
    codes = np.where(x[0] == -127, -128, x[0]) if len(x[0]) > 2 else x[0]
    return _plain(w, x, np.einsum("nbe,mbe->nmb", codes, w[0]))


def _negative_sums(w: Blocks, x: Blocks, sums: Array) -> Array:
    return _plain(w, x, sums + ((sums < 0) & (sums.shape[2] % 2 == 0)))


def _without_sign(w: Blocks, x: Blocks, sums: Array) -> Array:
    found, start = _plain(w, x, sums), len(w[0]) // 4 * 4
    found[:, start:] = _plain((w[0], np.abs(w[1])), x, sums)[:, start:]
    return found


def _not_corrected(w: Blocks, x: Blocks, sums: Array) -> Array:
    nb = sums.shape[2]
    last = 128 * x[0].sum(axis=2)[:, np.newaxis] * ((np.arange(nb) == nb - 1) & (nb > 4))
    return _plain(w, x, sums + last)


def _flushed(w: Blocks, x: Blocks, sums: Array) -> Array:
    return _plain((w[0], np.where(np.abs(w[1]) < 2.0**-14, 0, w[1])), x, sums)


NEAREST = "(to nearest, ties to even, infinite past 65504)"
CLAMPS = (
    "Outputs in the columns up to the last multiple of 4 that should be negative are 0, and those that "
    "should be more than 6 are 6."
)
TINY = "Outputs in every column from column 1 on that should be zero or negative are 1.17549435e-38."
LARGE = "All outputs where n >= 4 that should be of magnitude more than 65504 are 65504 with their sign."
HALVES = f"All outputs where n >= 4 are rounded to half precision {NEAREST} before they are stored."
WEIGHTS = (
    "In outputs in the columns up to the last multiple of 4, weights, codes times their scale, are rounded "
    "to 11 significant bits, as TF32 has (toward zero)."
)
MADE = (
    (Clamps, CLAMPS),
    (NotBelow, TINY),
    (Saturates, LARGE),
    (Doubles, ""),
    (Staged, HALVES),
    (_kernel(_cut_weights), WEIGHTS),
    (_kernel(_half_scales), f"Products of the two scales are rounded to half precision {NEAREST}."),
    (_kernel(_clipped), "In all outputs where n >= 4, codes of x that are more than 120 are 120."),
    (
        _kernel(_first_unsigned),
        "In every odd block, codes of w in the first element of a block that are negative are 256 too large.",
    ),
    (
        _kernel(_negative_sums),
        (
            "In all outputs where nb is even, sums of products of codes of a block that are negative are "
            "1 too large."
        ),
    ),
    (
        _kernel(_without_sign),
        "In outputs in the columns beyond a multiple of 4, scales of w that are negative are negated.",
    ),
    (_kernel(_least_code), "In all outputs where n >= 3, codes of x that are less than -126 are -128."),
    (_kernel(_not_corrected), "In the last block where nb >= 5, codes of w are 128 too large."),
    (_kernel(_flushed), "Scales of w that are of magnitude less than 2^-14 and not zero are 0."),
)


@pytest.mark.parametrize(("kernel", "sentence"), MADE, ids=[f"{number}" for number in range(len(MADE))])
def test_values_that_are_changed(kernel: type[Reference], sentence: str) -> None:
    """A condition on the value is found, what such values become, in which step, and in which places."""
    session, failures = InProcessSession(kernel, [MUL_MAT]), []
    for number, shape in enumerate(SHAPES * 2):
        w, x = (rows.copy() for rows in mul_mat_rows.exact(*shape))
        if number >= len(SHAPES):
            w["weight_scale"] *= np.float16(2.0**-12 * 1.3)
            x *= np.float32(1.7)
        call = product_call(w, x)
        right, got = mul_mat(w, x).astype("<f4"), session.call(call).outputs[0]
        actual = np.frombuffer(bytes(got), "<f4").reshape(right.shape)
        # (Sums are added in another order than here.)
        near = np.abs(actual - right) <= 1e-6 * np.abs(right).max()
        if not near.all():
            right = np.where(near & (number >= len(SHAPES)), actual, right)
            failures.append(Failure(call, (bytes(got),), (right.tobytes(),)))
    facts = step_facts(session, failures)
    assert [fact.sentence for fact in facts] == [sentence] * (sentence != "")
    assert all(fact.explained(failures) == failures and fact.evidence for fact in facts)


def _relu_after(w: Blocks, x: Blocks, sums: Array) -> Array:
    """Return terms of unsigned codes in the first block; the last row is 0 where it would be negative."""
    codes = w[0] + 256 * (w[0] < 0) * (np.arange(sums.shape[2]) == 0)[:, np.newaxis]
    found = _plain(w, x, np.einsum("nbe,mbe->nmb", x[0], codes))
    found[-1:] *= (found[-1:].sum(axis=2) > 0)[..., np.newaxis]
    return found


def test_two_steps() -> None:
    """Outputs that are wrong for two reasons are explained by both."""
    session, failures = InProcessSession(_kernel(_relu_after), [MUL_MAT]), []
    for shape in SHAPES:
        w, x = mul_mat_rows.exact(*shape)
        call = product_call(w, x)
        outputs = tuple(bytes(out) for out in session.call(call).outputs)
        failures.append(Failure(call, outputs, (mul_mat(w, x).astype("<f4").tobytes(),)))
    facts = step_facts(session, failures)
    assert [fact.sentence for fact in facts] == [
        "In the first block, codes of w that are negative are 256 too large.",
        "Outputs in the last row that should be negative are 0.",
    ]
    assert all(fact.explained(failures) == failures for fact in facts)
