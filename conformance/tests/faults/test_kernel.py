"""The kernel whose steps are data: unchanged it is the reference, and changes concern what they name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8.abi import Reference
from q8a8_conformance import mutants
from q8a8_conformance.faults.kernel import FUNCTIONS_OF_STEP, STEP_NAMES, Kernel
from q8a8_conformance.inputs import blocks, dot_rows, mul_mat_rows
from q8a8_conformance.inputs import calls as requests
from q8a8_conformance.spec.abi import NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call


def outputs(kernel: object, call: Call) -> list[bytes]:
    """Make a call of an object, in plain arrays, and give its output buffers."""
    dtypes = {"f32": np.float32, "i8": np.int8, "f16": np.uint16}
    arrays = [
        np.frombuffer(bytearray(buffer.data), dtypes.get(spec.element, np.uint8))
        for spec, buffer in zip(call.spec.buffers, call.buffers, strict=True)
    ]
    held = iter(arrays)
    arguments = [getattr(call, p.field) if p.element is None else next(held) for p in call.spec.parameters]
    getattr(kernel, call.function)(*arguments)
    return [arrays[index].tobytes() for index in call.spec.outputs]


def calls() -> Iterator[Call]:
    """Yield calls of every function on data on which kernels differ."""
    for function in requests.QUANTIZERS:
        yield from (requests.quantize(function, make().reshape(-1)) for make, _ in blocks.SETS.values())
        yield requests.quantize(function, np.empty(0, np.float32))
    for size in (0, 1, 31, 32, 33, 257):
        yield requests.activation(blocks.gaussian(20).reshape(-1)[:size])
    yield from (requests.activation(row) for row in blocks.survey()[::40])
    for m, n, nb in ((0, 3, 2), (3, 0, 2), (3, 2, 0), (1, 1, 1), (5, 7, 9), (33, 3, 65)):
        yield requests.mul_mat(*mul_mat_rows.model(m, n, nb))
        yield requests.mul_mat(*mul_mat_rows.exact(m, n, nb))
    yield requests.mul_mat(mul_mat_rows.one_hot(1), mul_mat_rows.edges())
    scales = np.delete(np.arange(1 << 16), np.r_[0x7C00:0x8000, 0xFC00:0x10000]).astype(np.uint16)
    codes = dot_rows.generator("mutants").integers(-128, 128, (len(scales), 32))
    yield requests.dequantize(dot_rows.blocks(scales.view(np.float16), codes))
    for nb in (0, 1, 2, 3, 7, 8, 64, 257):
        for x, y in (dot_rows.random_pair(nb, low=-128), dot_rows.wide_pair(nb), dot_rows.exact_pair(nb)):
            yield requests.dot(x, y)
            yield requests.dot_real(*dot_rows.to_v2(x, y, unused=0x7E00))
            yield requests.dot_pair(np.stack([x, y]), np.stack([y, x]), bs=5, x_gap=34, y_gap=2)


def test_unchanged_it_is_the_reference() -> None:
    """Without a change every function gives the reference's bytes, on data where kernels differ."""
    kernel, reference = Kernel(), Reference()
    for call in calls():
        assert outputs(kernel, call) == outputs(reference, call), (call.function, call.n)


@pytest.mark.parametrize("order", [slug for slug in mutants.LEGAL if slug.startswith("order-")])
def test_orders_are_the_references(order: str) -> None:
    """A legal kernel that adds in an order gives the bits of the reference in that order."""
    kernel, reference = mutants.make(order), Reference(order=order.removeprefix("order-"))
    for call in calls():
        if call.function in {requests.DOT, requests.DOT_REAL} and call.n <= 64 * 32:
            assert outputs(kernel, call) == outputs(reference, call), (call.function, call.n)


def test_steps_and_their_functions() -> None:
    """The table of functions names every step, and functions of the interface alone."""
    assert set(FUNCTIONS_OF_STEP) == set(STEP_NAMES)
    assert all(set(functions) <= set(NAMES) for functions in FUNCTIONS_OF_STEP.values())


def test_two_mistakes_at_once() -> None:
    """Mistakes in different functions are both made, each where it belongs."""
    both = mutants.make("round-half-even", "fp16-scale-product")
    quantize = requests.quantize(requests.QUANTIZERS[1], blocks.ties(20).reshape(-1))
    dot = requests.dot(*dot_rows.random_pair(7))
    for call, slug in ((quantize, "round-half-even"), (dot, "fp16-scale-product")):
        assert outputs(both, call) == outputs(mutants.make(slug), call) != outputs(Reference(), call)


def test_a_mistake_in_a_legal_order() -> None:
    """A mistake in the integers is made in whatever order the kernel adds."""
    x, y = dot_rows.random_pair(6, low=-128)
    x["weight_qs"][:, 3], y["weight_qs"][:, 3] = 9, -128
    y["weight_qs"][:, 5], x["weight_qs"][:, 5] = -128, -7
    both, order = mutants.make("order-avx2", "minus-128-sign"), mutants.make("order-avx2")
    call = requests.dot(x, y)
    assert outputs(both, call) != outputs(order, call)
    x["weight_qs"], y["weight_qs"] = (np.maximum(v["weight_qs"], -127) for v in (x, y))
    mild = requests.dot(x, y)
    assert outputs(both, mild) == outputs(order, mild)


def test_mistakes_in_the_same_step_conflict() -> None:
    """Two mistakes in one step of one function are refused."""
    with pytest.raises(mutants.ConflictError, match="to_integer"):
        mutants.make("round-half-even", "round-truncate")


def test_a_slug_names_a_kernel() -> None:
    """The package has every mutant as an attribute, with underscores for hyphens; nothing else."""
    assert isinstance(mutants.round_half_even, Kernel)
    assert isinstance(mutants.order_avx2, Kernel)
    with pytest.raises(AttributeError):
        mutants.no_such_mutant  # noqa: B018 - looking it up is the test


def shapes() -> list[Array]:
    """Return rows outside the domain."""
    return [np.full(64, value, np.float32) for value in (np.nan, np.inf, -np.inf, 3e38)]


@pytest.mark.parametrize("slug", [m.slug for m in mutants.MUTANTS.values() if not m.separate_process])
def test_every_mutant_takes_any_value(slug: str) -> None:
    """Outside the domain a mutant returns, as a C kernel does: its mistakes are in values."""
    kernel = mutants.make(slug)
    for x in shapes():
        outputs(kernel, requests.quantize(requests.QUANTIZERS[1], x))
        outputs(kernel, requests.activation(x))
        w, _ = mul_mat_rows.exact(9, 5, 2)
        outputs(kernel, requests.mul_mat(w, np.tile(x, (9, 1))))
