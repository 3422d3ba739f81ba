"""What happens to a quantizer's blocks under a condition: the effect, where, and that it gives every call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from q8a8_conformance.diagnosis.quantizers.effects import plain_numbers
from q8a8_conformance.faults import steps as plain
from q8a8_conformance.faults.kernel import Kernel, Steps
from q8a8_conformance.inputs.calls import ACTIVATION

from .test_quantizer_facts import ROW, facts_about

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.inputs.arrays import Array

F32 = np.float32


def _of_groups(t: int, of: Callable[[Array], Array]) -> Steps:
    """Return steps whose amax is shared by every t blocks."""

    def amax(x: Array) -> Array:
        own = plain.amax(x)
        return np.concatenate([of(own[i : i + t]) for i in range(0, len(own), t)] or [own])

    return Steps(amax=amax)


def _whole(own: Array) -> Array:
    return np.full_like(own, own.max()) if len(own) == 4 else own


def _otherwise(where: Callable[[Array, Array], Array], rounding: Callable[[Array], Array]) -> Steps:
    """Return steps that round the elements of blocks of some amax, or of some sign, otherwise."""
    held: list[Array] = []

    def amax(x: Array) -> Array:
        held[:] = [x]
        return plain.amax(x)

    def to_integer(v: Array) -> Array:
        x = held[0]
        return np.where(where(x, plain.amax(x)[:, np.newaxis]), rounding(v), plain.to_integer(v))

    return Steps(amax=amax, to_integer=to_integer)


def _ties_up(d: Array) -> Array:
    """Return halves, of which normal ones have ties up."""
    h = plain.to_half(d)
    above = np.nextafter(h, np.float16(np.inf))
    middle = (h.astype(np.float64) + above) / 2
    return np.where((d == middle) & (h >= np.float16(2.0**-14)), above, h).astype(np.float16)


def _in_chunks(t: int) -> type[Kernel]:
    class InChunks(Kernel):
        """Quantizes every t elements by themselves, and stores the last scale."""

        def quantize_activation_q8_a8(
            self,
            input: Array,  # noqa: A002 - the C parameter's name
            output: Array,
            scale: Array,
            size: int,
        ) -> None:
            """Quantize the chunks."""
            for i in range(0, size, t):
                n = min(t, size - i)
                super().quantize_activation_q8_a8(input[i:], output[i:], scale, n)

    return InChunks


class _AmaxOfParities(Kernel):
    """Quantizes even and odd elements under an amax each, as threads do that leave out one shuffle."""

    def quantize_row_q8_a8(self, x: Array, y: Array, k: int) -> None:
        """Quantize both, and store the scale of the even ones."""
        even, odd = np.zeros((2, k), F32)
        even[::2], odd[1::2] = x[:k:2], x[1:k:2]
        other = y[: k // 32 * 34].copy()
        super().quantize_row_q8_a8(even, y, k)
        super().quantize_row_q8_a8(odd, other, k)
        y[: k // 32 * 34].reshape(-1, 34)[:, 3::2] = other.reshape(-1, 34)[:, 3::2]


class _ZerosUnwritten(Kernel):
    """Does not write the codes of blocks whose scale is zero."""

    def quantize_row_q8_a8(self, x: Array, y: Array, k: int) -> None:
        """Quantize, and put back what stood in the codes."""
        before = y.copy()
        super().quantize_row_q8_a8(x, y, k)
        rows, held = (side[: k // 32 * 34].reshape(-1, 34) for side in (y, before))
        zero = (rows[:, :2] == 0).all(axis=1)
        rows[zero, 2:] = held[zero, 2:]


def _row(steps: Steps) -> Callable[[], Kernel]:
    return lambda: Kernel({ROW: steps})


def _small(number: float) -> Steps:
    return Steps(amax=lambda x: np.maximum(plain.amax(x), F32(number)))


def _estimated(amax: Array, _d: Array, h: Array) -> Array:
    """Return inverses: in whole groups of four an estimate of 12 bits and one step, and else the quotient."""
    size = np.where(h == 0, F32(1), amax)
    fraction, exponent = np.frexp(F32(1) / size)
    estimate = np.ldexp(np.rint(fraction * 4096) / 4096, exponent).astype(F32)
    step = F32(127) * (estimate * (F32(2) - size * estimate))
    whole = np.arange(len(size)) < len(size) // 4 * 4
    return np.where(h == 0, F32(0), np.where(whole, step, F32(127) / size))


def _twice(one: int) -> Steps:
    """Return a rounding to a multiple of 1 / one, and then to an integer."""
    return Steps(to_integer=lambda v: plain.to_integer(np.rint(v * F32(one)) / F32(one)))


def _in_fixed_point(amax: Array, d: Array, h: Array) -> Array:
    return np.asarray(np.rint(plain.inverse(amax, d, h) * F32(65536)) / F32(65536))


LAWS: dict[str, tuple[str, Callable[[], Kernel], str, dict[str, Any], str]] = {
    "running": (
        ROW, _row(_of_groups(4, np.maximum.accumulate)), "amax-of", {"blocks": "running", "group": 4},
        "A block is scaled by the largest amax so far, which is reset every 4 blocks alone.",
    ),
    "whole-groups": (
        ROW, _row(_of_groups(4, _whole)), "amax-of", {"blocks": "whole-group", "group": 4},
        "A block is scaled by the largest amax of its group, in whole groups of 4 blocks.",
    ),
    "chunks": (
        ACTIVATION, _in_chunks(256), "amax-of", {"elements": 256, "scale": "last"},
        "Every 256 elements have an amax of their own, and the scale is that of the last part.",
    ),
    "parities": (
        ROW, _AmaxOfParities, "amax-of", {"alike": "bit-0", "scale": "first"},
        "Even elements, and odd ones, have an amax of their own, and the scale is that of the first.",
    ),
    "zeros-unwritten": (
        ROW, _ZerosUnwritten, "value-unwritten", {"values": "zero-scale"},
        "A block's codes are not written, where the scale is 0.",
    ),
    "least-amax": (
        ROW, _row(_small(1e-5)), "amax-changed", {"of": "amax", "least": 1e-5, "in": "both"},
        "Amax is never less than 1e-05, in the scale and in the inverse.",
    ),
    "added-to-amax": (
        ROW, _row(Steps(amax=lambda x: plain.amax(x) + F32(1e-6))), "amax-changed", {"added": 1e-6},
        "1e-06 is added to amax, in the scale and in the inverse.",
    ),
    "added-in-the-inverse": (
        ROW, _row(Steps(inverse=lambda amax, _d, _h: F32(127) / (amax + F32(1e-6)))), "amax-changed",
        {"added": 1e-6, "in": "inverse"}, "1e-06 is added to amax, in the inverse alone.",
    ),
    "estimated-inverse": (
        ROW, _row(Steps(inverse=_estimated)), "place-factor", {"units": {"least": -2, "greatest": 1}},
        ("The inverse is not f32(127 / amax): of 104 values of amax 53 have another one, -2 to +1 units in "
         "the last place off, as an estimate gives, in the blocks up to the last multiple of 4."),
    ),
    "small-blocks": (
        ROW, _row(_otherwise(lambda _x, amax: amax < F32(1e-3), np.trunc)), "value-recipe",
        {"values": "amax-below", "limit": 1e-3},
        "Elements are truncated, not rounded: a C cast, where amax < 0.001.",
    ),
    "negative-elements": (
        ROW, _row(_otherwise(lambda x, _amax: x < 0, np.rint)), "value-recipe", {"values": "negative"},
        "Halves are rounded to the even integer, of negative elements alone.",
    ),
    "fixed-point": (
        ROW, _row(_twice(16)), "value-rounding", {"first": "fixed-4-nearest"},
        ("The product x · inv is rounded to a multiple of 1/16 first, and then to an integer, halves away "
         "from zero."),
    ),
    "a vector in fixed point": (
        ACTIVATION, lambda: Kernel({ACTIVATION: _twice(256)}), "value-rounding", {"first": "fixed-8-nearest"},
        ("The product x · inv is rounded to a multiple of 1/256 first, and then to an integer, halves away "
         "from zero."),
    ),
    "inverse-in-fixed-point": (
        ROW, _row(Steps(inverse=_in_fixed_point)), "value-precision", {"number": "inverse"},
        "The inverse 127 / amax is rounded to a multiple of 2^-16.",
    ),
    "ties-of-normal-halves": (
        ROW, _row(Steps(to_half=_ties_up)), "value-recipe", {"values": "normal-scale"},
        "A scale half-way between two halves becomes the larger one, where the scale is a normal half.",
    ),
}  # fmt: skip
"""What a quantizer does under a condition: the fact, its parameters, and its sentence."""


@pytest.mark.parametrize("name", LAWS)
def test_an_effect_and_its_condition(name: str) -> None:
    """The law is the only fact, says the condition, and explains every failed call."""
    function, make, slug, where, sentence = LAWS[name]
    (fact,), failed = facts_about(function, make)
    assert fact.fact == slug
    assert where.items() <= fact.where.items()
    assert fact.sentence == sentence
    assert len(fact.explained(failed)) == len(failed) > 0
    assert len(fact.evidence) == 1


def test_no_law_where_none_fits() -> None:
    """A kernel that is wrong in no regular way has no fact: none is better than a false one."""
    rng = np.random.default_rng(1)
    steps = Steps(finish=lambda _x, h, q: (h, np.where(rng.random(q.shape) < 0.1, q // 2, q).astype(np.int8)))
    facts, failed = facts_about(ROW, _row(steps))
    assert failed
    assert {fact.fact for fact in facts} <= {"depends-on-more-than-inputs"}


def test_numbers_that_a_programmer_writes() -> None:
    """The plainest number of an interval comes first; a single float32 has its decimals."""
    assert plain_numbers(0.9, 1.1)[0] == 1
    one = float(F32(1e-3))
    assert plain_numbers(one, one) == (1e-3,)
    assert plain_numbers(0.0, 0.0) == ()
