"""``q8a8 bench --native``: how fast the C kernels are, as ratios to ggml, BLAS and the machine's limits.

A ratio is the speed of ours over theirs: above 1 a kernel is faster. The peers are ggml's product through
its backend, in the build that ggml itself prefers for this CPU (the Haswell build for ``avx2``), and NumPy's
float32 product with one BLAS thread. The limits are copying the weights, where n is 1, and the kernel's int8
instruction in a loop of nothing else (peak), or with what scales and adds its sums (limit), where n is 128.
"""

from __future__ import annotations

import ctypes
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from q8a8_conformance.results.record import count
from q8a8_evaluation.child import Child
from q8a8_evaluation.native import runnable
from q8a8_golden.generate.native import native_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["collect", "text"]

NO_GGML: Final = """\
ggml: not measured, for it was not found. `npm pack @node-llama-cpp/linux-x64-vulkan@3.22.1` fetches builds
for every CPU; --ggml names the folder that has libggml-base.so and libggml-cpu-*.so."""
NO_PEAK: Final = "peak: not measured, for libq8a8-peak.so is not built (native_check/README.md)."

PLAIN: Final = {"avx2": "haswell"}
"""The build of ggml that has the instructions of a kernel and no later ones."""


def collect(ggml: Path | None, *, quick: bool) -> dict[str, Any]:
    """Measure every kernel that this CPU can run.

    Parameters
    ----------
    ggml
        A folder with ggml's libraries; None to look into the cache of a checkout.
    quick
        Small matrices and few rounds.

    Returns
    -------
    dict
        `ratios`, `seconds`, `rounds`, `machine`, `notes`, `ggml`: the build of each kernel's peer.

    Raises
    ------
    NativeKernelError
        There is no kernel.
    ChildError
        A measuring process failed.
    """
    kernels = [each for each in runnable() if each.name != "scalar"]
    folder = ggml or _cached_ggml()
    best = _best_build(folder) if folder else None
    builds = {kernel.name: PLAIN.get(kernel.name, best or "") if best else "" for kernel in kernels}
    peak = native_folder() / "build" / "native" / "lib" / "libq8a8-peak.so"
    figures: dict[str, Any] = {"ratios": {}, "seconds": {}, "ggml": builds, "quick": quick}
    for build in dict.fromkeys(builds.values()):
        names = ("base", f"cpu-{build}") if folder and build else ()
        request = {
            "quick": quick,
            "kernels": [str(kernel.path) for kernel in kernels if builds[kernel.name] == build],
            "ggml": [f"{folder}/libggml-{name}.so" for name in names],
            "peak": str(peak) if peak.is_file() else None,
        }
        with Child("q8a8_evaluation.bench.native", request) as child:
            found = child.read()[0]
        figures["ratios"] |= found["ratios"]
        figures["seconds"] |= {
            f"{name} ({build})" if name.startswith("ggml") else name: seconds
            for name, seconds in found["seconds"].items()
        }
        figures["rounds"] = found["rounds"]
    figures["machine"] = {"architecture": platform.machine(), "cpu": _cpu_name()}
    missing = {NO_GGML: not best, NO_PEAK: not peak.is_file()}
    figures["notes"] = [note for note, applies in missing.items() if applies]
    return figures


def _cached_ggml() -> Path | None:
    """Return the folder of ggml that the peers' checks of a checkout have fetched."""
    processor = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    cache = native_folder().parent / ".cache" / "peers"
    return next(
        (
            path.parent
            for path in sorted(cache.glob(f"*/unpacked/package/bins/linux-{processor}*/libggml-base.so"))
        ),
        None,
    )


def _best_build(folder: Path) -> str | None:
    """Return the build that ggml prefers for this CPU, by each build's score of itself; None without one."""
    ctypes.CDLL(str(folder / "libggml-base.so"), ctypes.RTLD_GLOBAL)
    scores = dict(_scores(folder))
    best = max(scores, key=lambda name: scores[name], default=None)
    return best if best is not None and scores[best] > 0 else None


def _scores(folder: Path) -> Iterator[tuple[str, int]]:
    for path in sorted(folder.glob("libggml-cpu-*.so")):
        score = getattr(ctypes.CDLL(str(path), ctypes.RTLD_LOCAL), "ggml_backend_score", None)
        if score is not None:
            yield path.stem.removeprefix("libggml-cpu-"), score()


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    found = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    fields = ("model name", "cpu family", "model", "stepping")
    return ", ".join(f"{name} {found[name]}".removeprefix("model name ") for name in fields if name in found)


def text(figures: dict[str, Any]) -> str:
    """Return the figures for a reader."""
    builds = ", ".join(f"{kernel} against {build or 'none'}" for kernel, build in figures["ggml"].items())
    lines = [
        f"{figures['machine']['architecture']}, {figures['machine']['cpu']}; builds of ggml: {builds}.",
        f"Medians of {count(figures['rounds'], 'interleaved round')}; of one thread the processor's time.",
    ]
    if figures["quick"]:
        lines.append("Quick: matrices as small as these say nothing about speed.")
    lines += ["", f"  {'speed of ours over theirs':<52}{'ratio':>8}"]
    lines += [f"  {name:<52}{ratio:>8.2f}" for name, ratio in figures["ratios"].items()]
    for note in figures["notes"]:
        lines += ["", note]
    return "\n".join(lines) + "\n"
