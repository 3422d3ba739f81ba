"""The README's example runs, and its links and commands exist."""

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


def test_example_is_short() -> None:
    """The example has at most ten statements."""
    (example,) = fenced("python")
    statements = [line for line in example.splitlines() if line and not line.startswith("import")]
    assert len(statements) <= 10


def test_links_exist() -> None:
    """Every relative link of the README names an existing file."""
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


@pytest.mark.parametrize("target", ["demo", "test"])
def test_make_targets(target: str) -> None:
    """`make demo` and `make test` are targets of the Makefile."""
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_public_names_are_exported() -> None:
    """The names in the example are public names of the package."""
    (example,) = fenced("python")
    assert set(re.findall(r"q8a8\.(\w+)", example)) <= set(q8a8.__all__)
