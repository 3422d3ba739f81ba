"""`python -m q8a8_golden check` and `generate`: what `q8a8 vectors` does, without the suite."""

from __future__ import annotations

import argparse
import sys

from q8a8_golden.generate.cli import add_parser


def main() -> int:
    """Run one of the two commands; give its exit status."""
    parser = argparse.ArgumentParser(prog="q8a8")
    add_parser(parser.add_subparsers(required=True))
    options = parser.parse_args(["vectors", *sys.argv[1:]])
    status: int = options.func(options)
    return status


if __name__ == "__main__":
    sys.exit(main())
