"""The page of results, ``docs/peers.md``, from what was found. Nothing on it tells the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from q8a8.order import ORDERS
from q8a8.recipe import RECIPES
from q8a8_lab.peers import families, ggml, rows, store
from q8a8_lab.peers.products import SHOWN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from q8a8_lab.peers.products import ProductResult
    from q8a8_lab.peers.results import BuildResult, LegResult

__all__ = ["HEAD", "render"]

HEAD = """\
# Real kernels, compared

This page is made by a command, `python -m q8a8_lab.peers --markdown docs/peers.md`, and not by hand.
It says how far the reference reproduces quantizers and kernels that this project did not write: by
[recipe](spec/quantization.md) and by [order](spec/orders.md), every bit. `make test` repeats the comparison
of the prebuilt ones; `make peers`, a release check, builds ggml from source as well and renews the page.
The section on whole products is renewed alone with `--products-only`.
"""

PRODUCTS = "## Whole products, as devices ship\n"

SMALLEST = """
Sums past 65504 are lost in this call of such a shape: every row of w is a block of the scale 1, with the code
127 and zeros; every row of x is 1016 = 8 · 127 and zeros. Quantization is exact, and every output is
127 · 1016 = 129032; the device gives what the table says.
"""


def render(
    legs: Sequence[LegResult],
    builds: Sequence[BuildResult],
    shares: Mapping[str, Mapping[str, float]],
    blocks: int,
    products: Sequence[ProductResult] = (),
) -> str:
    """Return the page.

    Parameters
    ----------
    legs, builds, products
        What was found.
    shares
        Family to recipe to the share of blocks that differ from `ggml-ref`, over `blocks` blocks each.
    """
    parts = [
        HEAD,
        _summary(legs, builds),
        _peers(legs),
        _quantizers(legs),
        _shares(shares, blocks),
        _dots(legs),
    ]
    parts += [
        _minus_128(legs, builds),
        _beyond(legs),
        _verdicts(legs),
        products_section(products),
        _builds(builds),
        _data(),
    ]
    return "\n".join(part for part in parts if part)


def _table(head: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    text = [f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
    text += [f"| {' | '.join(str(cell) for cell in line)} |" for line in lines]
    return "\n".join(text) + "\n"


def _summary(legs: Sequence[LegResult], builds: Sequence[BuildResult]) -> str:
    everything: list[LegResult | BuildResult] = [*legs, *builds]
    blocks = sum(f.blocks for result in everything for f in result.families)
    dots = sum(d.dots for result in everything for d in result.dots)
    differing = sum(result.differing for result in everything)
    runs = sum(1 for build in builds if not build.not_run)
    built = f"{runs} runs of ggml built from source" if runs else "builds from source: not part of this run"
    return (
        f"**{differing} of {34 * blocks:,} bytes of {blocks:,} blocks and {32 * dots:,} bits of {dots:,} dot "
        f"products differ.** Compared: {', '.join(leg.title for leg in legs)}; {built}.\n"
    )


def _peers(legs: Sequence[LegResult]) -> str:
    files = {name: (leg, digest) for leg in reversed(legs) for name, digest in leg.files.items()}
    lines = [
        (leg.title, f"`{name}`", f"`{digest}`", leg.day) for name, (leg, digest) in reversed(files.items())
    ]
    return "## Peers\n\n" + _table(("peer", "file", "SHA-256", "compared on"), lines)


def _name(leg: LegResult, function: str) -> str:
    """Return what the peer calls a quantizer."""
    return "`gguf.quants.quantize`" if leg.name == "gguf-py" else f"`{ggml.SYMBOLS[function]}`"


def _quantizers(legs: Sequence[LegResult]) -> str:
    lines = []
    for leg in legs:
        for function in dict.fromkeys(f.function for f in leg.families):
            counts = [f for f in leg.families if f.function == function]
            cells = [f"{f.differing_bytes}" for f in counts]
            name = (
                "`gguf.quants.quantize`"
                if leg.name == "gguf-py"
                else f"`{function.replace('q8_a8', 'q8_0')}`"
            )
            lines.append((leg.title, name, f"`{counts[0].recipe}`", f"{counts[0].blocks:,}", *cells))
    head = ("peer", "function", "recipe", "blocks of each family", *families.FAMILIES)
    return "## Quantizers: bytes that differ from the recipe\n\n" + _table(head, lines)


def _shares(shares: Mapping[str, Mapping[str, float]], blocks: int) -> str:
    recipes = [name for name in RECIPES if name != "ggml-ref"]
    lines = [(f, *(_percent(shares[f][recipe], blocks) for recipe in recipes)) for f in shares]
    return (
        "## How far the recipes are apart\n\n"
        f"The share of {blocks:,} blocks with any byte that differs from `ggml-ref`. Random data hardly "
        "tells the recipes apart; data on the rounding boundaries does.\n\n"
        + _table(("family", *(f"`{recipe}`" for recipe in recipes)), lines)
    )


def products_section(products: Sequence[ProductResult]) -> str:
    """Return the section about whole matrix products; empty without results."""
    if not products:
        return ""
    alike: dict[tuple[str, ...], list[str]] = {}
    missed: dict[str, list[str]] = {}
    for result in products:
        if result.not_run:
            missed.setdefault(result.not_run, []).append(_device(result))
            continue
        cells = (
            *(_arithmetic(*result.rows[str(n)]) for n in SHOWN),
            "<br>".join(result.where) if len(result.where) > 1 else "nowhere",
            "yes" if result.is_invariant else "**no**",
            f"{result.unexplained} of {result.of:,}",
            "<br>".join(result.known) or "none found",
        )
        alike.setdefault(cells, []).append(_device(result))
    lines = [("<br>".join(names), *cells) for cells, names in alike.items()]
    head = (
        "device",
        *(f"n = {n}" for n in SHOWN),
        "changes",
        "batch-invariant",
        "unexplained results",
        "known bugs",
    )
    return (
        f"{PRODUCTS}\n"
        "What `MUL_MAT` of Q8_0 weights computes on the devices of npm's prebuilt ggml, "
        f"`{store.NPM_GGML.requirement}` and for aarch64 `{store.NPM_GGML_ARM.requirement}`, by "
        "`q8a8 reveal`: `ggml:...`, and for aarch64 the C harness's `--ggml`, in QEMU. n is the number of "
        "rows of x. The factor is the mean error over that of quantization itself. The reference, computing "
        "the named arithmetic, gives all random results but the unexplained ones. Vulkan runs on Mesa's "
        "software device; other GPUs take other shaders. CUDA, Metal, OpenCL and SYCL backends are reached "
        "in the same way; none was run.\n\n"
        + _table(head, lines)
        + (SMALLEST if any(result.known for result in products) else "")
        + ("\nNot run:\n\n" if missed else "")
        + "".join(f"- {', '.join(names)}: {why}\n" for why, names in missed.items())
    )


def with_products(text: str, products: Sequence[ProductResult]) -> str:
    """Return a page with its section about whole products renewed, and nothing else.

    Raises
    ------
    ValueError
        The page has no such section.
    """
    before, title, rest = text.partition(PRODUCTS)
    if not title:
        raise ValueError(f"the page has no section {PRODUCTS.strip()!r}")
    return before + products_section(products) + "\n## " + rest.partition("\n## ")[2]


def _device(result: ProductResult) -> str:
    """Return a device, its options and QEMU's CPU."""
    return " ".join(
        [
            f"`{result.device.removesuffix(', device CPU')}`",
            *([f"`{result.options}`"] if result.options else []),
            *([f"on {_cpu(result.cpu)}"] if result.cpu else []),
        ]
    )


def _cpu(name: str) -> str:
    """Return a CPU of QEMU's, and of all features the length of an SVE vector."""
    _, is_sve, units = name.partition("sve-max-vq=")
    return f"{name.partition(',')[0]}, SVE of {128 * int(units.partition(',')[0])} bits" if is_sve else name


def _arithmetic(names: Sequence[str], ratio: float | None) -> str:
    return f"{', '.join(f'`{name}`' for name in names)}; {f'{ratio:.2g}' if ratio is not None else '?'} times"


def _percent(share: float, blocks: int) -> str:
    if share in {0.0, 1.0}:
        return f"{100 * share:.0f} %"
    # As many digits as one block is worth, up to four.
    digits = max(0, min(4, len(str(blocks)) - 3))
    return f"{100 * share:.{digits}f} %"


def _dots(legs: Sequence[LegResult]) -> str:
    lines = []
    for leg in legs:
        if leg.dots:
            names = " = ".join(f"`{name}`" for name in leg.orders) or "none of the table"
            cells = [f"{d.differing_bits} of {d.dots:,} x 32" for d in leg.dots]
            lines.append((leg.title, names, *cells))
    return (
        "## Dot products: bits that differ from the order\n\n"
        "n = 32 to 8192, odd and even numbers of blocks; the last column has products with -128 in it and, "
        "where the kernel gets these wrong (below), is compared with the bits that the error explains.\n\n"
        + _table(("peer", "orders that match", *rows.KINDS), lines)
    )


def _minus_128(legs: Sequence[LegResult], builds: Sequence[BuildResult]) -> str:
    flawed = [leg.title for leg in legs if leg.wrong_products]
    flawed += [f"`{build.variant}`" for build in builds if build.wrong_products]
    if not flawed:
        return ""
    everything: list[LegResult | BuildResult] = [*legs, *builds]
    found = [d for result in everything for d in result.dots if d.flaw]
    wrong, dots = sum(d.differing_rows_unflawed for d in found), sum(d.dots for d in found)
    return (
        "## The sign error of ggml's x86 kernels\n\n"
        "`_mm256_sign_epi8(y, x)` cannot negate -128, so wherever x < 0 and y = -128 the product has the "
        f"wrong sign: 128 of the 511 products with -128 in them. {wrong:,} of {dots:,} rows with -128 come "
        "out wrong, every one by exactly that. ggml's own quantizers make no -128 in the domain of their "
        "recipes; other writers of the format may.\n\n"
        f"Found in: {', '.join(flawed)}. The loop of blocks that fill no step is C, and right.\n"
    )


def _beyond(legs: Sequence[LegResult]) -> str:
    lines = []
    for leg in legs:
        for function, said in leg.beyond.items():
            lines.append((leg.title, _name(leg, function), *said.values()))
    if not lines:
        return ""
    head = next(iter(next(leg for leg in legs if leg.beyond).beyond.values()))
    return (
        "## Beyond the recipes\n\n"
        "The first three elements of a block amax, -amax, 0, ... whose amax is so small that 1/d "
        "and 127/amax are infinite. The scale is 0 and so is every dequantized value; what stands in the "
        "block is an accident of the machine's conversion, and no recipe covers it but `ggml-avx2`, where it "
        "saturates.\n\n" + _table(("peer", "function", *(f"amax = {amax}" for amax in head)), lines)
    )


def _verdicts(legs: Sequence[LegResult]) -> str:
    lines = []
    for leg in legs:
        for verdict in leg.verdicts:
            rules = ", ".join(f"{count} {status}" for status, count in sorted(verdict.rules.items()))
            failed = ", ".join(rule.removeprefix("Q8A8-") for rule in verdict.failed) or "none"
            causes = "<br>".join(
                f"`{function}`: `{cause}` ({explained:,} of {of:,})"
                for function, names in verdict.causes.items()
                for cause, (explained, of) in names.items()
            )
            lines.append(
                (leg.title, verdict.profile, f"**{verdict.verdict}**", rules, failed, causes, verdict.day)
            )
    if not lines:
        return ""
    head = ("peer", "profile", "verdict", "rules", "failed", "diagnosis: cause (results it explains)", "day")
    return "## What `q8a8 test` says of them\n\n" + _table(head, lines)


def _builds(builds: Sequence[BuildResult]) -> str:
    if not builds:
        return ""
    lines: list[Sequence[object]] = []
    for build in builds:
        if build.not_run:
            cells = (f"not run: {build.not_run}", "", "", "", "", build.day)
            lines.append((f"`{build.variant}`", build.compiler, f"`{build.target}`", *cells))
            continue
        orders = "<br>".join(
            f"nrc = {nrc}: {' = '.join(f'`{name}`' for name in found) or 'none'}"
            for nrc, found in build.orders.items()
        )
        recipe = f"`{build.families[0].recipe}`"
        blocks = sum(f.blocks for f in build.families)
        size = f"{sum(f.differing_bytes for f in build.families)} of {blocks:,} x 34"
        bits = f"{sum(d.differing_bits for d in build.dots)} of {sum(d.dots for d in build.dots):,} x 32"
        where = "this machine" if build.cpu == "native" else f"QEMU `{build.cpu}`"
        lines.append(
            (
                f"`{build.variant}`",
                build.compiler,
                f"`{build.target}`",
                where,
                orders,
                bits,
                recipe,
                size,
                build.day,
            )
        )
    version = next((build.ggml for build in builds if build.ggml), "")
    head = (
        "build",
        "compiler",
        "target",
        "runs on",
        "orders",
        "bits of dots that differ",
        "recipe",
        "bytes of blocks",
        "day",
    )
    return (
        f"## ggml {version}, built from source\n\n"
        "From the llama-cpp-python source distribution, with ggml's own CMake: "
        "`python -m q8a8_lab.peers.build`, which keeps what it found of each build (`--only`): the last "
        "column has the day. Orders joined by = have the same arithmetic.\n\n" + _table(head, lines)
    )


def _data() -> str:
    return (
        "## What is compared\n\n"
        f"Blocks: the families {', '.join(families.FAMILIES)} of `q8a8_lab.peers.families`, seeded. "
        f"Rows: `q8a8_lab.peers.rows`, numbers of blocks {', '.join(map(str, rows.BLOCKS))}. "
        f"An order that matches does so among the {len(ORDERS)} of the catalogue.\n"
    )
