"""Files of cases: settled drafts as text, the manifest, writing them and comparing them."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from typing import TYPE_CHECKING, Any

from q8a8_golden.agree import settle
from q8a8_golden.builders import TOPICS
from q8a8_golden.document import FORMAT, to_json
from q8a8_golden.load import DATA, MANIFEST, SCHEMA, CorruptVectorsError, load_cases, read_manifest

if TYPE_CHECKING:
    from pathlib import Path

    from q8a8_golden.agree import Witnesses

__all__ = ["REGENERATE", "compare", "generate", "render"]

REGENERATE = "q8a8 vectors generate"
"""The command that writes the files anew."""


def render(witnesses: Witnesses) -> dict[str, bytes]:
    """Give every file of cases, by its name under the data folder, and the manifest; nothing is written.

    Raises
    ------
    DisagreementError
        The witnesses differ about a case.
    """
    files: dict[str, bytes] = {}
    entries: dict[str, Any] = {}
    functions: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    for topic, drafts in TOPICS.items():
        documents = []
        for draft in drafts():
            if not draft.id.startswith(f"{topic}/"):
                raise ValueError(f"{draft.id} is not of the topic {topic}")
            documents.append(to_json(settle(draft, witnesses), draft.functions))
            functions.update(draft.functions)
            kinds[draft.kind] += len(draft.functions)
        data = _file(topic, documents)
        files[f"{topic}.json"] = data
        cases = sum(len(document["functions"]) for document in documents)
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


def _file(topic: str, documents: list[dict[str, Any]]) -> bytes:
    """Give a file's text: one line a case, so that a change to a case is a change of a line."""
    lines = [json.dumps(document, separators=(",", ":"), ensure_ascii=False) for document in documents]
    head = json.dumps({"format": FORMAT, "topic": topic})[:-1]
    return (head + ', "cases": [\n' + ",\n".join(lines) + "\n]}\n").encode()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def generate(directory: Path, witnesses: Witnesses) -> list[str]:
    """Write every file anew, each under a temporary name first, and remove those of no topic.

    Gives the names that changed. Nothing is written if any case's witnesses disagree, or one is missing.
    """
    if witnesses.kernel is None:
        raise ValueError("a golden vector is written only where the C kernel agrees, and there is none")
    files = render(witnesses)
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


def compare(directory: Path, witnesses: Witnesses) -> list[str]:
    """Compare the files with the manifest and with what would be written; give what is wrong, a line each.

    Raises
    ------
    DisagreementError
        The witnesses differ about a case: regenerating is no cure.
    """
    problems = _unreadable(directory)
    fresh = render(witnesses)
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


def _first_difference(found: bytes, fresh: bytes) -> str:
    """Name the first line, and where it is a case's its id, that is not what would be written."""
    old, new = found.split(b"\n"), fresh.split(b"\n")
    number = next((i for i, pair in enumerate(zip(old, new, strict=False)) if pair[0] != pair[1]), len(new))
    line = new[number] if number < len(new) else b""
    identity = line.split(b'"', 4)[3].decode() if line.startswith(b'{"id":"') else ""
    return f"line {number + 1} is not what the builders make{identity and f' for case {identity}'}"
