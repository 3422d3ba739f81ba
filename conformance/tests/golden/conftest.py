"""What the tests of the golden vectors share: the three truths, and a small set of vectors to tamper with."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from q8a8_golden.generate import builders, store
from q8a8_golden.generate.cli import witnesses
from q8a8_golden.generate.native import scalar_library
from q8a8_golden.load import DATA, MANIFEST, SCHEMA

if TYPE_CHECKING:
    from pathlib import Path

    from q8a8_golden.cases import Case
    from q8a8_golden.generate.agree import Witnesses
    from q8a8_golden.generate.store import Killer

# One small topic of each kind of outcome.
SMALL = ("quantize/zero", "quantize/unspecified", "dot/v2")


@pytest.fixture(scope="session")
def truths() -> Iterator[Witnesses]:
    """Give the oracle, the reference and the C scalar kernel."""
    library = scalar_library()
    if library is None:
        pytest.skip("there is no C compiler to build the scalar kernel with")
    with witnesses(library) as three:
        yield three


def no_kills(case: Case) -> tuple[str, ...]:
    """Know one wrong kernel, which writes nothing: a killer that is fast."""
    return ("silent",) if case.outcome.kind != "unspecified" and any(case.written().values()) else ()


@pytest.fixture(scope="session")
def small_files(truths: Witnesses) -> dict[str, bytes]:
    """Give the files of three topics, with the kills of `no_kills`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "TOPICS", {topic: builders.TOPICS[topic] for topic in SMALL})
        return store.render(truths, no_kills)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_files: dict[str, bytes]) -> Path:
    """Give a folder with files of three topics and their manifest; other builders and mutants are off."""
    monkeypatch.setattr(store, "TOPICS", {topic: builders.TOPICS[topic] for topic in SMALL})
    shutil.copy(DATA / SCHEMA, tmp_path / SCHEMA)
    for name, data in small_files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    return tmp_path


@pytest.fixture
def killer() -> Killer:
    """Give the killer of the small files."""
    return no_kills


Edit = Callable[[str, Callable[[dict[str, Any]], object]], None]


@pytest.fixture
def edit(small: Path) -> Edit:
    """Change a file of the small set through its JSON, and the manifest's hash with it."""

    def change(name: str, how: Callable[[dict[str, Any]], object]) -> None:
        document = json.loads((small / name).read_text())
        how(document)
        (small / name).write_text(json.dumps(document))
        manifest = json.loads((small / MANIFEST).read_text())
        manifest["files"][name]["sha256"] = hashlib.sha256((small / name).read_bytes()).hexdigest()
        (small / MANIFEST).write_text(json.dumps(manifest))

    return change
