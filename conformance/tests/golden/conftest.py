"""Fixtures of the golden vectors' tests: the implementations, and a small set of vectors to change."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from q8a8_golden.generate import builders, store
from q8a8_golden.generate.cli import open_implementations
from q8a8_golden.generate.native import scalar_library
from q8a8_golden.load import DATA, MANIFEST, SCHEMA

if TYPE_CHECKING:
    from pathlib import Path

    from q8a8_golden.cases import Case
    from q8a8_golden.generate.agree import Implementations
    from q8a8_golden.generate.store import Killer

# One small topic of each kind of outcome.
SMALL = ("quantize/zero", "quantize/unspecified", "dot/v2")


@pytest.fixture(scope="session")
def implementations(need: Callable[[object, str], None]) -> Iterator[Implementations]:
    """Yield the oracle, the reference and the C scalar kernel."""
    library = scalar_library()
    need(library, "there is no C compiler to build the scalar kernel with")
    with open_implementations(library) as opened:
        yield opened


def silent_mutant(case: Case) -> tuple[str, ...]:
    """Return the kills of one mutant, which writes nothing: a fast killer."""
    return ("silent",) if case.outcome.kind != "unspecified" and any(case.written().values()) else ()


@pytest.fixture(scope="session")
def small_files(implementations: Implementations) -> dict[str, bytes]:
    """Return the files of three topics, with the kills of `silent_mutant`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "TOPICS", {topic: builders.TOPICS[topic] for topic in SMALL})
        return store.render(implementations, silent_mutant)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_files: dict[str, bytes]) -> Path:
    """Return a folder with the files of three topics and their manifest; other builders are disabled."""
    monkeypatch.setattr(store, "TOPICS", {topic: builders.TOPICS[topic] for topic in SMALL})
    shutil.copy(DATA / SCHEMA, tmp_path / SCHEMA)
    for name, data in small_files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    return tmp_path


@pytest.fixture
def killer() -> Killer:
    """Return the killer of the small files."""
    return silent_mutant


Edit = Callable[[str, Callable[[dict[str, Any]], object]], None]


@pytest.fixture
def edit(small: Path) -> Edit:
    """Return a function that changes the JSON of a small file, and its hash in the manifest."""

    def change(name: str, how: Callable[[dict[str, Any]], object]) -> None:
        document = json.loads((small / name).read_text())
        how(document)
        (small / name).write_text(json.dumps(document))
        manifest = json.loads((small / MANIFEST).read_text())
        manifest["files"][name]["sha256"] = hashlib.sha256((small / name).read_bytes()).hexdigest()
        (small / MANIFEST).write_text(json.dumps(manifest))

    return change
