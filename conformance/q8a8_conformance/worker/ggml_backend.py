"""A device of ggml's, called through its public backend interface: registry, device, backend, graph.

Whatever a device computes as `MUL_MAT` of Q8_0 weights and float32 activations is `mul_mat_q8_a8`; `CPY`, or
else `SET_ROWS`, from float32 to Q8_0 is `quantize_row_q8_a8`, and `CPY`, or else `GET_ROWS`, from Q8_0 to
float32 `dequantize_row_q8_a8`: the blocks have the same bytes. What the device does not support is not
offered. Data are copied to the device's buffers and back, so calls say nothing about how the device treats
memory.

Products without an output, or without elements, are not given to the device, which has no such tensors.
"""

from __future__ import annotations

import ctypes
import itertools
import os
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from q8a8_conformance.worker.library import TargetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

F32, Q8_0, I32, I64 = 0, 8, 26, 27
"""Numbers of `enum ggml_type`, which never change."""

REGISTRIES = ("ggml_backend_init", *(f"ggml_backend_{name}_reg" for name in ("cpu", "vk", "cuda", "metal",
              "opencl", "sycl", "cann", "blas", "webgpu")))  # fmt: skip
"""Functions that return a backend's entry of the registry: of a loadable one, or of a linked one."""

THREADS = "GGML_N_THREADS"
"""The variable that says how many threads a device of the CPU uses; one, without it."""

PRECISION_F32 = 10
"""A number of `enum ggml_prec`."""

_OBJECTS = 64
"""Tensors and graphs of a call's context at most."""

_POINTER, _SIZE, _INT64 = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64


class _Parameters(ctypes.Structure):
    _fields_ = (("mem_size", _SIZE), ("mem_buffer", _POINTER), ("no_alloc", ctypes.c_bool))


_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "ggml_init": (_POINTER, (_Parameters,)),
    "ggml_free": (None, (_POINTER,)),
    "ggml_tensor_overhead": (_SIZE, ()),
    "ggml_graph_overhead": (_SIZE, ()),
    "ggml_new_tensor_2d": (_POINTER, (_POINTER, ctypes.c_int, _INT64, _INT64)),
    "ggml_mul_mat": (_POINTER, (_POINTER, _POINTER, _POINTER)),
    "ggml_mul_mat_set_prec": (None, (_POINTER, ctypes.c_int)),
    "ggml_cpy": (_POINTER, (_POINTER, _POINTER, _POINTER)),
    "ggml_get_rows": (_POINTER, (_POINTER, _POINTER, _POINTER)),
    "ggml_new_graph": (_POINTER, (_POINTER,)),
    "ggml_build_forward_expand": (None, (_POINTER, _POINTER)),
    "ggml_backend_reg_dev_count": (_SIZE, (_POINTER,)),
    "ggml_backend_reg_dev_get": (_POINTER, (_POINTER, _SIZE)),
    "ggml_backend_reg_get_proc_address": (_POINTER, (_POINTER, ctypes.c_char_p)),
    "ggml_backend_dev_name": (ctypes.c_char_p, (_POINTER,)),
    "ggml_backend_dev_description": (ctypes.c_char_p, (_POINTER,)),
    "ggml_backend_dev_init": (_POINTER, (_POINTER, ctypes.c_char_p)),
    "ggml_backend_dev_supports_op": (ctypes.c_bool, (_POINTER, _POINTER)),
    "ggml_backend_alloc_ctx_tensors": (_POINTER, (_POINTER, _POINTER)),
    "ggml_backend_alloc_ctx_tensors_from_buft": (_POINTER, (_POINTER, _POINTER)),
    "ggml_backend_buft_name": (ctypes.c_char_p, (_POINTER,)),
    "ggml_backend_buffer_free": (None, (_POINTER,)),
    "ggml_backend_tensor_set": (None, (_POINTER, _POINTER, _SIZE, _SIZE)),
    "ggml_backend_tensor_get": (None, (_POINTER, _POINTER, _SIZE, _SIZE)),
    "ggml_backend_graph_compute": (ctypes.c_int, (_POINTER, _POINTER)),
}
"""The functions of ggml's interface that are used: result and parameters."""


_LATER: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "ggml_set_rows": (_POINTER, (_POINTER, _POINTER, _POINTER, _POINTER)),
}
"""Functions that only newer versions have."""

_ROUTES = {
    "quantize_row_q8_a8": ("CPY F32 -> Q8_0", "SET_ROWS F32 -> Q8_0"),
    "dequantize_row_q8_a8": ("CPY Q8_0 -> F32", "GET_ROWS Q8_0 -> F32"),
    "mul_mat_q8_a8": ("MUL_MAT Q8_0 x F32",),
}
"""The operations that are each function of the interface, the first that a device supports being taken."""


class _Api:
    """The functions of ggml's interface in some libraries.

    Raises
    ------
    TargetError
        A library cannot be loaded, or none of them has a function.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        try:
            self._libraries = [ctypes.CDLL(str(path.absolute()), ctypes.RTLD_GLOBAL) for path in paths]
        except OSError as error:
            raise TargetError(f"cannot load it: {error}") from None
        for name, (result, parameters) in _SIGNATURES.items():
            function = self.find(name)
            if function is None:
                names = ", ".join(path.name for path in paths)
                raise TargetError(f"{names} has no {name}: name libggml-base as well, before the backend")
            function.restype, function.argtypes = result, parameters
            setattr(self, name.removeprefix("ggml_"), function)
        for name, (result, parameters) in _LATER.items():
            if function := self.find(name):
                function.restype, function.argtypes = result, parameters
                setattr(self, name.removeprefix("ggml_"), function)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - a function of the library
        """Raise: functions are attributes that `__init__` sets."""
        raise AttributeError(name)

    def find(self, name: str) -> Any:  # noqa: ANN401 - a function of a library, or None
        """Return a function by name; None where no library has it."""
        return next((getattr(each, name) for each in self._libraries if hasattr(each, name)), None)

    def registries(self) -> Iterator[int]:
        """Yield the entries of the registry that the libraries have."""
        for name in REGISTRIES:
            for library in self._libraries:
                if hasattr(library, name):
                    function = getattr(library, name)
                    function.restype, function.argtypes = _POINTER, ()
                    if entry := function():
                        yield entry


@dataclass(frozen=True)
class Device:
    """A device: its name, ggml's description of it, and its address with that of its registry entry."""

    name: str
    description: str
    address: int
    registry: int


@dataclass(frozen=True)
class Settings:
    """How a device is used.

    Attributes
    ----------
    threads
        Of a CPU; None for what the variable `THREADS` says.
    buffer
        Where the weights of a product lie: "default", or "repack", an extra kind of buffer of a CPU's.
    precision
        What is asked of a product: "default" or "f32".
    copy
        What quantizes: "cpy", "rows", or the first that is supported.
    """

    threads: int | None = None
    buffer: str = "default"
    precision: str = "default"
    copy: str = ""


class GgmlDevice:
    """A device as a kernel, with methods for the functions of the interface that it supports.

    Parameters
    ----------
    paths
        Libraries, those that others need first.
    name
        The device's name; the first device without it.
    settings
        How it is used.

    Attributes
    ----------
    device, devices
        The device, and the names of all.
    operations
        The operations that each device supports, by its name.

    Raises
    ------
    TargetError
        A library, a device or a kind of buffer is not there, or the device cannot be initialized.
    """

    def __init__(self, paths: Sequence[Path], name: str = "", settings: Settings | None = None) -> None:
        self._api = _Api(paths)
        self._settings = settings or Settings()
        found = {device.name: device for device in self._find()}
        if not found:
            raise TargetError("the libraries have no device: name a backend's, such as libggml-cpu.so")
        if name and name not in found:
            raise TargetError(f"there is no device {name}; there is {', '.join(found)}")
        self.devices = tuple(found)
        self.device = found[name] if name else next(iter(found.values()))
        self._backend = self._api.backend_dev_init(self.device.address, None)
        if not self._backend:
            raise TargetError(f"the device {self.device.name} cannot be initialized")
        self._set_threads(self._settings.threads or int(os.environ.get(THREADS, "1")))
        self._buft = self._find_buffer() if self._settings.buffer != "default" else None
        self.operations = {
            device.name: [
                route for routes in _ROUTES.values() for route in routes if self._supports(device, route)
            ]
            for device in found.values()
        }
        self._route: dict[str, str] = {}
        self._repacked: dict[tuple[int, int], bool] = {}
        for method, function in (
            ("quantize_row_q8_a8", self._quantize),
            ("dequantize_row_q8_a8", self._dequantize),
            ("mul_mat_q8_a8", self._multiply),
        ):
            for route in _ROUTES[method]:
                asked = self._settings.copy.upper() in route or method == "mul_mat_q8_a8"
                if asked and method not in self._route and route in self.operations[self.device.name]:
                    self._route[method] = route
                    setattr(self, method, function)

    def _find(self) -> Iterator[Device]:
        api = self._api
        for registry in api.registries():
            for index in range(api.backend_reg_dev_count(registry)):
                address = api.backend_reg_dev_get(registry, index)
                name, text = api.backend_dev_name(address), api.backend_dev_description(address)
                yield Device(name.decode(errors="replace"), text.decode(errors="replace"), address, registry)

    def _set_threads(self, threads: int) -> None:
        """Set the number of threads, of a backend that has one."""
        address = self._api.backend_reg_get_proc_address(self.device.registry, b"ggml_backend_set_n_threads")
        if address:
            ctypes.CFUNCTYPE(None, _POINTER, ctypes.c_int)(address)(self._backend, threads)

    def _find_buffer(self) -> int:
        """Return the extra kind of buffer whose name has the setting's word."""
        address = self._api.backend_reg_get_proc_address(
            self.device.registry, b"ggml_backend_dev_get_extra_bufts"
        )
        names = []
        if address:
            kinds = ctypes.CFUNCTYPE(ctypes.POINTER(_POINTER), _POINTER)(address)(self.device.address)
            for kind in itertools.takewhile(bool, kinds or ()):
                names.append(self._api.backend_buft_name(kind).decode(errors="replace"))
                if self._settings.buffer in names[-1].lower():
                    return int(kind)
        there = f"; there is {', '.join(names)}" if names else ""
        raise TargetError(f"the device {self.device.name} has no buffer {self._settings.buffer}{there}")

    def _supports(self, device: Device, route: str, k: int = 64, m: int = 8) -> bool:
        if route.startswith("SET_ROWS") and not self._api.find("ggml_set_rows"):
            return False
        is_repacked = self._buft is not None and device == self.device and route.startswith("MUL_MAT")
        with self._context() as context, self._weights(is_repacked=is_repacked) as weights:
            operation = self._operation(context, route, k, m, 1, weights)[-1]
            try:
                with self._placed(weights):
                    return bool(self._api.backend_dev_supports_op(device.address, operation))
            except MemoryError:  # the extra kind of buffer holds no such weights
                return False

    @contextmanager
    def _weights(self, *, is_repacked: bool) -> Iterator[int | None]:
        """Yield a context for weights that lie in the extra kind of buffer; None for others."""
        with self._context() if is_repacked else nullcontext() as weights:
            yield weights

    @contextmanager
    def _placed(self, weights: int | None) -> Iterator[None]:
        """Hold the tensors of such a context in a buffer."""
        buffer = weights and self._api.backend_alloc_ctx_tensors_from_buft(weights, self._buft)
        if weights and not buffer:
            raise MemoryError(f"the device {self.device.name} has not enough memory")
        try:
            yield
        finally:
            if buffer:
                self._api.backend_buffer_free(buffer)

    def _is_repacked(self, k: int, m: int) -> bool:
        """Return whether weights of a shape can lie in the extra kind of buffer; others lie elsewhere."""
        if self._buft is None:
            return False
        if (k, m) not in self._repacked:
            self._repacked[k, m] = self._supports(self.device, _ROUTES["mul_mat_q8_a8"][0], k, m)
        return self._repacked[k, m]

    def _operation(
        self, context: int, route: str, k: int, m: int, n: int, weights: int | None = None
    ) -> tuple[int, ...]:
        """Make the tensors of an operation: its inputs, w in a context of its own, and last its result."""
        api = self._api
        if route.startswith("MUL_MAT"):
            w, x = api.new_tensor_2d(weights or context, Q8_0, k, m), api.new_tensor_2d(context, F32, k, n)
            product = api.mul_mat(context, w, x)
            if self._settings.precision == "f32":
                api.mul_mat_set_prec(product, PRECISION_F32)
            return w, x, product
        types = (F32, Q8_0) if route.endswith("Q8_0") else (Q8_0, F32)
        source = api.new_tensor_2d(context, types[0], k, 1)
        if route.startswith("GET_ROWS"):
            row = api.new_tensor_2d(context, I32, 1, 1)
            return source, row, api.get_rows(context, source, row)
        target = api.new_tensor_2d(context, types[1], k, 1)
        if route.startswith("SET_ROWS"):
            row = api.new_tensor_2d(context, I64, 1, 1)
            return source, row, api.set_rows(context, target, source, row)
        return source, api.cpy(context, source, target)

    @contextmanager
    def _context(self) -> Iterator[int]:
        api = self._api
        size = api.tensor_overhead() * _OBJECTS + api.graph_overhead()
        context = api.init(_Parameters(size, None, True))
        try:
            yield context
        finally:
            api.free(context)

    def _compute(
        self, method: str, shape: tuple[int, int, int], inputs: Sequence[NDArray[Any]], output: NDArray[Any]
    ) -> None:
        """Compute an operation on the device: k, m and n; arrays of the tensors' bytes."""
        with self.prepared(method, shape, inputs, output) as (compute, read):
            compute()
            read()

    @contextmanager
    def prepared(
        self, method: str, shape: tuple[int, int, int], inputs: Sequence[NDArray[Any]], output: NDArray[Any]
    ) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
        """Hold an operation whose inputs lie on the device, to be computed any number of times.

        Parameters
        ----------
        method
            A function of the interface that the device supports.
        shape
            k, m and n; m and n are 1 where the function is not a product.
        inputs, output
            Arrays of the tensors' bytes.

        Yields
        ------
        tuple of callable
            The first computes the operation, the second copies the result to `output`.

        Raises
        ------
        MemoryError, RuntimeError
            The device has not enough memory; it failed.
        """
        api, route = self._api, self._route[method]
        if "ROWS" in route:
            inputs = [*inputs, np.zeros(1, np.int64 if route.startswith("SET") else np.int32)]
        is_repacked = method == "mul_mat_q8_a8" and self._is_repacked(*shape[:2])
        with ExitStack() as stack:
            context = stack.enter_context(self._context())
            weights = stack.enter_context(self._weights(is_repacked=is_repacked))
            *tensors, result = self._operation(context, route, *shape, weights)
            stack.enter_context(self._placed(weights))
            graph = api.new_graph(context)
            api.build_forward_expand(graph, result)
            buffer = api.backend_alloc_ctx_tensors(context, self._backend)
            if not buffer:
                raise MemoryError(f"the device {self.device.name} has not enough memory")
            try:
                for tensor, data in zip(tensors, inputs, strict=True):
                    api.backend_tensor_set(tensor, data.ctypes.data, 0, data.nbytes)

                def compute() -> None:
                    status = api.backend_graph_compute(self._backend, graph)
                    if status:
                        raise RuntimeError(f"the device {self.device.name} failed with status {status}")

                def read() -> None:
                    api.backend_tensor_get(result, output.ctypes.data, 0, output.nbytes)

                yield compute, read
            finally:
                api.backend_buffer_free(buffer)

    def _quantize(self, x: NDArray[Any], y: NDArray[Any], k: int) -> None:
        if k:
            self._compute("quantize_row_q8_a8", (k, 1, 1), [x[:k]], y[: k // 32 * 34])

    def _dequantize(self, x: NDArray[Any], y: NDArray[Any], k: int) -> None:
        if k:
            self._compute("dequantize_row_q8_a8", (k, 1, 1), [x[: k // 32 * 34]], y[:k])

    def _multiply(self, m: int, n: int, k: int, w: NDArray[Any], x: NDArray[Any], out: NDArray[Any]) -> None:
        if not k or not m * n:
            out[: m * n] = 0
            return
        inputs = [w[: m * k // 32 * 34], x[: n * k]]
        self._compute("mul_mat_q8_a8", (k, m, n), inputs, out[: m * n])
