"""``q8a8 new-kernel NAME``: a folder with a kernel that builds and conforms, to start from.

The files are in ``templates/``. The C interface and the half conversions are those of the project's own
kernels: links in a checkout, files in the wheel.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from q8a8.install import VERSION
from q8a8_conformance.commands.options import OK, print_lines, usage_error

if TYPE_CHECKING:
    import argparse

    from q8a8_conformance.commands.options import Subparsers

TEMPLATES = Path(__file__).parent / "templates"
FILES = {
    "q8a8.h": "q8a8.h",
    "half.h": "half.h",
    "kernel.c": "@NAME@.c",
    "block_sum_scalar.h": "block_sum_scalar.h",
    "block_sum_neon.h": "block_sum_neon.h",
    "block_sum_avx2.h": "block_sum_avx2.h",
    "CMakeLists.txt": "CMakeLists.txt",
    "README.md": "README.md",
    "q8a8.yml": ".github/workflows/q8a8.yml",
}
"""Where each template goes; @NAME@ is the kernel's name, there and in the text."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


def add_parser(subparsers: Subparsers) -> None:
    """Add ``new-kernel`` to the command line."""
    parser = subparsers.add_parser(
        "new-kernel",
        help="make a folder with a kernel that conforms, to start from",
        description="Make a folder with a kernel to start from: the C interface, the six functions for "
        "plain C, NEON and AVX2, a CMake project and a CI workflow. It builds and conforms as it is.",
    )
    parser.add_argument("name", metavar="NAME", help="the kernel's name, and the folder's")
    parser.add_argument(
        "--folder", type=Path, metavar="FOLDER", help="the folder, which must not exist yet [NAME]"
    )
    parser.set_defaults(func=command)


def command(options: argparse.Namespace) -> int:
    """Write the folder, and print what to type next."""
    if not _NAME.fullmatch(options.name):
        return usage_error(f"{options.name!r} is no name of a kernel: letters, digits, - and _ only")
    folder: Path = options.folder or Path(options.name)
    try:
        write(options.name, folder)
    except FileExistsError:
        return usage_error(f"{folder} exists already: --folder names another place")
    except OSError as error:
        return usage_error(f"{folder}: {error.strerror}")
    print_lines(
        (
            f"{folder}: a kernel that conforms, to start from. Next:",
            f"  cd {folder} && cmake -B build && cmake --build build",
            f"  q8a8 test lib:build/lib{options.name}.so",
        )
    )
    return OK


def write(name: str, folder: Path) -> None:
    """Write the files of a kernel into a new folder.

    Raises
    ------
    OSError
        The folder exists, or cannot be written.
    """
    folder.mkdir()
    for template, target in FILES.items():
        path = folder / target.replace("@NAME@", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = (TEMPLATES / template).read_text(encoding="utf-8")
        path.write_text(text.replace("@NAME@", name).replace("@VERSION@", VERSION), encoding="utf-8")
