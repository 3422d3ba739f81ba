"""The workflow files: they fit the published schemas, which check-jsonschema brings."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[3]
TEMPLATE = ROOT / "conformance/q8a8_conformance/commands/templates/q8a8.yml"


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ("vendor.github-actions", ROOT / "action.yml"),
        ("vendor.github-workflows", TEMPLATE),
        *(("vendor.github-workflows", path) for path in (ROOT / ".github/workflows").glob("*.yml")),
    ],
    ids=lambda value: value.name if isinstance(value, Path) else "",
)
def test_schema(schema: str, path: Path, need: Callable[[object, str], None]) -> None:
    """Each file is valid."""
    need(importlib.util.find_spec("check_jsonschema"), "no check-jsonschema")
    command = (sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(path))
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (our own)
    assert done.returncode == 0, done.stdout + done.stderr
