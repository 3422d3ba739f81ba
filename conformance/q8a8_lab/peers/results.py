"""What a comparison found, as data that goes to JSON and back, and onto the page."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from q8a8.atomic import write_text
from q8a8_lab.peers.compare import DotCount, FamilyCount

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["BuildResult", "LegResult", "Verdict", "load_builds", "save_builds", "sha256", "today"]


@dataclass(frozen=True)
class Verdict:
    """One run of ``q8a8 test``.

    Parameters
    ----------
    profile
        The profile it ran under.
    verdict, status
        The report's verdict, and the exit status.
    rules
        How many rules have each status: pass, fail, crashed, not-run.
    failed
        The rules that failed.
    causes
        ABI function to the causes that the diagnosis names, each with how many results it explains, and of
        how many.
    day
        The day of the run, as ISO 8601 has it.
    """

    profile: str
    verdict: str
    status: int
    rules: dict[str, int]
    failed: tuple[str, ...]
    causes: dict[str, dict[str, tuple[int, int]]]
    day: str = ""


@dataclass
class LegResult:
    """A prebuilt peer, compared.

    Parameters
    ----------
    name, title
        Of the leg.
    files
        File name to SHA-256, in hex.
    families, dots
        What was compared and how much of it differs.
    orders
        Orders of the table that match every bit of a sample.
    wrong_products
        Products with -128 that come out wrong.
    beyond
        amax to the first bytes the quantizers make where 1/d is infinite: see `legs`.
    verdicts
        Of ``q8a8 test``.
    seconds
        What the comparison took.
    day
        The day of the comparison, as ISO 8601 has it.
    """

    name: str
    title: str
    files: dict[str, str] = field(default_factory=dict)
    families: list[FamilyCount] = field(default_factory=list)
    dots: list[DotCount] = field(default_factory=list)
    orders: tuple[str, ...] = ()
    wrong_products: int = 0
    beyond: dict[str, dict[str, str]] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)
    seconds: float = 0.0
    day: str = ""

    @property
    def differing(self) -> int:
        """Bytes and bits that differ, in all."""
        return sum(f.differing_bytes for f in self.families) + sum(d.differing_bits for d in self.dots)


@dataclass
class BuildResult:
    """A build of ggml, compared on one CPU, or the reason why not.

    Parameters
    ----------
    variant, machine, compiler
        What was built, by which compiler in its own words.
    target
        The architecture flags or ggml options that are on.
    cpu
        Where it ran.
    ggml
        Its version.
    expected, orders
        nrc to the order that is expected, and to all that match.
    families, dots
        As in `LegResult`.
    wrong_products
        As in `LegResult`.
    flawed
        Whether products with -128 are expected to come out wrong.
    not_run
        The reason, if it was not run.
    day
        The day of the run, as ISO 8601 has it.
    """

    variant: str
    machine: str
    compiler: str
    target: str
    cpu: str
    ggml: str = ""
    expected: dict[str, str] = field(default_factory=dict)
    orders: dict[str, tuple[str, ...]] = field(default_factory=dict)
    families: list[FamilyCount] = field(default_factory=list)
    dots: list[DotCount] = field(default_factory=list)
    wrong_products: int = 0
    flawed: bool = False
    not_run: str = ""
    day: str = ""

    @property
    def differing(self) -> int:
        """Bytes and bits that differ, in all."""
        return sum(f.differing_bytes for f in self.families) + sum(d.differing_bits for d in self.dots)

    @property
    def passed(self) -> bool:
        """Whether nothing differs and every order and flaw is the expected one."""
        return (
            self.differing == 0
            and bool(self.dots)
            and all(order in self.orders.get(nrc, ()) for nrc, order in self.expected.items())
            and bool(self.wrong_products) == self.flawed
        )


def today() -> str:
    """Return the day, as ISO 8601 has it."""
    return dt.datetime.now(tz=dt.UTC).date().isoformat()


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def save_builds(results: list[BuildResult], path: Path) -> None:
    """Write the results of `build` for the page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n", path)


def load_builds(path: Path) -> list[BuildResult]:
    """Read what `save_builds` wrote; nothing where there is no such file."""
    if not path.is_file():
        return []
    return [_build(entry) for entry in json.loads(path.read_text(encoding="utf-8"))]


def _build(entry: dict[str, Any]) -> BuildResult:
    entry["families"] = [FamilyCount(**count) for count in entry["families"]]
    entry["dots"] = [DotCount(**count) for count in entry["dots"]]
    entry["orders"] = {nrc: tuple(orders) for nrc, orders in entry["orders"].items()}
    return BuildResult(**entry)
