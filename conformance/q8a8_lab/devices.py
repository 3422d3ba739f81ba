"""Where our kernels run: each kernel on each processor, emulator and device, as a system under test."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from q8a8_lab import native_build

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LEGS", "Leg"]


@dataclass(frozen=True)
class Leg:
    """A kernel on a device.

    Attributes
    ----------
    kernel
        Its name.
    where
        The device or emulator, in words.
    sut
        Builds what is out of date and returns the system under test; raises `NativeError` where it cannot.
    """

    kernel: str
    where: str
    sut: Callable[[], str]


def _harness(kernel: str, cpu: str | None = None) -> Callable[[], str]:
    return lambda: f"exec:{shlex.join(native_build.harness_argv(kernel, cpu))}"


LEGS: tuple[Leg, ...] = (
    Leg("NumPy reference", "x86-64", lambda: "ref"),
    Leg("`scalar`", "x86-64", _harness("scalar")),
    *(
        Leg(f"`{kernel}`", f"64-bit Arm, `qemu-aarch64 -cpu {cpu}`", _harness(kernel, cpu))
        for cpu in native_build.CPUS
        for kernel in native_build.RUNS_ON[cpu]
    ),
)
"""Every leg, in the order of the table."""
