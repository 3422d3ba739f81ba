"""Our GPU kernel on an OpenCL device, under the ABI's names: ``py:q8a8_lab.opencl:Kernel``.

The environment variable ``PYOPENCL_CTX`` chooses the device, as always with PyOpenCL; without it it is the
first one.
The source is ``native_check/gpu``; it needs OpenCL C 1.2, and neither doubles nor halves.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pyopencl

from q8a8.install import VERSION
from q8a8_lab.native_build import source_folder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    F32 = NDArray[np.float32]
    U8 = NDArray[np.uint8]

QK, BYTES, V2_BYTES = 32, 34, 36

GROUP = 64
"""Work-items of a group, always: PoCL compiles a kernel again for each size of a group."""


class Kernel:
    """All functions of the interface on one OpenCL device.

    Every call has buffers of its own, and has finished when it returns. One call runs at a time: a kernel
    object keeps its arguments.
    """

    version = VERSION

    def __init__(self) -> None:
        context = pyopencl.create_some_context(interactive=False)
        folder = source_folder() / "gpu"
        source = "".join((folder / name).read_text(encoding="ascii") for name in ("opencl.h", "kernels.h"))
        # No option relaxes the arithmetic: denormals are kept, nothing is fused.
        program = pyopencl.Program(context, source).build(options=["-cl-std=CL1.2"])
        self._kernels = {kernel.function_name: kernel for kernel in program.all_kernels()}
        self._context = context
        self._queue = pyopencl.CommandQueue(context)
        self._group = min(GROUP, self._queue.device.max_work_group_size)
        self._lock = threading.Lock()

    @property
    def device(self) -> str:
        """The device's name."""
        return str(self._queue.device.name).strip()

    def quantize_row_q8_a8(self, x: F32, y: U8, k: int) -> None:
        """Quantize ``k`` floats of ``x`` into blocks in ``y``."""
        blocks = k // QK
        with self._lock:
            made = self._output(BYTES * blocks)
            self._run("quantize_blocks", blocks, self._input(x[:k]), made, np.int64(blocks))
            self._fetch(made, y[: BYTES * blocks])

    quantize_row_q8_a8_ref = quantize_row_q8_a8

    def quantize_activation_q8_a8(
        self, x: F32, output: NDArray[np.int8], scale: NDArray[np.uint16], size: int
    ) -> None:
        """Quantize ``size`` floats of ``x`` under one scale."""
        with self._lock:
            codes, half = self._output(size), self._output(2)
            self._run("quantize_vector", 1, self._input(x[:size]), codes, half, np.int64(size))
            self._fetch(codes, output[:size])
            self._fetch(half, scale[:1])

    def dequantize_row_q8_a8(self, x: U8, y: F32, k: int) -> None:
        """Dequantize the blocks of ``k`` elements of ``x`` into floats in ``y``."""
        with self._lock:
            made = self._output(4 * k)
            self._run("dequantize_blocks", k, self._input(x[: BYTES * (k // QK)]), made, np.int64(k))
            self._fetch(made, y[:k])

    def ggml_vec_dot_q8_a8_q8_a8(
        self, n: int, s: F32, bs: int, vx: U8, bx: int, vy: U8, by: int, nrc: int
    ) -> None:
        """Multiply a row by a row, or with ``nrc`` = 2 two by two, into ``s``."""
        row = BYTES * (n // QK)
        if nrc == 1:
            s[:1] = self._dots(n, vx[:row], vy[:row], (1, 1), (row, row))[0]
        else:
            found = self._dots(n, vx[: bx + row], vy[: by + row], (2, 2), (bx, by))
            s[:2], s[bs : bs + 2] = found

    def ggml_vec_dot_q8_a8_q8_a8_real(self, n: int, s: F32, vx: U8, vy: U8) -> None:
        """Multiply a row by a row of 36-byte blocks, into ``s``."""
        row = V2_BYTES * (n // QK)
        s[:1] = self._dots(n, vx[:row], vy[:row], (1, 1), (row, row), (V2_BYTES, 2, 4))[0]

    def mul_mat_q8_a8(self, m: int, n: int, k: int, w: U8, x: F32, out: F32) -> None:
        """Multiply ``m`` rows of weights by ``n`` rows of activations, which are quantized, into ``out``."""
        row = BYTES * (k // QK)
        quantized = np.zeros(n * row, np.uint8)
        self.quantize_row_q8_a8(x, quantized, n * k)
        out[: n * m] = self._dots(k, w[: m * row], quantized, (m, n), (row, row)).reshape(-1)

    def _dots(
        self,
        n: int,
        x: U8,
        y: U8,
        rows: tuple[int, int],
        steps: tuple[int, int],
        layout: tuple[int, int, int] = (BYTES, 0, 2),
    ) -> F32:
        """Return the dot products of rows of x and of y, float32 [rows of y, rows of x]."""
        found = np.zeros((rows[1], rows[0]), np.float32)
        if found.size:
            integers = (n // QK, *rows, *steps, rows[0])
            with self._lock:
                made = self._output(found.nbytes)
                arguments = [np.int64(each) for each in integers] + [np.int32(each) for each in layout]
                self._run("dots", found.size, self._input(x), self._input(y), made, *arguments)
                self._fetch(made, found)
        return found

    def _input(self, array: NDArray[Any]) -> Any:  # noqa: ANN401 (PyOpenCL has no types)
        """Return a buffer with a copy of an array, made before this returns."""
        flags = pyopencl.mem_flags.READ_ONLY | pyopencl.mem_flags.COPY_HOST_PTR
        data = np.ascontiguousarray(array) if array.size else np.zeros(4, np.uint8)  # none of no bytes
        return pyopencl.Buffer(self._context, flags, hostbuf=data)

    def _output(self, size: int) -> Any:  # noqa: ANN401
        """Return a buffer of so many bytes."""
        return pyopencl.Buffer(self._context, pyopencl.mem_flags.READ_WRITE, max(size, 4))

    def _run(self, name: str, items: int, *arguments: object) -> None:
        """Run a kernel, and wait for it: the buffers of its arguments may be gone afterwards."""
        if items:
            size = (items + self._group - 1) // self._group * self._group
            self._kernels[name](self._queue, (size,), (self._group,), *arguments)
            self._queue.finish()

    def _fetch(self, buffer: Any, array: NDArray[Any]) -> None:  # noqa: ANN401
        """Copy a buffer to an array."""
        if array.size:
            held = np.empty(array.size, array.dtype)
            pyopencl.enqueue_copy(self._queue, held, buffer, is_blocking=True)
            array.reshape(-1)[:] = held
