"""The published schemas of our JSON reports, and a reader that checks a document against them.

``schemas/report.json`` describes what ``q8a8 test --json`` writes, ``schemas/smoke.json`` and
``schemas/comparison.json`` what ``q8a8 smoke`` and ``q8a8 compare`` write; ``schemas/perplexity.json``,
``schemas/bench-model.json``, ``schemas/run-comparison.json`` and ``schemas/compare-model.json`` are for
measurements of a model. They are JSON Schema (draft 2020-12). ``q8a8 compare`` reads reports that were
written elsewhere, perhaps cut short or edited: it checks them with the package jsonschema, which the extra
``suite`` brings.
"""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

from q8a8.install import how_to_install

SCHEMAS = Path(__file__).parent / "schemas"
"""The folder of the schemas; they ship with the package."""

KINDS = ("report", "smoke", "comparison", "perplexity", "bench-model", "run-comparison", "compare-model")

MAX_FILE = 1 << 28
"""Bytes of a report that are read at most: a failing kernel's report has a few megabytes."""

_MESSAGE = 160
"""Characters of a validator's message that are shown: it quotes the value that it is about, however long."""


class ReportError(ValueError):
    """A JSON report that cannot be used; the message names the file, the place in it and what is wrong."""


@cache
def load_schema(kind: str) -> dict[str, Any]:
    """Return one of the schemas in :data:`KINDS` as JSON data."""
    schema: dict[str, Any] = json.loads((SCHEMAS / f"{kind}.json").read_text(encoding="utf-8"))
    return schema


def read(path: Path, kind: str = "report") -> dict[str, Any]:
    """Read a report from a file.

    Parameters
    ----------
    path
        The file, UTF-8.
    kind
        What it must be, one of :data:`KINDS`.

    Raises
    ------
    ReportError
        The file cannot be read, is no JSON, or does not fit the schema; or jsonschema is not installed.
    """
    try:
        if path.stat().st_size > MAX_FILE:
            raise ReportError(f"{path}: larger than {MAX_FILE >> 20} MiB")
        data = path.read_bytes()
    except OSError as error:
        raise ReportError(f"{path}: {error.strerror}") from None
    return parse(data, str(path), kind)


def parse(data: bytes, name: str, kind: str = "report") -> dict[str, Any]:
    """Read a report from bytes; `name` is what an error calls it. As :func:`read`."""
    try:
        document: dict[str, Any] = json.loads(data.decode("utf-8"), parse_constant=_no_constant)
        # An escaped half of a surrogate pair is legal JSON, and no text that could be printed.
        json.dumps(document, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise ReportError(f"{name}: not JSON: {error}") from None
    wrong = violation(document, kind)
    if wrong:
        raise ReportError(f"{name}: no {kind} of q8a8: {wrong}")
    return document


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is no JSON number")


def violation(document: object, kind: str) -> str:
    """Return where and how a document violates a schema, ``$.rules[3].status: …``; empty where it fits.

    Raises
    ------
    ReportError
        jsonschema is not installed.
    """
    try:
        from jsonschema.exceptions import best_match  # noqa: PLC0415 (an extra, not a dependency)
    except ImportError:
        raise ReportError(
            f"reading reports needs the package jsonschema: {how_to_install('suite')}"
        ) from None
    try:
        error = best_match(_validator(kind).iter_errors(document))
    except RecursionError:
        return "$: nested too deeply"
    if error is None:
        return ""
    message = error.message
    if len(message) > _MESSAGE:
        message = f"{message[: _MESSAGE // 2]}…{message[-_MESSAGE // 2 :]}"
    return f"{error.json_path}: {message}"


@cache
def _validator(kind: str) -> Any:  # noqa: ANN401 (jsonschema has no types)
    """Return a validator that is stricter about numbers than JSON Schema.

    A literal such as 1e999 is legal JSON and read as an infinity; 1.0 is an integer to JSON Schema, and a
    float to Python.
    """
    from jsonschema import Draft202012Validator  # noqa: PLC0415 (as above)
    from jsonschema.validators import extend  # noqa: PLC0415 (as above)

    checker = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    checker = checker.redefine(
        "number",
        lambda _, value: type(value) is int or (type(value) is float and math.isfinite(value)),
    )
    return extend(Draft202012Validator, type_checker=checker)(load_schema(kind))
