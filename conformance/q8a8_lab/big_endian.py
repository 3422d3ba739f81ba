"""Run the reference over the golden vectors on another machine or Python: Debian's, under QEMU.

By default on s390x, which is big-endian; on Arm with ``--machine arm64``, and with the newest Python and
NumPy with ``--machine amd64 --suite sid``. debootstrap fetches python3-numpy and what it needs into a folder
(it wants root), dpkg-deb unpacks them, and QEMU's user mode runs the interpreter with the folder as its root
for libraries. Nothing is configured. The check itself (``--check``) runs in any interpreter that has NumPy.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from q8a8_golden.cases import Unspecified
from q8a8_golden.conform import conforms
from q8a8_golden.generate.reference import ReferenceImplementation
from q8a8_golden.load import load_cases

ROOT = Path(__file__).parents[2]
MIRROR = "http://deb.debian.org/debian"
MACHINES = {"s390x": "s390x", "arm64": "aarch64", "amd64": "x86_64"}
"""What QEMU and GNU call Debian's machines."""

PACKAGES = ("refimpl", "golden", "conformance")


def check() -> tuple[int, list[str]]:
    """Return how many calls of the golden vectors the reference was given, and those it answers wrongly."""
    reference, calls, wrong = ReferenceImplementation(), 0, []
    for case in load_cases():
        calls += 1
        got = reference.after(case, case.function, case.poisoned())
        if got is None and isinstance(case.outcome, Unspecified):
            continue  # the reference refuses what no rule gives a result
        if got is None or not conforms(case, got):
            wrong.append(case.id)
    return calls, wrong


def unpack(folder: Path, machine: str, suite: str) -> None:
    """Fetch and unpack Debian's python3-numpy for a machine."""
    include = ["--foreign", f"--arch={machine}", "--variant=minbase", "--include=python3-numpy"]
    program = shutil.which("debootstrap", path="/usr/sbin:/usr/bin:/sbin") or "debootstrap"
    subprocess.run([program, *include, suite, str(folder), MIRROR], check=True)
    for package in sorted((folder / "var/cache/apt/archives").glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", str(package), str(folder)], check=True)  # noqa: S607 -- the one on the PATH
    (folder / "unpacked").touch()


def emulate(folder: Path, machine: str) -> int:
    """Run the check under QEMU, and return its exit status."""
    name = MACHINES[machine]
    libraries = Path(f"/usr/lib/{name}-linux-gnu")
    paths = [folder / "usr/lib/python3/dist-packages", *(ROOT / name for name in PACKAGES)]
    variables = {
        "LD_LIBRARY_PATH": f"{libraries / 'blas'}:{libraries / 'lapack'}",
        "PYTHONHOME": str(folder / "usr"),
        "PYTHONPATH": ":".join(map(str, paths)),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [f"qemu-{name}", "-L", str(folder)]
    for variable, value in variables.items():
        command += ["-E", f"{variable}={value}"]
    command += [str(folder / "usr/bin/python3"), "-m", "q8a8_lab.big_endian", "--check"]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def main(arguments: list[str] | None = None) -> None:
    """Run the check, here or on the emulated machine."""
    parser = argparse.ArgumentParser(prog="python -m q8a8_lab.big_endian", description=__doc__)
    parser.add_argument("--check", action="store_true", help="in this interpreter")
    parser.add_argument("--machine", choices=MACHINES, default="s390x", help="as Debian calls it [s390x]")
    parser.add_argument("--suite", default="bookworm", help="of Debian [bookworm]")
    parser.add_argument("--folder", type=Path, help="where the packages are unpacked [.cache/MACHINE-SUITE]")
    options = parser.parse_args(arguments)
    if not options.check:
        folder = options.folder or ROOT / ".cache" / f"{options.machine}-{options.suite}"
        if not (folder / "unpacked").exists():
            unpack(folder, options.machine, options.suite)
        raise SystemExit(emulate(folder, options.machine))
    started = time.monotonic()
    calls, wrong = check()
    sys.stdout.write("".join(f"wrong: {name}\n" for name in wrong))
    machine = f"{platform.machine()}, {sys.byteorder}-endian"
    sys.stdout.write(
        f"{machine}, Python {platform.python_version()}, NumPy {np.__version__}: "
        f"{calls} calls of the golden vectors, {len(wrong)} wrong; {time.monotonic() - started:.0f} s\n"
    )
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
