"""`q8a8_lab.native_build`: finding, building, commands, and what it says where something is missing."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import sys
from pathlib import Path

import pytest

from q8a8_lab import native_build


def test_unknown_preset() -> None:
    """A preset that does not exist is refused with those that do."""
    with pytest.raises(native_build.NativeError, match="no preset 'windows': native, release"):
        native_build.build_folder("windows")


def test_missing_tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A missing program is named together with the package that has it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(native_build.MissingToolError) as caught:
        native_build.find_tool("qemu-aarch64")
    assert caught.value.tool == "qemu-aarch64"
    assert str(caught.value) == "qemu-aarch64 is missing: apt-get install qemu-user"
    native_build.build.cache_clear()
    with pytest.raises(native_build.MissingToolError, match="cmake is missing"):
        native_build.build("native")


def test_no_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An installed wheel says that the C sources are not in it."""
    monkeypatch.setattr(
        native_build, "__file__", str(tmp_path / "site-packages" / "q8a8_conformance" / "native.py")
    )
    with pytest.raises(native_build.NativeError, match="in a checkout of the project only"):
        native_build.source_folder()


@pytest.fixture
def small_project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Put a small CMake project in the place of the C sources."""
    if shutil.which("cmake") is None or shutil.which("cc") is None:
        pytest.skip("no cmake or no C compiler")
    folder = tmp_path / "native_check"
    folder.mkdir()
    source = native_build.source_folder()
    shutil.copy(source / "CMakePresets.json", folder)
    (folder / "CMakeLists.txt").write_text("cmake_minimum_required(VERSION 3.21)\nproject(small NONE)\n")
    monkeypatch.setattr(
        native_build, "__file__", str(tmp_path / "conformance" / "q8a8_conformance" / "native.py")
    )
    native_build.build.cache_clear()
    return folder


def test_build_failure_shows_the_output(small_project: Path) -> None:
    """When CMake fails, its message is in the error."""
    with (small_project / "CMakeLists.txt").open("a") as lists:
        lists.write('message(FATAL_ERROR "no such luck")\n')
    with pytest.raises(native_build.BuildFailedError, match="no such luck"):
        native_build.build("native")
    native_build.build.cache_clear()


def test_build_folder_of_another_checkout_is_made_anew(small_project: Path) -> None:
    """A build folder that was copied or moved with its checkout is no obstacle."""
    folder = native_build.build("native")
    cache = folder / "CMakeCache.txt"
    cache.write_text(cache.read_text().replace(str(small_project), "/somewhere/else"))
    (folder / "stale").touch()
    native_build.build.cache_clear()
    assert native_build.build("native") == folder
    assert not (folder / "stale").exists()
    native_build.build.cache_clear()


@pytest.mark.parametrize(
    ("preset", "toolchain"), [("native", "zig-x86_64"), ("aarch64", "zig-aarch64"), ("asan", None)]
)
def test_zig_stands_in(preset: str, toolchain: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the preset's compiler ziglang is taken, or named; for sanitizers it is not."""
    commands: list[list[str]] = []
    with_zig = True

    def find_tool(tool: str) -> str:
        if "cc" in tool:
            raise native_build.MissingToolError(tool, "get it")
        return tool

    monkeypatch.setattr(native_build, "find_tool", find_tool)
    monkeypatch.setattr(native_build, "_run", lambda command, _: commands.append(list(command)))
    monkeypatch.setattr(native_build, "_configured", lambda _: False)
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object() if with_zig else None)
    native_build.build.cache_clear()
    if toolchain is None:
        with pytest.raises(native_build.MissingToolError, match=r"is missing: get it$"):
            native_build.build(preset)
    else:
        native_build.build(preset)
        file = native_build.source_folder() / "cmake" / f"{toolchain}.cmake"
        assert commands[0][-1] == f"-DCMAKE_TOOLCHAIN_FILE={file}"
        with_zig = False
        native_build.build.cache_clear()
        with pytest.raises(native_build.MissingToolError, match="get it, or pip install ziglang"):
            native_build.build(preset)
    native_build.build.cache_clear()


def test_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands have the emulator, its libraries, the harness, and the library's options, in order."""
    monkeypatch.setattr(native_build, "build", lambda preset: Path("/b") / preset)
    monkeypatch.setattr(native_build, "find_tool", lambda tool: f"/usr/bin/{tool}")
    assert native_build.harness_argv("scalar") == ["/b/native/bin/q8a8-harness", "scalar"]
    emulated = native_build.harness_argv("i8mm", "max")
    assert emulated[:3] == ["/usr/bin/qemu-aarch64", "-cpu", "max"]
    assert emulated[-2:] == ["/b/aarch64/bin/q8a8-harness", "i8mm"]
    library = native_build.library_argv(
        Path("/l/x.so"), "max", symbols={"a": "b", "c": "d"}, init="start", search=[Path("/l"), Path("/m")]
    )
    assert library[-11:] == [
        *("-E", "LD_LIBRARY_PATH=/l:/m", "/b/aarch64/bin/q8a8-harness", "--lib", "/l/x.so"),
        *("--symbol", "a=b", "--symbol", "c=d", "--init", "start"),
    ]
    assert native_build.library_argv(Path("/l/x.so")) == ["/b/native/bin/q8a8-harness", "--lib", "/l/x.so"]
