"""Wrong kernels in C, where the bug is about lanes, memory, the processor or the process.

Each is a kernel of the program ``q8a8-mutants``, which CMake builds beside the harness from
``native_check/mutants/`` and which speaks the worker protocol as the harness does::

    q8a8 test "exec:native_check/build/native/bin/q8a8-mutants over-read-byte"

What is known of them is read from the program's own table, ``native_check/mutants/list.h``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from q8a8_lab import native_build

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MUTANTS", "NativeMutant", "argv", "read_table"]

_PROCESSORS: Final = {"ANY": "any", "X86": "x86_64", "ARM": "aarch64"}
_MACRO: Final = rf"^({'|'.join(_PROCESSORS)})\(\w+"
_STRING: Final = r',\s*"([^"\\\n]*)"'
_ENTRY: Final = re.compile(_MACRO + 5 * _STRING + r"\)$", re.MULTILINE)


@dataclass(frozen=True)
class NativeMutant:
    """An entry of the table of wrong kernels in C.

    Attributes
    ----------
    processor
        The architecture that it is for, ``any`` for all.
    slug
        Its name for ``q8a8-mutants``.
    rule
        The full id of the rule that it breaks first of all.
    sentence
        What it does wrong, in one sentence.
    fix
        What to do about it, in one sentence.
    seen
        Where such a bug was really seen; empty where it is only plausible.
    """

    processor: str
    slug: str
    rule: str
    sentence: str
    fix: str
    seen: str

    def runs_on(self, processor: str) -> bool:
        """Return whether it is for ``x86_64``, ``aarch64``..."""
        return self.processor in ("any", processor)


def read_table(text: str) -> dict[str, NativeMutant]:
    """Read the entries of ``native_check/mutants/list.h``, by slug.

    Raises
    ------
    ValueError
        An entry is not written as the table's comment says.
    """
    entries = [NativeMutant(_PROCESSORS[macro], *rest) for macro, *rest in _ENTRY.findall(text)]
    written = re.findall(_MACRO, text, re.MULTILINE)
    if len(entries) != len(written):
        raise ValueError(f"{len(written) - len(entries)} of {len(written)} entries cannot be read")
    return {entry.slug: entry for entry in entries}


MUTANTS: Final[Mapping[str, NativeMutant]] = MappingProxyType(
    read_table((native_build.source_folder() / "mutants" / "list.h").read_text(encoding="utf-8"))
)
"""Every mutant by its slug."""


def argv(slug: str, cpu: str | None = None) -> list[str]:
    """Return the command of a worker that runs a mutant, built if need be.

    Parameters
    ----------
    slug : str
        One of `MUTANTS`.
    cpu : str, optional
        A CPU of QEMU; the machine's own without it.

    Raises
    ------
    q8a8_lab.native_build.NativeError
        It cannot be built or run here.
    """
    harness = native_build.harness_argv(slug, cpu)
    program = harness.index(slug) - 1
    return [*harness[:program], str(Path(harness[program]).with_name("q8a8-mutants")), slug]
