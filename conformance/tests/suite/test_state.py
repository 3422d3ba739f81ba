"""What loading a library and its calls leave in the process, through the command."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.protocol.messages import LoadChange
from q8a8_conformance.suite.load_effects import describe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Tested

LIBRARY = """
#include <fenv.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
__attribute__((constructor)) static void load(void) { MODES signal(SIGINT, SIG_IGN); }
void initialize(void) { printf("ready"); }
void dequantize_row_q8_a8(const void *x, float *y, int64_t k) {
    for (int64_t j = 0; j < k; j++) {
        const uint8_t *block = (const uint8_t *)x + j / 32 * 34;
        _Float16 d;
        __builtin_memcpy(&d, block, 2);
        y[j] = (float)d * (float)(int8_t)block[2 + j % 32];
    }
}
"""


DOT = """
#include <stdint.h>
void ggml_vec_dot_q8_a8_q8_a8(int n, float *s, uint64_t bs, const void *vx, uint64_t bx, const void *vy,
                              uint64_t by, int nrc) {
    static int calls;
    const uint8_t *x = vx, *y = vy;
    volatile float sum = 0;
    for (int b = 0; b < n / 32; b++, x += 34, y += 34) {
        _Float16 dx, dy;
        int products = 0;
        __builtin_memcpy(&dx, x, 2);
        __builtin_memcpy(&dy, y, 2);
        for (int j = 0; j < 32; j++)
            products += (int8_t)x[2 + j] * (int8_t)y[2 + j];
        volatile float term = (float)dx * (float)dy * (float)products;
        sum = sum + term;
    }
    calls += nrc;
    WRONG
    *s = sum;
}
"""


@pytest.fixture
def library(tmp_path: Path, need: Callable[[object, str], None]) -> Callable[[str], Path]:
    """Return a function that builds a library of a source in C."""
    compiler = shutil.which("cc")
    need(compiler, "no C compiler")

    def build(text: str) -> Path:
        source = tmp_path / "library.c"
        source.write_text(text)
        path = tmp_path / "liblibrary.so"
        command = [str(compiler), "-O1", "-shared", "-fPIC", "-o", str(path), str(source), "-lm"]
        subprocess.run(command, check=True, timeout=60)
        return path

    return build


def test_effects_of_loading_are_warnings(
    q8a8_test: Callable[..., Tested], library: Callable[[str], Path]
) -> None:
    """A kernel that changes handlers and prints conforms; each change is a warning with its effect."""
    tested = q8a8_test(
        f"lib:{library(LIBRARY.replace('MODES', ''))}", "--init", "initialize", "--rules", "ENV-9,ENV-1"
    )
    assert (tested.report["verdict"], tested.status) == ("conforms", 0), tested.out
    assert tested.rules("fail") == {"ENV-9"}
    slugs = [warning["slug"] for warning in tested.report["warnings"]]
    assert slugs == ["load:signal-handlers", "init:standard-output"]
    assert "warning: the library: load:signal-handlers: loading the library changed signal" in tested.out
    assert "Ctrl-C" in tested.out
    assert tested.report["kernel"]["loading"][1]["when"] == "init"


def test_modes_changed_by_loading_fail(
    q8a8_test: Callable[..., Tested], library: Callable[[str], Path]
) -> None:
    """A rounding mode that loading leaves fails ENV-1 with its effect; values are right without it."""
    path = library(LIBRARY.replace("MODES", "fesetround(FE_UPWARD);"))
    tested = q8a8_test(f"lib:{path}", "--rules", "ENV-1,DEQ-*")
    assert (tested.report["verdict"], tested.status) == ("does-not-conform", 1), tested.out
    assert tested.rules("fail") == {"ENV-1"}
    assert "every later float operation of the loading thread" in tested.out


def test_calls_that_print_are_warned_of(q8a8_test: Callable[..., Tested]) -> None:
    """A kernel in Python that prints conforms, with a warning."""
    tested = q8a8_test("py:partial_kernels:Printing", "--rules", "ENV-10,ENV-6,ENV-7,ENV-2")
    assert (tested.report["verdict"], tested.status) == ("conforms", 0), tested.out
    assert tested.rules("fail") == {"ENV-10"}
    (warning,) = tested.report["warnings"]
    assert (warning["slug"], warning["function"]) == ("process:left", "dequantize_row_q8_a8")
    assert "standard output" in warning["message"]


def test_unknown_changes_are_described() -> None:
    """A change that another worker names is reported as it is."""
    rule, message = describe(LoadChange("dlclose", "environment", ""))
    assert rule == "Q8A8-ENV-9"
    assert message.startswith("dlclose changed environment: ")


@pytest.mark.parametrize(
    ("wrong", "failed"),
    [
        ("", set()),
        # Changes the result of the call before, where results lie beside each other.
        ("if ((uintptr_t)s % 64 && n >= 96) s[-1] = sum;", {"MEM-2"}),
        # The diagnosis finds that it counts calls, and so which rule it is.
        ("if (calls % 97 == 0) sum = 2 * sum;", {"ENV-2"}),
        ("sum = -sum;", {"DOT-3"}),
    ],
)
def test_calls_of_one_message_are_judged_alone(
    q8a8_test: Callable[..., Tested], library: Callable[[str], Path], wrong: str, failed: set[str]
) -> None:
    """A value that is wrong among many calls breaks the rules that the call by itself breaks."""
    tested = q8a8_test(f"lib:{library(DOT.replace('WRONG', wrong))}", "--case", "dot/bias/plain")
    assert tested.rules("fail") == failed, tested.out
