"""The ABI as data agrees with the C prototypes."""

from __future__ import annotations

import pytest

from q8a8_conformance.spec.abi import FUNCTIONS, NAMES, buffer_sizes, get_function

PROTOTYPES = """
void quantize_row_q8_a8_ref(const float *x, void *y, int64_t k);
void quantize_row_q8_a8(const float *x, void *y, int64_t k);
void dequantize_row_q8_a8(const void *x, float *y, int64_t k);
void quantize_activation_q8_a8(const float *input, int8_t *output, uint16_t *scale, int size);
void ggml_vec_dot_q8_a8_q8_a8(int n, float *s, size_t bs, const void *vx, size_t bx, \
const void *vy, size_t by, int nrc);
void ggml_vec_dot_q8_a8_q8_a8_real(int n, float *s, const void *vx, const void *vy);
void mul_mat_q8_a8(int64_t m, int64_t n, int64_t k, const void *w, const float *x, float *out);
"""


def test_prototypes_are_the_contract() -> None:
    """The table has the prototypes that third-party kernels implement."""
    assert [function.prototype for function in FUNCTIONS] == PROTOTYPES.strip().splitlines()


def test_numbers_are_indices() -> None:
    """A function's number is its index; it is found by number and by name."""
    for place, function in enumerate(FUNCTIONS):
        assert function.number == place
        assert get_function(place) is get_function(NAMES[place]) is function


@pytest.mark.parametrize(
    ("name", "inputs", "outputs"),
    [
        ("quantize_row_q8_a8_ref", ["x"], ["y"]),
        ("quantize_row_q8_a8", ["x"], ["y"]),
        ("dequantize_row_q8_a8", ["x"], ["y"]),
        ("quantize_activation_q8_a8", ["input"], ["output", "scale"]),
        ("ggml_vec_dot_q8_a8_q8_a8", ["vx", "vy"], ["s"]),
        ("ggml_vec_dot_q8_a8_q8_a8_real", ["vx", "vy"], ["s"]),
        ("mul_mat_q8_a8", ["w", "x"], ["out"]),
    ],
)
def test_roles(name: str, inputs: list[str], outputs: list[str]) -> None:
    """A pointer to const is an input, any other pointer an output."""
    function = get_function(name)
    assert [function.buffers[place].name for place in function.inputs] == inputs
    assert [function.buffers[place].name for place in function.outputs] == outputs


@pytest.mark.parametrize(
    ("name", "arguments", "sizes"),
    [
        ("quantize_row_q8_a8", {"n": 64}, (256, 68)),
        ("quantize_row_q8_a8_ref", {"n": 0}, (0, 0)),
        ("dequantize_row_q8_a8", {"n": 96}, (102, 384)),
        ("quantize_activation_q8_a8", {"n": 5}, (20, 5, 2)),
        ("quantize_activation_q8_a8", {"n": 0}, (0, 0, 2)),
        ("ggml_vec_dot_q8_a8_q8_a8", {"n": 64, "bs": 9, "bx": 9, "by": 9}, (4, 68, 68)),
        # s[bs + 1] is the last float; the second rows start bx and by bytes in.
        ("ggml_vec_dot_q8_a8_q8_a8", {"n": 64, "bs": 3, "bx": 70, "by": 100, "nrc": 2}, (20, 138, 168)),
        ("ggml_vec_dot_q8_a8_q8_a8_real", {"n": 64}, (4, 72, 72)),
        # bs is m, bx is n.
        ("mul_mat_q8_a8", {"n": 64, "bs": 3, "bx": 5}, (204, 1280, 60)),
        ("mul_mat_q8_a8", {"n": 0, "bs": 3, "bx": 5}, (0, 0, 60)),
    ],
)
def test_sizes(name: str, arguments: dict[str, int], sizes: tuple[int, ...]) -> None:
    """The buffer sizes follow from a call's integers."""
    assert buffer_sizes(name, **arguments) == sizes


@pytest.mark.parametrize("which", ["quantize_row_q8_0", -1, 7])
def test_unknown_functions_are_refused(which: str | int) -> None:
    """An unknown name and a number out of range raise KeyError."""
    with pytest.raises(KeyError, match="no ABI function"):
        get_function(which)
