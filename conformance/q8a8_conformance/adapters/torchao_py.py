"""torchao's dynamic linear operator: ``py:q8a8_conformance.adapters.torchao_py:kernel``.

`Int8Tensor` has one scale for a row of weights, and quantizes activations at run time with one for a row. A
block's 32 columns are such a matrix: each is an operator of its own, and the results are added, block by
block, in float32.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
import torch
from torchao.quantization import granularity
from torchao.quantization.quantize_.workflows.int8.int8_tensor import Int8Tensor, QuantizeTensorToInt8Kwargs

if TYPE_CHECKING:
    from numpy.typing import NDArray


class TorchAo:
    """torchao's int8 product on the CPU."""

    version = version("torchao")

    def mul_mat_q8_a8(
        self, m: int, n: int, k: int, w: NDArray[np.uint8], x: NDArray[np.float32], out: NDArray[np.float32]
    ) -> None:
        """Multiply m rows of blocks in ``w`` by n rows of ``x``."""
        blocks = w[: m * k // 32 * 34].reshape(m, k // 32, 34)
        scales = np.ascontiguousarray(blocks[..., :2]).view(np.float16)[..., 0].astype(np.float32)
        codes = np.ascontiguousarray(blocks[..., 2:]).view(np.int8)
        rows = np.array(x[: n * k]).reshape(n, k // 32, 32)
        dynamic = QuantizeTensorToInt8Kwargs(granularity=granularity.PerRow())
        total = torch.zeros(n, m)
        for b in range(k // 32 if m * n else 0):
            weight = Int8Tensor(
                torch.from_numpy(np.ascontiguousarray(codes[:, b])),
                torch.from_numpy(np.ascontiguousarray(scales[:, b : b + 1])),
                [1, 32],
                torch.float32,
                act_quant_kwargs=dynamic,
            )
            block = torch.from_numpy(np.ascontiguousarray(rows[:, b]))
            total += torch.nn.functional.linear(block, weight)
        out[: m * n] = total.numpy().reshape(-1)


kernel = TorchAo()
