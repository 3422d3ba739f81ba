"""Mutants of the largest magnitude, and of what else an element must not depend on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.faults import steps
from q8a8_conformance.faults.kernel import ACTIVATION, ROWS
from q8a8_conformance.faults.mutant import Mutant

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[Any]

F32 = np.float32
AMAX, OTHERS, ALL = (f"Q8A8-QNT-{number}" for number in (1, 7, 9))
EVERY = "Take max |x_j| over all 32 elements of the block."
OWN = "Start every block with amax = 0."


def _of(part: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Look at a part of each block."""

    def step(x: Array) -> Array:
        return steps.amax(part(x))

    return step


def _clipped(v: Array) -> Array:
    return np.asarray(np.clip(np.nan_to_num(v), -127, 127), np.int8)


def _nan_stays(x: Array) -> Array:
    amax = steps.amax(x)
    return np.where(np.maximum.accumulate(np.isnan(amax)), F32(np.nan), amax)


def _before(x: Array) -> Array:
    """Take the block before; the first has its own."""
    own = steps.amax(x)
    return np.concatenate([own[:1], own[:-1]])


def _held(x: Array) -> Array:
    """Take the last amax that was not zero, by its bits: whether the caller flushes subnormals or not."""
    own = steps.amax(x)
    has_any = ((np.ascontiguousarray(x).view(np.uint32) & 0x7FFFFFFF) != 0).any(axis=1)
    last = np.maximum.accumulate(np.where(has_any, np.arange(len(own)), 0))
    return np.where(has_any, own, own[last] if len(own) else own)


def _last_chunk(x: Array) -> Array:
    return x[:, (x.shape[1] - 1) // 32 * 32 :]


def _small(x: Array) -> Array:
    """Compare magnitudes as the upper sixteen bits of their patterns."""
    own = steps.amax(x)
    return (own.view(np.uint32) & np.uint32(0xFFFF0000)).view(F32)


_CLIP = {"to_int8": _clipped}

MUTANTS = (
    Mutant(
        "amax-signed",
        "amax is the largest element, not the largest magnitude.",
        {"amax": lambda x: np.maximum(x.max(axis=1, initial=-np.inf), 0).astype(F32), **_CLIP},
        rule=AMAX,
        fix="Take the absolute value before the maximum.",
    ),
    Mutant(
        "amax-of-negative",
        "amax is the magnitude of the smallest element.",
        {"amax": lambda x: np.maximum(-x.min(axis=1, initial=np.inf), 0).astype(F32), **_CLIP},
        rule=AMAX,
        fix="Look at positive elements too.",
    ),
    Mutant(
        "amax-last-skipped",
        "The row quantizers do not look at the last element of a block.",
        {"amax": _of(lambda x: x[:, :-1]), **_CLIP},
        ROWS,
        rule=AMAX,
        fix=EVERY,
    ),
    Mutant(
        "amax-first-skipped",
        "The first element of a block is not looked at.",
        {"amax": _of(lambda x: x[:, 1:]), **_CLIP},
        rule=AMAX,
        fix=EVERY,
    ),
    Mutant(
        "amax-half-skipped",
        "Only the first sixteen elements of a block are looked at.",
        {"amax": _of(lambda x: x[:, :16]), **_CLIP},
        ROWS,
        rule=AMAX,
        fix=EVERY,
    ),
    Mutant(
        "amax-lane-skipped",
        "The fold over lanes forgets lane 3.",
        {"amax": _of(lambda x: np.delete(x, np.s_[3::4], axis=1)), **_CLIP},
        rule=AMAX,
        fix="Fold all lanes: vmaxvq_f32.",
    ),
    Mutant(
        "amax-in-sixteen-bits",
        "Magnitudes are compared and kept as the upper sixteen bits of their floats.",
        {"amax": _small, **_CLIP},
        rule=AMAX,
        fix="Keep amax in float32.",
    ),
    Mutant(
        "amax-whole-row",
        "All blocks of a row share the row's largest magnitude.",
        {"amax": lambda x: np.full(len(x), steps.amax(x).max(initial=F32(0)), F32)},
        ROWS,
        rule=OTHERS,
        fix="Compute amax for each block of 32.",
    ),
    Mutant(
        "amax-carried",
        "amax is not reset between blocks: it can only grow.",
        {"amax": lambda x: np.maximum.accumulate(steps.amax(x))},
        ROWS,
        rule=OTHERS,
        fix=OWN,
    ),
    Mutant(
        "amax-one-late",
        "Each block is scaled by the block before, as in a pipelined loop that is off by one.",
        {"amax": _before, **_CLIP},
        ROWS,
        rule=OTHERS,
        fix="Use the block's own amax.",
    ),
    Mutant(
        "nan-spoils-next",
        "The running maximum is compared so that a NaN stays: the blocks after it are NaN, too.",
        {"amax": _nan_stays},
        ROWS,
        rule="Q8A8-QNT-11",
        fix=OWN,
    ),
    Mutant(
        "amax-kept-for-zero",
        "An all-zero block keeps the scale of the block before.",
        {"amax": _held},
        ROWS,
        rule=OTHERS,
        fix=OWN,
    ),
    Mutant(
        "activation-tail-unseen",
        "Elements after the last multiple of eight do not count in amax.",
        {"reach": lambda size: (size - size % 8 if size > 8 else size, size), **_CLIP},
        (ACTIVATION,),
        rule=ALL,
        fix="Handle the elements that the vector loop leaves over.",
    ),
    Mutant(
        "activation-tail-unwritten",
        "Elements after the last multiple of eight get no code.",
        {"reach": lambda size: (size, size - size % 8)},
        (ACTIVATION,),
        rule=ALL,
        fix="Handle the elements that the vector loop leaves over.",
    ),
    Mutant(
        "activation-last-chunk",
        "amax is that of the last 32 elements.",
        {"amax": _of(_last_chunk), **_CLIP},
        (ACTIVATION,),
        rule=ALL,
        fix="Take one amax over all elements.",
    ),
    Mutant(
        "activation-first-chunk",
        "amax is that of the first 32 elements.",
        {"amax": _of(lambda x: x[:, :32]), **_CLIP},
        (ACTIVATION,),
        rule=ALL,
        fix="Take one amax over all elements.",
        seen="the design has one scale for a call, and its dot product one for 32 elements (errata, 3)",
    ),
    Mutant(
        "activation-first-8192",
        "amax is that of the first 8192 elements.",
        {"reach": lambda size: (min(size, 8192), size), **_CLIP},
        (ACTIVATION,),
        rule=ALL,
        fix="Take one amax over all elements, however many they are.",
    ),
    Mutant(
        "activation-block-path",
        "For a size of 32 a fast path rounds halves to even.",
        {"to_integer": lambda v: np.rint(v) if v.shape[1] == 32 else steps.to_integer(v)},
        (ACTIVATION,),
        rule="Q8A8-QNT-10",
        fix="Let the fast path for one block share the row quantizer's arithmetic.",
    ),
)  # fmt: skip
