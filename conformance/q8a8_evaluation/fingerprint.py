"""Fingerprints of measurements: a hash of the code that each came from, so that a stale one shows.

A measured log-likelihood stays valid until code that it depends on changes. That is the module of the
scheme's operator and all modules of `q8a8` that it imports, and so on. Their syntax trees are hashed without
docstrings: a change of comments, texts or layout is no change.
"""

from __future__ import annotations

import ast
import copy
import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["fingerprint", "imported"]

_PACKAGE = "q8a8"


def fingerprint(modules: Iterable[str], alone: Iterable[str] = ()) -> str:
    """Hash modules and what they import from `q8a8`, in hex digits.

    Parameters
    ----------
    modules
        Their full names.
    alone
        More modules, without what they import.

    Raises
    ------
    ModuleNotFoundError
        There is no such module.
    """
    waiting, seen = sorted(set(modules)), set()
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting += imported(module)
    digest = hashlib.sha256()
    for module in sorted({*seen, *alone}):
        digest.update(f"{module}\0{_code(module)}\0".encode())
    return digest.hexdigest()


@cache
def imported(module: str) -> tuple[str, ...]:
    """Name the modules of `q8a8` that a module imports, those for type checking alone left out."""
    found: set[str] = set()
    for node in _runtime_nodes(_tree(module)):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                # `from q8a8.methods import fp8` imports a module, `from q8a8.methods.fp8 import encode` a
                # name. The package around a module is run as well, but only collects names.
                name = f"{node.module}.{alias.name}"
                if node.module.split(".")[0] == _PACKAGE:
                    found.add(name if _is_module(name) else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == _PACKAGE}
    return tuple(sorted(found))


def _runtime_nodes(tree: ast.AST) -> list[ast.AST]:
    """Return all nodes but those under ``if TYPE_CHECKING:``."""
    nodes: list[ast.AST] = []
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        nodes.append(node)
        waiting += ast.iter_child_nodes(node)
    return nodes


@cache
def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        # The parent is no package: the last word is a name in a module.
        return False


@cache
def _tree(module: str) -> ast.Module:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"there is no module {module}")
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))


@cache
def _code(module: str) -> str:
    """Return a module's syntax tree as text, without places and docstrings."""
    tree = copy.deepcopy(_tree(module))
    for node in ast.walk(tree):
        # A text that stands by itself does nothing: docstrings, and those under attributes.
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [line for line in body if not _is_text(line)]  # type: ignore[attr-defined] # it has one
    return ast.dump(tree)


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
