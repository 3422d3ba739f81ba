"""``python -m q8a8_lab.peers``: compare the prebuilt peers with the reference, and write the page.

Exit status: 0, nothing differs; 1, something does; 2, a peer cannot be had (the others are compared still).
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from q8a8.atomic import write_text
from q8a8_lab.peers import compare, legs, page, verdicts
from q8a8_lab.peers.build import results_file
from q8a8_lab.peers.products import load_products
from q8a8_lab.peers.results import load_builds

if TYPE_CHECKING:
    from collections.abc import Sequence


def _report(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """Compare, judge, write what was asked for; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m q8a8_lab.peers", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results as JSON")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the page")
    parser.add_argument(
        "--blocks", type=int, default=1_000_000, help="blocks of each family, a tenth in QEMU (1000000)"
    )
    parser.add_argument("--dots", type=int, default=10_000, help="dot products of each kind of rows (10000)")
    parser.add_argument("--no-verdicts", action="store_true", help="compare only, without q8a8 test")
    parser.add_argument(
        "--products-only",
        action="store_true",
        help="renew the section on whole products in the page that is there, by q8a8_lab.peers.products",
    )
    options = parser.parse_args(argv)
    if options.products_only:
        if options.markdown is None:
            parser.error("--products-only needs --markdown")
        text = options.markdown.read_text(encoding="utf-8")
        write_text(page.with_products(text, load_products()), options.markdown)
        return 0
    results, absent = [], []
    for leg in legs.LEGS:
        reason = legs.missing(leg)
        if reason:
            _report(f"{leg.title}: not run: {reason}")
            absent.append(leg.name)
            continue
        result = legs.run(leg, options.blocks, options.dots)
        _report(
            f"{leg.title}: {result.differing} bytes and bits differ; "
            f"order {' = '.join(result.orders) or 'none'}; "
            f"{result.wrong_products} wrong products of -128; {result.seconds:.0f} s"
        )
        if leg.judged and not options.no_verdicts:
            for profile in verdicts.PROFILES:
                verdict = verdicts.judge(leg, profile)
                result.verdicts.append(verdict)
                _report(f"{leg.title}: profile {profile}: {verdict.verdict}; {verdict.causes}")
        results.append(result)
    builds = load_builds(results_file())
    shares = compare.shares(options.blocks)
    if options.json:
        found = {
            "legs": [asdict(result) for result in results],
            "builds": [asdict(build) for build in builds],
            "shares": shares,
        }
        write_text(json.dumps(found, indent=1) + "\n", options.json)
    if options.markdown:
        write_text(page.render(results, builds, shares, options.blocks, load_products()), options.markdown)
    if any(result.differing for result in results) or not all(b.passed or b.not_run for b in builds):
        return 1
    return 2 if absent else 0


if __name__ == "__main__":
    sys.exit(main())
