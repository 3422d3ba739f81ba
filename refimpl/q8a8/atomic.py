"""Files that appear complete or not at all: written beside their place, flushed, then renamed.

A reader never sees half of a file, and a failure leaves what was there before. Renaming onto a FIFO, a
terminal or ``/dev/stdout`` would destroy it: what is no regular file is written in place. The name ``-`` is
standard output.
"""

from __future__ import annotations

import errno
import os
import secrets
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "is_standard_output",
    "is_written_in_place",
    "replacing",
    "unwritable",
    "write_bytes",
    "write_text",
    "writing",
]

_STDOUT, _STDERR = 1, 2

_MAX_LINKS = 40
"""Symbolic links that are followed at most, as in Linux's path resolution."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield an unused name in the folder of `path`, for a program to write; rename it at the end.

    Parameters
    ----------
    path
        The target; the file of that name is replaced when the context is left without an error. Otherwise
        it is unchanged, and the temporary file is removed.

    Raises
    ------
    OSError
        The file cannot be written or renamed; the error names `path`.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with _named(path, temporary):
            yield temporary
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing bytes, which replaces `path` when the context is left without an error.

    The new file has the permissions that ``open(path, "wb")`` would have given it: those of the file it
    replaces, or those that the umask allows. A symbolic link stays one: the file it refers to is replaced.

    Parameters
    ----------
    path
        The target. Where it exists and is no regular file, or is an open file of a process
        (``/proc/self/fd/5``), it is written in place. Standard output and error (``-``, ``/dev/stdout``,
        ``/dev/stderr``) go on where they are, also where they are files.

    Raises
    ------
    OSError
        The file cannot be written; the error names `path`.
    """
    stream = _standard_stream(path)
    if stream is not None:
        with _named(path), os.fdopen(_duplicate(stream), "wb") as file:
            yield file
        return
    target = _replaceable(path)
    if target is None:
        with _named(path), path.open("wb") as file:
            yield file
        return
    with replacing(target) as temporary, temporary.open("xb") as file:
        if target.exists():
            os.fchmod(file.fileno(), target.stat().st_mode & 0o777)
        yield file
        file.flush()
        os.fsync(file.fileno())


def write_bytes(data: bytes, path: Path) -> None:
    """Write bytes to a file as `writing` does; errors as there."""
    with writing(path) as file:
        file.write(data)


def write_text(text: str, path: Path) -> None:
    """Write text to a file, UTF-8, as `writing` does; errors as there."""
    write_bytes(text.encode(), path)


def unwritable(path: Path) -> str:
    """Return why `writing` would refuse a path, to be reported before any work; empty where it would not."""
    if path.is_dir():
        return "is a folder"
    if _standard_stream(path) is not None:
        return ""
    try:
        target = _replaceable(path)
    except OSError as error:
        return str(error.strerror)
    if target is None:
        return "" if os.access(path, os.W_OK) else "cannot be written to"
    return "" if os.access(target.parent, os.W_OK) else "the folder does not exist or cannot be written to"


def is_written_in_place(path: Path) -> bool:
    """Return whether `writing` writes a path in place: what was written there before cannot be replaced."""
    return _standard_stream(path) is not None or _replaceable(path) is None


def is_standard_output(path: Path) -> bool:
    """Return whether a path is this process's standard output: ``-``, ``/dev/stdout`` or a link to it."""
    return _standard_stream(path) == _STDOUT


def _standard_stream(path: Path) -> int | None:
    """Return the descriptor of standard output or error where a path is a name of it."""
    if path == Path("-"):
        return _STDOUT
    own = {
        f"/proc/{who}/fd/{number}": number for who in ("self", os.getpid()) for number in (_STDOUT, _STDERR)
    }
    for _ in range(_MAX_LINKS):
        for folder in (path.parent, path.parent.resolve()):
            if str(folder / path.name) in own:
                return own[str(folder / path.name)]
        if not path.is_symlink():
            return None
        path = path.parent / path.readlink()
    return None


def _duplicate(stream: int) -> int:
    """Return another descriptor of standard output or error, after what Python holds of it is written."""
    (sys.stdout if stream == _STDOUT else sys.stderr).flush()
    return os.dup(stream)


def _replaceable(path: Path) -> Path | None:
    """Return the name to rename onto, with symbolic links followed; None where `path` is written in place."""
    if path.exists() and not path.is_file():
        return None
    target = path
    for _ in range(_MAX_LINKS):
        if not target.is_symlink():
            return target
        if target.parent.resolve().is_relative_to("/proc"):
            # An open file of a process, which would keep the old file if another took its name.
            return None
        target = target.parent / target.readlink()
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))


@contextmanager
def _named(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Name `path` in errors that name no file (a full disk's), or the temporary one."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(temporary)):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
