"""The floating-point environment of the calling thread: save, compare, set flush modes, restore.

C's `fegetenv` fills an opaque structure; on the supported machines its words are::

    x86-64 (glibc, musl)   bytes 0..1    x87 control word
                           bytes 28..31  MXCSR
    aarch64                bytes 0..3    FPCR

Sticky exception flags are not compared: a kernel may raise them.
"""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass
from typing import TypeAlias

from q8a8_conformance.protocol.messages import NO_FAULTS, Fault

State: TypeAlias = "ctypes.Array[ctypes.c_uint32]"
_WORDS = 16
"""Size of the space for a `fenv_t`, in 32-bit words; twice the largest known."""


@dataclass(frozen=True)
class _Field:
    """Bits of one register that a call must not change."""

    fault: Fault
    register: str
    word: int
    mask: int


@dataclass(frozen=True)
class _Machine:
    fields: tuple[_Field, ...]
    flush_word: int
    flush_bits: tuple[int, ...]
    """Flush-to-zero and denormals-are-zero, or what comes nearest: both, and each alone."""
    precision: tuple[int, int, int] | None = None
    """Bits on which no result of the specification depends: the word, their mask, and an unusual value."""


_MACHINES = {
    "x86_64": _Machine(
        (
            _Field(Fault.ROUNDING_MODE_CHANGED, "MXCSR", 7, 0x6000),
            _Field(Fault.FLUSH_MODE_CHANGED, "MXCSR", 7, 0x8040),  # FTZ, DAZ
            _Field(Fault.TRAP_MASK_CHANGED, "MXCSR", 7, 0x1F80),
            _Field(Fault.ROUNDING_MODE_CHANGED, "x87 control word", 0, 0x0F00),  # rounding, precision
            _Field(Fault.TRAP_MASK_CHANGED, "x87 control word", 0, 0x003F),
        ),
        flush_word=7,
        flush_bits=(0x8040, 0x8000, 0x0040),
        precision=(0, 0x0300, 0x0200),  # of the x87 unit, 53 bits: as a host sets that wants doubles
    ),
    "aarch64": _Machine(
        (
            _Field(Fault.ROUNDING_MODE_CHANGED, "FPCR", 0, 0x00C0_0000),
            # AHP, DN, FZ, FZ16, NEP, AH, FIZ: each changes some results, as flushing does.
            _Field(Fault.FLUSH_MODE_CHANGED, "FPCR", 0, 0x0708_0007),
            _Field(Fault.TRAP_MASK_CHANGED, "FPCR", 0, 0x0000_9F00),
        ),
        flush_word=0,
        flush_bits=(0x0108_0000, 0x0100_0000, 0x0008_0000),  # FZ, FZ16
    ),
}


class FloatingPoint:
    """Access to the floating-point environment of the calling thread.

    Parameters
    ----------
    machine : _Machine
        The positions of the mode bits.
    library : ctypes.PyDLL
        A library with `fegetenv` and `fesetenv`; it must not release the interpreter lock around them.
    """

    def __init__(self, machine: _Machine, library: ctypes.PyDLL) -> None:
        self._machine = machine
        masks: dict[int, int] = {}
        for field in machine.fields:
            masks[field.word] = masks.get(field.word, 0) | field.mask
        self._masks = tuple(masks.items())
        self._get = library.fegetenv
        self._set = library.fesetenv
        self._get.argtypes = self._set.argtypes = [ctypes.c_void_p]

    def save(self) -> State:
        """Return the current environment."""
        state = (ctypes.c_uint32 * _WORDS)()
        self._get(state)
        return state

    def restore(self, state: State) -> None:
        """Set the current environment to a saved one."""
        self._set(state)

    def flushing(self, state: State, turn: int = 0) -> State:
        """Return a copy of an environment with both flush modes set; by turns, with one alone."""
        copy = type(state).from_buffer_copy(state)
        bits = self._machine.flush_bits
        copy[self._machine.flush_word] |= bits[turn % len(bits)]
        return copy

    def imprecise(self, state: State) -> State:
        """Return a copy of an environment with another precision of what no result depends on."""
        copy = type(state).from_buffer_copy(state)
        if self._machine.precision:
            word, mask, value = self._machine.precision
            copy[word] = copy[word] & ~mask | value
        return copy

    def compare(self, before: State, after: State) -> tuple[Fault, str]:
        """Return the modes that differ between two environments, as faults and as text."""
        if all((before[word] ^ after[word]) & mask == 0 for word, mask in self._masks):
            return NO_FAULTS, ""
        faults, texts = NO_FAULTS, []
        for field in self._machine.fields:
            old, new = before[field.word] & field.mask, after[field.word] & field.mask
            if old != new:
                faults |= field.fault
                name = (field.fault.name or "").lower().replace("_", " ")
                texts.append(f"{name}: {field.register} & {field.mask:#x} was {old:#x}, is {new:#x}")
        return faults, "; ".join(texts)


def floating_point() -> FloatingPoint | None:
    """Return access to the environment; None on a machine whose layout is not known."""
    machine = _MACHINES.get(os.uname().machine)
    if machine is None or sys.maxsize < 2**32 or sys.byteorder != "little":
        return None
    for name in (None, "libm.so.6", "libm.so"):
        try:
            return FloatingPoint(machine, ctypes.PyDLL(name))
        except (OSError, AttributeError):
            continue
    return None
