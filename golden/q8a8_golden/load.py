"""Load the golden cases from the files in the package, after checking their hashes."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from q8a8_golden.document import FORMAT, from_json

if TYPE_CHECKING:
    from q8a8_golden.cases import Case

__all__ = ["DATA", "MANIFEST", "SCHEMA", "CorruptVectorsError", "load_cases", "read_manifest"]

DATA: Final = Path(__file__).parent / "data"
"""The folder of the case files; ``manifest.json`` and ``schema.json`` lie beside them."""

MANIFEST: Final = "manifest.json"
SCHEMA: Final = "schema.json"


class CorruptVectorsError(ValueError):
    """A golden file is missing, changed or malformed; the message names the file and, if known, the case."""


def load_cases(directory: Path | None = None) -> tuple[Case, ...]:
    """Return all golden cases, ordered by file name and by position in the file.

    Parameters
    ----------
    directory
        The folder of the files; by default those in the package, which are cached.

    Raises
    ------
    CorruptVectorsError
        A file is missing, malformed, or differs from its hash in the manifest; or two cases have the same id.
    """
    return _shipped() if directory is None else _load(directory)


@functools.cache
def _shipped() -> tuple[Case, ...]:
    return _load(DATA)


def _load(directory: Path) -> tuple[Case, ...]:
    manifest = read_manifest(directory)
    cases: list[Case] = []
    for name, entry in sorted(manifest["files"].items()):
        cases += _read_file(directory, name, entry)
    seen: set[str] = set()
    for case in cases:
        if case.id in seen:
            raise CorruptVectorsError(f"{directory}: two cases have the id {case.id}")
        seen.add(case.id)
    return tuple(cases)


def read_manifest(directory: Path) -> dict[str, Any]:
    """Read ``manifest.json`` and check its version; CorruptVectorsError if it is not usable."""
    path = directory / MANIFEST
    manifest = _parse(path, _read(path))
    if manifest.get("format") != FORMAT:
        version = manifest.get("format")
        raise CorruptVectorsError(
            f"{path}: format {version!r}, this program reads format {FORMAT}: "
            "use the vectors and q8a8_golden of the same release"
        )
    files = manifest.get("files")
    if not isinstance(files, dict) or not all(isinstance(entry, dict) for entry in files.values()):
        raise CorruptVectorsError(f"{path}: no list of files, each with its entry")
    return manifest


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CorruptVectorsError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        # An invalid file name: with a null byte or a lone surrogate.
        raise CorruptVectorsError(f"{path!a}: {error}") from None


def _parse(path: Path, data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CorruptVectorsError(f"{path}: not JSON: {error}") from None
    if not isinstance(document, dict):
        raise CorruptVectorsError(f"{path}: not a JSON object")
    return document


def _read_file(directory: Path, name: str, entry: dict[str, Any]) -> list[Case]:
    path = directory / name
    data = _read(path)
    digest = hashlib.sha256(data).hexdigest()
    if digest != entry.get("sha256"):
        raise CorruptVectorsError(f"{path}: SHA-256 {digest}, the manifest has {entry.get('sha256')}")
    document = _parse(path, data)
    if document.get("format") != FORMAT or not isinstance(document.get("cases"), list):
        raise CorruptVectorsError(f"{path}: not a file of cases in format {FORMAT}")
    cases = []
    for number, item in enumerate(document["cases"]):
        identity = item.get("id") if isinstance(item, dict) else None
        try:
            cases += from_json(item)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise CorruptVectorsError(f"{path}: case {identity or number}: {reason}") from None
    return cases
