"""``python -m q8a8_lab.peers.products``: what shipped devices of ggml compute as a whole matrix product.

Each device of the prebuilt package is revealed (`q8a8_conformance.reveal.products`) as it is shipped: the CPU
builds that this machine's CPU can run, and the Vulkan backend where a Vulkan device is found, which may be
Mesa's software device. The results lie beside those of the builds from source, for the page.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from q8a8.atomic import write_text
from q8a8_conformance.protocol.sut import SutError, parse_sut
from q8a8_conformance.reveal.products import FULL, Extent, reveal_product
from q8a8_conformance.smoke.starting import start
from q8a8_lab.peers import store
from q8a8_lab.peers.results import sha256

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from q8a8_conformance.protocol.sut import Sut
    from q8a8_conformance.reveal.product_regimes import Regime, RevealedProduct

TIMEOUT = 120.0
"""Seconds that a product may take: shaders are compiled at their first use."""

SHOWN = (1, 512)
"""Rows of x for which the page shows the arithmetic."""

OPTIONS = {"vulkan": ("", "precision=f32"), "cpu": ("", "threads=4", "buffer=repack")}
"""Options of devices with which they are revealed as well, by the backend's name."""


@dataclass(frozen=True)
class ProductResult:
    """What a device computes.

    Attributes
    ----------
    device, options
        The file of the backend, the device, and options of it.
    sha256
        Of the file.
    rows
        For each number of `SHOWN`: the names, and the error over that of quantization itself.
    where
        Where the arithmetic changes: shapes and names.
    is_invariant
        Whether bits depend on two rows alone.
    of, unexplained
        Random results, and those that the named arithmetic does not give.
    not_run
        Why it was not run.
    known
        What users of the device should know: shapes in which sums leave the range of halves.
    """

    device: str
    options: str
    sha256: str
    rows: dict[str, tuple[list[str], float | None]] = field(default_factory=dict)
    where: list[str] = field(default_factory=list)
    is_invariant: bool = False
    of: int = 0
    unexplained: int = 0
    not_run: str = ""
    known: list[str] = field(default_factory=list)


def results_file() -> Path:
    """Return where the results lie."""
    return store.cache_folder() / "products.json"


def devices(folder: Path) -> Iterable[tuple[Path, str]]:
    """Yield the backends of the package, and options of their devices."""
    for library in sorted(folder.glob("package/bins/*/libggml-*.so")):
        name = library.stem.removeprefix("libggml-")
        if name != "base":
            yield from ((library, options) for options in OPTIONS.get(name.partition("-")[0], ("",)))


def device(library: Path, options: str) -> Sut:
    """Return the system under test that a backend's first device is, a software device too."""
    os.environ.setdefault("GGML_VK_VISIBLE_DEVICES", "0")
    base = library.with_name("libggml-base.so")
    paths = f"{base},{library}" if base.is_file() else str(library)
    return parse_sut(f"ggml:{paths}{':' if options else ''}{options}")


def reveal(library: Path, options: str, extent: Extent = FULL) -> ProductResult:
    """Reveal a device."""
    sut = device(library, options)
    digest = sha256(library)
    with sut.session(TIMEOUT, start_timeout=TIMEOUT) as session:
        try:
            hello = start(sut, session).hello
        except SutError:
            hello = None
        if hello is None:
            return ProductResult(library.name, options, digest, not_run="it does not load on this machine")
        name = hello.name.partition(" (")[0]
        if "mul_mat_q8_a8" not in hello.functions:
            return ProductResult(name, options, digest, not_run="the device does not offer the product")
        found = reveal_product(session, extent)
    if not found.regimes:
        return ProductResult(name, options, digest, not_run=found.notes[0].partition(":")[0])
    return ProductResult(
        name,
        options,
        digest,
        {str(n): _shown(found, n) for n in SHOWN},
        [_words(regime) for regime in found.regimes],
        found.is_invariant,
        sum(regime.of for regime in found.regimes),
        sum(regime.unexplained for regime in found.regimes),
        known=[f"{r.where}: sums past 65504 are {r.past_half}" for r in found.regimes if r.past_half],
    )


def _shown(found: RevealedProduct, n: int) -> tuple[list[str], float | None]:
    """Return the names of a product of n rows, and its error over quantization's."""
    regime = next((each for each in found.regimes if _holds(each, n)), found.regimes[0])
    ratio = regime.error / regime.quantization_error if regime.quantization_error else None
    return list(regime.names), ratio


def _words(regime: Regime) -> str:
    """Return where a regime is, its names, and an order that has no name in words."""
    words = f"{regime.where}: {', '.join(regime.names)}"
    is_measured = regime.dot is not None and "order:measured" in regime.names
    return f"{words} ({regime.dot.words})" if is_measured and regime.dot else words


def _holds(regime: Regime, n: int) -> bool:
    return regime.side == "n" and (regime.rule is None or bool(regime.rule.holds(n).any()))


def load_products() -> list[ProductResult]:
    """Read the results of the last run; nothing where there was none."""
    path = results_file()
    if not path.is_file():
        return []
    return [_loaded(entry) for entry in json.loads(path.read_text(encoding="utf-8"))]


def _loaded(entry: dict[str, Any]) -> ProductResult:
    entry["rows"] = {n: (names, ratio) for n, (names, ratio) in entry["rows"].items()}
    return ProductResult(**entry)


def main(argv: Sequence[str] | None = None) -> int:
    """Reveal all devices, and keep the results; return 1 where a result is left unexplained."""
    parser = argparse.ArgumentParser(prog="python -m q8a8_lab.peers.products", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.parse_args(argv)
    results = []
    for library, options in devices(store.fetch(store.NPM_GGML)):
        results.append(reveal(library, options))
        last = results[-1]
        said = last.not_run or f"{last.unexplained} of {last.of} results unexplained; {'; '.join(last.where)}"
        sys.stderr.write(f"{last.device} {last.options}: {said}\n")
    write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n", results_file())
    return 1 if any(result.unexplained for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
