"""Facts about the machine and the file under test, for the report; the verdict does not depend on them."""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path

_SECTION = struct.Struct("<II8xQQQ24x")  # name, type, address, offset, size
_ELF64_LITTLE = b"\x7fELF\x02\x01"


def architecture() -> str:
    """Return the machine's architecture as the system names it: ``x86_64``, ``aarch64``."""
    return os.uname().machine


def cpu_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, ...]:
    """Return the first processor's features as Linux names them; empty elsewhere."""
    try:
        with cpuinfo.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                key, _, value = line.partition(":")
                if key.strip() in ("flags", "Features"):
                    return tuple(value.split())
    except OSError:
        pass
    return ()


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_sources(package: Path) -> str:
    """Return the SHA-256 of a package's Python files, in the order of their names, in hex."""
    digest = hashlib.sha256()
    for path in sorted(package.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def compiler_of(path: Path) -> str | None:
    """Return the compilers in a 64-bit ELF file's ``.comment`` section; None if there are none."""
    try:
        return _comment(path.read_bytes())
    except (OSError, struct.error, IndexError, OverflowError):  # missing, truncated or invalid
        return None


def _comment(data: bytes) -> str | None:
    if not data.startswith(_ELF64_LITTLE):
        return None
    (table,) = struct.unpack_from("<Q", data, 0x28)
    size, count, names_index = struct.unpack_from("<HHH", data, 0x3A)
    sections = [_SECTION.unpack_from(data, table + index * size) for index in range(count)]
    _, _, _, names, _ = sections[names_index]
    for name, _, _, offset, length in sections:
        if data[names + name : names + name + 9] == b".comment\0":
            texts = data[offset : offset + length].split(b"\0")
            return "; ".join(sorted({text.decode("utf-8", "replace") for text in texts if text})) or None
    return None
