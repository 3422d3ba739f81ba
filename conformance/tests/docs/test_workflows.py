"""The workflow files fit the published schemas (check-jsonschema); ShellCheck reads the scripts in them."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml  # type: ignore[import-untyped]  # its stubs are a package of their own

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[3]
CI = sorted((ROOT / ".github/workflows").glob("*.yml"))
TEMPLATE = ROOT / "conformance/q8a8_conformance/commands/templates/q8a8.yml"


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ("vendor.github-actions", ROOT / "action.yml"),
        ("vendor.github-workflows", TEMPLATE),
        *(("vendor.github-workflows", path) for path in CI),
    ],
    ids=lambda value: value.name if isinstance(value, Path) else "",
)
def test_schema(schema: str, path: Path, need: Callable[[object, str], None]) -> None:
    """Each file is valid."""
    need(importlib.util.find_spec("check_jsonschema"), "no check-jsonschema")
    command = (sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(path))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def scripts() -> Iterator[tuple[str, str]]:
    """Yield every script, ours and those in workflow files, with its name."""
    for path in sorted((ROOT / ".ci").iterdir()):
        yield path.name, path.read_text(encoding="utf-8")
    for path in (ROOT / "action.yml", TEMPLATE, *CI):
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        jobs = [*document.get("jobs", {}).values(), document.get("runs", {})]
        for step in (step for job in jobs for step in job.get("steps", ())):
            if "run" in step:
                # GitHub replaces its expressions before the shell sees them.
                yield (
                    f"{path.name}: {step.get('name', step['run'])}",
                    re.sub(r"\$\{\{.*?\}\}", "x", step["run"]),
                )


def test_scripts(need: Callable[[object, str], None]) -> None:
    """ShellCheck finds nothing in them."""
    program = Path(sys.executable).with_name("shellcheck")
    found = str(program) if program.exists() else shutil.which("shellcheck")
    need(found, "no shellcheck")
    checked = 0
    for name, script in scripts():
        # SC2153: $OPTIONS is not a misspelt $options, both are there.
        command = (str(found), "--shell=bash", "--exclude=SC2153", "-")
        done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{name}\n{done.stdout}{done.stderr}"
        checked += 1
    assert checked > 10
