"""Products, sums and functions in an order of our own: right, and the same on every machine."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8 import arithmetic
from q8a8.arithmetic import cos_sin, exp, is_own, log, matmul, own_order, power, row_sums, tanh
from q8a8_golden import oracle

if TYPE_CHECKING:
    from numpy.typing import NDArray

    F32 = NDArray[np.float32]

RANDOM = np.random.default_rng(12)


def rounded_once(a: F32, b: F32) -> F32:
    """Return the products of matrices, each the exact sum rounded to float32 by the oracle, no -0."""
    exact = [
        sum((Fraction(float(x)) * Fraction(float(y)) for x, y in zip(row, column, strict=True)), Fraction())
        for row in a
        for column in b.T
    ]
    bits = np.array([oracle.nearest(number, oracle.F32) for number in exact], np.uint32)
    return np.asarray(bits.view(np.float32).reshape(len(a), b.shape[1]) + np.float32(0))


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 5), (4, 577, 7), (2, 1536, 3), (3, 0, 2)])
def test_products(shape: tuple[int, int, int]) -> None:
    """The exact sum, rounded to float32 once."""
    t, k, m = shape
    a = (RANDOM.standard_normal((t, k)) * np.exp(3 * RANDOM.standard_normal((t, k)))).astype(np.float32)
    b = (RANDOM.standard_normal((k, m)) * np.exp(3 * RANDOM.standard_normal((k, m)))).astype(np.float32)
    with own_order():
        assert np.array_equal(matmul(a, b), rounded_once(a, b))
    assert np.array_equal(matmul(a, b, wide=True), a.astype(np.float64) @ b)


def test_products_of_few_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums of FP8 numbers lie on a tie one time in four: their unit says so, hardly one is summed exactly."""
    summed: list[int] = []
    exact_sum = arithmetic._exact_sum

    def counting(terms: list[float]) -> np.float32:
        summed.append(len(terms))
        return exact_sum(terms)

    monkeypatch.setattr(arithmetic, "_exact_sum", counting)
    k, every = 96, np.ldexp(np.arange(8, 16)[:, np.newaxis], np.arange(4)).reshape(-1)
    a, b = ((RANDOM.choice(every, shape) * RANDOM.choice([-1, 1], shape)) for shape in ((60, k), (k, 70)))
    # Large products leave few bits to the small ones.
    a[:, 0], b[0] = 2.0**12, 2.0**13
    a[5], b[:, 7] = 0, 0
    a, b = a.astype(np.float32), b.astype(np.float32)
    with own_order():
        assert np.array_equal(matmul(a, b), rounded_once(a, b))
    assert len(summed) < 100


def test_products_beside_a_tie() -> None:
    """Sums on a tie of float32, and beside it by less than float64 shows, down to the least product."""
    tie = [1.0, 2.0**-24]
    ends = [0.0, 2.0**-40, 2.0**-60, 2.0**-120, 2.0**-149]
    rows = []
    for one in (0.0, 2.0**-23):  # ties that go down, and up
        for end in ends:
            for sign in (1.0, -1.0):
                # 300 terms cancel in pairs, and are larger than the rest.
                noise = np.repeat(RANDOM.standard_normal(150) * 4, 2) * np.tile([1, -1], 150)
                rows.append(np.array([*tie, one, sign * end, *noise], np.float32))
    a = np.array(rows)
    b = np.ones((a.shape[1], 4), np.float32)
    b[3] = 1, -1, 2.0**-149, 0
    order = RANDOM.permutation(len(b))
    a, b = np.concatenate([a, -a])[:, order], b[order]
    expected = rounded_once(a, b)
    with own_order():
        assert np.array_equal(matmul(a, b), expected)
    # A float64 BLAS alone does not find them.
    assert not np.array_equal(matmul(a, b, wide=True).astype(np.float32), expected)


def test_products_at_the_ends() -> None:
    """Overflow is infinite, what underflows is subnormal or +0, and so is what cancels, whatever its sign."""
    largest, least = float(np.finfo(np.float32).max), 2.0**-149
    a = np.array(
        [[largest, largest], [least, 0], [-least, 0], [1, -1], [-0.0, 0], [least, least]], np.float32
    )
    b = np.array([[1, 0.5], [1, 0.5]], np.float32)
    expected = [[np.inf, largest], [least, 0], [-least, 0], [0, 0], [0, 0], [2 * least, least]]
    with own_order():
        found = matmul(a, b)
    assert found.tolist() == expected
    assert not np.signbit(found[found == 0]).any()


def test_many_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product by parts of its columns, and by other parts of its terms, has the bits of the whole."""
    a, b = RANDOM.standard_normal((4, 65)), RANDOM.standard_normal((65, 11))
    a, b = a.astype(np.float32), b.astype(np.float32)
    with own_order():
        whole = matmul(a, b)
        monkeypatch.setattr("q8a8.arithmetic._COLUMNS", 4)
        monkeypatch.setattr("q8a8.arithmetic._TERMS", 7)
        assert np.array_equal(matmul(a, b), whole)


def test_batches_and_other_arguments() -> None:
    """Axes before the last two are batches; float64 and numbers that are not finite go the machine's way."""
    a, b = (RANDOM.standard_normal((2, 4, 4)).astype(np.float32) for _ in range(2))
    with own_order():
        both = matmul(a, b)
        for i in range(2):
            assert np.array_equal(both[i], matmul(a[i], b[i]))
        wide = a.astype(np.float64)
        assert np.array_equal(matmul(wide, wide), wide @ wide)
        a[0, 0, 0] = np.inf
        with np.errstate(invalid="ignore"):
            assert np.array_equal(matmul(a, b), a @ b, equal_nan=True)
    assert np.array_equal(matmul(b, b), b @ b)


def test_functions() -> None:
    """Within an ULP or two of float64 at 40 digits, ends included."""
    x = np.concatenate([RANDOM.uniform(-700, 700, 200), [0.0, -0.0, 1.0, -745.0, 709.7, 1e-300]])
    near = np.concatenate([np.exp(RANDOM.uniform(-600, 600, 200)), [1.0, 1 + 2**-52, 0.5, 2.0**-1074]])
    with own_order():
        exps, logs, curves = exp(x), log(near), tanh(x / 50)
        powers = power(near, 0.3)
        assert exp(np.array([-np.inf, np.inf, -800.0])).tolist() == [0.0, np.inf, 0.0]
        assert log(np.zeros(1)).tolist() == [-np.inf]
        assert power(np.zeros(1), 0.5).tolist() == [0.0]
        assert power(np.zeros(1), 0).tolist() == [1.0]
    assert [part.tolist() for part in cos_sin(np.zeros(1))] == [[1.0], [0.0]]
    with localcontext() as context:
        context.prec = 40
        for value, found in zip(x, exps, strict=True):
            assert (
                abs(Decimal(float(found)) / Decimal(float(value)).exp() - 1) < Decimal(2) ** -51
                or found < 1e-300
            )
        for value, found, raised in zip(near, logs, powers, strict=True):
            exact = Decimal(float(value)).ln()
            assert abs(Decimal(float(found)) - exact) <= abs(exact) * Decimal(2) ** -51
            assert abs(Decimal(float(raised)) / (exact * Decimal(float("0.3"))).exp() - 1) < Decimal(2) ** -43
    assert np.abs(curves - [math.tanh(value) for value in x / 50]).max() < 1e-15
    angles = np.concatenate([RANDOM.uniform(0, 131072, 300), [0, np.pi / 2, np.pi, 1e-8]])
    with own_order():
        cosines, sines = cos_sin(angles)
    assert np.abs(cosines - [math.cos(angle) for angle in angles]).max() < 3e-16
    assert np.abs(sines - [math.sin(angle) for angle in angles]).max() < 3e-16


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 64, 577])
def test_sums(n: int) -> None:
    """One tree of halves, with the odd one waiting."""
    x = RANDOM.standard_normal((3, n)).astype(np.float32)

    def tree(values: list[float]) -> float:
        while len(values) > 1:
            half = (len(values) + 1) // 2
            values = [
                v + values[half + i] if half + i < len(values) else v for i, v in enumerate(values[:half])
            ]
        return values[0] if values else 0.0

    with own_order():
        assert is_own()
        assert row_sums(x)[:, 0].tolist() == [
            float(np.float32(tree(row))) for row in x.astype(float).tolist()
        ]
    assert not is_own()


CHILD = """
import hashlib, sys
import numpy as np
from q8a8.arithmetic import own_order
from q8a8.llama import Config, Model
from q8a8.llama.tensors import expected_shapes
from q8a8_evaluation.likelihood import negative_log_likelihoods
config = Config(n_layers=2, n_heads=6, n_kv_heads=2, d_model=96, d_head=16, d_ff=160, n_vocab=300, eps=1e-5)
random = np.random.Generator(np.random.PCG64(4))
weights = {
    name: (random.integers(-99, 99, shape) / 256 + (len(shape) == 1)).astype(np.float32)
    for name, shape in expected_shapes(config).items()
}
tokens = random.integers(0, 300, 40)
for own in (True, False):
    if own:
        with own_order():
            z = Model(config, weights).forward(tokens)
            nll = negative_log_likelihoods(z[:-1], tokens[1:])
    else:
        z = Model(config, weights).forward(tokens)
        nll = negative_log_likelihoods(z[:-1], tokens[1:])
    print(hashlib.sha256(z.tobytes() + nll.tobytes()).hexdigest())
"""

KERNELS = ("Nehalem", "Sandybridge", "Haswell")
SWITCHED_OFF = "AVX512F AVX512CD AVX512_SKX AVX2 FMA3 X86_V3 X86_V4"


def test_every_machine_has_the_same_bits() -> None:
    """BLAS kernels of three kinds of processor, with NumPy's own loops as they are and for old ones."""
    found = []
    for kernel, off in ((KERNELS[0], SWITCHED_OFF), (KERNELS[1], ""), (KERNELS[2], "")):
        env = os.environ | {"OPENBLAS_CORETYPE": kernel, "NPY_DISABLE_CPU_FEATURES": off}
        command = [sys.executable, "-W", "ignore", "-c", CHILD]
        done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
        found.append(done.stdout.split())
    assert len({own for own, _ in found}) == 1
    assert len(found[0][0]) == len(hashlib.sha256().hexdigest())
    if sys.platform == "linux" and os.uname().machine == "x86_64":
        # The machine's way is not: the test would notice.
        assert len({machine for _, machine in found}) > 1
