"""Fetch third-party distributions from the package index with pip or npm, check their hashes, unpack them.

Nothing of it is committed. The cache is ``.cache/peers`` in a checkout, else ``q8a8/peers`` in the user's
cache folder; what lies there unpacked is used as it is.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "ARM_WHEEL",
    "GGML_SOURCE",
    "NPM_GGML",
    "NPM_GGML_ARM",
    "ZIG_WHEEL",
    "Distribution",
    "PeerUnavailableError",
    "cache_folder",
    "fetch",
]


class PeerUnavailableError(Exception):
    """A peer cannot be had on this machine; the text says what is missing and how to get it."""


@dataclass(frozen=True)
class Distribution:
    """One file of the package index.

    Parameters
    ----------
    requirement
        What pip is asked for: ``name==version``.
    file
        The file's name in the index.
    sha256
        Its hash. A file with another is not used.
    options
        pip's options that select this file among those of the version.
    members
        Which folder of the archive is unpacked; empty for all.
    unpacked
        What the folder with it is called in the cache; two parts of one archive have two names.
    """

    requirement: str
    file: str
    sha256: str
    options: tuple[str, ...]
    members: str = ""
    unpacked: str = "unpacked"


ARM_WHEEL = Distribution(
    requirement="pywhispercpp==1.5.1",
    file="pywhispercpp-1.5.1-cp311-cp311-manylinux_2_27_aarch64.manylinux_2_28_aarch64.whl",
    sha256="3fd5ce38397f27e1173423f82f14089da2f61a45b2f1fb307a943765f5c56b3e",
    options=("--only-binary=:all:", "--platform", "manylinux_2_28_aarch64", "--python-version", "3.11"),
)
"""ggml 0.13 for Arm, prebuilt."""

GGML_SOURCE = Distribution(
    requirement="llama-cpp-python==0.3.36",
    file="llama_cpp_python-0.3.36.tar.gz",
    sha256="832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e",
    options=("--no-binary", "llama-cpp-python"),
    members="llama_cpp_python-0.3.36/vendor/llama.cpp/ggml/",
)
"""ggml's source."""

ZIG_WHEEL = Distribution(
    requirement="ziglang==0.17.0",
    file="ziglang-0.17.0-py3-none-manylinux_2_12_x86_64.manylinux2010_x86_64.musllinux_1_1_x86_64.whl",
    sha256="97079827064a7492cce5541ceb438ae8003ce1e54e399676da2d62fb7a5dc08b",
    options=("--only-binary=:all:",),
)
"""clang for every target, without root."""

NPM_GGML = Distribution(
    requirement="@node-llama-cpp/linux-x64-vulkan@3.22.1",
    file="node-llama-cpp-linux-x64-vulkan-3.22.1.tgz",
    sha256="e10577190fc4bd1649d3b655588e5c7a85fc6b6dbf7136fee596cbe9e25521e7",
    options=(),
    members="package/bins/",
)
"""ggml as users run it: every CPU build for x86-64 and the Vulkan backend, from npm."""

NPM_GGML_ARM = Distribution(
    requirement="@node-llama-cpp/linux-arm64@3.22.1",
    file="node-llama-cpp-linux-arm64-3.22.1.tgz",
    sha256="39c76b998e35ed2f236c01472fc79eda0fc558b1c8b535023c2d7ded8c327cc4",
    options=(),
    members="package/bins/",
)
"""The same for aarch64: CPU builds from Armv8.0 to Armv9.2."""


def cache_folder() -> Path:
    """Return the folder that fetched and built peers are kept in; it may not exist yet."""
    for folder in Path(__file__).resolve().parents:
        if (folder / "pyproject.toml").is_file() and (folder / "refimpl").is_dir():
            return folder / ".cache" / "peers"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "q8a8" / "peers"


def fetch(distribution: Distribution) -> Path:
    """Return the folder in which a distribution lies unpacked, fetching it first if need be.

    Raises
    ------
    PeerUnavailableError
        pip or npm cannot get it (no network, say), or the file is not the one that this project knows.
    """
    folder = cache_folder() / distribution.sha256[:16]
    unpacked = folder / distribution.unpacked
    if unpacked.is_dir():
        return unpacked
    archive = folder / distribution.file
    if not archive.is_file():
        _download(distribution, folder)
    with archive.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != distribution.sha256:
        archive.unlink()
        raise PeerUnavailableError(
            f"{distribution.file}: its SHA-256 is {found}, not {distribution.sha256}; the file was removed"
        )
    # Unpack beside and rename: a folder that is there is whole.
    with tempfile.TemporaryDirectory(dir=folder) as partial:
        complete = Path(partial) / distribution.unpacked
        _unpack(archive, complete, distribution.members)
        try:
            complete.rename(unpacked)
        except OSError:
            if not unpacked.is_dir():  # otherwise another process was faster
                raise
    return unpacked


def _download(distribution: Distribution, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # Download beside and rename: a file that is there is whole, whoever else fetches it too.
    with tempfile.TemporaryDirectory(dir=folder) as partial:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
        ]
        command += [*distribution.options, "--dest", partial, distribution.requirement]
        if distribution.requirement.startswith("@"):
            command = ["npm", "pack", "--silent", "--pack-destination", partial, distribution.requirement]
        try:
            run = subprocess.run(command, check=False, capture_output=True, text=True)
        except OSError as error:
            raise PeerUnavailableError(f"cannot fetch {distribution.file}: {error}") from None
        fetched = Path(partial) / distribution.file
        if run.returncode == 0 and fetched.is_file():
            fetched.replace(folder / distribution.file)
            return
    said = (run.stderr or run.stdout).strip().splitlines()[-1:] or ["pip said nothing"]
    raise PeerUnavailableError(
        f"cannot fetch {distribution.file} ({distribution.requirement}) from the package index: {said[0]}\n"
        f"  Without a network, put the file into {folder} by hand."
    )


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """Unpack one member; it may not leave the folder."""
    if hasattr(tarfile, "data_filter"):
        tar.extract(member, folder, filter="data")
        return
    # Python before 3.11.4, as Debian 12 has it: what the filter refuses is refused here.
    plain = member.isfile() or member.isdir()
    if not plain or not (folder / member.name).resolve().is_relative_to(folder.resolve()):
        raise PeerUnavailableError(f"{member.name}: not a plain file or folder below {folder}")
    tar.extract(member, folder)


def _unpack(archive: Path, folder: Path, members: str) -> None:
    """Unpack a wheel or a source distribution, or one folder of it, with the files' modes."""
    if archive.suffix != ".whl":
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.name.startswith(members):
                    _extract(tar, member, folder)
        return
    with zipfile.ZipFile(archive) as wheel:
        for info in wheel.infolist():
            if not info.filename.startswith(members):
                continue
            path = Path(wheel.extract(info, folder))
            mode = info.external_attr >> 16
            if mode & 0o111 and not info.is_dir():  # an executable must stay one
                path.chmod(0o755)
