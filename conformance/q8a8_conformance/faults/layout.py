"""Mutants of the layout: byte order, place of the scale, order of elements, block sizes, scale fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.faults import steps
from q8a8_conformance.faults.kernel import DEQUANTIZE
from q8a8_conformance.faults.mutant import Mutant

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[Any]

BLOCK, ROW, BLOCK_V2, UNUSED = (f"Q8A8-LAY-{number}" for number in (1, 2, 3, 5))
INTERLEAVED = np.arange(32).reshape(2, 16).T.reshape(-1)
"""0, 16, 1, 17, ...: as 4-bit formats store their nibbles."""


def swapped_bytes(h: Array) -> Array:
    """Exchange the bytes of each half."""
    return np.ascontiguousarray(h).view(np.uint16).byteswap().view(np.float16)


def _big_endian(h: Array, q: Array) -> Array:
    return steps.pack(swapped_bytes(h), q)


def _scale_last(h: Array, q: Array) -> Array:
    return np.roll(steps.pack(h, q), -2, axis=1)


def _scales_first(h: Array, q: Array) -> Array:
    """Put the scales of all blocks before all codes."""
    return np.concatenate([h.view(np.uint8), q.view(np.uint8).reshape(-1)]).reshape(len(h), 34)


def _reordered(order: Array) -> Callable[[Array, Array], Array]:
    def step(h: Array, q: Array) -> Array:
        return steps.pack(h, q[:, order])

    return step


def _pairs_exchanged(h: Array, q: Array) -> Array:
    """Exchange the blocks of each pair."""
    order = np.arange(len(h))
    whole = len(h) // 2 * 2
    order[:whole] = order[:whole].reshape(-1, 2)[:, ::-1].reshape(-1)
    return steps.pack(h[order], q[order])


def _read_big_endian(data: Array, nb: int) -> tuple[Array, Array]:
    h, q = steps.unpack(data, nb)
    return swapped_bytes(h), q


def _read_scale_last(data: Array, nb: int) -> tuple[Array, Array]:
    blocks = np.roll(data[: 34 * nb].reshape(nb, 34), 2, axis=1)
    return steps.unpack(np.ascontiguousarray(blocks).reshape(-1), nb)


def _read_interleaved(data: Array, nb: int) -> tuple[Array, Array]:
    h, q = steps.unpack(data, nb)
    return h, q[:, INTERLEAVED]


def _read_padded(data: Array, nb: int) -> tuple[Array, Array]:
    """Read blocks of 34 bytes as if each took 36; what lies behind the buffer reads as zero."""
    padded = np.concatenate([data[: 34 * nb], np.zeros(2 * nb, np.uint8)])
    return steps.unpack(np.ascontiguousarray(padded.reshape(nb, 36)[:, :34]).reshape(-1), nb)


def _v2_as_v1(data: Array, nb: int) -> tuple[Array, Array, Array]:
    """Read blocks of 36 bytes as if they were of 34."""
    h, q = steps.unpack(data, nb)
    return h, h, q


def _v2_codes_early(data: Array, nb: int) -> tuple[Array, Array, Array]:
    """Read the codes from byte 2 on, over the second scale."""
    blocks = data[: 36 * nb].reshape(nb, 36)
    weight, activation, _ = steps.unpack_v2(data, nb)
    return weight, activation, np.ascontiguousarray(blocks[:, 2:34]).view(np.int8)


def _v2_fields_exchanged(data: Array, nb: int) -> tuple[Array, Array, Array]:
    weight, activation, q = steps.unpack_v2(data, nb)
    return activation, weight, q


def _whichever_is_set(weight: Array, activation: Array) -> Array:
    return np.where(weight == 0, activation, weight)


def _either(
    x_weight: Array, x_activation: Array, y_weight: Array, y_activation: Array
) -> tuple[Array, Array]:
    """Take of each block the scale that is not zero, weight_scale first."""
    return _whichever_is_set(x_weight, x_activation), _whichever_is_set(y_weight, y_activation)


def _summed(
    x_weight: Array, x_activation: Array, y_weight: Array, y_activation: Array
) -> tuple[Array, Array]:
    """Add both scales of each block: the one that is not carried is zero, as a rule."""
    with np.errstate(all="ignore"):
        return x_weight + x_activation, y_weight + y_activation


LITTLE = "Store the scale little-endian, in bytes 0 and 1 of the block."

MUTANTS = (
    Mutant(
        "scale-big-endian",
        "The quantizers store the scale with its high byte first.",
        {"pack": _big_endian},
        rule=BLOCK,
        fix=LITTLE,
        seen="big-endian machines: gguf-py has gguf_convert_endian.py to convert files for them",
    ),
    Mutant(
        "scale-read-big-endian",
        "The scale is read with its high byte first.",
        {"unpack": _read_big_endian},
        rule=BLOCK,
        fix=LITTLE,
    ),
    Mutant(
        "scale-last",
        "The quantizers store the scale behind the codes.",
        {"pack": _scale_last},
        rule=BLOCK,
        fix=LITTLE,
    ),
    Mutant(
        "scale-read-last",
        "The scale is read from behind the codes.",
        {"unpack": _read_scale_last},
        rule=BLOCK,
        fix=LITTLE,
    ),
    Mutant(
        "block-padded",
        "Blocks are read as if they were padded to 36 bytes.",
        {"unpack": _read_padded},
        rule=BLOCK,
        fix="Pack the structure: 34 bytes, alignment 2; a float scale would make it 36.",
        seen="ggml's block_q8_0 had a float scale, and 36 bytes, until May 2023 (llama.cpp, PR 1508)",
    ),
    Mutant(
        "scales-first",
        "The quantizers store all scales of a row, then all codes.",
        {"pack": _scales_first},
        rule=ROW,
        fix="Store block after block.",
    ),
    Mutant(
        "elements-interleaved",
        "The quantizers store elements j and j + 16 side by side.",
        {"pack": _reordered(INTERLEAVED)},
        rule=ROW,
        fix="Store element j at byte 2 + j.",
        seen="the order of ggml's 4-bit blocks",
    ),
    Mutant(
        "elements-reversed",
        "The quantizers store the elements of a block from the last to the first.",
        {"pack": _reordered(np.arange(31, -1, -1))},
        rule=ROW,
        fix="Store element j at byte 2 + j.",
    ),
    Mutant(
        "blocks-exchanged",
        "The quantizers exchange the blocks of each pair.",
        {"pack": _pairs_exchanged},
        rule=ROW,
        fix="Store block b of the row at byte 34·b.",
        seen="repacked formats: ggml's block_q8_0x4",
    ),
    Mutant(
        "elements-read-interleaved",
        "dequantize_row_q8_a8 reads elements j and j + 16 from side by side.",
        {"unpack": _read_interleaved},
        (DEQUANTIZE,),
        rule=ROW,
        fix="Read element j from byte 2 + j.",
    ),
    Mutant(
        "v2-blocks-of-34",
        "Blocks of version 2 are read as if they were of version 1.",
        {"unpack_v2": _v2_as_v1, "pick": lambda xw, _xa, _yw, ya: (xw, ya)},
        rule=BLOCK_V2,
        fix="A version 2 block has 36 bytes.",
    ),
    Mutant(
        "v2-codes-early",
        "The codes of a version 2 block are read from byte 2 on.",
        {"unpack_v2": _v2_codes_early},
        rule=BLOCK_V2,
        fix="The codes of a version 2 block start at byte 4.",
    ),
    Mutant(
        "v2-fields-exchanged",
        "weight_scale and activation_scale change places.",
        {"unpack_v2": _v2_fields_exchanged},
        rule=BLOCK_V2,
        fix="weight_scale is at byte 0, activation_scale at byte 2.",
    ),
    Mutant(
        "v2-weight-scale-of-both",
        "y's weight_scale is used in place of its activation_scale.",
        {"pick": lambda xw, _xa, yw, _ya: (xw, yw)},
        rule="Q8A8-DOT-9",
        fix="Use x's weight_scale and y's activation_scale.",
        seen="the design's own structures: activations are not stored, says a comment (errata, 4)",
    ),
    Mutant(
        "v2-activation-scale-of-both",
        "x's activation_scale is used in place of its weight_scale.",
        {"pick": lambda _xw, xa, _yw, ya: (xa, ya)},
        rule="Q8A8-DOT-9",
        fix="Use x's weight_scale and y's activation_scale.",
    ),
    Mutant(
        "v2-whichever-is-set",
        "Of each block the scale is used that is not zero, weight_scale first.",
        {"pick": _either},
        rule=UNUSED,
        fix="The block's role says which scale is read; the other may hold anything.",
    ),
    Mutant(
        "v2-scales-added",
        "The two scales of a block are added: the other one is zero as a rule.",
        {"pick": _summed},
        rule=UNUSED,
        fix="The block's role says which scale is read; the other may hold anything, a NaN too.",
    ),
)  # fmt: skip
