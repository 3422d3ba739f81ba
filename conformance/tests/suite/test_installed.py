"""The suite from an installed wheel, away from the checkout: the command, and the pytest plugin by itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a runner of commands in an environment that has the wheel, and not the checkout.

    What the wheel depends on comes from this environment, by a path file. Path files that lie there are not
    read, so an editable install of the checkout stays out.
    """
    folder = tmp_path_factory.mktemp("installed")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PYTEST", "COV"))}

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
        )

    built = run(
        sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    home = folder / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    python = str(home / "bin" / "python")
    done = run(
        sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", str(wheel)
    )
    assert done.returncode == 0, done.stderr
    (site,) = home.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return lambda program, *words: run(str(home / "bin" / program), *words)


def test_the_wheel_is_what_runs(installed: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """The package is imported from the installed wheel."""
    done = installed("python", "-c", "import q8a8_conformance as c; print(c.__file__)")
    assert done.returncode == 0, done.stderr
    assert str(ROOT) not in done.stdout


def test_the_laboratory_is_not_in_the_wheel(
    installed: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """What only this project runs stays out; the mutants can be judged all the same."""
    code = "import importlib.util as u; print([u.find_spec(n) for n in ('q8a8_lab', 'q8a8_conformance.lab')])"
    assert installed("python", "-c", code).stdout.strip() == "[None, None]"
    sut = "py:q8a8_conformance.mutants:round_half_even"
    judged = installed("q8a8", "test", sut, "--rules", "QNT-4")
    assert judged.returncode == 1, judged.stderr


def test_the_command(installed: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """``q8a8 test`` judges the reference, golden cases included."""
    done = installed("q8a8", "test", "ref", "--rules", "DOT-5,QNT-6", "--profile", "exact")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("conforms: 2 rules judged")
    assert done.stderr == ""


def test_the_plugin(installed: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """Pytest runs the suite with the plugin alone, prints the verdict, and fails where the kernel does."""
    words = ("-m", "pytest", "-p", "q8a8_conformance.plugin", "--pyargs", "q8a8_conformance", "-q")
    done = installed("python", *words, "--sut", "ref", "--rules", "DOT-5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "conforms: 1 rule judged" in done.stdout
    done = installed("python", *words, "--sut", "py:collections:Counter", "--rules", "DOT-5")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "nothing-ran" in done.stdout


def test_the_plugin_has_the_options_of_the_command(
    installed: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """The same run is asked for either way, and writes the same files."""
    plugin, command = tmp_path / "plugin", tmp_path / "command"
    for folder in (plugin, command):
        folder.mkdir()
    shared = ("--profile", "exact", "--rules", "DOT-5", "--case", "dot/*")
    words = ("-m", "pytest", "-p", "q8a8_conformance.plugin", "--pyargs", "q8a8_conformance", "-q")
    files = ("--report-json", f"{plugin}/report", "--write-known-failures", f"{plugin}/known")
    done = installed("python", *words, "--sut", "ref", *shared, "--call-timeout", "5", *files)
    assert done.returncode == 0, done.stdout + done.stderr
    files = ("--json", f"{command}/report", "--write-known-failures", f"{command}/known")
    done = installed("q8a8", "test", "ref", *shared, "--timeout", "5", *files)
    assert done.returncode == 0, done.stdout + done.stderr
    reports = [json.loads((folder / "report").read_text("utf-8")) for folder in (plugin, command)]
    for report in reports:
        assert report["timing"].pop("calls") > 0
        del report["timing"], report["summary"]
    assert reports[0] == reports[1]
    assert reports[0]["command"] == "q8a8 test ref --profile exact --timeout 5 --rules DOT-5 --case 'dot/*'"
    assert (plugin / "known").read_text("utf-8") == (command / "known").read_text("utf-8")


def test_the_plugin_wants_a_kernel(installed: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """Without ``--sut`` pytest names what is missing; collecting needs none."""
    words = ("-m", "pytest", "-p", "q8a8_conformance.plugin", "--pyargs", "q8a8_conformance")
    done = installed("python", *words)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--sut" in done.stderr
    done = installed("python", *words, "--collect-only", "-q")
    assert done.returncode == 0, done.stdout
