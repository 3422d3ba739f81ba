"""Certificates as JSON, and merging those of shards.

A certificate states which files (by SHA-256) were tested, which points were covered and whether every result
was right. ``schema.json`` beside this module describes its keys.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from q8a8_conformance.certify import ranges
from q8a8_conformance.certify.domains import Mismatch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from q8a8_conformance.certify.ranges import Interval

FORMAT = 1
KIND = "q8a8-certificate"

_SHA256 = re.compile(r"[0-9a-f]{64}")


class CertificateError(Exception):
    """A file is not a certificate, or certificates cannot be merged."""


@dataclass
class Entry:
    """The result of one domain.

    Attributes
    ----------
    name, points, rules
        The domain, its size, the rules that it checks.
    covered
        The points that were compared and are equal.
    asked
        The number of points to cover in this run: the domain, a shard or a sample of it.
    result
        ``equal``, ``mismatch``, ``crashed``, ``not-offered`` or ``incomplete`` (interrupted).
    mismatch, message
        The first wrong result; the reason for any other result that is not ``equal``.
    seconds
        Time spent, including earlier runs with the same state file.
    """

    name: str
    points: int
    rules: tuple[str, ...]
    covered: list[Interval] = field(default_factory=list)
    asked: int = 0
    result: str = "incomplete"
    mismatch: Mismatch | None = None
    message: str = ""
    seconds: float = 0.0

    @property
    def whole(self) -> bool:
        """Whether every point of the domain was compared and is right."""
        return self.result == "equal" and ranges.covers(self.covered, (0, self.points))

    def document(self) -> dict[str, Any]:
        """Return the entry as JSON data."""
        return {
            "name": self.name,
            "points": self.points,
            "rules": list(self.rules),
            "covered": [list(interval) for interval in self.covered],
            "count": ranges.count(self.covered),
            "asked": self.asked,
            "whole": self.whole,
            "result": self.result,
            "mismatch": asdict(self.mismatch) if self.mismatch else None,
            "message": self.message,
            "seconds": round(self.seconds, 3),
        }


VERDICTS = {0: "certified", 1: "mismatch", 3: "crashed", 4: "nothing-ran"}
"""By exit status; an interrupted run and incomplete shards are ``incomplete``."""


def status_of(entries: Sequence[Entry]) -> int:
    """Return the exit status: 1 mismatch, 3 crashed, 4 nothing or not everything ran, else 0."""
    results = {entry.result for entry in entries}
    if "mismatch" in results:
        return 1
    if "crashed" in results:
        return 3
    return 0 if results == {"equal"} else 4


def document(about: Mapping[str, Any], entries: Sequence[Entry]) -> dict[str, Any]:
    """Return a certificate as JSON data: the kernel and the run, then the domains."""
    status = status_of(entries)
    verdict = VERDICTS[status]
    if status == 4 and any(entry.covered or entry.result == "incomplete" for entry in entries):
        verdict = "incomplete"
    whole = bool(entries) and all(entry.whole for entry in entries)
    if verdict == "certified" and not whole:
        verdict = "part"
    return {
        "format": FORMAT,
        "kind": KIND,
        "verdict": verdict,
        "whole": whole,
        **about,
        "domains": [entry.document() for entry in entries],
    }


def read(path: Path) -> dict[str, Any]:
    """Read a certificate and check the fields that merging needs.

    Raises
    ------
    CertificateError
        The file is not a valid certificate.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CertificateError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise CertificateError(f"{path} is no JSON: {error}") from None
    if not isinstance(data, dict) or data.get("kind") != KIND or data.get("format") != FORMAT:
        raise CertificateError(f"{path} is not a certificate of format {FORMAT}")
    try:
        if not _SHA256.fullmatch(data["kernel"]["sha256"]) or not _SHA256.fullmatch(data["truth_sha256"]):
            raise CertificateError(f"{path}: a hash is not a SHA-256")
        entries = [_entry(entry) for entry in data["domains"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CertificateError(f"{path} is invalid: {type(error).__name__}: {error}") from None
    return {**data, "entries": entries}


def _entry(data: Mapping[str, Any]) -> Entry:
    points = int(data["points"])
    covered = [(int(start), int(stop)) for start, stop in data["covered"]]
    if not all(0 <= start < stop <= points for start, stop in covered):
        raise ValueError(f"{data['name']}: covers points outside the domain")
    mismatch = Mismatch(**data["mismatch"]) if data["mismatch"] else None
    result = str(data["result"])
    if result not in ("equal", "mismatch", "crashed", "not-offered", "incomplete"):
        raise ValueError(f"{data['name']}: result {result!r}")
    if (result == "mismatch") != (mismatch is not None):
        raise ValueError(f"{data['name']}: result {result!r} with mismatch {mismatch}")
    return Entry(
        str(data["name"]),
        points,
        tuple(map(str, data["rules"])),
        ranges.merged(covered),
        int(data["asked"]),
        result,
        mismatch,
        str(data["message"]),
        float(data["seconds"]),
    )


def merge(certificates: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], list[Entry]]:
    """Merge certificates of the same kernel.

    Returns
    -------
    The fields that they share, and one entry a domain. A mismatch or crash in one certificate is the domain's
    result; otherwise the covered points are united, and the result is ``equal`` if no point is missing.

    Raises
    ------
    CertificateError
        The certificates are of different kernels or different versions of the expected results.
    """
    first = certificates[0]
    for other in certificates[1:]:
        for key, name in (("kernel", "kernel"), ("truth_sha256", "version of the expected results")):
            if _identity(other[key]) != _identity(first[key]):
                raise CertificateError(f"the certificates have more than one {name}")
    joined: dict[str, Entry] = {}
    for certificate in certificates:
        for entry in certificate["entries"]:
            joined[entry.name] = _join(joined[entry.name], entry) if entry.name in joined else entry
    for entry in joined.values():
        entry.asked = entry.points
        if entry.result in ("equal", "incomplete"):
            entry.result = "equal" if ranges.covers(entry.covered, (0, entry.points)) else "incomplete"
    about = {key: first[key] for key in first if key not in _OWN}
    about["shard"] = about["sample"] = None
    about["seconds"] = round(sum(float(certificate["seconds"]) for certificate in certificates), 3)
    about["merged"] = len(certificates)
    return about, list(joined.values())


_OWN = ("format", "kind", "verdict", "whole", "domains", "entries")
"""Keys of a certificate that a merge recomputes."""


def _identity(value: object) -> object:
    return value["sha256"] if isinstance(value, dict) else value


def _join(one: Entry, other: Entry) -> Entry:
    if one.points != other.points:
        raise CertificateError(
            f"{one.name} has {one.points} points in one certificate, {other.points} in another"
        )
    order = ("mismatch", "crashed", "incomplete", "equal", "not-offered")
    worse = min(one, other, key=lambda entry: order.index(entry.result))
    return Entry(
        one.name,
        one.points,
        one.rules,
        ranges.merged([*one.covered, *other.covered]),
        0,
        worse.result,
        worse.mismatch,
        worse.message,
        one.seconds + other.seconds,
    )
