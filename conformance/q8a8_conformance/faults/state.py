"""Mutants of floating-point modes, the process, state between calls, threads, and termination.

They concern one function each, so that a kernel with one of them is right everywhere else.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import itertools
import os
import platform
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.faults.kernel import ACTIVATION, DEQUANTIZE, DOT, ROWS
from q8a8_conformance.faults.mutant import Mutant
from q8a8_conformance.worker.fenv import floating_point

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Array = NDArray[Any]
    Call = Callable[[], None]

MODES, STATE, THREADS, RETURNS = (f"Q8A8-ENV-{number}" for number in (1, 2, 3, 4))
PROCESS, RESOURCES = "Q8A8-ENV-6", "Q8A8-ENV-7"
TOWARD_ZERO = 0xC00000 if platform.machine() == "aarch64" else 0xC00


def _asks_for_errno(call: Call, function: str, arguments: Sequence[Any]) -> None:
    """Take an error of the caller's for one of its own."""
    from q8a8_conformance.worker.caller import error_number  # noqa: PLC0415 -- a worker's parts need Linux

    del function, arguments
    if error_number() != errno.ERANGE:
        call()


def _rounds_down_from_now_on(call: Call, function: str, arguments: Sequence[Any]) -> None:
    del function, arguments
    call()
    ctypes.CDLL(ctypes.util.find_library("m")).fesetround(TOWARD_ZERO)


def _flushes_from_now_on(call: Call, function: str, arguments: Sequence[Any]) -> None:
    del function, arguments
    call()
    environment = floating_point()
    if environment is not None:
        environment.restore(environment.flushing(environment.save()))


def _looks_for_its_tables(call: Call, function: str, arguments: Sequence[Any]) -> None:
    """Change to the folder where tables would be, in the first call."""
    del function, arguments
    os.chdir("/")
    call()


def _opens_and_forgets(call: Call, function: str, arguments: Sequence[Any]) -> None:
    del function, arguments
    with suppress(OSError):
        os.open(os.devnull, os.O_RDONLY)
    call()


class _EveryFourth:
    """Forgets the last element in every fourth call."""

    def __init__(self) -> None:
        self._calls = itertools.count(1)

    def __call__(self, call: Call, function: str, arguments: Sequence[Any]) -> None:
        """Call, and spoil every fourth result."""
        del function
        call()
        _, y, k = arguments
        if next(self._calls) % 4 == 0 and k:
            y[k - 1] = 0


class _AfterAnother:
    """Shares a scratch buffer with the activation quantizer, and finds it changed."""

    def __init__(self) -> None:
        self._before = ""

    def __call__(self, call: Call, function: str, arguments: Sequence[Any]) -> None:
        """Call; dequantize a zero too many after the activation quantizer."""
        call()
        if function == DEQUANTIZE and self._before == ACTIVATION and arguments[2]:
            arguments[1][0] = 0
        self._before = function


class _AfterInfinity:
    """Keeps the scale of a vector with an infinity, and uses it in the next one of over 200 elements."""

    def __init__(self) -> None:
        self._spoiled = False

    def __call__(self, call: Call, function: str, arguments: Sequence[Any]) -> None:
        """Call; give an infinite scale for a long vector right after an infinity."""
        del function
        call()
        x, _, scale, size = arguments
        if self._spoiled and size > 200:
            scale[:1] = 0x7C00
        self._spoiled = bool(np.isinf(x[:size]).any())


class _BySum:
    """Remembers rows by their address and a sum of their bytes."""

    def __init__(self) -> None:
        self._held: dict[tuple[int, int, int], Array] = {}

    def __call__(self, call: Call, function: str, arguments: Sequence[Any]) -> None:
        """Call, and give what was given for the sum before."""
        del function
        call()
        x, y, k = arguments
        key = x.ctypes.data, k, int(x[: k // 32 * 34].astype(np.int64).sum())
        y[:k] = self._held.setdefault(key, y[:k].copy())


class _AfterRow:
    """Finds the vector registers' upper halves as the row quantizers left them, in one path of its own."""

    def __init__(self) -> None:
        self._before = ""

    def __call__(self, call: Call, function: str, arguments: Sequence[Any]) -> None:
        """Call; dequantize seventeen blocks wrongly right after a row quantizer."""
        call()
        if function == DEQUANTIZE and self._before in ROWS and arguments[2] == 17 * 32:
            arguments[1][0] = -arguments[1][0]
        self._before = function


class _SharedScratch:
    """Keeps a row in a buffer that all threads share."""

    def __init__(self) -> None:
        self._inside = 0

    def __call__(self, call: Call, function: str, arguments: Sequence[Any]) -> None:
        """Call, wrongly if another call is under way."""
        del function
        _, y, k = arguments
        self._inside += 1
        if threading.current_thread() is not threading.main_thread():
            time.sleep(0.001)
        alone = self._inside == 1
        call()
        if not alone:
            y[:k] = 0
        self._inside -= 1


def _raises_on_fifty(call: Call, function: str, arguments: Sequence[Any]) -> None:
    del function
    if arguments[2] == 50 * 32:
        raise RuntimeError("fifty blocks")
    call()


def _dies_on_sixty_three(call: Call, function: str, arguments: Sequence[Any]) -> None:
    del function
    if arguments[2] == 63 * 32:
        ctypes.string_at(64, 1)  # no process has memory there
    call()


def _hangs_on_long_rows(call: Call, function: str, arguments: Sequence[Any]) -> None:
    del function
    while arguments[0] == 1023 * 32:
        time.sleep(1)
    call()


MUTANTS = (
    Mutant(
        "rounding-mode-left",
        "Dequantization leaves the processor rounding towards zero.",
        {},
        (DEQUANTIZE,),
        lambda: _rounds_down_from_now_on,
        rule=MODES,
        fix="Put the rounding mode back, or use instructions that carry their own.",
    ),
    Mutant(
        "flush-mode-left",
        "Dequantization leaves flush-to-zero set.",
        {},
        (DEQUANTIZE,),
        lambda: _flushes_from_now_on,
        rule=MODES,
        fix="Put the flush bits back.",
        seen="shared libraries linked with -ffast-math, whose crtfastmath.o sets FTZ and DAZ: GCC bug 55522",
    ),
    Mutant(
        "directory-changed",
        "Dequantization leaves another working directory.",
        {},
        (DEQUANTIZE,),
        lambda: _looks_for_its_tables,
        rule=PROCESS,
        fix="Open files by their whole path.",
        separate_process=True,
    ),
    Mutant(
        "descriptor-leaked",
        "Every call of dequantization opens a file and never closes it.",
        {},
        (DEQUANTIZE,),
        lambda: _opens_and_forgets,
        rule=RESOURCES,
        fix="Close what a call opens.",
        separate_process=True,
    ),
    Mutant(
        "every-fourth-call",
        "Every fourth call of dequantization loses its last element.",
        {},
        (DEQUANTIZE,),
        _EveryFourth,
        rule=STATE,
        fix="Keep no state between calls.",
    ),
    Mutant(
        "errno-of-the-caller",
        "Dequantization returns early where errno is ERANGE, whoever has set it.",
        {},
        (DEQUANTIZE,),
        lambda: _asks_for_errno,
        rule=STATE,
        fix="Set errno to zero before a function whose error you ask for.",
    ),
    Mutant(
        "scratch-of-another",
        "Dequantization is wrong right after a call of the activation quantizer.",
        {},
        (DEQUANTIZE, ACTIVATION),
        _AfterAnother,
        rule=STATE,
        fix="Keep no state between calls.",
    ),
    Mutant(
        "infinity-spoils-later",
        "The activation quantizer keeps the scale of an infinity for the next vector of over 200 elements.",
        {},
        (ACTIVATION,),
        _AfterInfinity,
        rule=STATE,
        fix="Keep no state between calls.",
    ),
    Mutant(
        "remembered-by-sum",
        "Dequantization remembers rows by their address and a sum of their bytes.",
        {},
        (DEQUANTIZE,),
        _BySum,
        rule=STATE,
        fix="Remember nothing by address: blocks that change places leave sums as they are.",
    ),
    Mutant(
        "registers-of-another",
        "Dequantization of seventeen blocks is wrong right after a row was quantized.",
        {},
        (*ROWS, DEQUANTIZE),
        _AfterRow,
        rule=STATE,
        fix="Set every register before it is used: a call inherits what the last one left there.",
    ),
    Mutant(
        "scratch-of-all-threads",
        "Dequantization uses one static buffer in all threads.",
        {},
        (DEQUANTIZE,),
        _SharedScratch,
        rule=THREADS,
        fix="Keep scratch memory on the stack.",
    ),
    Mutant(
        "refuses-fifty-blocks",
        "Dequantization gives up on rows of exactly fifty blocks.",
        {},
        (DEQUANTIZE,),
        lambda: _raises_on_fifty,
        rule=RETURNS,
        fix="Take every length.",
    ),
    Mutant(
        "crashes-on-63-blocks",
        "Dequantization crashes on rows of exactly 63 blocks.",
        {},
        (DEQUANTIZE,),
        lambda: _dies_on_sixty_three,
        rule=RETURNS,
        fix="Take every length.",
        separate_process=True,
    ),
    Mutant(
        "hangs-on-1023-blocks",
        "The dot product never returns on rows of exactly 1023 blocks.",
        {},
        (DOT,),
        lambda: _hangs_on_long_rows,
        rule=RETURNS,
        fix="Take every length.",
        separate_process=True,
    ),
)
