"""What the tests of the C side share: builds, commands, and what to do where a tool is missing."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from q8a8_lab import native_build

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


def need(error: native_build.MissingToolError) -> None:
    """End the test: skipped with what to install, or failed where CI is set and everything must run."""
    if os.environ.get("CI"):
        pytest.fail(str(error))
    pytest.skip(str(error))


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """Return a finder of programs; the test ends where one is missing."""

    def find(name: str) -> str:
        try:
            return native_build.find_tool(name)
        except native_build.MissingToolError as error:
            need(error)
            raise  # never: need() ends the test

    return find


@pytest.fixture(scope="session")
def built() -> Callable[[str], Path]:
    """Return a builder of presets; the test ends where a tool is missing."""

    def build(preset: str) -> Path:
        try:
            return native_build.build(preset)
        except native_build.MissingToolError as error:
            need(error)
            raise  # never: need() ends the test

    return build


@pytest.fixture(scope="session")
def harness(built: Callable[[str], Path]) -> Callable[..., list[str]]:
    """Return a maker of harness commands: kernel, CPU (None for the machine's own), preset."""

    def command(kernel: str, cpu: str | None = None, preset: str | None = None) -> list[str]:
        folder = built(preset or ("native" if cpu is None else "aarch64"))
        try:
            before = [] if cpu is None else native_build.qemu_argv(cpu)
        except native_build.MissingToolError as error:
            need(error)
            raise  # never: need() ends the test
        return [*before, str(folder / "bin" / "q8a8-harness"), *kernel.split()]

    return command


@pytest.fixture(scope="session")
def broken(harness: Callable[..., list[str]], built: Callable[[str], Path]) -> Callable[..., list[str]]:
    """Return a maker of harness commands that call one function of tests/broken.c as the v2 dot product."""

    def command(function: str, cpu: str | None = None) -> list[str]:
        library = built("native" if cpu is None else "aarch64") / "lib" / "libq8a8-broken.so"
        name = "ggml_vec_dot_q8_a8_q8_a8_real"
        return [*harness("", cpu), "--lib", str(library), "--symbol", f"{name}={function}"]

    return command


@pytest.fixture(scope="session")
def run() -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """Return a runner of commands with captured output, a time limit, and given standard input."""

    def go(
        command: Sequence[str], stdin: bytes = b"", cwd: Path | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        # S603: the commands are built by these tests from the project's own programs
        return subprocess.run(  # noqa: S603
            command, input=stdin, capture_output=True, check=False, timeout=120, cwd=cwd
        )

    return go
