"""The C tests in every build: native, with sanitizers, for Arm under QEMU on several CPUs."""

from __future__ import annotations

import importlib.util
import json
import re
from importlib import metadata
from typing import TYPE_CHECKING

import pytest

from q8a8_lab import native_build

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

# The tests that ctest must run: three programs, in a build for Arm that of the kernels on each emulated
# CPU, and once the sweep of the half-precision conversions.
PROGRAMS = ("half", "scalar", "kernels")
SWEEP = "certify-half"
VECTORS = ["sve-128", "sve-256", "sve-2048"]


def check_ctest(
    folder: Path, tests: list[str], run: Callable[..., subprocess.CompletedProcess[bytes]], ctest: str
) -> None:
    """Run the C tests of a build, and check that exactly these ran and passed."""
    done = run([ctest, "--test-dir", str(folder), "--output-on-failure"])
    output = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, output
    passed = re.findall(r"Test +#\d+: (\S+) \.+ +Passed", output)
    assert sorted(passed) == sorted([*tests, SWEEP]), output


@pytest.mark.parametrize("preset", ["native", "release", "asan", "ubsan"])
def test_native_build(
    preset: str,
    built: Callable[[str], Path],
    tool: Callable[[str], str],
    run: Callable[..., subprocess.CompletedProcess[bytes]],
) -> None:
    """The C tests pass in the native, tuned and sanitizer builds."""
    check_ctest(built(preset), list(PROGRAMS), run, tool("ctest"))


@pytest.mark.parametrize("preset", ["aarch64", "aarch64-asan", "aarch64-ubsan"])
def test_arm_build(
    preset: str,
    built: Callable[[str], Path],
    tool: Callable[[str], str],
    run: Callable[..., subprocess.CompletedProcess[bytes]],
) -> None:
    """Each kernel passes on an emulated Arm CPU that can run it; with sanitizers, all on the largest."""
    tool("qemu-aarch64")
    cpus = (
        native_build.CPUS if preset == "aarch64" else ("max",)
    )  # which runs all kernels; sanitizers take their time
    tests = ["half", "scalar", *(f"kernels-{cpu}" for cpu in cpus)]
    tests += VECTORS if preset == "aarch64" else []
    check_ctest(built(preset), tests, run, tool("ctest"))


@pytest.mark.parametrize("preset", ["zig-x86_64", "zig-aarch64"])
def test_zig_build(
    preset: str,
    built: Callable[[str], Path],
    tool: Callable[[str], str],
    run: Callable[..., subprocess.CompletedProcess[bytes]],
    need: Callable[[object, str], None],
) -> None:
    """The C tests pass with clang from ziglang as the compiler."""
    need(importlib.util.find_spec("ziglang"), "no ziglang (pip install ziglang)")
    tests = list(PROGRAMS)
    if preset != "zig-x86_64":
        tool("qemu-aarch64")
        tests = ["half", "scalar", *(f"kernels-{cpu}" for cpu in native_build.CPUS), *VECTORS]
    check_ctest(built(preset), tests, run, tool("ctest"))


def test_make_generator(
    tool: Callable[[str], str], run: Callable[..., subprocess.CompletedProcess[bytes]], tmp_path: Path
) -> None:
    """The build works with make instead of ninja, and without presets."""
    tool("make")
    source = str(native_build.source_folder())
    configure = [tool("cmake"), "-S", source, "-B", str(tmp_path), "-G", "Unix Makefiles"]
    for command in (configure, [tool("cmake"), "--build", str(tmp_path), "--parallel", "2"]):
        done = run(command)
        assert done.returncode == 0, (done.stdout + done.stderr).decode()
    assert (tmp_path / "bin" / "q8a8-harness").is_file()
    assert (tmp_path / "lib" / "libq8a8-scalar.so").is_file()


def test_every_preset_can_be_built_and_tested() -> None:
    """Each visible preset has a build and a test preset, and `native_build` has it."""
    presets = json.loads((native_build.source_folder() / "CMakePresets.json").read_text())
    configured = {preset["name"] for preset in presets["configurePresets"] if not preset.get("hidden")}
    assert {preset["name"] for preset in presets["buildPresets"]} == configured
    # WebAssembly has no processes: its modules are called, and tested, by a host in Python
    assert {preset["name"] for preset in presets["testPresets"]} == configured - {"zig-wasm"}
    assert {native_build.build_folder(name).name for name in configured} == configured


def test_version_is_the_distribution_s() -> None:
    """CMakeLists.txt and pyproject.toml have the same version."""
    text = (native_build.source_folder() / "CMakeLists.txt").read_text()
    found = re.search(r"project\(q8a8_native VERSION (\S+)", text)
    assert found is not None
    assert found[1] == metadata.version("q8a8")
