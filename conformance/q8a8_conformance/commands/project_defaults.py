"""The kernel of a project: ``[tool.q8a8]`` of the working directory's ``pyproject.toml``.

It is used where a command is given no SUT: the options belong to that kernel, and a report of another one
must not depend on the folder it was made in. Options on the command line win.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from q8a8_conformance.results.run import PROFILES
from q8a8_conformance.spec.suggest import did_you_mean

__all__ = ["ProjectDefaultsError", "read_defaults"]

FILE = Path("pyproject.toml")
KEYS = {"sut": str, "symbols": dict, "init": str, "profile": str, "known-failures": str}
"""The keys of the table, and the types of their values; `symbols`: exported names by ABI function."""


class ProjectDefaultsError(ValueError):
    """The table cannot be used; the text names the key."""


def _read_table() -> dict[str, Any]:
    """Return the table of the file, whatever is in it; empty where there is none."""
    try:
        tools = tomllib.loads(FILE.read_text(encoding="utf-8")).get("tool", {})
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ProjectDefaultsError(f"{FILE}: {error}") from None
    table = tools.get("q8a8", {}) if isinstance(tools, dict) else tools
    if not isinstance(table, dict):
        raise ProjectDefaultsError(f"{FILE}: [tool.q8a8]: expected a table, got {table!r}")
    return table


def read_defaults() -> dict[str, Any]:
    """Return the values of options by name; empty where there is no table.

    Raises
    ------
    ProjectDefaultsError
        The file is no TOML, a key is unknown, or a value is of another type.
    """
    table = _read_table()
    for key, value in table.items():
        where = f"{FILE}: [tool.q8a8] {key}"
        if key not in KEYS:
            raise ProjectDefaultsError(f"{where}: there is no such key{did_you_mean(key, KEYS)}")
        if not isinstance(value, KEYS[key]):
            expected = "a table" if KEYS[key] is dict else "a string"
            raise ProjectDefaultsError(f"{where}: expected {expected}, got {value!r}")
    for name, exported in table.get("symbols", {}).items():
        if not isinstance(exported, str):
            raise ProjectDefaultsError(
                f"{FILE}: [tool.q8a8] symbols: {name}: expected a string, got {exported!r}"
            )
    profile = table.get("profile", "kernel")
    if profile not in PROFILES:
        choices = ", ".join(PROFILES)
        raise ProjectDefaultsError(f"{FILE}: [tool.q8a8] profile: {profile!r} is none of {choices}")
    values = {key.replace("-", "_"): value for key, value in table.items() if key != "symbols"}
    if "symbols" in table:
        values["symbol"] = [f"{name}={exported}" for name, exported in table["symbols"].items()]
    return values
