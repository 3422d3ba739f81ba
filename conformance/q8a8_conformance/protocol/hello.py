"""Encode and decode the worker's hello as JSON, strictly checked.

Its keys are described in `q8a8_conformance.protocol.messages`.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from q8a8_conformance.protocol.codec import body_of
from q8a8_conformance.protocol.messages import (
    PROTOCOL_VERSION,
    BytesLike,
    Hello,
    Kernel,
    LoadChange,
    ProtocolError,
)
from q8a8_conformance.spec.abi import NAMES

if TYPE_CHECKING:
    from collections.abc import Mapping

_KNOWN = (
    "name",
    "version",
    "functions",
    "capabilities",
    "cpu",
    "compiler",
    "flags",
    "emulated",
    "kernel",
    "loading",
)


def hello_document(hello: Hello) -> dict[str, Any]:
    """Return a hello as JSON data."""
    return {
        **hello.extra,
        "protocol": PROTOCOL_VERSION,
        "name": hello.name,
        "version": hello.version,
        "functions": list(hello.functions),
        "capabilities": list(hello.capabilities),
        "cpu": {"arch": hello.arch, "features": list(hello.features)},
        "compiler": hello.compiler,
        "flags": hello.flags,
        "emulated": hello.emulated,
        "kernel": {"path": hello.kernel.path, "sha256": hello.kernel.sha256} if hello.kernel else None,
        "loading": None if hello.loading is None else [asdict(change) for change in hello.loading],
    }


def encode_hello(hello: Hello) -> bytes:
    """Return the payload of a hello."""
    return b"H" + json.dumps(hello_document(hello)).encode()


def _typed(body: Mapping[str, Any], key: str, kind: type | tuple[type, ...], default: object) -> Any:  # noqa: ANN401 -- JSON
    """Return ``body[key]`` if it has the right type; the default if it is missing or null."""
    value = body.get(key)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise ProtocolError(f"hello: {key!r} is {value!r:.80}")
    return value


def _names(body: Mapping[str, Any], key: str) -> tuple[str, ...]:
    values = _typed(body, key, list, [])
    if not all(isinstance(value, str) for value in values):
        raise ProtocolError(f"hello: {key!r} has an item that is not a string")
    return tuple(values)


def _changes(body: Mapping[str, Any]) -> tuple[LoadChange, ...] | None:
    items = _typed(body, "loading", list, None)
    if items is None:
        return None
    if not all(isinstance(item, dict) for item in items):
        raise ProtocolError("hello: 'loading' has an item that is not an object")
    return tuple(
        LoadChange(*(_typed(item, key, str, "") for key in ("when", "what", "detail"))) for item in items
    )


def decode_hello(payload: BytesLike) -> Hello:
    """Decode a hello.

    Raises
    ------
    ProtocolError
        The payload is not a JSON object, has another protocol version, or a key has the wrong type. A
        function that is not in the ABI is an error too: a misspelled name would otherwise be ignored.
    """
    reader = body_of(payload, "H")
    try:
        body = json.loads(bytes(reader.view[1:]).decode())
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"hello is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise ProtocolError("hello is not a JSON object")
    version = body.pop("protocol", None)
    if version != PROTOCOL_VERSION or isinstance(version, bool):
        raise ProtocolError(f"hello: protocol {version!r:.80}, this runner supports {PROTOCOL_VERSION}")
    if not isinstance(body.get("name"), str) or not isinstance(body.get("functions"), list):
        raise ProtocolError("hello: 'name' (a string) and 'functions' (a list) are required")
    functions = _names(body, "functions")
    for name in functions:
        if name not in NAMES:
            raise ProtocolError(f"hello: unknown function {name!r:.80}; the ABI has {', '.join(NAMES)}")
    cpu = _typed(body, "cpu", dict, {})
    kernel = _typed(body, "kernel", dict, None)
    return Hello(
        name=body["name"],
        version=_typed(body, "version", str, ""),
        functions=tuple(name for name in NAMES if name in functions),
        capabilities=_names(body, "capabilities"),
        arch=_typed(cpu, "arch", str, ""),
        features=_names(cpu, "features"),
        compiler=_typed(body, "compiler", str, None),
        flags=_typed(body, "flags", str, None),
        emulated=_typed(body, "emulated", bool, None),
        kernel=Kernel(_typed(kernel, "path", str, ""), _typed(kernel, "sha256", str, "")) if kernel else None,
        loading=_changes(body),
        extra={key: value for key, value in body.items() if key not in _KNOWN},
    )
