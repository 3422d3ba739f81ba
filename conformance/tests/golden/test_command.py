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

from .conftest import no_kills

if TYPE_CHECKING:
    from collections.abc import Callable

    from q8a8_golden.generate.cli import MakeKiller


def run(*arguments: str, killer: MakeKiller | None = lambda: nullcontext(no_kills)) -> int:
    """Parse as the command line does, and call what it says."""
    parser = argparse.ArgumentParser(prog="q8a8")
    cli.add_parser(parser.add_subparsers(required=True), killer)
    options = parser.parse_args(["vectors", *arguments])
    status = options.func(options)
    assert isinstance(status, int)
    return status


@pytest.fixture
def no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make it so that there is no C compiler."""
    monkeypatch.setattr(cli, "scalar_library", lambda: None)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, no_kernel: None) -> None:
    """Make it so that this is an installed wheel, without C sources."""
    del no_kernel
    monkeypatch.setattr(cli, "in_checkout", lambda: False)


@pytest.fixture(autouse=True)
def not_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the variable away that changes what a missing kernel means."""
    monkeypatch.delenv("CI", raising=False)


def test_check_says_what_agreed(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Good files: status 0 and one line."""
    assert run("check", "--data", str(small)) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert out.endswith("cases: the oracle, the NumPy reference and the C kernel agree with the files\n")


def test_check_without_kills_says_so(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --no-kills no mutant is run, and where the suite is missing none can be: both are said."""
    assert run("check", "--data", str(small), "--no-kills") == 0
    assert "the kills on record were not compared: --no-kills" in capsys.readouterr().out
    assert run("check", "--data", str(small), killer=None) == 0
    assert "were not compared: q8a8 vectors check does that" in capsys.readouterr().out


def test_generate_refuses_without_the_kills(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2, and nothing is written: a case's kills belong to it."""
    (small / "dot/v2.json").unlink()
    assert run("generate", "--data", str(small), killer=None) == 2
    assert "written only with its kills" in capsys.readouterr().err
    assert not (small / "dot/v2.json").exists()


def test_a_failed_check_ends_with_the_command_that_regenerates(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 1; the last line is the command, to be copied; and the command repairs the files."""
    path = small / "quantize/zero.json"
    path.write_bytes(path.read_bytes().replace(b'"times":32', b'"times":31', 1))
    assert run("check", "--data", str(small)) == 1
    lines = capsys.readouterr().err.splitlines()
    assert any("quantize/zero.json" in line for line in lines)
    assert lines[-1] == "q8a8 vectors generate"
    assert run("generate", "--data", str(small)) == 0
    assert capsys.readouterr().out.splitlines()[0] == "quantize/zero.json"
    assert run("check", "--data", str(small)) == 0


def test_check_survives_a_file_that_is_no_json(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The schema cannot read it; the comparison names it."""
    (small / "dot/v2.json").write_text("{")
    assert run("check", "--data", str(small)) == 1
    assert "dot/v2.json" in capsys.readouterr().err


def test_check_survives_missing_manifest_and_schema(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is named."""
    (small / "manifest.json").unlink()
    assert run("check", "--data", str(small)) == 1
    assert "manifest.json: missing" in capsys.readouterr().err
    (small / "schema.json").unlink()
    assert run("check", "--data", str(small)) == 1
    assert "schema.json: No such file" in capsys.readouterr().err


def test_a_wrong_kernel_is_a_disagreement_and_no_cure_is_offered(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Regenerating cannot help where truths differ: both commands name the kernel or the case and fail."""
    for command in ("check", "generate"):
        assert run(command, "--data", str(small), "--c-kernel", str(tmp_path / "none.so")) == 1
        error = capsys.readouterr().err
        assert "none.so: died" in error
        assert "q8a8 vectors generate" not in error


def test_without_sources_check_compares_two_truths_and_says_so(
    small: Path, installed: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """From an installed wheel: status 0, and a plain word that the C kernel was not compared."""
    del installed
    assert run("check", "--data", str(small)) == 0
    assert "the C kernel was not compared: its sources are in the repository" in capsys.readouterr().out


def test_under_ci_a_checkout_must_have_the_kernel(
    small: Path, no_kernel: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At home a missing compiler is a remark; under CI it is a failure, in a checkout only."""
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
    """Status 2, and nothing is written."""
    del no_kernel
    (small / "dot/v2.json").unlink()
    assert run("generate", "--data", str(small)) == 2
    assert "only where the C kernel agrees" in capsys.readouterr().err
    assert not (small / "dot/v2.json").exists()


def test_without_jsonschema_check_goes_on(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The schema is left out, and said to be."""
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    assert run("check", "--data", str(small)) == 0
    assert "the schema was not checked: jsonschema is not installed" in capsys.readouterr().err


def test_the_kernel_is_built_where_cmake_has_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, need: Callable[[object, str], None]
) -> None:
    """Sources and a compiler are enough, and a second call finds the library that the first one built."""
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


def test_a_compiler_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command and the compiler's own words."""
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels/scalar.c").write_text("#error no kernel\n")
    (tmp_path / "kernels/export.c").write_text("")
    monkeypatch.setattr(native, "_NATIVE", tmp_path)
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    monkeypatch.setenv("CC", "cc")
    with pytest.raises(native.NativeBuildError, match="no kernel"):
        native.scalar_library()


def test_an_installed_package_has_no_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No sources beside the package, no library."""
    monkeypatch.setattr(native, "_NATIVE", tmp_path / "nowhere")
    assert not native.in_checkout()
    assert native.scalar_library() is None
