"""Build the documentation site, both languages, with MkDocs or with Zensical, its theme's successor."""

from __future__ import annotations

import argparse
import importlib.resources
import os
import shutil
import subprocess
import sys
from pathlib import Path

from q8a8.install import VERSION

ROOT = Path(__file__).parents[3]
"""The checkout."""

BUILDERS = ("mkdocs", "zensical")

CONFIGURATIONS = ("mkdocs.yml", "mkdocs.ko.yml")
"""English first: it owns the folder in which the Korean site lies."""

MATHJAX = {"es5/tex-svg.js": "tex-svg.js", "LICENSE": "LICENSE"}
"""What the pages need of MathJax, in its package and in the theme: one script, no fonts."""


def copy_mathjax() -> None:
    """Copy MathJax from its package (django-static-mathjax) into the theme, where git ignores it."""
    package = importlib.resources.files("mathjax") / "static" / "mathjax"
    target = ROOT / "theme" / "assets" / "mathjax"
    target.mkdir(exist_ok=True)
    for source, name in MATHJAX.items():
        (target / name).write_bytes(package.joinpath(source).read_bytes())


def build(output: Path, builder: str = "mkdocs") -> str:
    """Build both languages strictly into a folder.

    Parameters
    ----------
    output : Path
        The folder of the English site, emptied first; the Korean one goes to its ``ko``.
    builder : str
        ``mkdocs`` (Material for MkDocs) or ``zensical``.

    Returns
    -------
    str
        What the builder printed.

    Raises
    ------
    RuntimeError
        The builder failed, or warned.
    """
    output = output.resolve()
    target = (
        ROOT / "build" / "zensical" if builder == "zensical" else output
    )  # Zensical writes below the checkout only
    for folder in (output, target):
        shutil.rmtree(folder, ignore_errors=True)
    copy_mathjax()
    environment = {
        **os.environ,
        "Q8A8_SITE": str(target),
        "Q8A8_SITE_KO": str(target / "ko"),
        "Q8A8_VERSION": VERSION,
        "NO_MKDOCS_2_WARNING": "1",  # the theme's advertisement of its successor calls itself a warning
    }
    printed = ""
    for configuration in CONFIGURATIONS:
        command = [sys.executable, "-m", builder, "build", "--strict", "--config-file", configuration]
        built = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        printed += built.stdout + built.stderr
        if built.returncode or "WARNING" in built.stderr:
            raise RuntimeError(f"{' '.join(command[1:])} failed:\n{built.stdout}{built.stderr}")
    if target != output:
        shutil.move(target, output)
    return printed


def main(arguments: list[str] | None = None) -> None:
    """Build the site."""
    parser = argparse.ArgumentParser(prog="python -m q8a8_lab.pages.site", description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "site", help="the folder that it goes to")
    parser.add_argument("--builder", choices=BUILDERS, default="mkdocs")
    options = parser.parse_args(arguments)
    try:
        build(options.output, options.builder)
    except RuntimeError as error:
        raise SystemExit(str(error)) from None
    sys.stdout.write(f"{options.output}/index.html\n")


if __name__ == "__main__":
    main()
