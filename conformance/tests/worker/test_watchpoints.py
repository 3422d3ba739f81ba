"""Accesses next to buffers are seen though they keep to a buffer's page, and change nothing."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.protocol.messages import NO_FAULTS, Buffer, Call, Fault, Option
from q8a8_conformance.protocol.session import Session
from q8a8_conformance.worker import machine
from q8a8_conformance.worker.watchpoints import available

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="accesses are counted on x86-64 alone")
WORKER = (sys.executable, "-m", "q8a8_conformance.worker", "lib")


def faults_of(library: Path, kernel: str, blocks: int) -> tuple[Fault, str]:
    """Return what a watched call of a kernel as the quantizer has shown."""
    buffers = (Buffer(bytes(128 * blocks)), Buffer(bytes(34 * blocks)))
    call = Call("quantize_row_q8_a8", 32 * blocks, buffers, options=Option.WATCHED)
    session = Session([*WORKER, str(library), "--symbol", f"quantize_row_q8_a8={kernel}"], timeout=60)
    try:
        result = session.call(call)
    finally:
        session.close()
    return result.faults, result.detail


@pytest.fixture(autouse=True)
def _watchpoints(need: Callable[[object, str], None]) -> None:
    need(available(), "this machine gives no watchpoints")


@pytest.mark.parametrize(
    ("kernel", "fault", "said"),
    [
        ("good", NO_FAULTS, ""),
        (
            "reads_ahead",
            Fault.READ_OUTSIDE,
            "bytes next to x were read, after its end, where that crosses no page",
        ),
        (
            "reads_behind",
            Fault.READ_OUTSIDE,
            "bytes next to x were read, before its start, where that crosses no page",
        ),
        (
            "stores_back",
            Fault.WROTE_OUTSIDE,
            "bytes next to y were written, with what they held, after its end",
        ),
    ],
)
@pytest.mark.parametrize("blocks", [1, 2, 33])
def test_accesses_beside_buffers(
    faulty_library: Path, kernel: str, fault: Fault, said: str, blocks: int
) -> None:
    """Each is told with its buffer and side; a kernel that keeps to its buffers has none."""
    assert faults_of(faulty_library, kernel, blocks) == (fault, said)


def test_masked_accesses_are_legal(faulty_library: Path, need: Callable[[object, str], None]) -> None:
    """What a mask leaves out is not touched, whatever the processor counts."""
    need("avx2" in machine.cpu_features(), "no AVX2")
    assert faults_of(faulty_library, "loads_masked", 2) == (NO_FAULTS, "")
