"""The files of cases and the manifest: rendering, writing and comparing them.

Only a minimal subset of the builders' drafts is kept (`q8a8_golden.generate.minimal`). It depends on the
mutants that each case kills, which a `Killer` finds; without one, a check takes the subset and the kills from
the files and checks all the rest.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from q8a8.atomic import write_bytes
from q8a8_golden.document import FORMAT, to_json
from q8a8_golden.generate.agree import agreed_case
from q8a8_golden.generate.builders import TOPICS
from q8a8_golden.generate.minimal import entry_of, minimal_subset
from q8a8_golden.load import DATA, MANIFEST, SCHEMA, CorruptVectorsError, load_cases, read_manifest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from q8a8_golden.cases import Case
    from q8a8_golden.generate.agree import Implementations
    from q8a8_golden.generate.draft import Draft

__all__ = ["REGENERATE", "Killer", "compare", "generate", "render"]

REGENERATE = "q8a8 vectors generate"
"""The command that regenerates the files."""

Kills: TypeAlias = "dict[str, tuple[str, ...]]"
"""By function: the slugs of the mutants that an entry kills."""


class Killer(Protocol):
    """Runs mutants on a case. Their catalogue is in the suite, which this package does not import."""

    def __call__(self, case: Case) -> tuple[str, ...]:
        """Return the sorted slugs of the mutants that one case alone kills."""


def render(implementations: Implementations, kills: Killer | Mapping[str, Kills]) -> dict[str, bytes]:
    """Return the contents of every file of cases and of the manifest, by name; nothing is written.

    Parameters
    ----------
    implementations
        The implementations that must agree on the outcomes.
    kills
        Finds the kills; or the kills on record by entry, which also determine the entries.

    Raises
    ------
    DisagreementError
        The implementations disagree on a case.
    """
    agreed = [
        (topic, draft, agreed_case(draft, implementations))
        for topic, draft in _drafts()
        if callable(kills) or draft.id in kills
    ]
    if callable(kills):
        killed = {draft.id: _killed(draft, case, kills) for _, draft, case in agreed}
        kept = minimal_subset(
            entry_of(case, killed[draft.id], len(_line(case, dict.fromkeys(draft.functions, ()))))
            for _, draft, case in agreed
        )
    else:
        killed = {
            draft.id: {name: kills[draft.id].get(name, ()) for name in draft.functions}
            for _, draft, _ in agreed
        }
        kept = frozenset(killed)
    files: dict[str, bytes] = {}
    entries: dict[str, Any] = {}
    functions: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    for topic in TOPICS:
        chosen = [(draft, case) for of, draft, case in agreed if of == topic and draft.id in kept]
        for draft, _ in chosen:
            functions.update(draft.functions)
            kinds[draft.kind] += len(draft.functions)
        data = _file(topic, [_line(case, killed[draft.id]) for draft, case in chosen])
        files[f"{topic}.json"] = data
        cases = sum(len(draft.functions) for draft, _ in chosen)
        entries[f"{topic}.json"] = {"sha256": _digest(data), "bytes": len(data), "cases": cases}
    manifest = {
        "format": FORMAT,
        "schema": _digest((DATA / SCHEMA).read_bytes()),
        "cases": sum(functions.values()),
        "functions": dict(sorted(functions.items())),
        "outcomes": dict(sorted(kinds.items())),
        "files": dict(sorted(entries.items())),
    }
    files[MANIFEST] = (json.dumps(manifest, indent=2) + "\n").encode()
    return files


def _drafts() -> list[tuple[str, Draft]]:
    """Return all drafts of all builders, each with its topic."""
    made = [(topic, draft) for topic, drafts in TOPICS.items() for draft in drafts()]
    for topic, draft in made:
        if not draft.id.startswith(f"{topic}/"):
            raise ValueError(f"{draft.id} is not of the topic {topic}")
    return made


def _killed(draft: Draft, case: Case, killer: Killer) -> Kills:
    return {name: killer(replace(case, function=name)) for name in draft.functions}


def _line(case: Case, kills: Kills) -> str:
    return json.dumps(to_json(case, kills), separators=(",", ":"), ensure_ascii=False)


def _file(topic: str, lines: list[str]) -> bytes:
    """Return a file's text, with one line a case so that diffs are by case."""
    head = json.dumps({"format": FORMAT, "topic": topic})[:-1]
    return (head + ', "cases": [\n' + ",\n".join(lines) + "\n]}\n").encode()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def generate(directory: Path, implementations: Implementations, killer: Killer) -> list[str]:
    """Write every file, each under a temporary name first, and remove stray ones; return the changed names.

    Nothing is written if the implementations disagree on a case, or one is missing.
    """
    if implementations.kernel is None:
        raise ValueError("a golden vector is written only if the C kernel agrees, and there is none")
    files = render(implementations, killer)
    changed = []
    for name, data in files.items():
        path = directory / name
        if path.is_file() and path.read_bytes() == data:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(data, path)
        changed.append(name)
    for name in sorted(_present(directory) - files.keys()):
        (directory / name).unlink()
        changed.append(name)
    return changed


def _present(directory: Path) -> set[str]:
    """Return the names of the existing case files and the manifest; the schema is written by hand."""
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*.json")} - {SCHEMA}


def compare(directory: Path, implementations: Implementations, killer: Killer | None = None) -> list[str]:
    """Compare the files with the manifest and with what would be written; return the problems, one a line.

    Without a killer, the kills on record and the subset of cases are not checked.

    Raises
    ------
    DisagreementError
        The implementations disagree on a case, which regenerating cannot fix.
    """
    problems = _unreadable(directory)
    fresh = render(implementations, _recorded(directory) if killer is None else killer)
    present = _present(directory)
    problems += [f"{directory / name}: no builder makes this file" for name in sorted(present - fresh.keys())]
    problems += [f"{directory / name}: missing" for name in sorted(fresh.keys() - present)]
    for name in sorted(fresh.keys() & present):
        found = (directory / name).read_bytes()
        if found != fresh[name]:
            problems.append(f"{directory / name}: {_first_difference(found, fresh[name])}")
    return problems


def _unreadable(directory: Path) -> list[str]:
    """Load the files as a user does, and return the problems."""
    try:
        schema = _digest((directory / SCHEMA).read_bytes())
        if read_manifest(directory).get("schema") != schema:
            return [f"{directory / SCHEMA}: SHA-256 {schema} differs from the manifest"]
        load_cases(directory)
    except CorruptVectorsError as error:
        return [str(error)]
    except OSError as error:
        return [f"{error.filename}: {error.strerror}"]
    return []


def _recorded(directory: Path) -> dict[str, Kills]:
    """Return the kills on record by entry; unreadable files are left out, and found when compared."""
    found: dict[str, Kills] = {}
    for topic in TOPICS:
        try:
            for entry in json.loads((directory / f"{topic}.json").read_bytes())["cases"]:
                found[entry["id"]] = {name: tuple(slugs) for name, slugs in entry["kills"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
    return found


def _first_difference(found: bytes, fresh: bytes) -> str:
    """Describe the first line that differs from what would be written, with its case's id."""
    old, new = found.split(b"\n"), fresh.split(b"\n")
    number = next((i for i, pair in enumerate(zip(old, new, strict=False)) if pair[0] != pair[1]), len(new))
    line = new[number] if number < len(new) else b""
    identity = line.split(b'"', 4)[3].decode() if line.startswith(b'{"id":"') else ""
    return f"line {number + 1} differs from what the builders make{identity and f' for case {identity}'}"
