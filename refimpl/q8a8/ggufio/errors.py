"""Errors about GGUF files, which name the file and the key or tensor."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from q8a8.errors import Q8A8Error
from q8a8.install import how_to_install

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

__all__ = ["GgufError", "MissingExtraError", "import_gguf", "shown"]


class GgufError(Q8A8Error, ValueError):
    """A GGUF file that cannot be used, or cannot be used so; the message starts with its name."""

    def __init__(self, path: Path, what: object) -> None:
        super().__init__(f"{path}: {what}")


class MissingExtraError(Q8A8Error, ImportError):
    """A package of the extra `model` is not installed."""


def shown(name: str) -> str:
    """Quote a name from a file for a message: nothing in it reaches a terminal raw, or goes on forever."""
    return repr(name if len(name) <= 80 else f"{name[:77]}...")


def import_gguf(why: str, module: str = "gguf.quants") -> ModuleType:
    """Import the package `gguf` now that it is needed.

    Parameters
    ----------
    why
        The purpose that it is needed for.
    module
        The module of it that is wanted.

    Raises
    ------
    MissingExtraError
        saying how to install it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(f"{why} needs the package gguf: {how_to_install('model')}") from error
