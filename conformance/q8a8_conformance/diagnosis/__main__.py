"""``python -m q8a8_conformance.diagnosis --markdown FILE``: write the table of causes."""

from __future__ import annotations

import argparse
from pathlib import Path

from q8a8_conformance.diagnosis.page import render


def main(arguments: list[str] | None = None) -> None:
    """Write the page where the command line says."""
    parser = argparse.ArgumentParser(prog="python -m q8a8_conformance.diagnosis", description=__doc__)
    parser.add_argument("--markdown", type=Path, required=True, metavar="FILE", help="the page to write")
    parser.parse_args(arguments).markdown.write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
