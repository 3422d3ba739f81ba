"""Errors about models, and the check that a package of the extra `model` is installed."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from q8a8.errors import Q8A8Error
from q8a8.install import how_to_install

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["MissingPackageError", "ModelError", "import_tokenizers", "shortened"]


class ModelError(Q8A8Error, ValueError):
    """A model that cannot be run, or a use outside its limits; the message names the key or tensor."""


class MissingPackageError(Q8A8Error, ImportError):
    """A package of the extra `model` is not installed."""


def import_tokenizers() -> ModuleType:
    """Import the package `tokenizers`.

    Raises
    ------
    MissingPackageError
        with the command that installs it.
    """
    try:
        return import_module("tokenizers")
    except ImportError as error:
        raise MissingPackageError(
            f"a model's tokenizer needs the package tokenizers: {how_to_install('model')}"
        ) from error


def shortened(value: object) -> str:
    """Return a value for an error's text, cut to 40 characters."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
