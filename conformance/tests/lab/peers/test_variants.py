"""The builds of `make peers`: their table, and how they are asked of CMake."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from q8a8.order import ORDERS
from q8a8.recipe import RECIPES
from q8a8_lab import native_build
from q8a8_lab.peers import build, cpu, results, store
from q8a8_lab.peers.variants import VARIANTS, Variant

if TYPE_CHECKING:
    from pathlib import Path


def _variant(name: str) -> Variant:
    return next(variant for variant in VARIANTS if variant.name == name)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_what_is_expected_is_known(variant: Variant) -> None:
    """Every order and recipe that a build should have is in the tables."""
    assert variant.recipe in RECIPES
    for run in variant.runs:
        assert run.order in ORDERS
        assert run.order_nrc2 is None or run.order_nrc2 in ORDERS
        assert (run.cpu is None) == (variant.machine == "x86_64")


def test_the_release_check_covers_what_it_should() -> None:
    """Plain NEON, dotprod, i8mm and three lengths of SVE, x86 without and with AVX2; by GCC and by clang."""
    names = {variant.name for variant in VARIANTS}
    for compiler in ("gcc", "zig"):
        wanted = ("neon", "dotprod", "i8mm", "sve", "baseline", "avx", "avx2")
        assert {f"{compiler}-{target}" for target in wanted} <= names
        lengths = [run.cpu for run in _variant(f"{compiler}-sve").runs]
        assert lengths == [f"max,sve-default-vector-length={size}" for size in (16, 32, 64)]
        assert _variant(f"{compiler}-i8mm").runs[0].order_nrc2
    assert len(names) == len(VARIANTS)


def test_x86_options_are_all_said() -> None:
    """What is not asked for is switched off: ggml's defaults are on."""
    options = build.architecture(_variant("gcc-avx"))
    assert {o for o in options if o.endswith("=ON")} == {"-DGGML_SSE42=ON", "-DGGML_AVX=ON"}
    assert {"-DGGML_AVX2=OFF", "-DGGML_FMA=OFF", "-DGGML_F16C=OFF"} <= set(options)


def test_arm_options() -> None:
    """GCC takes the architecture from ggml's option; zig wants its own words in its own."""
    assert build.architecture(_variant("gcc-i8mm")) == ["-DGGML_CPU_ARM_ARCH=armv8.6-a+i8mm"]
    assert build.architecture(_variant("zig-dotprod"))[0] == "-DCMAKE_C_FLAGS=-mcpu=generic+dotprod"


def test_zig_becomes_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CMake gets a compiler of one word, which is a script around zig."""
    monkeypatch.setattr(store, "fetch", lambda _: tmp_path / "zig wheel")
    options = build.toolchain(_variant("zig-sve"), tmp_path)
    script = (tmp_path / "zig-cc").read_text(encoding="utf-8")
    assert f"-DCMAKE_C_COMPILER={tmp_path / 'zig-cc'}" in options
    assert "zig wheel/ziglang/zig' cc -target aarch64-linux-gnu" in script
    assert (tmp_path / "zig-cc").stat().st_mode & 0o111


def test_a_missing_compiler_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 2, and what to install."""

    def nothing(tool: str) -> str:
        raise native_build.MissingToolError(tool, f"apt-get install {tool}")

    monkeypatch.setattr(native_build, "find_tool", nothing)
    monkeypatch.setattr(store, "cache_folder", lambda: tmp_path)
    assert build.main(["--only", "gcc-neon"]) == 2
    assert "apt-get install" in capsys.readouterr().err


def test_results_are_kept_after_each_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of some builds replaces their results, and leaves those of the others."""

    def check(variant: Variant, jobs: int, blocks: int, dots: int) -> list[results.BuildResult]:
        del jobs, blocks, dots
        return [results.BuildResult(variant.name, "m", "c", "t", "native", not_run=next(reasons))]

    reasons = iter("abc")
    monkeypatch.setattr(store, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(build, "_check", check)
    for names in (("zig-avx", "gcc-neon"), ("zig-avx",)):
        assert build.main([word for name in names for word in ("--only", name)]) == 1
    kept = [(each.variant, each.not_run) for each in results.load_builds(build.results_file())]
    assert kept == [("gcc-neon", "a"), ("zig-avx", "c")]


def test_cpu_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The flags are Linux's; elsewhere none are there."""
    info = tmp_path / "cpuinfo"
    info.write_text("processor : 0\nflags\t\t: fpu avx avx2\nbugs : none\n", encoding="utf-8")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert cpu.lacking(("avx", "fma"), info) == ("fma",)
    assert cpu.lacking(("avx",), tmp_path / "none") == ("avx",)
    assert cpu.lacking((), tmp_path / "none") == ()
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert cpu.lacking(("avx",), info) == ("avx",)


def test_avx512_needs_its_five_parts() -> None:
    """Ggml's one option switches five features on."""
    assert len([flag for flag in _variant("gcc-avx512").cpu_flags if flag.startswith("avx512")]) == 5
    assert _variant("gcc-baseline").cpu_flags == ()
    assert build.missing_flags(_variant("gcc-neon")) == ""
