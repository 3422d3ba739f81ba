"""No legal kernel of the catalogue has a bias; its orders are tested by the thousand in `test_bias`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from q8a8_conformance.inputs import calls
from q8a8_conformance.mutants import LEGAL, make
from q8a8_conformance.suite import bias_rows, test_bias

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_conformance.protocol.messages import Call
    from q8a8_conformance.suite.judge import Judge

    Judged = Callable[[Callable[[Call], bytes], Callable[[Judge], None]], Any]

pytestmark = pytest.mark.rule("Q8A8-ORD-2")


def kernel_of(slug: str) -> Callable[[Call], bytes]:
    """Return a function that makes a call of a kernel of the catalogue."""
    kernel = make(slug)

    def answer(call: Call) -> bytes:
        s = np.frombuffer(bytearray(call.buffers[0].data), np.float32)
        x, y = (np.frombuffer(call.buffers[i].data, np.uint8) for i in (1, 2))
        if call.function == calls.DOT:
            kernel.ggml_vec_dot_q8_a8_q8_a8(call.n, s, call.bs, x, call.bx, y, call.by, call.nrc)
        else:
            kernel.ggml_vec_dot_q8_a8_q8_a8_real(call.n, s, x, y)
        return s.tobytes()

    return answer


@pytest.mark.parametrize("slug", sorted(slug for slug in LEGAL if not slug.startswith("order-")))
def test_no_legal_kernel_is_flagged(judged: Judged, slug: str) -> None:
    """Within the bound, and without a warning, on either kind of rows."""

    def check(judge: Judge) -> None:
        for kind in bias_rows.KINDS:
            test_bias.test_dot(judge, kind)
        test_bias.test_v2(judge, "anchored")

    run = judged(kernel_of(slug), check)
    assert run.failed == ()
    assert run.target.warnings == []
