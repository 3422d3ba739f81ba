"""Fixtures of the C tests: builds and commands; a missing tool skips a test, or fails it under CI."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from q8a8_lab import native_build

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


Need = Callable[[object, str], None]


@pytest.fixture(scope="session")
def tool(need: Need) -> Callable[[str], str]:
    """Return a function that finds a program."""

    def find(name: str) -> str:
        try:
            return native_build.find_tool(name)
        except native_build.MissingToolError as error:
            need(False, str(error))
            raise  # not reached

    return find


@pytest.fixture(scope="session")
def built(need: Need) -> Callable[[str], Path]:
    """Return a function that builds a preset and returns its folder."""

    def build(preset: str) -> Path:
        try:
            return native_build.build(preset)
        except native_build.MissingToolError as error:
            need(False, str(error))
            raise  # not reached

    return build


@pytest.fixture(scope="session")
def harness(built: Callable[[str], Path], need: Need) -> Callable[..., list[str]]:
    """Return a function that builds harness commands: kernel, CPU (None for this machine's), preset."""

    def command(kernel: str, cpu: str | None = None, preset: str | None = None) -> list[str]:
        folder = built(preset or ("native" if cpu is None else "aarch64"))
        try:
            before = [] if cpu is None else native_build.qemu_argv(cpu)
        except native_build.MissingToolError as error:
            need(False, str(error))
            raise  # not reached
        return [*before, str(folder / "bin" / "q8a8-harness"), *kernel.split()]

    return command


@pytest.fixture(scope="session")
def broken(harness: Callable[..., list[str]], built: Callable[[str], Path]) -> Callable[..., list[str]]:
    """Return a function that builds harness commands with a function of tests/broken.c as v2 dot product."""

    def command(function: str, cpu: str | None = None) -> list[str]:
        library = built("native" if cpu is None else "aarch64") / "lib" / "libq8a8-broken.so"
        name = "ggml_vec_dot_q8_a8_q8_a8_real"
        return [*harness("", cpu), "--lib", str(library), "--symbol", f"{name}={function}"]

    return command


@pytest.fixture(scope="session")
def run() -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """Return a function that runs a command with captured output, a time limit, and standard input."""

    def go(
        command: Sequence[str], stdin: bytes = b"", cwd: Path | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=120, cwd=cwd)

    return go
