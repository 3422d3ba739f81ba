"""Smoke reports errors in a kernel's setup, and passes every kernel that is about right."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from typing import TYPE_CHECKING

import jsonschema
import pytest

from q8a8 import Reference
from q8a8_conformance.cli import main
from q8a8_conformance.commands import smoke
from q8a8_conformance.protocol.messages import Fault
from q8a8_conformance.report.schema import load_schema
from q8a8_conformance.smoke import probes, stages, symptoms

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

QUANTIZE, DEQUANTIZE, DOT = "quantize_row_q8_a8", "dequantize_row_q8_a8", "ggml_vec_dot_q8_a8_q8_a8"

C_KERNELS = """
#include <stdint.h>
#include <string.h>
#include <stddef.h>
static int ready;
void ggml_cpu_init(void) { ready = 1; }
static const float TABLE[1] = { VALUE };
void ggml_vec_dot_q8_0_q8_0(int n, float *s, size_t bs, const void *vx, size_t bx, const void *vy,
                            size_t by, int nrc) { *s = ready ? TABLE[0] : 0.0f; }
void quantize_row_q8_a8(void *y, const float *x, int64_t k) { memset(y, 1, 4); }
void dequantize_row_q8_a8(const void *x, float *y, int64_t k) { }
void quantize_activation_q8_a8(const float *x, int8_t *q, uint16_t *s, int n) { __builtin_trap(); }
"""


@pytest.fixture(scope="module")
def wrong_library(tmp_path_factory: pytest.TempPathFactory, need: Callable[[object, str], None]) -> Path:
    """Return a library that needs to be initialized, and whose other functions are wrong."""
    compiler = shutil.which("cc")
    need(compiler, "no C compiler")
    folder = tmp_path_factory.mktemp("smoke")
    source = folder / "wrong.c"
    source.write_text(C_KERNELS.replace("VALUE", f"{probes.DOT_VALUE}f"), encoding="utf-8")
    library = folder / "libwrong.so"
    command = [str(compiler), "-shared", "-fPIC", "-o", str(library), str(source)]
    subprocess.run(command, check=True, timeout=60)
    return library


def lines_of(text: str, name: str) -> str:
    """Return a stage's lines: from its name to the next stage."""
    head = next(line for line in text.splitlines() if f" {name}  " in f"{line}  ")
    after = text.partition(head)[2].lstrip("\n").splitlines()
    more = []
    for line in after:
        if not line.startswith("           "):
            break
        more.append(line.strip())
    return " ".join([head.strip(), *more])


def test_reference_passes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The reference passes all stages; the JSON matches its schema; the next command is printed."""
    path = tmp_path / "smoke.json"
    assert main(["smoke", "ref", "--json", str(path)]) == 0
    out = capsys.readouterr().out
    assert "test it: q8a8 test ref" in out
    document = json.loads(path.read_text(encoding="utf-8"))
    jsonschema.validate(document, load_schema("smoke"))
    assert [stage["status"] for stage in document["stages"]] == ["pass"] * 9


@pytest.mark.parametrize("kernel", ["round_half_even", "order_avx2", "recipe_ggml_avx2", "fp16_accumulator"])
def test_wrong_kernels_pass(kernel: str) -> None:
    """A wrong rounding or order is not an error of the setup."""
    assert main(["smoke", f"py:q8a8_conformance.mutants:{kernel}"]) == 0


def test_missing_init(wrong_library: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Zeros from a library with ggml's init get the hint --init, with which the dot product is right."""
    words = ["smoke", f"lib:{wrong_library}", "--symbol", f"{DOT}=ggml_vec_dot_q8_0_q8_0"]
    assert main(words) == 3
    out = capsys.readouterr().out
    assert "did you forget --init ggml_cpu_init?" in lines_of(out, DOT)
    main([*words, "--init", "ggml_cpu_init"])
    assert lines_of(capsys.readouterr().out, DOT).startswith("pass")


def test_wrong_bindings(wrong_library: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exchanged arguments, a function that writes nothing and one that crashes are reported."""
    assert main(["smoke", f"lib:{wrong_library}"]) == 3
    out = capsys.readouterr().out
    assert "wrote into its input" in lines_of(out, QUANTIZE)
    assert "wrote nothing into y" in lines_of(out, DEQUANTIZE)
    assert lines_of(out, "quantize_activation_q8_a8").startswith("crashed")
    assert "0 of 3 functions are about right" in out


def test_a_kernel_that_aborts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where a kernel ends its process, as without a driver, its own words are the hint, given once."""
    body = "import os\nclass K:\n    def dequantize_row_q8_a8(self, x, y, k):\n"
    body += "        os.write(2, b'no driver\\n')\n        os.abort()\n"
    body += "    def quantize_row_q8_a8(self, x, y, k):\n        self.dequantize_row_q8_a8(x, y, k)\n"
    (tmp_path / "aborting.py").write_text(body, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    assert main(["smoke", "py:aborting:K"]) == 3
    out = capsys.readouterr().out
    assert out.count("stderr: no driver") == 2
    assert out.count("says why on standard error") == out.count("→ as above") == 1


def test_library_without_abi_functions(
    wrong_library: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A library without ABI functions is status 4, with similar names in its file."""
    bare = tmp_path / "libbare.so"
    source = tmp_path / "bare.c"
    source.write_text("void ggml_vec_dot_q8_0_q8_0(void) {}\n", encoding="utf-8")
    compiler = shutil.which("cc")
    assert compiler, wrong_library
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(bare), str(source)], check=True)
    assert main(["smoke", f"lib:{bare}"]) == 4
    assert "ggml_vec_dot_q8_0_q8_0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [
        ("print('hello, this is no protocol')", 5, "standard output is for frames only"),
        ("pass", 5, "ended at once"),
        ("import sys; sys.stderr.write('needs sve2'); sys.exit(77)", 4, "needs sve2"),
        ("import no_such_module", 5, "set PYTHONPATH"),
        ("import time; time.sleep(60)", 5, "flush"),
    ],
)
def test_workers_that_do_not_start(
    code: str, status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A worker that sends no hello is reported with a hint."""
    assert main(["smoke", f'exec:{sys.executable} -c "{code}"', "--timeout", "2"]) == status
    assert words in " ".join(capsys.readouterr().out.split())


def test_a_program_that_an_emulator_does_not_find(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """QEMU says nothing of a program that is not there: the hint names it."""
    emulator = tmp_path / "qemu-aarch64"
    emulator.write_text("#!/bin/sh\nexit 1\n")
    emulator.chmod(0o755)
    assert main(["smoke", f"exec:{emulator} -L {tmp_path} build/q8a8-harness i8mm"]) == 5
    assert "there is no file build/q8a8-harness" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["kernel.so"], ["lib:/nowhere"], ["ref", "--json", "/nowhere/x"], []])
def test_wrong_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong usage is exit status 2 with a sentence on standard error."""
    assert main(["smoke", *words]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert "Traceback" not in err


def test_probes_equal_the_reference() -> None:
    """The expected bytes of the quantizers and of the matrix product equal the reference's."""
    reference = Reference()
    import numpy as np  # noqa: PLC0415 -- the probes themselves need none

    for probe in probes.probes(probes.QUANTIZERS):
        x = np.frombuffer(probe.call.buffers[0].data, "<f4")
        y = np.zeros(68, np.uint8)
        reference.quantize_row_q8_a8(x, y, 64)
        assert y.tobytes() == probe.expected["y"]
    (probe,) = probes.probes([probes.MUL_MAT])
    w, x = (
        np.frombuffer(buffer.data, dtype)
        for buffer, dtype in zip(probe.call.buffers, ("u1", "<f4"), strict=False)
    )
    out = np.zeros(4, np.float32)
    reference.mul_mat_q8_a8(2, 2, 64, w, x, out)
    assert out.tobytes() == probe.expected["out"]
    assert probes.DOT_VALUE not in {0.0, float(sum(probes.SUMS))}


def packed(scale: bytes, codes: Callable[[int], int] = lambda q: q) -> bytes:
    """Return two blocks with the first scale's bytes replaced, and codes changed."""
    first = scale + bytes(codes(q) & 255 for q in probes.FIRST)
    return (first + probes.ROW[34:])[:68]


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (packed(b"\x3c\x00"), "high byte first"),
        (packed(b"\x01\x00"), "integer 1"),
        (packed(b"\x80\x3f"), "bfloat16"),
        (packed(struct.pack("<f", 1.0)), "four bytes"),
        (probes.ROW[2:34] + probes.ROW[:2] + probes.ROW[34:], "codes come before the scale"),
        (packed(b"\x00\x3c", lambda q: q + 128), "offset by 128"),
        (probes.ROW[:34], "number of blocks"),
        (struct.pack("<e32b", 2.0, *(q // 2 for q in probes.FIRST)) + probes.ROW[34:], "its own scale"),
        (probes.ROW[:34] + b"\x11" * 34, "34 bytes apart"),
        (bytes(68), "init"),
        (b"", "wrote nothing"),
        (probes.ROW + b"\x22" * 4, "count elements"),
    ],
)
def test_symptoms_of_quantizers(y: bytes, words: str) -> None:
    """The cause of a quantizer's wrong output is found from its bytes."""
    (probe,) = probes.probes((QUANTIZE,))
    before = probe.before("y")
    seen = symptoms.look(probe, {"y": y + before[len(y) :]}, Fault(0), "init")
    assert seen
    assert words in f"{seen.message}: {seen.hint}"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (sum(probes.SUMS), "scales are missing"),
        (0.5 * probes.SUMS[0], "only the first block"),
        (8.0 * probes.SUMS[1], "only the last block"),
        (probes.SUMS[0] + 2 * probes.SUMS[1], "only the first row's"),
        (float("nan"), "wrong place"),
        (-probes.DOT_VALUE, "sign"),
        (12345.0, "cause unknown"),
    ],
)
def test_symptoms_of_dot_products(value: float, words: str) -> None:
    """The cause of a wrong dot product is found from its value."""
    (probe,) = probes.probes((DOT,))
    seen = symptoms.look(probe, {"s": struct.pack("<f", value)}, Fault(0), "init")
    assert seen
    assert words in f"{seen.message}: {seen.hint}"


def test_symptoms_of_matrix_products() -> None:
    """A result that is transposed, or partly unwritten, is reported as such."""
    (probe,) = probes.probes((probes.MUL_MAT,))
    a, b, *_ = probes.PRODUCTS
    for values, words in (
        ((a, -a, b, -b), "transposed"),
        ((a, a, a, a), "in other places"),
        ((1, 1, 1, 1), "unknown"),
    ):
        seen = symptoms.look(probe, {"out": struct.pack("<4f", *values)}, Fault(0), "")
        assert seen
        assert words in seen.hint


def test_symptoms_of_dequantizers() -> None:
    """A dequantizer that omits the scale, or the second block, is reported."""
    (probe,) = probes.probes((DEQUANTIZE,))
    before, right = probe.before("y"), probe.expected["y"]
    bare = struct.pack("<64f", *(*probes.FIRST, *probes.SECOND))
    for written, words in ((bare, "not multiplied"), (right[:128], "was not written")):
        seen = symptoms.look(probe, {"y": written + before[len(written) :]}, Fault(0), "")
        assert seen
        assert words in seen.hint
    assert symptoms.look(probe, {"y": right + before[256:]}, Fault(0), "") is None


def test_failed_start() -> None:
    """The conclusion of a failed start is that no kernel was reached."""
    from q8a8_conformance.protocol.sut import parse_sut  # noqa: PLC0415
    from q8a8_conformance.results.record import Status  # noqa: PLC0415

    stage = stages.Stage("start", Status.CRASHED, "it died", "look here")
    text = smoke.render(stages.Smoke(parse_sut("ref"), (stage,)))
    assert "no kernel was reached" in text
    assert "→ look here" in text
