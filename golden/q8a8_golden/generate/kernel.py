"""The C scalar kernel as an independent implementation, loaded in a child process, whose crash is an error.

`python -m q8a8_golden.generate.kernel LIBRARY` is the child. It reads one call a line from standard input and
writes its result in one line: JSON, bytes in hex.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from q8a8_golden.cases import FUNCTIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from q8a8_golden.generate.implementations import Call

__all__ = ["KernelError", "KernelImplementation"]

_INTEGERS: Final[Mapping[str, Any]] = {
    "k": ctypes.c_int64,
    "size": ctypes.c_int,
    "n": ctypes.c_int,
    "bs": ctypes.c_size_t,
    "bx": ctypes.c_size_t,
    "by": ctypes.c_size_t,
    "nrc": ctypes.c_int,
}

_OF_PRODUCTS: Final[Mapping[str, Any]] = dict.fromkeys("mnk", ctypes.c_int64)


class KernelError(RuntimeError):
    """The C scalar kernel could not be loaded, or crashed during a call."""


class KernelImplementation:
    """The C scalar kernel, as a context manager that ends the child process.

    Parameters
    ----------
    library
        A shared library that exports the seven functions of the ABI.
    """

    name = "the C scalar kernel"

    def __init__(self, library: Path) -> None:
        self._library = library
        # This interpreter, on this module.
        self._child = subprocess.Popen(
            [sys.executable, "-m", "q8a8_golden.generate.kernel", str(library)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        """Return the implementation itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the child."""
        self._child.communicate()

    def after(
        self, call: Call, function: str, before: Mapping[str, bytes], recipe: str = "design"
    ) -> dict[str, bytes] | None:
        """Return the output buffers after the call; None for a recipe that is not the specification's."""
        if recipe != "design":
            return None
        request = {
            "function": function,
            "args": dict(call.args),
            "inputs": {name: data.hex() for name, data in call.inputs.items()},
            "outputs": {name: data.hex() for name, data in before.items()},
        }
        if self._child.stdin is None or self._child.stdout is None:
            raise KernelError(f"{self._library}: the child has no pipes")
        try:
            self._child.stdin.write(json.dumps(request) + "\n")
            self._child.stdin.flush()
            answer = self._child.stdout.readline()
        except OSError:
            answer = ""
        if not answer:
            raise KernelError(f"{self._library}: ended with status {self._child.wait()} in case {call.id}")
        return {name: bytes.fromhex(data) for name, data in json.loads(answer).items()}


def _call(library: ctypes.CDLL, request: Mapping[str, Any]) -> dict[str, str]:
    """Call one function and return its output buffers in hex."""
    buffers = {
        name: ctypes.create_string_buffer(data, max(len(data), 1))
        for name, data in (
            (n, bytes.fromhex(text)) for n, text in (request["inputs"] | request["outputs"]).items()
        )
    }
    integers = _OF_PRODUCTS if request["function"] == "mul_mat_q8_a8" else _INTEGERS
    arguments = [
        buffers[name] if name in buffers else integers[name](request["args"][name])
        for name in FUNCTIONS[request["function"]].parameters
    ]
    function = getattr(library, request["function"])
    function.restype = None
    function(*arguments)
    return {name: buffers[name].raw[: len(text) // 2].hex() for name, text in request["outputs"].items()}


def main(path: str) -> None:
    """Answer calls until standard input ends."""
    library = ctypes.CDLL(str(Path(path).resolve()))
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_call(library, json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
