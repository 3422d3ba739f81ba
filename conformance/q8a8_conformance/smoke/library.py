"""What is in a shared library: its machine, the functions that it exports, the libraries that it needs.

The tables of an ELF file are read by pyelftools (extra ``suite``), which knows hashes, versions and both byte
orders; without it only the header's machine is known (`q8a8_conformance.smoke.elf`).
"""

from __future__ import annotations

import platform
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from q8a8_conformance.results.record import count
from q8a8_conformance.spec.abi import NAMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

__all__ = ["Library", "missing_libraries", "propose_symbols", "read_library"]

_NAMES_OF_MACHINES = {"x64": "x86_64", "AArch64": "aarch64"}


@dataclass(frozen=True)
class Library:
    """A shared library.

    Attributes
    ----------
    machine, bits
        As `platform.machine` names it; 32 or 64.
    exports
        The functions that it exports.
    needed
        The libraries that it needs.
    """

    machine: str
    bits: int
    exports: tuple[str, ...]
    needed: tuple[str, ...]

    def describe(self) -> str:
        """Return one line for people."""
        own = [name for name in NAMES if name in self.exports]
        return (
            f"{self.bits}-bit {self.machine}; exports {count(len(self.exports), 'function')}, "
            f"{len(own)} of the ABI; needs {', '.join(self.needed) or 'no other library'}"
        )


_FIND = """
import ctypes, sys
for name in sys.argv[1:]:
    try:
        ctypes.CDLL(name)
    except OSError:
        print(name)
"""


def missing_libraries(library: Library) -> tuple[str, ...]:
    """Return the needed libraries that the loader does not find by name on this machine, in a process apart.

    One that a run path of the library names is among them, too: so ask only where loading failed.
    """
    if library.machine != platform.machine():
        return ()
    command = (sys.executable, "-c", _FIND, *library.needed)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return tuple(done.stdout.split())


@cache
def read_library(path: Path) -> Library | None:
    """Return what is in a library; None where it cannot be read, or pyelftools is missing."""
    try:
        from elftools.common.exceptions import ELFError  # noqa: PLC0415 (the extra `suite`)
        from elftools.elf.dynamic import DynamicSection  # noqa: PLC0415 (as above)
        from elftools.elf.elffile import ELFFile  # noqa: PLC0415 (as above)
        from elftools.elf.sections import SymbolTableSection  # noqa: PLC0415 (as above)
    except ImportError:
        return None
    try:
        with path.open("rb") as file:
            elf = ELFFile(file)
            exports: set[str] = set()
            needed: list[str] = []
            for section in elf.iter_sections():
                if isinstance(section, SymbolTableSection) and section.name == ".dynsym":
                    exports |= {symbol.name for symbol in section.iter_symbols() if _is_exported(symbol)}
                elif isinstance(section, DynamicSection):
                    tags: Iterable[Any] = section.iter_tags(
                        "DT_NEEDED"
                    )  # their values are attributes of no type
                    needed += [str(tag.needed) for tag in tags]
            machine = str(elf.get_machine_arch())
            bits = int(elf.elfclass)
    except (OSError, ELFError, ValueError, KeyError):
        return None
    machine = _NAMES_OF_MACHINES.get(machine, machine)
    return Library(machine, bits, tuple(sorted(exports)), tuple(needed))


def _is_exported(symbol: object) -> bool:
    info, place = symbol["st_info"], symbol["st_shndx"]  # type: ignore[index] # pyelftools has no types
    return (
        info["type"] in ("STT_FUNC", "STT_GNU_IFUNC", "STT_LOOS")
        and info["bind"] in ("STB_GLOBAL", "STB_WEAK")
        and place != "SHN_UNDEF"
    )


def propose_symbols(exports: Sequence[str]) -> dict[str, str]:
    """Return the exported function that each function of the ABI is likely to be, where one is likely.

    ggml's names have ``q8_0`` for ``q8_a8``; other libraries put something before or after the name.

    Examples
    --------
    >>> propose_symbols(["quantize_row_q8_0", "quantize_row_q8_0_ref", "my_dequantize_row_q8_a8"])
    {'quantize_row_q8_a8_ref': 'quantize_row_q8_0_ref', 'quantize_row_q8_a8': 'quantize_row_q8_0', \
'dequantize_row_q8_a8': 'my_dequantize_row_q8_a8'}
    """
    found = {}
    for name in NAMES:
        forms = (name, name.replace("q8_a8", "q8_0"))
        if name in exports:
            continue
        same = [form for form in forms if form in exports]
        # The longest name of the ABI that is in a word is meant: dequantize_row has quantize_row in it.
        inside = [word for word in exports if _longest_name(word) == name]
        if same or len(inside) == 1:
            found[name] = (same or inside)[0]
    return found


def _longest_name(word: str) -> str:
    """Return the function of the ABI whose name, or ggml's name of it, is the longest in a word."""
    return max(
        (
            (len(form), name)
            for name in NAMES
            for form in (name, name.replace("q8_a8", "q8_0"))
            if form in word
        ),
        default=(0, ""),
    )[1]
