"""What the tests of the golden vectors share: the three truths, and a small set of vectors to tamper with."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from q8a8_golden import builders, store
from q8a8_golden.cli import witnesses
from q8a8_golden.load import DATA, MANIFEST, SCHEMA
from q8a8_golden.native import scalar_library

if TYPE_CHECKING:
    from pathlib import Path

    from q8a8_golden.agree import Witnesses

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


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder with the shipped files of three topics and their manifest; other builders are off."""
    monkeypatch.setattr(store, "TOPICS", {topic: builders.TOPICS[topic] for topic in SMALL})
    shutil.copy(DATA / SCHEMA, tmp_path / SCHEMA)
    manifest = json.loads((DATA / MANIFEST).read_text())
    manifest["files"] = {name: manifest["files"][name] for name in sorted(f"{topic}.json" for topic in SMALL)}
    for name in manifest["files"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(DATA / name, tmp_path / name)
    kept = [json.loads((tmp_path / name).read_text())["cases"] for name in manifest["files"]]
    documents = [document for cases in kept for document in cases]
    for key in ("functions", "outcomes"):
        manifest[key] = {}
    for document in documents:
        kind = document["outcome"]["kind"]
        manifest["outcomes"][kind] = manifest["outcomes"].get(kind, 0) + len(document["functions"])
        for function in document["functions"]:
            manifest["functions"][function] = manifest["functions"].get(function, 0) + 1
    for key in ("functions", "outcomes"):
        manifest[key] = dict(sorted(manifest[key].items()))
    manifest["cases"] = sum(manifest["functions"].values())
    (tmp_path / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    return tmp_path


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
