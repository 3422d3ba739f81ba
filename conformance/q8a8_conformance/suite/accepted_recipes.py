"""What a quantizer's results are compared with: the specification, or for ``ggml`` a recipe of ggml's.

Under ``ggml`` a quantizer function first quantizes a row on which the recipes differ. If its bytes are
the specification's, or no single recipe of ggml's explains them all, it is judged by the specification; else
by that recipe, wherever the recipe is defined, for the rest of the run. So all its results have to agree with
one recipe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from q8a8 import layout, quantize_row
from q8a8.errors import DomainError
from q8a8.recipe import RECIPES, defined, quantize_blocks
from q8a8_conformance.inputs import blocks, calls, mul_mat_rows
from q8a8_conformance.suite.target import KernelDiedError, NotRunError, RefusedError, Target

if TYPE_CHECKING:
    from collections.abc import Mapping

    from q8a8_conformance.inputs.arrays import Array

DESIGN = "design"


class Recipes:
    """The recipe that each quantizer function is judged by, found out when it is first needed."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._chosen: dict[str, str] = {}

    @property
    def chosen(self) -> dict[str, str]:
        """The recipes that were found out so far, by function."""
        return dict(self._chosen)

    def add(self, chosen: Mapping[str, str]) -> None:
        """Take what another process has found out about the same kernel."""
        self._chosen = {**chosen, **self._chosen}

    def of(self, function: str) -> str:
        """Return the name of the recipe that a quantizer function is judged by."""
        if self._target.profile != "ggml":
            return DESIGN
        if function not in self._chosen:
            self._chosen[function] = self._survey(function)
        return self._chosen[function]

    def accepted(self) -> frozenset[tuple[str, str]]:
        """Return the pairs of function and recipe that the profile accepts."""
        return frozenset((function, recipe) for function, recipe in self._chosen.items() if recipe != DESIGN)

    def notes(self) -> tuple[str, ...]:
        """Return which functions were judged by another recipe than the specification's."""
        return tuple(
            f"{function} is judged by the recipe {recipe}, which the profile ggml accepts"
            for function, recipe in self._chosen.items()
            if recipe != DESIGN
        )

    def rows(self, function: str, x: Array, actual: bytes) -> bytes:
        """Return the bytes that a row must have.

        Parameters
        ----------
        function
            A row quantizer.
        x
            float32 [k], in the domain.
        actual
            What the kernel gave; where the recipe is undefined, its own bytes are what is expected.
        """
        scale, codes, known = _quantize(x.reshape(-1, layout.QK8_A8), self.of(function))
        expected = layout.pack(scale, codes)
        if not known.all():
            expected[~known] = layout.as_blocks(actual)[~known]
        return expected.tobytes()

    def matrix(self, x: Array) -> tuple[Array, Array]:
        """Return the rows of a matrix product's x, float32 [n, 32·nb], quantized: blocks [n, nb], bool [n].

        The second array says of which rows every block has a quantization by the recipe.
        """
        scale, codes, known = _quantize(x.reshape(-1, layout.QK8_A8), self.of(calls.MUL_MAT))
        shape = len(x), x.shape[1] // layout.QK8_A8
        return layout.pack(scale, codes).reshape(shape), np.asarray(known.reshape(shape).all(axis=1))

    def activation(self, x: Array, actual: dict[str, bytes]) -> dict[str, bytes]:
        """Return the buffers that an activation vector, float32 [size], must have; as :meth:`rows`."""
        rest = actual["output"][x.size :]
        scale, codes, known = _quantize(x[np.newaxis], self.of(calls.ACTIVATION))
        if not known.all():
            return actual
        return {"output": codes.tobytes() + rest, "scale": scale.tobytes()}

    def _survey(self, function: str) -> str:
        rows = blocks.survey()
        try:
            fitting = [name for name in _candidates() if self._agrees(function, rows, name)]
        except (KernelDiedError, NotRunError, RefusedError):
            return DESIGN
        return fitting[0] if fitting else DESIGN

    def _agrees(self, function: str, rows: Array, recipe: str) -> bool:
        """Return whether a function's results on the survey's blocks [nb, 32] are a recipe's."""
        scale, codes, known = _quantize(rows, recipe)
        if function == calls.MUL_MAT:
            call = calls.mul_mat(mul_mat_rows.one_hot(1), rows)
            got = np.frombuffer(self._target.outputs(call, self._target.call(call))["out"], "<f4")
            expected = scale.astype(np.float32)[:, np.newaxis] * codes
            return bool((got.reshape(expected.shape)[known] == expected[known]).all())
        if function != calls.ACTIVATION:
            call = calls.quantize(function, rows.reshape(-1))
            got = layout.as_blocks(self._target.outputs(call, self._target.call(call))["y"])
            return bool((got[known] == layout.pack(scale, codes)[known]).all())
        for x, h, q in zip(rows[known], scale[known], codes[known], strict=True):
            call = calls.activation(x)
            outputs = self._target.outputs(call, self._target.call(call))
            if outputs != {"output": q.tobytes(), "scale": h.tobytes()}:
                return False
        return True


def _candidates() -> tuple[str, ...]:
    """Return the recipes that may be chosen: the specification's first, then ggml's."""
    return (DESIGN, *(name for name in RECIPES if name.startswith("ggml-")))


def _quantize(x: Array, recipe: str) -> tuple[Array, Array, Array]:
    """Quantize rows [n, s] by a recipe, and say which it is defined for; the others are 0."""
    try:
        if x.shape[1] == layout.QK8_A8:  # (In less memory, and three times as fast.)
            return *layout.unpack(quantize_row(x, recipe)[:, 0]), np.ones(len(x), bool)
        return *quantize_blocks(x, recipe), np.ones(len(x), bool)
    except DomainError:
        known = defined(x, recipe)
    scale = np.zeros(len(x), np.float16)
    codes = np.zeros(x.shape, np.int8)
    scale[known], codes[known] = quantize_blocks(x[known], recipe)
    return scale, codes, known
