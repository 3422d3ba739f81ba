"""What a sweep has covered so far, in a file: an interrupted run goes on from there.

The file is written beside its place and then renamed, so that it is whole whenever the run ends. It names
what was certified, by hash: another kernel, or another version of what the answers are compared with, cannot
go on from it. A digest over the rest shows whether anything changed the file.
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
    """A state file cannot be used; the text says why, and what to do."""


class State:
    """Covered intervals and time spent, by domain.

    Parameters
    ----------
    path
        Where it is kept; None keeps it in memory.
    identity
        What the coverage is about: hashes and versions.
    """

    def __init__(self, path: Path | None, identity: Mapping[str, str]) -> None:
        self._path = path
        self._identity = dict(identity)
        self.covered: dict[str, list[Interval]] = {}
        self.seconds: dict[str, float] = {}

    def add(self, domain: str, interval: Interval, seconds: float) -> None:
        """Note a piece as covered: compared, and equal."""
        self.covered[domain] = merged([*self.covered.get(domain, []), interval])
        self.seconds[domain] = self.seconds.get(domain, 0.0) + seconds

    def load(self) -> bool:
        """Read the file, if there is one; whether there was.

        Raises
        ------
        StateError
            It is no state file, was changed, or is about something else.
        """
        if self._path is None or not self._path.exists():
            return False
        try:
            document = json.loads(self._path.read_text(encoding="utf-8"))
            if document["format"] != FORMAT:
                raise StateError(f"{self._path}: state of format {document['format']}, not {FORMAT}")
            sum_of_rest, identity = document.pop("sha256"), document["identity"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise StateError(f"{self._path} is no state file ({error}); delete it to start anew") from None
        if sum_of_rest != _digest(document):
            raise StateError(f"{self._path} was changed or damaged; delete it to start anew")
        different = [
            key for key in {*identity, *self._identity} if identity.get(key) != self._identity.get(key)
        ]
        if different:
            what = ", ".join(sorted(different))
            raise StateError(f"{self._path} is about another {what}; delete it to start anew")
        for name, entry in document["domains"].items():
            self.covered[name] = merged((int(start), int(stop)) for start, stop in entry["covered"])
            self.seconds[name] = float(entry["seconds"])
        return True

    def save(self) -> None:
        """Write the file, whole or not at all."""
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
