"""The harness's command line: output and exit statuses."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import shlex
from importlib import metadata
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance.inputs import calls
from q8a8_conformance.protocol.messages import CAPABILITIES
from q8a8_conformance.protocol.session import Session
from q8a8_conformance.protocol.sut import parse_sut
from q8a8_conformance.reveal.products.shapes import activations, weights
from q8a8_conformance.spec import abi
from q8a8_lab import native_build
from q8a8_lab.peers import ggml, store

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
        ("", "expected one KERNEL, --lib PATH or --ggml PATH"),
        ("scalar neon", "expected one KERNEL, --lib PATH or --ggml PATH"),
        ("scalar --lib x.so", "expected one KERNEL, --lib PATH or --ggml PATH"),
        ("--frobnicate", "invalid argument --frobnicate"),
        ("--lib", "invalid argument --lib"),
        ("altivec", "unknown kernel altivec"),
        ("scalar --init f", "--symbol and --init need --lib"),
        ("--lib x.so --symbol nonsense", "--symbol: expected ABI_NAME=EXPORTED_NAME, got nonsense"),
        ("--lib x.so --symbol a=b", "the interface has no function a"),
        ("--lib /nonexistent/x.so", "/nonexistent/x.so: cannot open shared object file"),
        ("scalar --ggml x.so", "expected one KERNEL, --lib PATH or --ggml PATH"),
        ("scalar --threads 2", "--device, --threads, --buffer, --precision and --copy need --ggml"),
        ("--ggml /nonexistent/x.so", "/nonexistent/x.so: cannot open shared object file"),
        ("--ggml ,", "--ggml: expected PATH[,PATH...]"),
        ("--ggml x.so --buffer host", "--buffer: expected default or repack, got host"),
        ("--ggml x.so --copy blocks", "--copy: expected cpy or rows, got blocks"),
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


@pytest.fixture(scope="session")
def ggml_library(need: Callable[[object, str], None]) -> Path:
    """Return libggml-cpu of the installed pywhispercpp."""
    try:
        return ggml.host_library()
    except store.PeerUnavailableError as error:
        need(False, str(error))
        raise  # not reached


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--device Vulkan0", "there is no device Vulkan0; there is CPU"),
        ("--threads none", "--threads: expected 1 to 512, got none"),
    ],
)
def test_devices_that_are_not_there(
    options: str,
    message: str,
    ggml_library: Path,
    harness: Callable[..., list[str]],
    run: Callable[..., subprocess.CompletedProcess[bytes]],
) -> None:
    """What ggml's libraries lack is named; so is a library without ggml's interface, or without a device."""
    done = run(harness(f"--ggml {ggml_library} {options}"))
    assert (done.returncode, done.stderr.decode()) == (2, f"q8a8-harness: {message}\n")
    base = next(ggml_library.parent.glob("libggml-base*"))
    assert b"the libraries have no device" in run(harness(f"--ggml {base}")).stderr
    other = next(ggml_library.parent.glob("libgomp*"))
    assert b"has no ggml_init: name libggml-base as well" in run(harness(f"--ggml {other}")).stderr


def test_a_device_as_the_suite_calls_it(ggml_library: Path, harness: Callable[..., list[str]]) -> None:
    """`--ggml` offers and gives, in every option, what the suite's own worker does."""
    w, x = weights(7, 64), activations(3, 64)
    asked = [
        calls.mul_mat(w, x),
        calls.quantize("quantize_row_q8_a8", x[0]),
        calls.dequantize(w[0]),
        calls.mul_mat(w, x[:0]),
        calls.mul_mat(w[:, :0], x[:, :0]),
    ]
    for options in ({}, {"threads": "2", "precision": "f32", "copy": "rows"}):
        argv = harness(shlex.join(["--ggml", str(ggml_library), *(f"--{k}={v}" for k, v in options.items())]))
        chosen = ",".join(f"{name}={value}" for name, value in options.items())
        ours = parse_sut(f"ggml:{ggml_library}{':' if chosen else ''}{chosen}").session()
        with Session(argv) as session, ours as suite:
            assert session.hello.name == suite.hello.name
            assert session.hello.functions == suite.hello.functions
            assert session.hello.capabilities == suite.hello.capabilities
            assert session.hello.extra == suite.hello.extra
            for call in asked:
                assert session.call(call).outputs == suite.call(call).outputs


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
    feature = {"dotprod": "asimddp", "i8mm": "i8mm", "sve": "sve", "sve-i8mm": "sve, svei8mm"}
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
    assert set(hello.capabilities) == {*CAPABILITIES} - {"watch"}
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
