"""Calls through a few machine instructions that check the calling convention and measure the stack.

C cannot see a callee-saved register, and Python less so. On x86-64 a page of machine code (`_CODE`) fills the
callee-saved registers with known values, passes the arguments, calls the kernel on the given stack, and
stores what the kernel left: the flags, those registers, and the x87 state. Elsewhere, and where the system
allows no such page, nothing is checked (`trampoline` returns None).

The stack of a measured call is a mapping of its own whose pages are not present before the call: those that
are present afterwards were used. Its top, as in a running program, holds bytes that are not zero, as do the
vector registers and those of arguments that there are not; and it is aligned to no more than it must be.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import sys
from functools import partial
from typing import TYPE_CHECKING

from q8a8_conformance.protocol.messages import NO_FAULTS, STACK_BUDGET, Fault
from q8a8_conformance.worker.machine import cpu_features

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

UNDEFINED = 0x7E
"""What bytes hold that a kernel must not take for zero: as floats they are large, as halves NaN."""
_MARK = 0x51A80000
_SAVED = ("rbx", "rbp", "r12", "r13", "r14", "r15")
_MARKS = tuple(_MARK + index for index in range(len(_SAVED)))


def _mark(opcode: str, index: int) -> str:
    """Return ``mov REGISTER, imm32``, which the processor sign-extends."""
    return opcode + struct.pack("<I", _MARKS[index]).hex()


_CODE = bytes.fromhex(
    # void call(const uint64_t words[8] /* rdi */, void *found /* rsi */, void *function /* rdx */,
    #           void *stack_top /* rcx, or 0 for the current stack */)
    "53 55 41 54 41 55 41 56 41 57"  # push rbx, rbp, r12, r13, r14, r15
    "49 89 e2"  # mov r10, rsp
    "48 85 c9"  # test rcx, rcx
    "49 0f 44 ca"  # cmovz rcx, r10: 8 bytes off a multiple of 16 here, as at any function's entry
    "48 83 e1 f0"  # and rcx, -16
    "48 89 cc"  # mov rsp, rcx
    "41 52"  # push r10: the stack to return to
    "56"  # push rsi
    "ff 77 38"  # push qword [rdi + 56]: argument 8
    "ff 77 30"  # push qword [rdi + 48]: argument 7
    "48 89 d0"  # mov rax, rdx
    "48 8b 77 08"  # mov rsi, [rdi + 8]
    "48 8b 57 10"  # mov rdx, [rdi + 16]
    "48 8b 4f 18"  # mov rcx, [rdi + 24]
    "4c 8b 47 20"  # mov r8, [rdi + 32]
    "4c 8b 4f 28"  # mov r9, [rdi + 40]
    "48 8b 3f"  # mov rdi, [rdi]
    + _mark("48 c7 c3", 0)  # mov rbx, mark
    + _mark("48 c7 c5", 1)  # mov rbp, mark + 1
    + _mark("49 c7 c4", 2)  # mov r12, ...
    + _mark("49 c7 c5", 3)  # mov r13, ...
    + _mark("49 c7 c6", 4)  # mov r14, ...
    + _mark("49 c7 c7", 5)  # mov r15, ...
    + "f9 ff d0"  # stc; call rax
    "4c 8b 5c 24 10"  # mov r11, [rsp + 16]: found
    "9c 41 8f 03"  # pushfq; pop qword [r11]
    "fc"  # cld
    "49 89 5b 08"  # mov [r11 + 8], rbx
    "49 89 6b 10"  # mov [r11 + 16], rbp
    "4d 89 63 18"  # mov [r11 + 24], r12
    "4d 89 6b 20"  # mov [r11 + 32], r13
    "4d 89 73 28"  # mov [r11 + 40], r14
    "4d 89 7b 30"  # mov [r11 + 48], r15
    "41 0f ae 43 40"  # fxsave [r11 + 64]
    "0f 77"  # emms
    "48 8b 64 24 18"  # mov rsp, [rsp + 24]
    "41 5f 41 5e 41 5d 41 5c 5d 5b c3"  # pop r15 ... rbx; ret
)
_CALL_AT = len(_CODE) + 0x77
"""How far `_MANY` looks back for `_CODE`, which lies before it."""
_MANY = bytes.fromhex(
    # int64_t many(words, found, function, stack_top /* as above */, const uint64_t outputs[][4] /* r8 */,
    #              int64_t calls /* r9 */)
    # Each output is its address, what it holds before a call, what after, and its length; a length of 0 ends.
    "53 55 41 54 41 55 41 56 41 57"  # push rbx, rbp, r12, r13, r14, r15
    "48 83 ec 38"  # sub rsp, 56
    "48 89 3c 24"  # mov [rsp], rdi
    "48 89 74 24 08"  # mov [rsp + 8], rsi
    "48 89 54 24 10"  # mov [rsp + 16], rdx
    "48 89 4c 24 18"  # mov [rsp + 24], rcx
    "4c 89 44 24 20"  # mov [rsp + 32], r8
    "4c 89 4c 24 28"  # mov [rsp + 40], r9
    "48 c7 44 24 30 00 00 00 00"  # mov qword [rsp + 48], 0: calls made
    "48 8b 44 24 30"  # next: mov rax, [rsp + 48]
    "48 3b 44 24 28"  # cmp rax, [rsp + 40]
    "73 7a"  # jae done
    "48 8b 54 24 20"  # mov rdx, [rsp + 32]
    "48 8b 4a 18"  # fill: mov rcx, [rdx + 24]
    "48 85 c9 74 0f"  # test rcx, rcx; jz ready
    "48 8b 3a"  # mov rdi, [rdx]
    "48 8b 72 08"  # mov rsi, [rdx + 8]
    "f3 a4"  # rep movsb
    "48 83 c2 20 eb e8"  # add rdx, 32; jmp fill
    "48 8b 3c 24"  # ready: mov rdi, [rsp]
    "48 8b 74 24 08"  # mov rsi, [rsp + 8]
    "48 8b 54 24 10"  # mov rdx, [rsp + 16]
    "48 8b 4c 24 18"  # mov rcx, [rsp + 24]
    "48 8d 05"
    + struct.pack("<i", -_CALL_AT).hex()  # lea rax, [rip - _CALL_AT]
    + "ff d0"  # call rax
    "48 ff 44 24 30"  # inc qword [rsp + 48]
    "48 8b 54 24 20"  # mov rdx, [rsp + 32]
    "48 8b 4a 18"  # compare: mov rcx, [rdx + 24]
    "48 85 c9 74 a8"  # test rcx, rcx; jz next
    "48 8b 3a"  # mov rdi, [rdx]
    "48 8b 72 10"  # mov rsi, [rdx + 16]
    "49 89 ca 41 83 e2 07"  # mov r10, rcx; and r10d, 7
    "48 c1 e9 03"  # shr rcx, 3: sets the zero flag where nothing is left, as equal bytes do
    "f3 48 a7"  # repe cmpsq
    "75 0d"  # jne differs
    "4c 89 d1"  # mov rcx, r10
    "f3 a6"  # repe cmpsb
    "75 06"  # jne differs
    "48 83 c2 20 eb d3"  # add rdx, 32; jmp compare
    "48 8b 44 24 30"  # differs: mov rax, [rsp + 48]
    "48 f7 d8 eb 05"  # neg rax; jmp out
    "48 8b 44 24 30"  # done: mov rax, [rsp + 48]
    "48 83 c4 38"  # out: add rsp, 56
    "41 5f 41 5e 41 5d 41 5c 5d 5b c3"  # pop r15 ... rbx; ret
)


def _fill(*, avx: bool) -> bytes:
    """Return code that fills the vector registers with `UNDEFINED`, and calls `_CODE`, before `_MANY`."""
    moves = [
        (b"\xc5" + bytes([0x7C if n > 7 else 0xFC]) if avx else bytes([0x44] * (n > 7) + [0x0F]))
        + bytes([0x28, 0xC0 + 8 * (n % 8)])  # [v]movaps register n, register 0
        for n in range(1, 16)
    ]
    code = b"\x48\xb8" + 8 * bytes([UNDEFINED])  # mov rax, ...
    code += bytes.fromhex("66 48 0f 6e c0 66 0f 6c c0")  # movq xmm0, rax; punpcklqdq xmm0, xmm0
    code += bytes.fromhex("c4 e3 7d 18 c0 01") * avx  # vinsertf128 ymm0, ymm0, xmm0, 1
    code += b"".join(moves) + bytes.fromhex("48 83 ec 08 e8")  # sub rsp, 8; call
    code += struct.pack("<i", -(len(_CODE) + len(_MANY) + len(code) + 4))
    code += bytes.fromhex("48 83 c4 08")  # add rsp, 8
    return code + bytes.fromhex("c5 f8 77") * avx + b"\xc3"  # vzeroupper; ret


ARGUMENTS = 8
"""The most that a call can have, in words."""
_ALIGNMENT = 16
"""Of the stack at a call: a kernel that needs more must see to it."""
_FOUND_SIZE = 64 + 512
_TAG = 64 + 4
"""The offset of the x87 tag byte in what is stored: a bit is set for each register in use."""
_DIRECTION_FLAG = 0x400
_STACK_SIZE = 64 * 2**20
_FILLED = 2**14
"""Bytes at the top of a measured stack that hold it."""
_PRESENT = bytes(value & 1 for value in range(256))
"""The flag of `mincore` alone, of each value of a byte."""
_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
_Words = ctypes.c_uint64 * ARGUMENTS
_REPEATED = ctypes.CFUNCTYPE(
    ctypes.c_int64,
    *[ctypes.c_void_p] * 5,
    ctypes.c_int64,  # as `_FUNCTION`, with outputs and calls
)
_LIBC = ctypes.PyDLL(None)


class BoundCall(partial[None]):
    """A call through the machine code, as a function without parameters; it releases the interpreter lock."""

    repeated: Callable[..., int]

    def many(self, outputs: Sequence[tuple[int, bytes, bytes]], calls: int) -> int:
        """Make many calls, until an output has other bytes than it should.

        Parameters
        ----------
        outputs
            The address of each, its bytes before every call and those after it, which are as many.
        calls
            How many at most.

        Returns
        -------
        int
            How many were made; negative if the last one differs.
        """
        held = [each for each in outputs if each[1]]
        table = (ctypes.c_uint64 * (4 * len(held) + 4))()
        kept = []
        for place, (address, before, after) in enumerate(held):
            parts = [ctypes.create_string_buffer(data, len(data)) for data in (before, after)]
            kept.append(parts)
            table[4 * place : 4 * place + 4] = [address, *map(ctypes.addressof, parts), len(before)]
        return self.repeated(*self.args, table, calls)


class Trampoline:
    """Makes calls through the machine code, and reports what the last one left.

    Raises
    ------
    OSError
        The system allows no executable page.
    """

    def __init__(self) -> None:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self._code = mmap.mmap(-1, mmap.PAGESIZE, flags, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self._code.write(_CODE + _MANY + _fill(avx="avx" in cpu_features()))
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._code))
        self._call, self._repeated = _FUNCTION(start), _REPEATED(start + len(_CODE))
        self._call_filled = _FUNCTION(start + len(_CODE + _MANY))
        self._space = ctypes.create_string_buffer(_FOUND_SIZE + 64)
        found = ctypes.addressof(self._space)
        self._found = found + -found % 64
        self._clean = struct.pack("<6Q", *_MARKS)
        self._stack = mmap.mmap(-1, _STACK_SIZE, flags)
        self._stack_start = ctypes.addressof(ctypes.c_char.from_buffer(self._stack))
        self._measured = False
        self._reset()

    def _reset(self) -> None:
        ctypes.memset(self._found, 0, _FOUND_SIZE)
        ctypes.memmove(self._found + 8, self._clean, len(self._clean))

    def bind(self, function: int, arguments: Sequence[int], *, measured: bool) -> BoundCall:
        """Return a function without parameters that makes a call.

        Parameters
        ----------
        function
            The address of the C function.
        arguments
            At most 8, all integers or addresses.
        measured
            Whether to make the call on the stack whose use `take_faults` measures.
        """
        self._measured = measured
        top = 0
        if measured:
            self._stack.madvise(mmap.MADV_DONTNEED)
            top = self._stack_start + _STACK_SIZE - _ALIGNMENT
            ctypes.memset(top - _FILLED, UNDEFINED, _FILLED)
        # (ctypes takes what exceeds 64 bits, or is negative, modulo 2^64.)
        bound = BoundCall(
            self._call_filled if measured else self._call, _Words(*arguments), self._found, function, top
        )
        bound.repeated = self._repeated
        return bound

    def take_faults(self) -> tuple[Fault, list[str]]:
        """Return what the last call left wrong, and forget it."""
        found = ctypes.string_at(self._found, _FOUND_SIZE)
        texts = []
        if found[8 : 8 + len(self._clean)] != self._clean:
            values = struct.unpack_from("<6Q", found, 8)
            names = [name for name, value, mark in zip(_SAVED, values, _MARKS, strict=True) if value != mark]
            texts.append(f"callee-saved registers were changed: {', '.join(names)}")
        if found[1] & (_DIRECTION_FLAG >> 8):
            texts.append("the direction flag was left set")
        if found[_TAG]:
            texts.append("the x87 registers were left in use (MMX instructions without EMMS)")
        faults = Fault.CONVENTION_BROKEN if texts else NO_FAULTS
        if texts:
            self._reset()
        used = self._stack_used() if self._measured else 0
        self._measured = False
        if used > STACK_BUDGET:
            faults |= Fault.STACK_EXCEEDED
            texts.append(
                f"the call used {used / 2**20:.1f} MiB of stack, at most {STACK_BUDGET >> 20} may be"
            )
        return faults, texts

    def _stack_used(self) -> int:
        """Return how many bytes of the measured stack the call has reached, by the lowest page present."""
        present = ctypes.create_string_buffer(_STACK_SIZE // mmap.PAGESIZE)
        if _LIBC.mincore(ctypes.c_void_p(self._stack_start), ctypes.c_size_t(_STACK_SIZE), present) != 0:
            return 0
        lowest = present.raw.translate(_PRESENT).find(1)
        if lowest < 0:
            return 0
        return _STACK_SIZE - lowest * mmap.PAGESIZE


def trampoline() -> Trampoline | None:
    """Return the machine code's calls; None on another architecture, or where the system forbids it."""
    if os.uname().machine != "x86_64" or sys.maxsize < 2**32:
        return None
    try:
        return Trampoline()
    except (OSError, ValueError):
        return None
