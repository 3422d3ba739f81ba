"""The published schemas of our JSON reports, and a reader that holds a document to them.

``schemas/report.json`` describes what ``q8a8 test --json`` writes, ``schemas/smoke.json`` and
``schemas/comparison.json`` what ``q8a8 smoke`` and ``q8a8 compare`` write; ``schemas/perplexity.json``,
``schemas/bench-model.json`` and ``schemas/run-comparison.json`` are for measurements of a model. They are
JSON Schema (draft 2020-12), so any validator can be used. Ours is here because ``q8a8 compare`` reads reports
that were written elsewhere, perhaps cut short or edited, without asking for a library more; it knows the few
words that our schemas use, and refuses a schema with any other. The tests hold it against a real validator.
"""

from __future__ import annotations

import json
import math
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SCHEMAS = Path(__file__).parent / "schemas"
"""The folder of the schemas; they ship with the package."""

KINDS = ("report", "smoke", "comparison", "perplexity", "bench-model", "run-comparison")

MAX_FILE = 1 << 28
"""Bytes of a report that are read at most: a failing kernel's report has a few megabytes."""


class ReportError(ValueError):
    """A JSON report that cannot be used; the message names the file, the place in it and what is wrong."""


@cache
def load_schema(kind: str) -> dict[str, Any]:
    """Give one of the schemas in :data:`KINDS` as JSON data."""
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
        The file cannot be read, is no JSON, or does not fit the schema.
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
        document = json.loads(data.decode("utf-8"), parse_constant=_no_constant)
        # An escaped half of a surrogate pair is legal JSON, and no text that could be printed.
        json.dumps(document, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise ReportError(f"{name}: not JSON: {error}") from None
    wrong = complaint(document, kind)
    if wrong:
        raise ReportError(f"{name}: no {kind} of q8a8: {wrong}")
    checked: dict[str, Any] = document
    return checked


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is no JSON number")


def complaint(document: object, kind: str) -> str:
    """Say where and how a document misses a schema: ``$.rules[3].status: …``; nothing where it fits."""
    schema = load_schema(kind)
    return _complaint(document, schema, "$", schema)


def _complaint(value: object, schema: Mapping[str, Any], place: str, root: Mapping[str, Any]) -> str:
    """Give the first complaint about a value, depth first."""
    for word, wanted in schema.items():
        if word in _SILENT:
            continue
        if word not in _WORDS:
            raise NotImplementedError(f"our schemas do not use the word {word!r}")
        wrong = _WORDS[word](value, wanted, place, root)
        if wrong:
            return wrong
    return ""


_SILENT = {"$schema", "$id", "$defs", "title", "description"}
"""Words that say nothing about a value."""

_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


def _is(value: object, name: str) -> bool:
    # In JSON true and false are no numbers, in Python they are; 1e999 is read as an infinity.
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return isinstance(value, _TYPES[name]) and (name == "boolean" or not isinstance(value, bool))


def _type(value: object, wanted: str | list[str], place: str, _root: Mapping[str, Any]) -> str:
    names = [wanted] if isinstance(wanted, str) else wanted
    if any(_is(value, name) for name in names):
        return ""
    return f"{place}: {_short(value)} is no {' or '.join(names)}"


def _enum(value: object, wanted: list[object], place: str, _root: Mapping[str, Any]) -> str:
    if any(value == one and type(value) is type(one) for one in wanted):
        return ""
    return f"{place}: {_short(value)} is none of {', '.join(map(str, wanted))}"


def _const(value: object, wanted: object, place: str, root: Mapping[str, Any]) -> str:
    return _enum(value, [wanted], place, root)


def _minimum(value: object, wanted: float, place: str, _root: Mapping[str, Any]) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool) and value < wanted:
        return f"{place}: {_short(value)} is less than {wanted}"
    return ""


def _pattern(value: object, wanted: str, place: str, _root: Mapping[str, Any]) -> str:
    if isinstance(value, str) and not re.search(wanted, value):
        return f"{place}: {_short(value)} does not look like {wanted}"
    return ""


def _required(value: object, wanted: list[str], place: str, _root: Mapping[str, Any]) -> str:
    missing = [name for name in wanted if isinstance(value, dict) and name not in value]
    return f"{place}: no {missing[0]!r}" if missing else ""


def _ref(value: object, wanted: str, place: str, root: Mapping[str, Any]) -> str:
    return _complaint(value, root["$defs"][wanted.removeprefix("#/$defs/")], place, root)


def _any_of(value: object, wanted: list[Mapping[str, Any]], place: str, root: Mapping[str, Any]) -> str:
    wrongs = [_complaint(value, schema, place, root) for schema in wanted]
    return "" if "" in wrongs else max(wrongs, key=len)


def _properties(value: object, wanted: Mapping[str, Any], place: str, root: Mapping[str, Any]) -> str:
    if isinstance(value, dict):
        for name, schema in wanted.items():
            if name in value:
                wrong = _complaint(value[name], schema, f"{place}.{name}", root)
                if wrong:
                    return wrong
    return ""


def _others(value: object, wanted: Mapping[str, Any], place: str, root: Mapping[str, Any]) -> str:
    """Hold every member to one schema: our objects with free names have no ``properties`` beside."""
    if isinstance(value, dict):
        for name, member in value.items():
            wrong = _complaint(member, wanted, f"{place}[{_short(name)}]", root)
            if wrong:
                return wrong
    return ""


def _items(value: object, wanted: Mapping[str, Any], place: str, root: Mapping[str, Any]) -> str:
    if isinstance(value, list):
        for number, item in enumerate(value):
            wrong = _complaint(item, wanted, f"{place}[{number}]", root)
            if wrong:
                return wrong
    return ""


_WORDS: Mapping[str, Callable[[Any, Any, str, Mapping[str, Any]], str]] = {
    "type": _type,
    "enum": _enum,
    "const": _const,
    "minimum": _minimum,
    "pattern": _pattern,
    "required": _required,
    "properties": _properties,
    "additionalProperties": _others,
    "items": _items,
    "anyOf": _any_of,
    "$ref": _ref,
}


def _short(value: object) -> str:
    """Give a value for a message: as JSON, and no longer than a line takes."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "an array"
    words = json.dumps(value, ensure_ascii=True)
    return words if len(words) <= 60 else f"{words[:57]}…"
