"""Why a file is no library for this machine, from its ELF header.

The dynamic loader says of a library for another architecture that there is no such file.
"""

from __future__ import annotations

import platform
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MACHINES = {
    3: "32-bit x86",
    8: "MIPS",
    20: "32-bit PowerPC",
    21: "PowerPC64",
    22: "s390x",
    40: "32-bit Arm",
    62: "x86_64",
    183: "aarch64",
    243: "RISC-V",
    258: "LoongArch",
}
"""Names of the architectures by ELF's number; as `platform.machine` has them, for those of 64 bits here."""

_RELOCATABLE, _EXECUTABLE = 1, 2
_LITTLE = 1


@dataclass(frozen=True)
class NotLoadable:
    """Why a file cannot be loaded, and what to do."""

    message: str
    hint: str


def why_not_loadable(path: Path) -> NotLoadable | None:
    """Return why a file cannot be loaded on this machine; None where its header shows no reason."""
    try:
        with path.open("rb") as file:
            head = file.read(20)
    except OSError as error:
        return NotLoadable(f"cannot be read: {error.strerror}", "check the file's permissions")
    if len(head) < 20 or head[:4] != b"\x7fELF":
        return NotLoadable("is no shared library", "build one: cc -O2 -shared -fPIC -o libmine.so mine.c -lm")
    kind, number = struct.unpack_from("<HH" if head[5] == _LITTLE else ">HH", head, 16)
    machine, here = MACHINES.get(number, f"architecture {number} of ELF"), platform.machine()
    if machine != here:
        harness = f"native_check/build/{machine}/bin/q8a8-harness"
        hint = (
            f"judge it on such a machine (exec:'ssh HOST q8a8-harness --lib {path}'), or in an emulator "
            f"(exec:'qemu-{machine} -L /usr/{machine}-linux-gnu -cpu max {harness} --lib "
            f"{path}'); native_check/README.md builds the harness"
        )
        return NotLoadable(f"is built for {machine}, and this machine is {here}", hint)
    if kind in (_RELOCATABLE, _EXECUTABLE):
        what = "an object file" if kind == _RELOCATABLE else "a program"
        return NotLoadable(f"is {what}, no shared library", "link it with -shared, compiled with -fPIC")
    return None
