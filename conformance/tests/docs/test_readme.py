"""The README: its example runs, and its links lead to files of the project."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

import q8a8

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def fenced(language: str) -> list[str]:
    """Return the README's code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def test_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """The example runs: its assertion holds, and it prints a sum and a fraction of the bound."""
    (example,) = fenced("python")
    exec(compile(example, "README.md", "exec"), {})  # noqa: S102 -- running it is the test
    total, fraction = (float(line) for line in capsys.readouterr().out.split())
    assert math.isfinite(total)
    assert 0 <= fraction <= 1


@pytest.mark.parametrize("name", ["README.md", "README.ko.md"])
def test_links_lead_somewhere(name: str) -> None:
    """Every relative link of the README, English or Korean, names a file of the project."""
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / name).read_text(encoding="utf-8"))
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_public_names_are_exported() -> None:
    """The names in the example are public names of the package."""
    (example,) = fenced("python")
    assert set(re.findall(r"q8a8\.(\w+)", example)) <= set(q8a8.__all__)
