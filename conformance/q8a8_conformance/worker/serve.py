"""A worker for kernels on this machine: a shared library, a Python object, or the reference itself.

::

    python -m q8a8_conformance.worker lib PATH [--symbol ABI_NAME=EXPORTED_NAME]... [--init SYMBOL]
    python -m q8a8_conformance.worker py MODULE:OBJECT
    python -m q8a8_conformance.worker ggml PATH[,PATH...] [--device NAME]
    python -m q8a8_conformance.worker ref [--recipe NAME] [--order NAME]

It uses the protocol of `q8a8_conformance.protocol.messages` on its standard input and output. The kernel's
own standard output is a file in memory, which is copied to standard error after each call, and its standard
input is empty. Its stack has 8 MiB.
"""

from __future__ import annotations

import argparse
import gc
import os
import stat
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from q8a8_conformance.protocol.codec import (
    LENGTH,
    check_length,
    decode_call,
    encode_error,
    encode_result,
    kind_of,
)
from q8a8_conformance.protocol.hello import encode_hello
from q8a8_conformance.protocol.messages import (
    EXIT_USAGE,
    Error,
    Hello,
    Kernel,
    ProtocolError,
)
from q8a8_conformance.worker import machine
from q8a8_conformance.worker.answer import Answerer
from q8a8_conformance.worker.crash import report_faults
from q8a8_conformance.worker.fenv import floating_point
from q8a8_conformance.worker.invoke import CannotCall, Invoker, Target
from q8a8_conformance.worker.library import LibraryTarget, TargetError
from q8a8_conformance.worker.process_state import set_stack_limit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from q8a8_conformance.worker.pyobject import ObjectTarget

CAPABILITIES = (
    *("guard", "readonly", "offset", "repeat", "threads", "shared"),
    *("overlap", "state", "ahead", "turns"),
)
ENVIRONMENT_CAPABILITIES = ("fenv", "flush")
DEVICE_CAPABILITIES = ("repeat", "ahead")
"""What can be done with a device: where buffers lie, and in which thread it computes, is its own affair."""
STACK = 8 * 2**20
"""Bytes of stack that calls are made on: a kernel may use `STACK_BUDGET` of them."""
GARBAGE = 50_000
"""Objects that are made before Python looks for garbage among them."""

_CHUNK = 2**16
"""Bytes that are read and written at once: most messages are shorter."""


class Channel:
    """Frames over this process's standard input and output, which the kernel cannot access.

    After construction, descriptor 1 is a file in memory and descriptor 0 is empty.
    """

    def __init__(self) -> None:
        self._source: BinaryIO = os.fdopen(os.dup(0), "rb", _CHUNK)
        self._sink: BinaryIO = os.fdopen(os.dup(1), "wb", _CHUNK)
        output = os.memfd_create("standard output") if hasattr(os, "memfd_create") else os.dup(2)
        os.dup2(output, 1)
        os.close(output)
        self._copied = os.fstat(1).st_size
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)

    def receive(self) -> bytearray | None:
        """Return the next payload, None at the end of the input."""
        head = self._source.read(LENGTH.size)
        if len(head) < LENGTH.size:
            return None
        payload = bytearray(check_length(LENGTH.unpack(head)[0]))
        got = self._source.readinto(payload)  # type: ignore[attr-defined]  # BinaryIO leaves it out
        return payload if got == len(payload) else None

    def _copy_output(self) -> None:
        """Copy what the kernel has written to its standard output since the last time to standard error."""
        state = os.fstat(1)
        if stat.S_ISREG(state.st_mode) and state.st_size > self._copied:
            os.write(2, os.pread(1, state.st_size - self._copied, self._copied))
        self._copied = state.st_size

    def send(self, payload: bytes) -> None:
        """Send one payload, after what the kernel has written meanwhile."""
        self._copy_output()
        self._sink.write(LENGTH.pack(len(payload)))
        self._sink.write(payload)
        self._sink.flush()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse a worker's command line: form, path or name, symbols."""
    parser = argparse.ArgumentParser(
        prog="q8a8_conformance.worker",
        description="Serve a kernel to the conformance runner over standard input and output.",
    )
    forms = parser.add_subparsers(dest="form", required=True)
    library = forms.add_parser("lib", help="a shared library with the C ABI")
    library.add_argument("path", type=Path)
    library.add_argument("--symbol", action="append", default=[], metavar="ABI_NAME=EXPORTED_NAME")
    library.add_argument("--init", metavar="SYMBOL", help="a void f(void), called once after loading")
    forms.add_parser("py", help="a Python object").add_argument("name", metavar="MODULE:OBJECT")
    device = forms.add_parser("ggml", help="a device of ggml's")
    device.add_argument("paths", metavar="PATH[,PATH...]", help="ggml's libraries, the backend's last")
    device.add_argument("--device", default="", metavar="NAME", help="a device of several")
    device.add_argument("--threads", type=int, default=None, metavar="N", help="threads of a CPU [1]")
    device.add_argument("--buffer", default="default", help="the kind of buffer for w: default or repack")
    device.add_argument("--precision", default="default", help="asked of MUL_MAT: default or f32")
    device.add_argument("--copy", default="", help="what quantizes: cpy or rows [the first supported]")
    reference = forms.add_parser("ref", help="the reference")
    reference.add_argument("--recipe", default="design", help="the quantizers' arithmetic")
    reference.add_argument("--order", default="scalar", help="the dot products' order")
    return parser.parse_args(arguments)


def load(options: argparse.Namespace) -> tuple[Target, Hello]:
    """Return the target and its hello.

    NumPy, and with it the reference, is imported only where a Python object is served.
    """
    arch, features = machine.architecture(), machine.cpu_features()
    if options.form == "lib":
        library = LibraryTarget(options.path, options.symbol, options.init)
        return library, Hello(
            options.path.name,
            arch=arch,
            features=features,
            compiler=machine.compiler_of(options.path),
            capabilities=library.capabilities,
            loading=library.loading,
            kernel=Kernel(str(options.path), machine.sha256_of(options.path)),
        )
    from q8a8_conformance.worker import pyobject  # noqa: PLC0415 -- NumPy takes longer to import than all else

    if options.form == "ggml":
        return _device(options)
    if options.form == "ref":
        target, hello = _reference(options.recipe, options.order)
        return target, replace(hello, arch=arch, features=features)
    target = pyobject.ObjectTarget(pyobject.resolve(options.name))
    version = str(getattr(target.kernel, "version", ""))
    module = sys.modules.get(getattr(target.kernel, "__module__", None) or type(target.kernel).__module__)
    path = Path(getattr(module, "__file__", None) or "")
    kernel = Kernel(str(path), machine.sha256_of(path)) if path.is_file() else None
    return target, Hello(options.name, version, arch=arch, features=features, kernel=kernel)


def _device(options: argparse.Namespace) -> tuple[ObjectTarget, Hello]:
    """Return a device of ggml's and its hello."""
    from q8a8_conformance.worker import pyobject  # noqa: PLC0415 -- slow, as above
    from q8a8_conformance.worker.ggml_backend import GgmlDevice, Settings  # noqa: PLC0415 -- as above

    paths = [Path(path) for path in options.paths.split(",")]
    settings = Settings(options.threads, options.buffer, options.precision, options.copy)
    kernel = GgmlDevice(paths, options.device, settings)
    backend = paths[-1]
    hello = Hello(
        f"{backend.name}, device {kernel.device.name} ({kernel.device.description})",
        arch=machine.architecture(),
        features=machine.cpu_features(),
        compiler=machine.compiler_of(backend),
        kernel=Kernel(str(backend), machine.sha256_of(backend)),
        extra={"devices": list(kernel.devices), "operations": kernel.operations},
    )
    return pyobject.ObjectTarget(kernel), hello


def _reference(recipe: str, order: str) -> tuple[ObjectTarget, Hello]:
    """Return the reference and its hello."""
    from q8a8 import abi  # noqa: PLC0415 -- slow, as below; see load
    from q8a8.errors import Q8A8Error  # noqa: PLC0415
    from q8a8.install import VERSION  # noqa: PLC0415 -- as above
    from q8a8_conformance.worker import pyobject  # noqa: PLC0415

    try:
        target = pyobject.ObjectTarget(abi.Reference(recipe, order))
    except Q8A8Error as error:
        raise TargetError(str(error)) from None
    name = "q8a8 reference"
    if (recipe, order) != ("design", "scalar"):
        name += f" (recipe {recipe}, order {order})"
    sources = Path(abi.__file__).parent
    kernel = Kernel(str(sources), machine.sha256_of_sources(sources))
    return target, Hello(name, VERSION, kernel=kernel)


def serve(channel: Channel, target: Target, hello: Hello) -> None:
    """Send the hello, then answer calls until the runner quits."""
    environment = floating_point()
    invoker = Invoker(target, environment)
    report_faults(invoker.explain)
    set_stack_limit(STACK)
    answerer = Answerer(target, invoker)
    gc.freeze()  # (What lives as long as the process is no garbage; calls leave next to none.)
    gc.set_threshold(GARBAGE)
    capabilities = CAPABILITIES + (ENVIRONMENT_CAPABILITIES if environment else ()) + hello.capabilities
    if "devices" in hello.extra:
        capabilities = DEVICE_CAPABILITIES
    channel.send(encode_hello(replace(hello, functions=tuple(target.functions), capabilities=capabilities)))
    while (payload := channel.receive()) is not None and kind_of(payload) != "Q":
        call_id, call = decode_call(payload)
        try:
            reply = encode_result(answerer.answer(call), call_id)
        except CannotCall as refusal:
            reply = encode_error(Error(str(refusal)), call_id)
        channel.send(reply)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the worker and return its exit status."""
    channel = Channel()
    options = parse(arguments)
    try:
        target, hello = load(options)
    except TargetError as error:
        sys.stderr.write(f"{options.form}: {error}\n")
        return EXIT_USAGE
    try:
        serve(channel, target, hello)
    except ProtocolError as error:
        sys.stderr.write(f"the runner broke the protocol: {error}\n")
        return 1
    return 0
