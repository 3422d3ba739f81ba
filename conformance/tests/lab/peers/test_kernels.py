"""The ways to call a peer agree: this process, a worker, and the reference itself."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8.dot import vec_dot
from q8a8.layout import as_bytes
from q8a8.quantize import quantize_row
from q8a8_conformance.protocol.messages import Fault, Result
from q8a8_conformance.protocol.session import Session
from q8a8_lab import native_build
from q8a8_lab.peers import families, rows
from q8a8_lab.peers.kernels import (
    QUANTIZE,
    QUANTIZE_REF,
    GgufKernel,
    Kernel,
    KernelFaultError,
    LibraryKernel,
    WorkerKernel,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from q8a8_conformance.protocol.messages import Call


@pytest.fixture(scope="module", params=["library", "worker"])
def ours(request: pytest.FixtureRequest) -> Iterator[Kernel]:
    """Open this project's scalar kernel in this process, and the reference in a worker."""
    if request.param == "worker":
        with Session([sys.executable, "-m", "q8a8_conformance.worker", "ref"]) as session:
            yield WorkerKernel(session)
        return
    try:
        library = native_build.build("native") / "lib" / "libq8a8-scalar.so"
    except native_build.NativeError as error:
        pytest.skip(str(error))
    yield LibraryKernel(library, symbols={}, init=None)


@pytest.mark.parametrize("function", [QUANTIZE, QUANTIZE_REF])
def test_blocks_come_back_whole(ours: Kernel, function: str) -> None:
    """Both give the design's bytes for blocks that tell every recipe apart."""
    x = next(families.chunks("near-tie", 300))
    np.testing.assert_array_equal(ours.quantize(function, x), as_bytes(quantize_row(x)))


@pytest.mark.parametrize("kind", rows.KINDS)
def test_rows_come_back_in_order(ours: Kernel, kind: str) -> None:
    """Each row's result stands in its place, one row a call and two."""
    batch = list(rows.batches(kind, 50))[4]
    nb = batch.x.shape[1]
    expected = vec_dot(batch.x, batch.y)
    np.testing.assert_array_equal(ours.dot(batch.x, batch.y), expected)
    found = ours.dot2(batch.x, batch.y)
    x, y = batch.x.reshape(-1, 2, nb), batch.y.reshape(-1, 2, nb)
    for i in range(2):
        for j in range(2):
            np.testing.assert_array_equal(found[:, i, j], vec_dot(x[:, i], y[:, j]))


def test_a_fault_is_an_error() -> None:
    """A worker that saw the kernel write outside its buffers does not count as an answer."""

    class Faulty(Session):
        def call(self, call: Call, timeout: float | None = None) -> Result:
            del call, timeout
            return Result(Fault.WROTE_OUTSIDE, "one byte after y", (bytes(34),))

    with pytest.raises(KernelFaultError, match="one byte after y"):
        WorkerKernel(Faulty(["none"])).quantize(QUANTIZE, np.zeros((1, 32), np.float32))


def test_gguf_py_only_quantizes() -> None:
    """It has one quantizer and no dot product."""
    x = next(families.chunks("exact-tie", 10))
    pytest.importorskip("gguf")
    assert GgufKernel().quantize(QUANTIZE_REF, x).shape == (10, 34)
    empty = quantize_row(x[:0])
    for refused in (
        lambda: GgufKernel().quantize(QUANTIZE, x),
        lambda: GgufKernel().dot(empty, empty),
        lambda: GgufKernel().dot2(empty, empty),
    ):
        with pytest.raises(NotImplementedError):
            refused()
