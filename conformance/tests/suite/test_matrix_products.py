"""Kernels with a matrix product through the command: verdict, rules, places, warnings, the recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8_conformance.faults.catalogue import LEGAL, make
from q8a8_conformance.faults.matrices import MUTANTS
from q8a8_conformance.suite.wrong_outputs import describe
from q8a8_lab.mutation import judging

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Tested

OURS = "py:q8a8_conformance.mutants"


def test_the_reference_conforms(q8a8_test: Callable[..., Tested]) -> None:
    """Every rule about the matrix product passes, the warning's too."""
    tested = q8a8_test("ref", "--rules", "MUL-*")
    assert (tested.report["verdict"], tested.status) == ("conforms", 0), tested.out
    assert tested.rules("pass") == {f"MUL-{number}" for number in range(4, 10)}


def test_a_kernel_without_the_product_conforms(q8a8_test: Callable[..., Tested]) -> None:
    """The rules about a function that a kernel does not offer do not run, and count for nothing."""
    tested = q8a8_test("py:partial_kernels:OneQuantizer", "--rules", "MUL-*,QNT-5")
    assert (tested.report["verdict"], tested.status) == ("conforms", 0), tested.out
    assert tested.rules("not-run") == {f"MUL-{number}" for number in range(4, 10)}
    assert "does not offer mul_mat_q8_a8" in tested.out


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("environment/order/quantize_activation_q8_a8", "the calls"),
        ("mul-mat-calls/changed", "a call of dequantize_row_q8_a8"),
        ("mul-mat-calls/returns", "an empty product"),
    ],
)
def test_what_a_product_leaves_to_others_and_they_to_it(
    q8a8_test: Callable[..., Tested], case: str, said: str
) -> None:
    """A product and the functions of rows are called right after each other."""
    tested = q8a8_test("py:partial_kernels:Leaving", "--case", case)
    assert tested.rules("fail") == {"ENV-2"}, tested.out
    assert f"depends on {said} before" in tested.out


CAUSES = {"matrix_scale_of_row": "activations:int8-per-row"}
"""Names of arithmetics of products that are not the mutants'."""


@pytest.mark.parametrize(
    ("kernel", "rule", "said"),
    [
        ("matrix_tile_stale", "MUL-6", "they are the outputs of i - 8"),
        ("matrix_scale_of_row", "MUL-4", "out[0 * m + "),
    ],
)
def test_where_outputs_are_wrong(q8a8_test: Callable[..., Tested], kernel: str, rule: str, said: str) -> None:
    """The failure tells which outputs are wrong, and what they are; the diagnosis names the mistake."""
    tested = q8a8_test(f"{OURS}:{kernel}", "--case", "mul-mat/exact/*s")
    assert (tested.report["verdict"], tested.status) == ("does-not-conform", 1), tested.out
    assert tested.rules("fail") == {rule}, tested.out
    assert said in tested.out
    assert tested.causes("mul_mat_q8_a8") == [CAUSES.get(kernel, kernel.replace("_", "-"))]


@pytest.mark.parametrize(
    ("kernel", "cases"),
    [
        ("matrix-one-row-otherwise", {"n"}),
        ("matrix-edge-otherwise", {"m", "j"}),
        ("matrix-split-k", {"calls"}),
    ],
)
def test_what_bits_depend_on(kernel: str, cases: set[str]) -> None:
    """On what an output's bits depend is found out; where a call's own bits vary, on nothing else."""
    judged = judging.judge(kernel, lambda case: case.name.startswith("mul-mat/invariant/"))
    found = {name.rpartition("/")[2] for name in judged.failed["Q8A8-MUL-9"]}
    assert (found, set(judged.failed)) == (cases, {"Q8A8-MUL-9"})


def test_the_warning(q8a8_test: Callable[..., Tested]) -> None:
    """A kernel whose bits depend on more than two rows conforms, with a warning that tells on what."""
    tested = q8a8_test(f"{OURS}:matrix_one_row_otherwise", "--rules", "MUL-[79]")
    assert (tested.report["verdict"], tested.status) == ("conforms", 0), tested.out
    assert tested.rules("fail") == {"MUL-9"}
    assert [warning["slug"] for warning in tested.report["warnings"]] == ["batch-invariance:n"]
    assert "an output's bits depend on the number of rows of x" in tested.out


def test_recipes_of_ggml(q8a8_test: Callable[..., Tested]) -> None:
    """A recipe of ggml's conforms under the profile ggml, by name, and under no other."""
    tested = q8a8_test("py:partial_kernels:MatrixOfGgml", "--rules", "MUL-4", "--profile", "ggml")
    assert (tested.report["verdict"], tested.status) == ("conforms", 0), tested.out
    assert "mul_mat_q8_a8 is judged by the recipe ggml-avx2" in tested.out
    tested = q8a8_test("py:partial_kernels:MatrixOfGgml", "--case", "mul-mat/activations/blocks-1")
    assert (tested.report["verdict"], tested.rules("fail")) == ("does-not-conform", {"MUL-4"}), tested.out


def test_the_scalar_order_alone(q8a8_test: Callable[..., Tested]) -> None:
    """Under the profile exact another order is a failure of the sums."""
    tested = q8a8_test(f"{OURS}:matrix_blocks_reversed", "--case", "*/large", "--profile", "exact")
    assert tested.rules("fail") == {"MUL-5"}, tested.out
    tested = q8a8_test(f"{OURS}:matrix_blocks_reversed", "--case", "*/large")
    assert tested.causes("mul_mat_q8_a8") == ["order:revealed"], tested.out
    assert "every row of x: steps of 1 block, from the last to the first" in tested.out


def test_a_device_of_floats(q8a8_test: Callable[..., Tested]) -> None:
    """A product that does not quantize, in no way of the catalogue, is named by what it computes."""
    tested = q8a8_test("py:partial_kernels:MatrixOfFloats", "--case", "*/large")
    assert tested.rules("fail") == {"MUL-4"}, tested.out
    assert tested.causes("mul_mat_q8_a8") == ["activations:float32"], tested.out
    assert "Activations are kept in float32, and not quantized: every row of x; the error is" in tested.out


def test_a_kernel_that_dies_elsewhere(q8a8_test: Callable[..., Tested]) -> None:
    """A product that fails where the environment asks for threads is reported."""
    tested = q8a8_test("py:partial_kernels:MatrixOfOneThread", "--case", "*/threads-3")
    assert tested.rules("fail") == {"MUL-9", "ENV-2"}
    assert "does not return where the environment asks for 3 threads" in tested.out


def test_threads_of_the_environment(q8a8_test: Callable[..., Tested]) -> None:
    """A product that is split by the number of threads is reported as dependent on it."""
    tested = q8a8_test("py:partial_kernels:MatrixByThreads", "--case", "*/threads-3")
    assert [w["slug"] for w in tested.report["warnings"]] == ["batch-invariance:threads-3"], tested.out


def test_alignment_of_a_product(q8a8_test: Callable[..., Tested]) -> None:
    """A product that is wrong at some addresses fails the rule about alignment."""
    tested = q8a8_test("py:partial_kernels:MatrixOfWords", "--rules", "MEM-4")
    assert "MEM-4" in tested.rules("fail"), tested.out


def test_overlapping_products(q8a8_test: Callable[..., Tested]) -> None:
    """A product with a static buffer fails the rule about threads."""
    tested = q8a8_test("py:partial_kernels:MatrixWithScratch", "--rules", "ENV-3")
    assert tested.rules("fail") == {"ENV-3"}, tested.out


@pytest.mark.parametrize("slug", [*(mutant.slug for mutant in MUTANTS), "matrix-blocks-reversed"])
def test_products_without_rows(slug: str) -> None:
    """A mutant's product of no rows, or of no elements, returns."""
    kernel = make(slug)
    for m, n, k in ((0, 0, 0), (0, 2, 32), (2, 0, 32), (2, 3, 0)):
        w, x = np.zeros(34 * m * k // 32, np.uint8), np.zeros(n * k, np.float32)
        kernel.mul_mat_q8_a8(m, n, k, w, x, np.zeros(n * m, np.float32))
    assert slug not in LEGAL or LEGAL[slug].why


def test_places_in_words() -> None:
    """Wrong outputs are told by runs of rows and columns, and by what stands in their place."""
    right = np.arange(40, dtype=np.float32).reshape(4, 10)

    def told(actual: np.ndarray) -> str:
        return describe(np.asarray(actual, np.float32), right, actual != right)

    assert "they are out[j * n + i]: the result is transposed" in told(right.T.reshape(4, 10))
    shifted = right.copy()
    shifted[1:, 1:] = right[:-1, :-1]
    assert told(shifted).endswith("they are the outputs of i - 1 and j - 1")
    first = right.copy()
    first[[1, 3]] = right[0]
    assert told(first).endswith("they are the outputs of i = 0")
    spread = right.copy()
    spread[0, ::2] = -1
    assert told(spread) == (
        "5 of 40 outputs, m = 10, n = 4: i = 0, j = 0, 2, 4, 6 and more; out[0 * m + 0] is -1, expected 0"
    )
