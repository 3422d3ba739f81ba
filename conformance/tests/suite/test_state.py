"""What loading a library and its calls leave in the process, through the command."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8_conformance.faults.in_process import InProcessSession
from q8a8_conformance.inputs.calls import DEQUANTIZE, DOT, dequantize
from q8a8_conformance.inputs.dot_rows import filled
from q8a8_conformance.mutants import make
from q8a8_conformance.protocol.messages import Fault, LoadChange, Result, Together
from q8a8_conformance.protocol.session import Session
from q8a8_conformance.results.record import Recorder
from q8a8_conformance.suite.accepted_recipes import Recipes
from q8a8_conformance.suite.judge import Judge
from q8a8_conformance.suite.load_effects import describe
from q8a8_conformance.suite.specified import specimen
from q8a8_conformance.suite.target import DIRTY_MEMORY, Target

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Tested

LIBRARY = """
#include <fenv.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
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


DOT_SOURCE = """
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


TABLE = """
#include <string.h>
static float table[65536];
static void fill(void) {
    for (uint32_t half = 0; half < 65536; half++) {
        uint32_t bits = (half & 0x8000) << 16 | (half & 0x7fff) << 13;
        memcpy(&table[half], &bits, 4);
        *(volatile float *)&table[half] *= 0x1p112f;
    }
}
"""
READ = ("_Float16 d;", "uint16_t d;"), ("(float)d", "table[d]")
IN_THREAD = """
#include <pthread.h>
#include <semaphore.h>
static sem_t asked, done;
static void *serve(void *unused) {
    for (;; sem_post(&done)) {
        while (sem_wait(&asked)) {}
        fill();
    }
    return unused;
}
static void first(void) {
    static int started;
    pthread_t thread;
    if (!started++) { sem_init(&asked, 0, 0); sem_init(&done, 0, 0); pthread_create(&thread, 0, serve, 0); }
    sem_post(&asked);
    while (sem_wait(&done)) {}
}
"""


@pytest.mark.parametrize(
    ("before", "modes", "edits", "case", "failed"),
    [
        ("", "", (), "environment/machine", set()),
        ("", "fesetenv(FE_DFL_ENV);", (), "environment/machine", {"ENV-1"}),
        (TABLE, "fill();", READ, "environment/machine", {"ENV-2"}),
        # The thread has the modes of the call that starts it, and keeps them.
        (TABLE + IN_THREAD, "", (*READ, ("for (int64_t", "first(); for (int64_t")), "flush", {"ENV-2"}),
    ],
    ids=["right", "modes-reset", "table-of-loading", "thread-of-first-call"],
)
def test_modes_of_another_time(
    q8a8_test: Callable[..., Tested],
    library: Callable[[str], Path],
    before: str,
    modes: str,
    edits: tuple[tuple[str, str], ...],
    case: str,
    failed: set[str],
) -> None:
    """Flush modes that a program had while it loaded, or first called, a library make no difference later."""
    text = LIBRARY.replace("MODES", modes).replace("\n__attribute__", f"{before}\n__attribute__")
    for old, new in edits:
        text = text.replace(old, new)
    tested = q8a8_test(f"lib:{library(text)}", "--case", f"{case}/dequantize_row_q8_a8")
    assert tested.rules("fail") == failed, tested.out


@pytest.mark.parametrize(
    ("text", "edit", "case", "failed"),
    [
        (LIBRARY, ("(float)d", "(float)d * (deep[9] < 1e30f)"), "process/dequantize_row_q8_a8", {"ENV-2"}),
        (DOT_SOURCE, ("(int n,", "(int64_t n,"), "process/ggml_vec_dot_q8_a8_q8_a8", {"ENV-4"}),
    ],
    ids=["stack", "half-of-a-register"],
)
def test_what_nobody_has_cleared(
    q8a8_test: Callable[..., Tested],
    library: Callable[[str], Path],
    text: str,
    edit: tuple[str, str],
    case: str,
    failed: set[str],
) -> None:
    """A kernel takes its stack, or half a register, for zero: in some calls they are not."""
    deep = "float *deep = __builtin_alloca(12000); for (int64_t j"
    text = text.replace("MODES", "").replace("WRONG", "").replace("for (int64_t j", deep).replace(*edit)
    tested = q8a8_test(f"lib:{library(text)}", "--case", f"*/{case}")
    assert tested.rules("fail", "crashed") == failed, tested.out


def test_scales_of_every_kind_come_after_others(
    q8a8_test: Callable[..., Tested], library: Callable[[str], Path]
) -> None:
    """Subnormal scales that count as zero right after an empty row show: rows there have all scales."""
    read = "__builtin_memcpy(&dx, x, 2);"
    text = DOT_SOURCE.replace(read, f"{read} if (kept && !(x[1] & 0x7c)) dx = 0;")
    text = text.replace("static int calls;", "static int calls, kept;").replace("WRONG", "kept = n == 0;")
    tested = q8a8_test(f"lib:{library(text)}", "--case", "state/empty/ggml_vec_dot_q8_a8_q8_a8")
    assert tested.rules("fail") == {"ENV-2"}, tested.out


def test_memory_from_malloc_is_not_zero(library: Callable[[str], Path]) -> None:
    """Pieces of memory, which may hold zeros when they are new, hold large numbers in one process."""
    taken = "float *big = malloc(1 << 18), found = big[9]; free(big); for (int64_t j"
    text = LIBRARY.replace("MODES", "").replace("for (int64_t j", taken).replace("(float)d", "found")
    call = dequantize(filled(1, 1))
    worker = (sys.executable, "-m", "q8a8_conformance.worker", "lib", str(library(text)))
    with Session(worker) as session, session.sibling(DIRTY_MEMORY, one_processor=False) as other:
        for each, is_large in ((session, False), (other, True)):
            (result,) = each.call(call).outputs
            assert (np.frombuffer(result, np.float32) > 1e37).all() == is_large


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
    tested = q8a8_test(f"lib:{library(DOT_SOURCE.replace('WRONG', wrong))}", "--case", "dot/bias/plain")
    assert tested.rules("fail") == failed, tested.out


LEAK = """
#include <stdint.h>
#include <stdlib.h>
void dequantize_row_q8_a8(const void *x, float *y, int64_t k) {
    static _Thread_local float *scratch;
    static _Thread_local int64_t size;
    if (k > size) {
        free(scratch);
        scratch = malloc(k * sizeof *scratch);
        size = k;
    }
    for (int64_t j = 0; j < k; j++) {
        const uint8_t *block = (const uint8_t *)x + j / 32 * 34;
        _Float16 d;
        __builtin_memcpy(&d, block, 2);
        scratch[j] = (float)d * (float)(int8_t)block[2 + j % 32];
        y[j] = scratch[j];
    }
}
"""


def test_memory_of_threads_that_have_ended(
    q8a8_test: Callable[..., Tested], library: Callable[[str], Path]
) -> None:
    """What each thread keeps, and nothing frees when it ends, grows with their number."""
    tested = q8a8_test(f"lib:{library(LEAK)}", "--rules", "ENV-7")
    assert (tested.status, tested.report["verdict"]) == (1, "does-not-conform"), tested.out
    assert "ENV-7: Resources are kept for each thread that has called and ended." in tested.out


def test_a_side_effect_is_of_the_function_that_is_named() -> None:
    """Of two functions in several threads the one counts of which the worker says so."""
    target = Target(InProcessSession(make, [DEQUANTIZE, DOT]), "kernel", 1.0)  # type: ignore[arg-type]  # all of a session that it uses
    judge = Judge(target, Recipes(target), Recorder(), "a case", ("Q8A8-MEM-2",))
    other = specimen(DOT, 3)
    call = replace(specimen(DEQUANTIZE, 3), threads=2, together=Together(5, other=other))
    for detail in (f"memory next to s of thread 1 ({DOT}) was written", "memory next to y was written"):
        judge.record_faults(call, Result(Fault.WROTE_OUTSIDE, detail, ()))
    assert target.observations.side_effects == {
        (DOT, Fault.WROTE_OUTSIDE): [other],
        (DEQUANTIZE, Fault.WROTE_OUTSIDE): [call],
    }
