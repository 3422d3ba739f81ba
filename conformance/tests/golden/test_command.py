"""`q8a8 vectors check` and `q8a8 vectors generate`."""

from __future__ import annotations

import argparse
import shutil
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from q8a8_golden.generate import cli, native

from .conftest import silent_mutant

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_golden.generate.cli import MakeKiller


def run(*arguments: str, killer: MakeKiller | None = lambda: nullcontext(silent_mutant)) -> int:
    """Parse the arguments, run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog="q8a8")
    cli.add_parser(parser.add_subparsers(required=True), killer)
    options = parser.parse_args(["vectors", *arguments])
    status = options.func(options)
    assert isinstance(status, int)
    return status


@pytest.fixture
def no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a machine without a C compiler."""
    monkeypatch.setattr(cli, "scalar_library", lambda: None)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, no_kernel: None) -> None:
    """Simulate an installed wheel, without C sources."""
    del no_kernel
    monkeypatch.setattr(cli, "in_checkout", lambda: False)


@pytest.fixture(autouse=True)
def not_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unset CI, under which a missing kernel is a failure."""
    monkeypatch.delenv("CI", raising=False)


def test_check(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Up-to-date files are status 0, with one line of output."""
    assert run("check", "--data", str(small)) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert out.endswith("cases: the oracle, the NumPy reference and the C kernel agree with the files\n")


def test_check_without_kills(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without mutants, by --no-kills or without the suite, a note says that kills were not compared."""
    assert run("check", "--data", str(small), "--no-kills") == 0
    assert "the kills on record were not compared: --no-kills" in capsys.readouterr().out
    assert run("check", "--data", str(small), killer=None) == 0
    assert "were not compared: q8a8 vectors check does that" in capsys.readouterr().out


def test_generate_refuses_without_the_kills(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without mutants `generate` is status 2, and nothing is written."""
    (small / "dot/v2.json").unlink()
    assert run("generate", "--data", str(small), killer=None) == 2
    assert "written only with its kills" in capsys.readouterr().err
    assert not (small / "dot/v2.json").exists()


def test_failed_check_ends_with_the_command_that_regenerates(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A failed check is status 1; the last line is the command that repairs the files."""
    path = small / "quantize/zero.json"
    path.write_bytes(path.read_bytes().replace(b'"times":32', b'"times":31', 1))
    assert run("check", "--data", str(small)) == 1
    lines = capsys.readouterr().err.splitlines()
    assert any("quantize/zero.json" in line for line in lines)
    assert lines[-1] == "q8a8 vectors generate"
    assert run("generate", "--data", str(small)) == 0
    assert capsys.readouterr().out.splitlines()[0] == "quantize/zero.json"
    assert run("check", "--data", str(small)) == 0


def test_check_of_invalid_json(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is not JSON is reported by the comparison."""
    (small / "dot/v2.json").write_text("{")
    assert run("check", "--data", str(small)) == 1
    assert "dot/v2.json" in capsys.readouterr().err


def test_check_without_manifest_and_schema(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing manifest and a missing schema are reported."""
    (small / "manifest.json").unlink()
    assert run("check", "--data", str(small)) == 1
    assert "manifest.json: missing" in capsys.readouterr().err
    (small / "schema.json").unlink()
    assert run("check", "--data", str(small)) == 1
    assert "schema.json: No such file" in capsys.readouterr().err


def test_disagreement_is_not_repaired(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A kernel that cannot be loaded fails both commands, without the advice to regenerate."""
    (tmp_path / "none.so").write_text("no library")
    for command in ("check", "generate"):
        assert run(command, "--data", str(small), "--c-kernel", str(tmp_path / "none.so")) == 1
        error = capsys.readouterr().err
        assert "none.so: ended" in error
        assert "q8a8 vectors generate" not in error


def test_check_without_c_sources(small: Path, installed: None, capsys: pytest.CaptureFixture[str]) -> None:
    """In an installed wheel the check is status 0, with a note that the C kernel was not compared."""
    del installed
    assert run("check", "--data", str(small)) == 0
    assert "the C kernel was not compared: its sources are in the repository" in capsys.readouterr().out


def test_under_ci_a_checkout_must_have_the_kernel(
    small: Path, no_kernel: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing compiler is a note; under CI, in a checkout, it is a failure."""
    del no_kernel
    assert run("check", "--data", str(small)) == 0
    monkeypatch.setenv("CI", "1")
    assert run("check", "--data", str(small)) == 1
    assert "the C kernel was not compared: there is no C compiler" in capsys.readouterr().out
    monkeypatch.setattr(cli, "in_checkout", lambda: False)
    assert run("check", "--data", str(small)) == 0


def test_generate_refuses_without_the_kernel(
    small: Path, no_kernel: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the C kernel `generate` is status 2, and nothing is written."""
    del no_kernel
    (small / "dot/v2.json").unlink()
    assert run("generate", "--data", str(small)) == 2
    assert "only if the C kernel agrees" in capsys.readouterr().err
    assert not (small / "dot/v2.json").exists()


def test_check_without_jsonschema(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without jsonschema the schema is not checked, with a note."""
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    assert run("check", "--data", str(small)) == 0
    assert "the schema was not checked: jsonschema is not installed" in capsys.readouterr().err


def test_kernel_is_built_without_cmake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, need: Callable[[object, str], None]
) -> None:
    """The kernel is built from sources with the compiler, and reused by a second call."""
    sources = Path(native.__file__).resolve().parents[3] / "native_check"
    for folder in ("kernels", "include"):
        (tmp_path / folder).symlink_to(sources / folder)
    monkeypatch.setattr(native, "_NATIVE", tmp_path)
    library = native.scalar_library()
    need(library, "there is no C compiler")
    assert library is not None
    assert library == tmp_path / "build/golden/libq8a8-scalar.so"
    built = library.stat().st_mtime_ns
    assert native.scalar_library() == library
    assert library.stat().st_mtime_ns == built
    monkeypatch.setenv("CC", "no-such-compiler")
    assert native.scalar_library() == library
    library.unlink()
    assert native.scalar_library() is None


def test_compiler_error_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, need: Callable[[object, str], None]
) -> None:
    """The error of a failed compilation has the compiler's output."""
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels/scalar.c").write_text("#error no kernel\n")
    for other in ("product.c", "export.c"):
        (tmp_path / "kernels" / other).write_text("")
    monkeypatch.setattr(native, "_NATIVE", tmp_path)
    need(shutil.which("cc"), "there is no C compiler")
    monkeypatch.setenv("CC", "cc")
    with pytest.raises(native.NativeBuildError, match="no kernel"):
        native.scalar_library()


def test_installed_package_has_no_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without C sources there is no library."""
    monkeypatch.setattr(native, "_NATIVE", tmp_path / "nowhere")
    assert not native.in_checkout()
    assert native.scalar_library() is None
