"""The version of this distribution, and how to install it with an extra.

It is on no package index: an extra is installed from a checkout, or from the wheel of a release. All error
messages and pages take the command from here.
"""

from __future__ import annotations

__all__ = ["VERSION", "how_to_install"]

VERSION = "0.1.0"
"""The one place of the version: the build reads it, `q8a8.__version__` and ``q8a8 --version`` print it."""


def how_to_install(extra: str) -> str:
    """Return the command that installs an extra from a checkout, and the one from a release.

    Examples
    --------
    >>> how_to_install("suite").split(" in a checkout")[0]
    "pip install -e '.[suite]'"
    """
    wheel = f"q8a8-{VERSION}-py3-none-any.whl"
    return f"pip install -e '.[{extra}]' in a checkout, pip install './{wheel}[{extra}]' from a release"
