"""Judge every mutant and every legal kernel by the whole suite, and write the kill matrix.

::

    python -m q8a8_lab.mutation [SLUG...] [--markdown FILE] [--json FILE] [--results FILE]

Without slugs, all of them; it takes minutes. The exit status is 1 where a mutant survives or does not
fail its rule, or where a legal kernel fails.
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

    from q8a8_lab.mutation.page import Results


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="q8a8_lab.mutation", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "slugs", nargs="*", metavar="SLUG", help="of mutants and legal kernels; all by default"
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the page")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results, {slug: {rule: cases}}")
    parser.add_argument(
        "--results", type=Path, metavar="FILE", help="take results from such a file; judge the rest"
    )
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
    unknown = [slug for slug in options.slugs if slug not in MUTANTS and slug not in LEGAL]
    if unknown or (options.slugs and options.markdown):
        sys.stderr.write(f"no such kernel: {unknown[0]}\n" if unknown else "the page is about all kernels\n")
        return 2
    slugs = options.slugs or [*MUTANTS, *LEGAL]
    results: Results = json.loads(options.results.read_text("utf-8")) if options.results else {}
    results = {slug: results[slug] for slug in slugs if slug in results}
    missing = [slug for slug in slugs if slug not in results]
    for each in judged(missing, "cases") if missing else ():
        results[each.slug] = {rule: len(cases) for rule, cases in sorted(each.failed.items())}
        sys.stdout.write(f"{each.slug}: {' '.join(results[each.slug]) or 'nothing fails'}\n")
        sys.stdout.flush()
        if options.json:
            options.json.write_text(json.dumps(results, indent=1), "utf-8")
    if options.markdown:
        options.markdown.write_text(page.render(results), "utf-8")
    complaints = [text for slug in slugs if (text := complaint(slug, results[slug]))]
    sys.stdout.write("".join(f"{text}\n" for text in complaints))
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
