"""Products, sums and functions in an order of our own: right, and the same on every machine."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest

from q8a8.arithmetic import cos_sin, exp, is_own, log, matmul, own_order, power, row_sums, tanh

RANDOM = np.random.default_rng(12)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 5), (4, 576, 7), (2, 1536, 3), (3, 0, 2)])
def test_products(shape: tuple[int, int, int]) -> None:
    """Off the exact sum by no more than the left-out products, then rounded to float32 once."""
    t, k, m = shape
    a = (RANDOM.standard_normal((t, k)) * np.exp(3 * RANDOM.standard_normal((t, k)))).astype(np.float32)
    b = (RANDOM.standard_normal((k, m)) * np.exp(3 * RANDOM.standard_normal((k, m)))).astype(np.float32)
    with own_order():
        wide, narrow = matmul(a, b, wide=True), matmul(a, b)
    assert np.array_equal(narrow, wide.astype(np.float32))
    bits = (53 - max(k - 1, 0).bit_length()) // 2
    for i in range(t):
        for j in range(m):
            exact = sum(
                (Fraction(float(x)) * Fraction(float(y)) for x, y in zip(a[i], b[:, j], strict=True)),
                Fraction(),
            )
            # Units are at most twice the largest element; A2·B2, both last roundings, and one of the sum.
            largest = 4 * float(np.abs(a[i]).max(initial=0)) * float(np.abs(b[:, j]).max(initial=0))
            bound = k * largest * 2.0 ** (-2 * bits) + abs(float(exact)) * 2.0**-52
            assert abs(Fraction(float(wide[i, j])) - exact) <= Fraction(bound)


def test_many_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product by parts of its columns has the bits of the whole."""
    a, b = RANDOM.standard_normal((4, 65)), RANDOM.standard_normal((65, 11))
    a, b = a.astype(np.float32), b.astype(np.float32)
    with own_order():
        whole = matmul(a, b), matmul(a, b, wide=True)
        monkeypatch.setattr("q8a8.arithmetic._COLUMNS", 4)
        parts = matmul(a, b), matmul(a, b, wide=True)
    assert all(np.array_equal(*pair) for pair in zip(whole, parts, strict=True))


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
