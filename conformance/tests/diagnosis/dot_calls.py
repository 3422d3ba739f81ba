"""The calls of a dot product that tests of experiments make, and the facts found of those that fail."""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from q8a8 import layout
from q8a8_conformance.diagnosis import shrink
from q8a8_conformance.diagnosis.dots import dot_facts
from q8a8_conformance.diagnosis.replay import replay
from q8a8_conformance.faults.in_process import InProcessSession
from q8a8_conformance.faults.kernel import DOT, DOTS, Kernel
from q8a8_conformance.inputs import calls, dot_rows, long_rows
from q8a8_conformance.mutants import make
from q8a8_conformance.protocol import messages
from q8a8_conformance.results.observations import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from q8a8_conformance.diagnosis.facts import Fact
    from q8a8_conformance.inputs.arrays import Array
    from q8a8_conformance.protocol.messages import Call

    Probe = Callable[[Call], tuple[bytes, ...] | None]
    # Of the rows at a time, the number of a result, and the blocks of x0, x1, y0, y1: what is added up.
    Result = Callable[[int, int, list[Array]], float]

LENGTHS = (0, 1, 2, 3, 4, 5, 7, 8, 9, 11, 17, 33, 65, 257, 1025)
"""Blocks of the rows in which every block counts."""

SECONDS = 120.0
"""Time limit of the experiments here: the machine may be busy."""


def one(function: str, x: Array, y: Array) -> Call:
    """Return the dot product of two rows of v1 blocks."""
    return calls.dot(x, y) if function == DOT else calls.dot_real(*dot_rows.to_v2(x, y, unused=0x4200))


def sample(function: str, nrc: int) -> Iterator[Call]:
    """Yield calls of many kinds."""
    rows = long_rows.dots()
    for nb in LENGTHS:
        if nrc == 2:
            yield rows.call_pair(nb, bs=5, x_gap=34, y_gap=68)
        else:
            yield rows.call(nb) if function == DOT else rows.call_v2(nb)
    for seed, nb in enumerate((1, 2, 3, 5, 8)):
        x, y = dot_rows.random_pair(nb, seed=seed)
        if nrc == 2:
            more = dot_rows.random_pair(nb, seed=seed + 50)
            yield calls.dot_pair(np.stack([x, more[0]]), np.stack([y, more[1]]), bs=3, x_gap=6, y_gap=6)
        else:
            yield one(function, x, y)
    kinds = (dot_rows.full_mantissas, dot_rows.far_scales, dot_rows.signed_scales, dot_rows.minus_128_pairs)
    for kind in kinds if nrc == 1 else ():
        yield from (one(function, x, y) for x, y in itertools.islice(kind(), 0, None, 3))


def probe_of(kernel: object) -> Probe:
    """Return what makes calls of a kernel in this process, without guards around them."""
    return partial(replay, kernel)


def placed_probe_of(kernel: object) -> Probe:
    """Return the same, with buffers at the addresses that calls ask for."""
    session = InProcessSession(lambda: kernel, DOTS)
    return lambda call: session.call(call).outputs


class Replayed:
    """A kernel of this process as a session, without guards around its buffers."""

    def __init__(self, make_kernel: Callable[[], object]) -> None:
        self._kernel = make_kernel()

    def call(self, call: Call, timeout: float | None = None) -> messages.Result:
        """Make a call."""
        del timeout
        return messages.Result(messages.NO_FAULTS, "", replay(self._kernel, call))


def failed(made: Iterator[Call], probe: Probe) -> list[Failure]:
    """Return the calls that come out wrong."""
    found = []
    for call in made:
        outputs = probe(call)
        if outputs is not None and shrink.wrong(call, outputs):
            found.append(Failure(call, outputs, replay(make(), call)))
    return found


def facts_about(
    function: str, kernel: object, *, is_placed: bool = False
) -> tuple[list[Fact], list[Failure]]:
    """Return the facts about a kernel's function, and its failed calls, made at given addresses or not."""
    probe = placed_probe_of(kernel) if is_placed else probe_of(kernel)
    failures = {nrc: failed(sample(function, nrc), probe) for nrc in ((1, 2) if function == DOT else (1,))}
    facts = dot_facts(function, {nrc: held for nrc, held in failures.items() if held}, probe, SECONDS)
    return facts, [one for held in failures.values() for one in held]


def term(x: Array, y: Array) -> Array:
    """Return the terms of blocks [nb]."""
    return np.asarray((x["weight_qs"].astype(int) * y["weight_qs"]).sum(axis=-1) * (scale(x) * scale(y)))


def scale(blocks: Array) -> Array:
    """Return scales as float64 [nb]."""
    return np.asarray(blocks["weight_scale"], np.float64)


class FourResults(Kernel):
    """Computes each result by a function."""

    def __init__(self, result: Result) -> None:
        super().__init__()
        self._result = result

    def ggml_vec_dot_q8_a8_q8_a8(
        self, n: int, s: Array, bs: int, vx: Array, bx: int, vy: Array, by: int, nrc: int
    ) -> None:
        """Take the rows apart, and store the results."""
        size = n // 32 * 34
        rows = [layout.as_blocks(v[step:][:size].tobytes(), layout.BLOCK_Q8_A8)
                for v, b in ((vx, bx), (vy, by)) for step in (0, b if nrc == 2 else 0)]  # fmt: skip
        for number, place in enumerate((0, 1, bs, bs + 1)[: nrc * nrc]):
            s[place] = self._result(nrc, number, rows)


def own(number: int, rows: list[Array]) -> tuple[Array, Array]:
    """Return the rows of a result."""
    return rows[number % 2], rows[2 + number // 2]
