"""Judge every mutant and every legal kernel by the whole suite, or write the page about them.

::

    python -m q8a8_lab.mutation [SLUG...] [--json FILE]
    python -m q8a8_lab.mutation --markdown FILE

Without slugs, all of them are judged; it takes minutes. The exit status is 1 where a mutant survives or does
not fail its rule, or where a legal kernel fails.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from q8a8_conformance.faults.catalogue import LEGAL, MUTANTS
from q8a8_lab.mutation import page
from q8a8_lab.mutation.pool import judged

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="q8a8_lab.mutation", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "slugs", nargs="*", metavar="SLUG", help="of mutants and legal kernels; all by default"
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the page, and judge nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results, {slug: {rule: cases}}")
    return parser.parse_args(arguments)


def complaint(slug: str, failed: Mapping[str, int]) -> str:
    """Describe what is wrong with a kernel's results: a mutant that survives, a legal kernel that fails."""
    if slug in LEGAL:
        return f"{slug} is legal and fails {', '.join(failed)}" if failed else ""
    rule = MUTANTS[slug].rule
    if not failed:
        return f"{slug} survives"
    return "" if rule in failed else f"{slug} breaks {rule}, and fails {', '.join(failed)}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = _parse(arguments)
    if options.markdown:
        options.markdown.write_text(page.render(), "utf-8")
        return 0
    unknown = [slug for slug in options.slugs if slug not in MUTANTS and slug not in LEGAL]
    if unknown:
        sys.stderr.write(f"no such kernel: {unknown[0]}\n")
        return 2
    results: dict[str, dict[str, int]] = {}
    for each in judged(options.slugs or [*MUTANTS, *LEGAL], "cases"):
        results[each.slug] = {rule: len(cases) for rule, cases in sorted(each.failed.items())}
        sys.stdout.write(f"{each.slug}: {' '.join(results[each.slug]) or 'nothing fails'}\n")
        sys.stdout.flush()
        if options.json:
            options.json.write_text(json.dumps(results, indent=1), "utf-8")
    complaints = [text for slug, failed in results.items() if (text := complaint(slug, failed))]
    sys.stdout.write("".join(f"{text}\n" for text in complaints))
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
