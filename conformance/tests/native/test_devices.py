"""The kernels of other processors, under their emulators, have the one result of the fixed product."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from q8a8_conformance.commands.fingerprint import take
from q8a8_conformance.inputs import calls, fixed_product
from q8a8_conformance.protocol.messages import Option
from q8a8_conformance.protocol.sut import parse_sut
from q8a8_lab import devices, native_build

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.protocol.session import Session

CPUS = [
    ("s390x", "scalar", ()),
    ("ppc64le", "scalar", ()),
    *(("zig-riscv64", "rvv", ("-cpu", devices.rvv_cpu(bits))) for bits in (128, 1024)),
]


@pytest.fixture
def session(request: pytest.FixtureRequest, need: Callable[[object, str], None]) -> Session:
    """Return a session with a kernel under its emulator."""
    preset, kernel, options = request.param
    try:
        return parse_sut(devices.emulated(preset, kernel, *options)()).session(60)
    except native_build.MissingToolError as error:
        need(False, str(error))
        raise  # not reached


@pytest.mark.rule("Q8A8-MUL-5", "Q8A8-DOT-3", "Q8A8-QNT-8", "Q8A8-DEQ-1", "Q8A8-LAY-1")
@pytest.mark.parametrize("session", CPUS, indirect=True)
def test_one_result(session: Session) -> None:
    """Every function has the specification's bits, whatever the order of bytes and the length of vectors."""
    with session:
        assert session.hello.emulated
        found = list(take(session, session.hello.functions))
        assert [each.sha256 for each in found] == list(fixed_product.DIGESTS.values())
        call = calls.activation(np.array([127, -127], "<f4"))
        outputs = session.call(calls.with_options(call, Option.GUARD_AFTER)).outputs
    assert outputs == (b"\x7f\x81", b"\x00\x3c")  # the scale is 1
