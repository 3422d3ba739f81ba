"""The state of a sweep, in a file from which an interrupted run resumes.

The file is written atomically. It identifies, by hash, the kernel and the version of the expected results: no
other run can resume from it. A digest of the rest shows whether the file was changed.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from q8a8.atomic import write_text
from q8a8_conformance.certify.ranges import merged

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from q8a8_conformance.certify.ranges import Interval

FORMAT = 1


class StateError(Exception):
    """A state file cannot be used; the message names the reason and the remedy."""


class State:
    """Covered intervals and time spent, by domain.

    Parameters
    ----------
    path
        The file; None keeps the state in memory.
    identity
        Hashes and versions of what is covered.
    """

    def __init__(self, path: Path | None, identity: Mapping[str, str]) -> None:
        self._path = path
        self._identity = dict(identity)
        self.covered: dict[str, list[Interval]] = {}
        self.seconds: dict[str, float] = {}

    def add(self, domain: str, interval: Interval, seconds: float) -> None:
        """Record a piece as covered: compared and equal."""
        self.covered[domain] = merged([*self.covered.get(domain, []), interval])
        self.seconds[domain] = self.seconds.get(domain, 0.0) + seconds

    def load(self) -> bool:
        """Read the file, if it exists, and return whether it does.

        Raises
        ------
        StateError
            The file is not a state file, was changed, or belongs to something else.
        """
        if self._path is None or not self._path.exists():
            return False
        try:
            document = json.loads(self._path.read_text(encoding="utf-8"))
            if document["format"] != FORMAT:
                raise StateError(f"{self._path}: state of format {document['format']}, not {FORMAT}")
            sum_of_rest, identity = document.pop("sha256"), document["identity"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise StateError(f"{self._path} is not a state file ({error}); delete it to start over") from None
        if sum_of_rest != _digest(document):
            raise StateError(f"{self._path} was changed or damaged; delete it to start over")
        different = [
            key for key in {*identity, *self._identity} if identity.get(key) != self._identity.get(key)
        ]
        if different:
            what = ", ".join(sorted(different))
            raise StateError(f"{self._path} is of another {what}; delete it to start over")
        for name, entry in document["domains"].items():
            self.covered[name] = merged((int(start), int(stop)) for start, stop in entry["covered"])
            self.seconds[name] = float(entry["seconds"])
        return True

    def save(self) -> None:
        """Write the file atomically."""
        if self._path is None:
            return
        domains = {
            name: {
                "covered": [list(interval) for interval in intervals],
                "seconds": round(self.seconds[name], 3),
            }
            for name, intervals in self.covered.items()
        }
        document: dict[str, Any] = {"format": FORMAT, "identity": self._identity, "domains": domains}
        document["sha256"] = _digest(document)
        write_text(json.dumps(document, indent=1) + "\n", self._path)


def _digest(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
