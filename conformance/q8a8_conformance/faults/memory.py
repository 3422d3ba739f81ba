"""Mutants of memory accesses: outside of buffers, into inputs, and by what an address is taken for.

They concern one function each, so that a kernel with one of them is right everywhere else. Addresses are
used behind NumPy's back, as C would: those marked `separate_process` can end the process.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import signal
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.faults.kernel import ACTIVATION, DEQUANTIZE, DOT, QUANTIZERS
from q8a8_conformance.faults.mutant import Mutant

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Array = NDArray[Any]
    Call = Callable[[], None]

READ, WRITE, INPUT, ALIGNMENT = (f"Q8A8-MEM-{number}" for number in (1, 2, 3, 4))
OUTSIDE = "Q8A8-QNT-11"


def _memory(array: Array, count: int, dtype: type[np.float32 | np.uint8]) -> Array:
    """Return the memory at an array's address as a writable array, though NumPy's own is read-only."""
    size = count * np.dtype(dtype).itemsize
    memory = (ctypes.c_ubyte * size).from_address(array.ctypes.data)
    return np.ndarray(count, dtype, memoryview(memory).cast("B"))


def _magnitudes_in_place(call: Call, function: str, arguments: Sequence[Any]) -> None:
    call()
    x, _, k = arguments if function != ACTIVATION else (arguments[0], None, arguments[3])
    if k:
        held = _memory(x, k, np.float32)
        np.abs(held, out=held)


def _scratch_in_input(call: Call, function: str, arguments: Sequence[Any]) -> None:
    """Use the first byte of the input, and put it back."""
    del function
    x, _, k = arguments
    if k:
        first = _memory(x, 1, np.uint8)
        first ^= 255
        first ^= 255
    call()


def _writes_behind(call: Call, function: str, arguments: Sequence[Any]) -> None:
    del function
    call()
    _, y, k = arguments
    ctypes.memset(y.ctypes.data + 4 * k, 0, 1)


def _writes_whole_vectors(call: Call, function: str, arguments: Sequence[Any]) -> None:
    del function
    call()
    _, output, _, size = arguments
    ctypes.memset(output.ctypes.data + size, 0, -size % 8)


def _reads_behind(call: Call, function: str, arguments: Sequence[Any]) -> None:
    del function
    x, _, k = arguments
    ctypes.string_at(x.ctypes.data + k // 32 * 34, 1)
    call()


def _reads_whole_vectors(call: Call, function: str, arguments: Sequence[Any]) -> None:
    del function
    x, _, _, size = arguments
    ctypes.string_at(x.ctypes.data + 4 * size, 4 * (-size % 4))
    call()


def _reads_before(call: Call, function: str, arguments: Sequence[Any]) -> None:
    del function
    x, _, k = arguments
    if k:
        ctypes.string_at(x.ctypes.data - 2, 2)
    call()


def _reads_behind_remainders(call: Call, function: str, arguments: Sequence[Any]) -> None:
    """Load the next block while the last one is computed, in the loop for what 16 blocks leave over."""
    del function
    x, _, k = arguments
    if k // 32 % 16 == 15:
        ctypes.string_at(x.ctypes.data + k // 32 * 34, 34)
    call()


def _asserts_alignment(call: Call, function: str, arguments: Sequence[Any]) -> None:
    del function
    x, y, _ = arguments
    if x.size and (x.ctypes.data % 16 or y.ctypes.data % 16):
        raise ValueError("not aligned to 16 bytes")
    call()


def _takes_symmetry(call: Call, function: str, arguments: Sequence[Any]) -> None:
    """Take the matrix of products for symmetric where both inputs are the same pointer."""
    del function
    call()
    _, s, bs, x, _, y, _, nrc = arguments
    if nrc == 2 and x.ctypes.data == y.ctypes.data:
        s[bs] = s[1]


def _looks_behind_for_context(call: Call, function: str, arguments: Sequence[Any]) -> None:
    """Read what follows the row, where the row holds a NaN."""
    x, size = arguments[0], arguments[3 if function == ACTIVATION else 2]
    call()
    if np.isnan(x[:size]).any():
        ctypes.string_at(x.ctypes.data + 4 * size, 32)


def _dies_of_infinity(call: Call, function: str, arguments: Sequence[Any]) -> None:
    x, size = arguments[0], arguments[3 if function == ACTIVATION else 2]
    if np.isinf(x[:size]).any():
        os.kill(os.getpid(), signal.SIGABRT)
    call()


def _masks_its_address(call: Call, function: str, arguments: Sequence[Any]) -> None:
    """Read the first blocks from the 16-byte boundary at or before the input, as AltiVec's lvx does."""
    del function
    call()
    x, y, k = arguments
    if k and x.ctypes.data % 16:
        y[:1] = np.nextafter(y[:1], np.float32(np.inf))


EXACTLY = "Touch exactly what k, n, size, nrc and the strides say."

MUTANTS = (
    Mutant(
        "input-magnitudes",
        "The quantizers leave the magnitudes in their input.",
        {},
        QUANTIZERS,
        lambda: _magnitudes_in_place,
        rule=INPUT,
        fix="Never write to an input; they are const.",
        separate_process=True,
    ),
    Mutant(
        "input-as-scratch",
        "Dequantization changes a byte of its input and puts it back.",
        {},
        (DEQUANTIZE,),
        lambda: _scratch_in_input,
        rule=INPUT,
        fix="Never write to an input, not even for a moment: it may be mapped read-only, as model files are.",
        separate_process=True,
    ),
    Mutant(
        "over-write-byte",
        "Dequantization writes one byte behind its output.",
        {},
        (DEQUANTIZE,),
        lambda: _writes_behind,
        rule=WRITE,
        fix=EXACTLY,
        separate_process=True,
    ),
    Mutant(
        "over-write-vector",
        "The activation quantizer writes codes in whole vectors of eight.",
        {},
        (ACTIVATION,),
        lambda: _writes_whole_vectors,
        rule=WRITE,
        fix=EXACTLY + " Store the tail element by element.",
        separate_process=True,
    ),
    Mutant(
        "over-read-byte",
        "Dequantization reads one byte behind its input.",
        {},
        (DEQUANTIZE,),
        lambda: _reads_behind,
        rule=READ,
        fix=EXACTLY,
        separate_process=True,
    ),
    Mutant(
        "over-read-vector",
        "The activation quantizer reads its input in whole vectors of four floats.",
        {},
        (ACTIVATION,),
        lambda: _reads_whole_vectors,
        rule=READ,
        fix=EXACTLY + " Load the tail element by element, or with a mask.",
        separate_process=True,
    ),
    Mutant(
        "over-read-before",
        "Dequantization reads the two bytes before its input.",
        {},
        (DEQUANTIZE,),
        lambda: _reads_before,
        rule=READ,
        fix=EXACTLY,
        separate_process=True,
    ),
    Mutant(
        "nan-reads-behind",
        "Where a row holds a NaN, the quantizers read on behind it.",
        {},
        QUANTIZERS,
        lambda: _looks_behind_for_context,
        rule=OUTSIDE,
        fix="Stay inside the buffers whatever the values are.",
        separate_process=True,
    ),
    Mutant(
        "infinity-aborts",
        "The quantizers abort where a row holds an infinity.",
        {},
        QUANTIZERS,
        lambda: _dies_of_infinity,
        rule=OUTSIDE,
        fix="Return, with any value.",
        separate_process=True,
    ),
    Mutant(
        "over-read-remainder",
        "Dequantization loads a block behind the row where 16 blocks leave 15 over.",
        {},
        (DEQUANTIZE,),
        lambda: _reads_behind_remainders,
        rule=READ,
        fix=EXACTLY + " Let the last round of a pipelined loop load nothing.",
        separate_process=True,
    ),
    Mutant(
        "alignment-asserted",
        "Dequantization refuses buffers that are at no multiple of 16 bytes.",
        {},
        (DEQUANTIZE,),
        lambda: _asserts_alignment,
        rule=ALIGNMENT,
        fix="Use unaligned loads and stores: blocks need 2-byte alignment, floats 4.",
    ),
    Mutant(
        "same-pointer-symmetric",
        "With two rows at a time, equal pointers are taken for equal rows: x0.y1 is copied from x1.y0.",
        {},
        (DOT,),
        lambda: _takes_symmetry,
        rule="Q8A8-DOT-6",
        fix="Compare the strides as well: rows of one matrix begin at the same place.",
    ),
    Mutant(
        "address-masked",
        "Dequantization reads from the 16-byte boundary before its input.",
        {},
        (DEQUANTIZE,),
        lambda: _masks_its_address,
        rule=ALIGNMENT,
        fix="Use unaligned loads: blocks are 34 bytes and lie anywhere.",
        seen="AltiVec's lvx ignores the low four bits of an address",
    ),
)
