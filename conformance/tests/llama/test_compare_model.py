"""The command ``q8a8 compare-model`` on a small model: a wrong product is found at its place, and named."""

from __future__ import annotations

import math
import shlex
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from q8a8.llama import linear_names
from q8a8_conformance.cli import main
from q8a8_conformance.report.schema import parse
from q8a8_evaluation.commands import compare_model
from q8a8_evaluation.compare_backends import drift
from q8a8_lab import native_build
from q8a8_lab.mutation.native import argv

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.llama.conftest import Tiny, WriteTiny

PRODUCTS = 14
"""Two layers of seven linear operators."""

KERNELS = """
import os

import numpy as np
from q8a8.abi import Reference
from q8a8_conformance.mutants import matrix_float_activations


class Kernel:
    def mul_mat_q8_a8(self, m, n, k, w, x, out):
        Reference().mul_mat_q8_a8(m, n, k, w, x, out)
        self.spoil(m, n, k, out[: m * n].reshape(n, m))

    def spoil(self, m, n, k, out):
        pass


class One(Kernel):
    def spoil(self, m, n, k, out):
        if k == 96 and m == 64 and n > 5:
            out[5, 17] += 1


class NotANumber(Kernel):
    def spoil(self, m, n, k, out):
        if m == 32 and n > 2:
            out[2, 9] = np.nan


class Dies(Kernel):
    def spoil(self, m, n, k, out):
        if n > 3:
            os.abort()


class Floats:
    def mul_mat_q8_a8(self, m, n, k, w, x, out):
        if n < 12:
            os.abort()
        matrix_float_activations.mul_mat_q8_a8(m, n, k, w, x, out)


class Lacks:
    def dequantize_row_q8_a8(self, x, y, k):
        pass


one, not_a_number, dies, lacks, floats = One(), NotANumber(), Dies(), Lacks(), Floats()
"""


@pytest.fixture(scope="module")
def path(tiny: Tiny, write_tiny: WriteTiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of the tiny model."""
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    write_tiny(path, tiny)
    return path


@pytest.fixture
def compare(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, dict[str, Any], str]]:
    """Return a function that runs the command: exit status, JSON report, and text or errors."""
    (tmp_path / "kernels_of_a_test.py").write_text(KERNELS, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    report = tmp_path / "report.json"

    def run(*words: str, model: Path = path) -> tuple[int, dict[str, Any], str]:
        status = main(["compare-model", str(model), *words, "--tokens", "12", "--json", str(report)])
        out, err = capsys.readouterr()
        found = parse(report.read_bytes(), "report", "compare-model") if report.exists() else {}
        return status, found, out + err

    return run


def test_the_reference_beside_itself(
    compare: Callable[..., tuple[int, dict[str, Any], str]], tiny: Tiny
) -> None:
    """Every product has the specification's bits: nothing is outside, and no prediction drifts."""
    status, found, text = compare("ref", "reference")
    (side,) = found["sides"]
    assert (status, side["outside"], side["first"], side["recipe"]) == (0, 0, None, "design")
    assert len(side["products"]) == PRODUCTS
    assert side["error_over_quantization"] == 1.0
    (own, of_format) = found["drift"]
    assert (own["kl_mean"], own["kl_largest"], own["top1_changes"], own["tokens"]) == (0.0, 0.0, 0, 12)
    assert of_format["from"] == "float"
    assert of_format["kl_mean"] > 0
    # The file has matrices as F16, BF16 and Q8_0 in turn.
    numbers = [list(tiny.weights).index(name) % 3 for name in linear_names(tiny.config)]
    counts = {"F16": numbers.count(0), "BF16": numbers.count(1)}
    assert found["weights"] == {"stored": numbers.count(2), "quantized": counts}
    assert "weights quantized to Q8_A8 first, by the specification: " in text
    assert "all 14 products are within the bound" in text


def test_a_recipe_of_ggml_is_within_the_bound(
    compare: Callable[..., tuple[int, dict[str, Any], str]],
) -> None:
    """Codes differ by ones, and predictions a little; the recipe is named, on either side."""
    status, found, _ = compare("ref", "py:q8a8_conformance.mutants:matrix_rounds_even", "--head")
    a, b = found["sides"]
    assert (status, a["recipe"], a["outside"], b["side"]) == (0, "design", 0, "B")
    assert b["recipe"] in {"design", "ggml-avx2"}
    assert len(b["products"]) == PRODUCTS + 1
    assert [each["of"] for each in found["drift"]] == ["A", "B", "B", "reference"]


def test_activations_that_are_not_quantized(compare: Callable[..., tuple[int, dict[str, Any], str]]) -> None:
    """A device that keeps activations in float is outside everywhere, nearer to floats, and named."""
    status, found, text = compare("py:q8a8_conformance.mutants:matrix_float_activations", "reference")
    (side,) = found["sides"]
    assert (status, side["outside"], side["recipe"]) == (1, PRODUCTS, None)
    assert side["first"]["tensor"] == "blk.0.attn_q.weight"
    assert side["error_over_quantization"] < 1e-3
    assert [fact["fact"] for fact in side["facts"]] == ["activations:float32"]
    assert side["regimes"][0]["where"] == "every row of x"
    assert "activations:float32: Activations are kept in float32, and not quantized" in text


@pytest.mark.parametrize(
    ("kernel", "sizes", "said"),
    [
        (
            "q8a8_conformance.mutants:matrix_float_activations",
            [1, 12],
            "s a shape: q8a8 reveal looks at others",
        ),
        ("kernels_of_a_test:floats", [12], "a product of m = 32, n = 1, k = 256: "),
    ],
)
def test_a_device_whose_shapes_are_slow(
    compare: Callable[..., tuple[int, dict[str, Any], str]],
    monkeypatch: pytest.MonkeyPatch,
    kernel: str,
    sizes: list[int],
    said: str,
) -> None:
    """The shape that failed is named, whatever becomes of others."""
    monkeypatch.setattr(compare_model, "SLOW", 0.0)
    _, found, text = compare(f"py:{kernel}", "reference")
    (side,) = found["sides"]
    assert [fact["fact"] for fact in side["facts"]] == ["activations:float32"]
    wheres = [f"every row of x where n = {n}, of the sizes looked at" for n in sizes]
    assert [regime["where"] for regime in side["regimes"]] == wheres
    assert said in side["why"]
    assert f"   {side['why'].splitlines()[0]}" in text


def test_a_wrong_kernel_in_c(
    compare: Callable[..., tuple[int, dict[str, Any], str]], need: Callable[[object, str], None]
) -> None:
    """A tile's edge is wrong where 300 rows fill no tiles of eight: in the head alone, in its last rows."""
    try:
        command = argv("matrix-edge")
    except native_build.MissingToolError as error:
        need(False, str(error))
    status, found, text = compare(f"exec:{shlex.join(command)}", "reference", "--head")
    (side,) = found["sides"]
    first = side["first"]
    assert (status, side["outside"], first["tensor"], first["layer"]) == (1, 1, "output.weight", None)
    assert (first["outside"], first["of"]) == (3 * 12, 300 * 12)
    assert first["row"] in {297, 298, 299}
    assert [fact["fact"] for fact in side["facts"]] == ["outputs-of-other-rows"]
    assert "the first: output.weight (the head), 36 of 3600 outputs" in text


def test_one_wrong_output_is_found(compare: Callable[..., tuple[int, dict[str, Any], str]]) -> None:
    """Of all outputs of all products one is wrong: its tensor, layer, token and row are named."""
    status, found, text = compare("py:kernels_of_a_test:one", "reference")
    (side,) = found["sides"]
    first = side["first"]
    # attn_output and ffn_down have this shape, in both layers.
    assert (status, side["outside"]) == (1, 4)
    assert (first["tensor"], first["layer"]) == ("blk.0.attn_output.weight", 0)
    assert (first["token"], first["row"], first["outside"]) == (5, 17, 1)
    assert math.isclose(first["actual"], first["expected"] + 1, abs_tol=1e-6)
    assert "furthest at token 5, row 17" in text


def test_a_result_that_is_no_number(compare: Callable[..., tuple[int, dict[str, Any], str]]) -> None:
    """NaN in one output: the product is named, and where the backend's own run stops."""
    status, found, text = compare("py:kernels_of_a_test:not_a_number", "reference")
    (side,) = found["sides"]
    assert (status, side["first"]["tensor"], side["first"]["actual"]) == (1, "blk.0.attn_k.weight", None)
    assert (side["first"]["token"], side["first"]["row"]) == (2, 9)
    assert side["not_finite"]["tensor"] == "blk.0.attn_k.weight"
    assert (side["not_finite"]["token"], side["not_finite"]["row"]) == (2, 9)
    assert found["drift"][0]["kl_mean"] is None
    assert (
        "stop being numbers at blk.0.attn_k.weight: token 2, row 9: the product is nan, of a finite" in text
    )


@pytest.mark.parametrize(
    ("words", "expected", "said"),
    [
        (("py:kernels_of_a_test:dies", "reference"), 3, "a product of m = 96, n = 12, k = 64: "),
        (("py:kernels_of_a_test:lacks", "reference"), 4, "does not offer mul_mat_q8_a8"),
        (("ref", "exec:false"), 5, "ended"),
        (("ref", "what:is this"), 2, "is not a form of system under test"),
        (("ref", "reference", "--text", "no-such-text"), 2, "no-such-text"),
    ],
)
def test_exit_status(
    compare: Callable[..., tuple[int, dict[str, Any], str]], words: tuple[str, ...], expected: int, said: str
) -> None:
    """What ends a comparison has the status that it has of the other commands, and a reason."""
    status, _, text = compare(*words)
    assert status == expected
    assert said in text


def test_a_report_that_cannot_be_written(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is said before any work."""
    assert main(["compare-model", str(path), "ref", "reference", "--json", "/nowhere/a.json"]) == 2
    assert "--json /nowhere/a.json: " in capsys.readouterr().err


@pytest.mark.parametrize("name", ["blk.1.ffn_up.weight", "blk.1.ffn_norm.weight"])
def test_a_model_that_is_not_finite(
    name: str,
    tiny: Tiny,
    write_tiny: WriteTiny,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    compare: Callable[..., tuple[int, dict[str, Any], str]],
) -> None:
    """NaN in a weight: both commands about models name the tensor in which it is first seen."""
    weight = tiny.weights[name].copy()
    weight.flat[3] = np.nan
    path = tmp_path / "bad.gguf"
    write_tiny(path, type(tiny)(tiny.config, tiny.weights | {name: weight}, tiny.tokens))
    status, _, said = compare("ref", "reference", model=path)
    seen = "blk.1.ffn_up.weight: x: row 0, block 0, element 3: value nan"
    if name.endswith("norm.weight"):
        seen = "blk.1.ffn_gate.weight: x: row 0, block 0, element 3: value nan"
    assert status == 2
    assert seen in said
    text = tmp_path / "text.txt"
    text.write_text("the " * 64, encoding="utf-8")
    assert main(["perplexity", str(path), str(text), "--window", "8", "--windows", "1"]) == 2
    tensor = "blk.1.ffn_up.weight" if name.endswith("up.weight") else "blk.1.ffn_gate.weight"
    error = capsys.readouterr().err
    assert f"{tensor}: token 0, row 0: the product is nan, of " in error


def test_drift_beside_a_plain_sum() -> None:
    """KL and changes of hand-made logits, by `math` alone."""
    base, other = [[0.0, 1.0, -2.0], [3.0, 0.0, 0.0]], [[0.5, 0.25, -2.0], [3.0, 0.0, 0.0]]

    def log_softmax(row: list[float]) -> list[float]:
        total = math.log(math.fsum(math.exp(z) for z in row))
        return [z - total for z in row]

    p, q = log_softmax(base[0]), log_softmax(other[0])
    expected = math.fsum(math.exp(a) * (a - b) for a, b in zip(p, q, strict=True))
    found = drift(np.array(base, np.float32), np.array(other, np.float32))
    assert found is not None
    assert math.isclose(found.largest, expected, rel_tol=1e-12)
    assert math.isclose(found.mean, expected / 2, rel_tol=1e-12)
    assert (found.changes, found.tokens) == (1, 2)
    assert drift(np.array([[np.nan]], np.float32), np.array([[0.0]], np.float32)) is None
