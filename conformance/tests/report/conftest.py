"""What these tests share: records made by hand, and finished runs of a few of them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import pytest

from q8a8_conformance.protocol.messages import Hello, Kernel
from q8a8_conformance.results.bound_use import Margins
from q8a8_conformance.results.record import CallData, Record, Status
from q8a8_conformance.results.run import Finding, Request, Run
from q8a8_conformance.results.verdict import judge
from q8a8_conformance.spec.rules import load_rules

if TYPE_CHECKING:
    from collections.abc import Callable

DOT = "ggml_vec_dot_q8_a8_q8_a8"
QUANTIZE = "quantize_row_q8_a8"
HELLO = Hello(
    name="a kernel",
    version="1.2",
    functions=(DOT, QUANTIZE),
    capabilities=("guard",),
    arch="aarch64",
    features=("asimd", "asimddp"),
    compiler="gcc 12.2",
    flags="-O3 <fast>",
    emulated=True,
    kernel=Kernel("lib.so", "ab" * 32),
)


def dot_call(want: float = 1.0, got: float = 1.5) -> CallData:
    """Return the data of a dot product of one block with a wrong float."""
    row = struct.pack("<e32b", 1.0, *range(32))
    floats = {name: {"s": struct.pack("<f", value)} for name, value in (("want", want), ("got", got))}
    args = {"n": 32, "bs": 0, "bx": 0, "by": 0, "nrc": 1}
    return CallData(DOT, args, {"vx": row, "vy": row}, floats["want"], floats["got"])


def block_call() -> CallData:
    """Return the bytes of a block with one code wrong."""
    x = struct.pack("<32f", *range(32))
    want = struct.pack("<e32b", 0.25, *(4 * j for j in range(32)))
    got = bytearray(want)
    got[7] += 1
    return CallData(QUANTIZE, {"k": 32}, {"x": x}, {"y": want}, {"y": bytes(got)})


def failed(rule: str, case: str, message: str = "the result differs", call: CallData | None = None) -> Record:
    """Return a failed record of the dot product, or of what its call is about."""
    call = call or dot_call()
    return Record(f"Q8A8-{rule}", case, call.function, Status.FAIL, message, call)


def passed(rule: str, case: str) -> Record:
    """Return a record that passed."""
    return Record(f"Q8A8-{rule}", case, DOT, Status.PASS)


def finding(cause: str, fix: str = "mend it", function: str = DOT) -> Finding:
    """Return a line of a diagnosis."""
    return Finding(function, cause, 3, 4, fix)


@pytest.fixture
def make_run() -> Callable[..., Run]:
    """Return a maker of finished runs, from records and whatever else a run has."""

    def make(records: list[Record], **more: Any) -> Run:  # noqa: ANN401 (fields of Run)
        margins = Margins()
        rules = [rule for rule in load_rules() if rule.subject == "kernel"]
        fields: dict[str, Any] = {
            "request": Request("lib:./lib.so"),
            "judgement": judge(records, rules),
            "hello": HELLO,
            "version": "0.1.0",
            "manifest": "cd" * 32,
            "started": "2026-01-02T03:04:05+00:00",
            "seconds": 1.25,
            "records": records,
            "bound": margins.by_function(),
        }
        return Run(**{**fields, **more})

    return make
