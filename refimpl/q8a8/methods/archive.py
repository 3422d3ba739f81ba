"""Arrays with their provenance, in one `.npz` file.

::

    NAME.npz      a zip archive of .npy files, nothing pickled
      metadata    uint8 [n], UTF-8 JSON: {"kind": ..., "version": ..., and the kind's own keys}
      <name>      an array

The same content gives the same bytes. A file appears under its name when it is complete.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from q8a8.atomic import writing
from q8a8.errors import Q8A8Error

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["ArchiveError", "Entries", "read_archive", "write_archive"]

METADATA = "metadata"


class ArchiveError(Q8A8Error, ValueError):
    """A file that is not such an archive; the message names the file, and the entry where it is about one."""

    def __init__(self, path: Path, what: object) -> None:
        super().__init__(f"{path}: {what}")


def write_archive(
    path: Path,
    kind: str,
    version: int,
    metadata: Mapping[str, object],
    arrays: Mapping[str, NDArray[Any]],
) -> None:
    """Write an archive; a file of that name is replaced when the new one is complete.

    Parameters
    ----------
    path
        The file.
    kind, version
        The kind of data, and the version of its layout, as `read_archive` takes them.
    metadata
        The kind's own keys, for JSON.
    arrays
        By name.

    Raises
    ------
    OSError
        The file cannot be written; an older file of that name is unchanged.
    """
    document = json.dumps({"kind": kind, "version": version, **metadata}, sort_keys=True)
    entries = {METADATA: np.frombuffer(document.encode(), np.uint8), **arrays}
    with writing(path) as file:
        # NumPy's stub takes the keywords for its own flags; the names here are none of them.
        np.savez(file, **entries)  # type: ignore[arg-type]


class Entries:
    """The contents of an archive: arrays that are checked when they are read.

    Attributes
    ----------
    path
        The file.
    metadata
        The JSON object.
    """

    def __init__(self, path: Path, metadata: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
        self.path = path
        self.metadata = metadata
        self._arrays = arrays

    def array(self, name: str, dtype: type[np.generic], ndim: int) -> NDArray[Any]:
        """Return an array.

        Raises
        ------
        ArchiveError
            There is none of that name, or it has another type or number of axes, or holds NaN or infinities.
        """
        if name not in self._arrays:
            raise ArchiveError(self.path, f"{name}: missing")
        array = self._arrays[name]
        if array.dtype != dtype or array.ndim != ndim:
            raise ArchiveError(
                self.path,
                f"{name}: expected {np.dtype(dtype)} with {ndim} axes, got {array.dtype} with {array.ndim}",
            )
        if not np.isfinite(array).all():
            raise ArchiveError(self.path, f"{name}: not all values are finite")
        return array

    def value(self, name: str, kind: type | tuple[type, ...]) -> Any:  # noqa: ANN401 (JSON holds anything)
        """Return a value of the metadata; without one of this type, raise `ArchiveError`."""
        found = self.metadata.get(name)
        if not isinstance(found, kind):
            raise ArchiveError(self.path, f"metadata: {name}: {found!r} has the wrong type")
        return found


def read_archive(path: Path, kind: str, version: int) -> Entries:
    """Read an archive of this kind and version.

    Raises
    ------
    ArchiveError
        The file cannot be read, is not an archive of arrays, or is of another kind or version.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = dict(archive)
            document = json.loads(arrays.pop(METADATA).tobytes())
    except OSError as error:
        raise ArchiveError(path, error.strerror or error) from error
    except (ValueError, TypeError, AttributeError, KeyError, EOFError, BadZipFile) as error:
        # An .npy file, a pickle, a zip archive of something else, a broken one.
        # NumPy's words on it are about pickles, which no reader of ours would load.
        raise ArchiveError(path, "not an archive of arrays with metadata") from error
    if not isinstance(document, dict) or document.get("kind") != kind:
        raise ArchiveError(path, f"this is not a file of kind {kind}")
    if document.get("version") != version:
        raise ArchiveError(path, f"{kind} of version {document.get('version')!r}; only {version} is known")
    return Entries(path, document, arrays)
