"""The harness's command line: output and exit statuses."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from importlib import metadata
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.protocol.messages import CAPABILITIES
from q8a8_conformance.protocol.session import Session
from q8a8_conformance.spec import abi
from q8a8_lab import native_build

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

ON_X86 = platform.machine() == "x86_64"


def test_help_version_and_list(
    harness: Callable[..., list[str]], run: Callable[..., subprocess.CompletedProcess[bytes]]
) -> None:
    """--help, --version and --list print and exit with status 0."""
    shown = run(harness("--help"))
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert shown.stdout.startswith(b"usage: q8a8-harness KERNEL\n")
    version = run(harness("--version"))
    assert version.stdout.decode() == f"q8a8-harness {metadata.version('q8a8')}\n"
    listed = run(harness("--list"))
    assert listed.returncode == 0
    lines = listed.stdout.decode().splitlines()
    assert [line.split()[0] for line in lines] == list(native_build.KERNELS)
    assert lines[0].split(maxsplit=1)[1] == "runs here"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "expected one KERNEL or --lib PATH"),
        ("scalar neon", "expected one KERNEL or --lib PATH"),
        ("scalar --lib x.so", "expected one KERNEL or --lib PATH"),
        ("--frobnicate", "invalid argument --frobnicate"),
        ("--lib", "invalid argument --lib"),
        ("altivec", "unknown kernel altivec"),
        ("scalar --init f", "--symbol and --init need --lib"),
        ("--lib x.so --symbol nonsense", "--symbol: expected ABI_NAME=EXPORTED_NAME, got nonsense"),
        ("--lib x.so --symbol a=b", "the interface has no function a"),
        ("--lib /nonexistent/x.so", "/nonexistent/x.so: cannot open shared object file"),
    ],
)
def test_usage_errors(
    arguments: str,
    message: str,
    harness: Callable[..., list[str]],
    run: Callable[..., subprocess.CompletedProcess[bytes]],
) -> None:
    """A usage error is status 2, with one line on standard error and nothing on standard output."""
    done = run(harness(arguments))
    assert (done.returncode, done.stdout) == (2, b"")
    assert message in done.stderr.decode()
    assert len(done.stderr.splitlines()) == 1


def test_missing_symbols(
    harness: Callable[..., list[str]],
    built: Callable[[str], Path],
    run: Callable[..., subprocess.CompletedProcess[bytes]],
) -> None:
    """A requested symbol must exist; the error names it."""
    library = f"--lib {built('native') / 'lib' / 'libq8a8-scalar.so'}"
    for option in ("--symbol quantize_row_q8_a8=no_such_function", "--init no_such_function"):
        done = run(harness(f"{library} {option}"))
        assert done.returncode == 2
        assert done.stderr.decode().rstrip().endswith("libq8a8-scalar.so exports no no_such_function")


@pytest.mark.skipif(not ON_X86, reason="on Arm the kernels are built for this processor")
@pytest.mark.parametrize("kernel", ["neon", "dotprod", "i8mm"])
def test_other_architecture(
    kernel: str, harness: Callable[..., list[str]], run: Callable[..., subprocess.CompletedProcess[bytes]]
) -> None:
    """A kernel of another architecture exits with 77 and the name of the architecture."""
    done = run(harness(kernel))
    assert (done.returncode, done.stdout) == (native_build.UNSUPPORTED, b"")
    assert f"kernel {kernel} needs the CPU architecture aarch64" in done.stderr.decode()


@pytest.mark.parametrize("cpu", native_build.CPUS)
def test_missing_features(
    cpu: str, harness: Callable[..., list[str]], run: Callable[..., subprocess.CompletedProcess[bytes]]
) -> None:
    """Under QEMU every kernel runs or exits with 77 and the missing feature, which --list prints too."""
    feature = {"dotprod": "asimddp", "i8mm": "i8mm", "sve": "sve"}
    listed = dict(line.split(maxsplit=1) for line in run(harness("--list", cpu)).stdout.decode().splitlines())
    for kernel in native_build.KERNELS:
        done = run(harness(kernel, cpu))
        if kernel in {*native_build.X86_KERNELS, "rvv"}:
            processor = "riscv64" if kernel == "rvv" else "x86_64"
            assert listed[kernel] == f"needs the CPU architecture {processor}"
        elif kernel in native_build.RUNS_ON[cpu]:
            assert done.returncode == 0, done.stderr
            assert listed[kernel] == "runs here"
        else:
            needs = f"needs the CPU feature {feature[kernel]}"
            assert (done.returncode, done.stdout) == (native_build.UNSUPPORTED, b"")
            assert done.stderr.decode() == f"q8a8-harness: kernel {kernel} {needs}\n"
            assert listed[kernel] == needs


def test_hello(harness: Callable[..., list[str]]) -> None:
    """The hello has functions, capabilities, compiler, flags, and the file's SHA-256."""
    argv = harness("scalar")
    with Session(argv) as session:
        hello = session.hello
    assert (hello.name, hello.version) == ("scalar", metadata.version("q8a8"))
    assert hello.functions == abi.NAMES
    assert set(hello.capabilities) == set(CAPABILITIES)
    assert hello.arch == platform.machine()
    assert hello.emulated is False
    assert hello.compiler is not None
    assert re.match(r"(GCC|Clang|Apple|Debian) ", hello.compiler)
    assert hello.flags is not None
    assert "-ffp-contract=off" in hello.flags
    assert hello.kernel is not None
    assert hello.kernel.path == argv[0]
    with open(argv[0], "rb") as file:  # noqa: PTH123 -- file_digest wants an open file
        assert hello.kernel.sha256 == hashlib.file_digest(file, "sha256").hexdigest()


def test_features(harness: Callable[..., list[str]]) -> None:
    """The features are among those of /proc/cpuinfo."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 -- a system file
        known = set(re.findall(r"^(?:flags|Features)\s*:(.*)$", file.read(), re.MULTILINE)[0].split())
    with Session(harness("scalar")) as session:
        assert set(session.hello.features) <= known


@pytest.mark.parametrize(
    ("cpu", "has", "lacks"),
    [
        ("cortex-a72", {"asimd"}, {"asimddp", "i8mm", "sve"}),
        ("neoverse-n1", {"asimd", "asimdhp", "asimddp"}, {"i8mm", "sve"}),
        ("max", {"asimd", "asimdhp", "asimddp", "i8mm", "sve"}, set()),
    ],
)
def test_hello_under_qemu(
    cpu: str, has: set[str], lacks: set[str], harness: Callable[..., list[str]]
) -> None:
    """An emulated CPU is reported as such, with its own features."""
    with Session(harness("neon", cpu)) as session:
        hello = session.hello
    assert hello.arch == "aarch64"
    assert hello.emulated is True
    assert has <= set(hello.features)
    assert not lacks & set(hello.features)


def test_library_hello(harness: Callable[..., list[str]], built: Callable[[str], Path]) -> None:
    """A library offers its exported functions under its file name; its compiler is unknown."""
    library = built("native") / "lib" / "libq8a8-broken.so"
    with Session(harness(f"--lib {library} --symbol dequantize_row_q8_a8=dot_fine")) as session:
        hello = session.hello
    assert hello.name == "libq8a8-broken.so"
    assert hello.functions == ("dequantize_row_q8_a8",)
    assert (hello.compiler, hello.flags) == (None, None)
    assert hello.kernel is not None
    assert hello.kernel.sha256 == hashlib.sha256(library.read_bytes()).hexdigest()


@pytest.mark.parametrize("size", [0, 55, 56, 63, 64, 119, 120, 1000])
def test_sha256_of_every_padding(
    size: int,
    harness: Callable[..., list[str]],
    built: Callable[[str], Path],
    run: Callable[..., subprocess.CompletedProcess[bytes]],
    tmp_path: Path,
) -> None:
    """The digest is right for every class of padding of the last 64-byte block."""
    library = built("native") / "lib" / "libq8a8-scalar.so"
    copy = tmp_path / "k.so"
    data = library.read_bytes()
    data += bytes(-len(data) % 64 + size)  # trailing bytes in an ELF file are ignored
    copy.write_bytes(data)
    done = run(harness(f"--lib {copy}"))
    hello = json.loads(done.stdout[5:])
    assert hello["kernel"] == {"path": str(copy), "sha256": hashlib.sha256(data).hexdigest()}
