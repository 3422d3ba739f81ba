"""Files of cases: settled drafts as text, the manifest, writing them and comparing them.

Of the builders' drafts only those become cases that earn their place (`q8a8_golden.generate.minimal`). That
takes knowing which wrong kernels each one kills, which a `Killer` tells; without one, a check takes the
choice and the kills from the files and checks all the rest.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from q8a8_golden.document import FORMAT, to_json
from q8a8_golden.generate.agree import settle
from q8a8_golden.generate.builders import TOPICS
from q8a8_golden.generate.minimal import claims_of, minimized
from q8a8_golden.load import DATA, MANIFEST, SCHEMA, CorruptVectorsError, load_cases, read_manifest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from q8a8_golden.cases import Case
    from q8a8_golden.generate.agree import Witnesses
    from q8a8_golden.generate.draft import Draft

__all__ = ["REGENERATE", "Killer", "compare", "generate", "render"]

REGENERATE = "q8a8 vectors generate"
"""The command that writes the files anew."""

Kills: TypeAlias = "dict[str, tuple[str, ...]]"
"""By function: the slugs of the wrong kernels that an entry shows through it."""


class Killer(Protocol):
    """Knows wrong kernels, and runs them: the catalogue is the suite's; this package imports none of it."""

    def __call__(self, case: Case) -> tuple[str, ...]:
        """Give the slugs, sorted, of those that one case alone shows."""


def render(witnesses: Witnesses, kills: Killer | Mapping[str, Kills]) -> dict[str, bytes]:
    """Give every file of cases, by its name under the data folder, and the manifest; nothing is written.

    Parameters
    ----------
    witnesses
        Who vouches for the outcomes.
    kills
        Who knows the kills; or the kills on record by entry, of which the files then consist.

    Raises
    ------
    DisagreementError
        The witnesses differ about a case.
    """
    settled = [
        (topic, draft, settle(draft, witnesses))
        for topic, draft in _drafts()
        if callable(kills) or draft.id in kills
    ]
    if callable(kills):
        killed = {draft.id: _killed(draft, case, kills) for _, draft, case in settled}
        kept = minimized(
            claims_of(case, killed[draft.id], len(_line(case, dict.fromkeys(draft.functions, ()))))
            for _, draft, case in settled
        )
    else:
        killed = {
            draft.id: {name: kills[draft.id].get(name, ()) for name in draft.functions}
            for _, draft, _ in settled
        }
        kept = frozenset(killed)
    files: dict[str, bytes] = {}
    entries: dict[str, Any] = {}
    functions: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    for topic in TOPICS:
        chosen = [(draft, case) for of, draft, case in settled if of == topic and draft.id in kept]
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
    """Give every draft of every builder with its topic."""
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
    """Give a file's text: one line a case, so that a change to a case is a change of a line."""
    head = json.dumps({"format": FORMAT, "topic": topic})[:-1]
    return (head + ', "cases": [\n' + ",\n".join(lines) + "\n]}\n").encode()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def generate(directory: Path, witnesses: Witnesses, killer: Killer) -> list[str]:
    """Write every file anew, each under a temporary name first, and remove those of no topic.

    Gives the names that changed. Nothing is written if any case's witnesses disagree, or one is missing.
    """
    if witnesses.kernel is None:
        raise ValueError("a golden vector is written only where the C kernel agrees, and there is none")
    files = render(witnesses, killer)
    changed = []
    for name, data in files.items():
        path = directory / name
        if path.is_file() and path.read_bytes() == data:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".{path.name}.{os.getpid()}")
        scratch.write_bytes(data)
        scratch.replace(path)
        changed.append(name)
    for name in sorted(_present(directory) - files.keys()):
        (directory / name).unlink()
        changed.append(name)
    return changed


def _present(directory: Path) -> set[str]:
    """Give the names of the case files that there are; the schema is written by hand and not one of them."""
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*.json")} - {SCHEMA}


def compare(directory: Path, witnesses: Witnesses, killer: Killer | None = None) -> list[str]:
    """Compare the files with the manifest and with what would be written; give what is wrong, a line each.

    Without a killer the kills on record, and the choice of cases, are taken as they are.

    Raises
    ------
    DisagreementError
        The witnesses differ about a case: regenerating is no cure.
    """
    problems = _unreadable(directory)
    fresh = render(witnesses, _recorded(directory) if killer is None else killer)
    present = _present(directory)
    problems += [f"{directory / name}: no builder makes this file" for name in sorted(present - fresh.keys())]
    problems += [f"{directory / name}: missing" for name in sorted(fresh.keys() - present)]
    for name in sorted(fresh.keys() & present):
        found = (directory / name).read_bytes()
        if found != fresh[name]:
            problems.append(f"{directory / name}: {_first_difference(found, fresh[name])}")
    return problems


def _unreadable(directory: Path) -> list[str]:
    """Read the files as any user does; give what keeps that from working."""
    try:
        schema = _digest((directory / SCHEMA).read_bytes())
        if read_manifest(directory).get("schema") != schema:
            return [f"{directory / SCHEMA}: SHA-256 {schema} is not what the manifest has"]
        load_cases(directory)
    except CorruptVectorsError as error:
        return [str(error)]
    except OSError as error:
        return [f"{error.filename}: {error.strerror}"]
    return []


def _recorded(directory: Path) -> dict[str, Kills]:
    """Give the kills on record by entry; what cannot be read is left out, and differs from what is made."""
    found: dict[str, Kills] = {}
    for topic in TOPICS:
        try:
            for entry in json.loads((directory / f"{topic}.json").read_bytes())["cases"]:
                found[entry["id"]] = {name: tuple(slugs) for name, slugs in entry["kills"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
    return found


def _first_difference(found: bytes, fresh: bytes) -> str:
    """Name the first line, and where it is a case's its id, that is not what would be written."""
    old, new = found.split(b"\n"), fresh.split(b"\n")
    number = next((i for i, pair in enumerate(zip(old, new, strict=False)) if pair[0] != pair[1]), len(new))
    line = new[number] if number < len(new) else b""
    identity = line.split(b'"', 4)[3].decode() if line.startswith(b'{"id":"') else ""
    return f"line {number + 1} is not what the builders make{identity and f' for case {identity}'}"
