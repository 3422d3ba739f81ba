"""Facts about the machine and about files are read correctly, or left out."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.worker.machine import compiler_of, cpu_features, sha256_of, sha256_of_sources

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "features"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx2\nprocessor\t: 1\nflags\t: none\n", ("fpu", "avx2")),
        ("processor\t: 0\nFeatures\t: fp asimd i8mm\n", ("fp", "asimd", "i8mm")),
        ("processor : 0\n", ()),
    ],
)
def test_features(tmp_path: Path, text: str, features: tuple[str, ...]) -> None:
    """The first processor's features are read, on x86 and on Arm."""
    (tmp_path / "cpuinfo").write_text(text)
    assert cpu_features(tmp_path / "cpuinfo") == features


def test_no_features_where_there_is_no_file(tmp_path: Path) -> None:
    """A system without the file has no features."""
    assert cpu_features(tmp_path / "none") == ()


def test_hashes(tmp_path: Path) -> None:
    """A file's hash is of its bytes, a package's of its sources in order."""
    (tmp_path / "b.py").write_bytes(b"b")
    (tmp_path / "a.py").write_bytes(b"a")
    (tmp_path / "c.txt").write_bytes(b"c")
    assert sha256_of(tmp_path / "a.py") == hashlib.sha256(b"a").hexdigest()
    assert sha256_of_sources(tmp_path) == hashlib.sha256(b"ab").hexdigest()


@pytest.mark.parametrize("data", [b"", b"#!/bin/sh", b"\x7fELF\x02\x01", b"\x7fELF\x02\x01" + b"\xff" * 90])
def test_no_compiler_in_other_files(tmp_path: Path, data: bytes) -> None:
    """A file that is not a valid ELF file has no compiler."""
    (tmp_path / "file").write_bytes(data)
    assert compiler_of(tmp_path / "file") is None
    assert compiler_of(tmp_path / "none") is None
