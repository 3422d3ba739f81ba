"""Check the files of cases against ``schema.json`` (JSON Schema 2020-12), where jsonschema is installed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from q8a8.install import how_to_install
from q8a8_golden.load import MANIFEST, SCHEMA

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SchemaUnavailableError", "violations"]


class SchemaUnavailableError(ImportError):
    """The package jsonschema is not installed (extra ``vectors``)."""


def violations(directory: Path) -> list[str]:
    """Return how each file violates the schema, one line a finding, with file, place and case.

    Raises
    ------
    SchemaUnavailableError
        jsonschema is not installed.
    """
    try:
        from jsonschema import Draft202012Validator  # noqa: PLC0415 - an extra, not a dependency
    except ImportError as error:
        raise SchemaUnavailableError(f"jsonschema is not installed: {how_to_install('vectors')}") from error
    schema = json.loads((directory / SCHEMA).read_bytes())
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    found = []
    for path in sorted(directory.rglob("*.json")):
        if path.name in {SCHEMA, MANIFEST}:
            continue
        document = json.loads(path.read_bytes())
        for finding in validator.iter_errors(document):
            place = list(finding.absolute_path)
            case = (
                document["cases"][place[1]].get("id") if place[:1] == ["cases"] and len(place) > 1 else None
            )
            where = f"case {case}: " if case else ""
            found.append(f"{path}: {where}{finding.json_path}: {finding.message[:200]}")
    return found
