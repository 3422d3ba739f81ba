"""The site builds without a warning and without the network, and what the pages say of the code is so."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from q8a8_conformance import cli
from q8a8_conformance.protocol import messages
from q8a8_conformance.spec import abi
from q8a8_golden import load

if TYPE_CHECKING:
    from pathlib import Path

PYTHON = re.compile(r"^```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")


class Resources(HTMLParser):
    """Collect what a browser fetches to show a page: scripts, styles, images, frames; not links."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the address of what is fetched."""
        wanted = {"script": "src", "img": "src", "iframe": "src", "link": "href", "source": "src"}
        self.found += [value for name, value in attrs if wanted.get(tag) == name and value]


def pages(docs: Path) -> list[Path]:
    """Return every page."""
    return sorted(docs.rglob("*.md"))


def cells(page: str, heading: str) -> list[list[str]]:
    """Return the rows of the first table below a heading, without its head."""
    _, found, rest = page.partition(f"{heading}\n")
    assert found, f"no heading {heading}"
    lines = [line for line in rest.partition("\n#")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.fixture(scope="module")
def site(docs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site, strictly."""
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    pytest.importorskip("mkdocstrings")
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(target)]
    # The theme's advertisement of its successor calls itself a warning.
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(  # noqa: S603 -- our own command
        command, cwd=docs.parent, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert built.returncode == 0, f"{' '.join(command[1:])} failed:\n{built.stderr}"
    assert "WARNING" not in built.stderr
    return target


def test_the_site_builds(site: Path, docs: Path) -> None:
    """`mkdocs build --strict` passes without a warning and makes every page."""
    for path in pages(docs):
        assert (site / path.relative_to(docs)).with_suffix(".html").is_file()


def test_the_site_needs_no_network(site: Path) -> None:
    """No page fetches anything from another host, and no style does."""
    for path in site.rglob("*.html"):
        resources = Resources()
        resources.feed(path.read_text(encoding="utf-8"))
        assert [address for address in resources.found if "//" in address] == [], path.name
    for path in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", path.read_text(encoding="utf-8"))


def test_every_rule_has_its_anchor(site: Path) -> None:
    """The anchors in rules.json exist in the pages as built."""
    from q8a8_conformance.spec.rules import load_rules  # noqa: PLC0415 -- for this test alone

    for rule in load_rules():
        page = (site / rule.page).with_suffix(".html").read_text(encoding="utf-8")
        assert f'id="{rule.anchor}"' in page, rule.id


def test_snippets_are_included(site: Path) -> None:
    """The pages show the files that they include, and none shows the marker instead."""
    shown = {
        "protocol.html": "def dequantize",
        "judge-your-kernel.html": "rintf",
        "contributing.html": "House style",
    }
    for name, text in shown.items():
        page = re.sub(r"<[^>]*>", "", (site / name).read_text(encoding="utf-8"))
        assert text in page
        assert "--8" not in page


def test_every_page_is_in_the_navigation(docs: Path) -> None:
    """No page is left out of the navigation (the generated one is in it once it exists)."""
    navigation = (docs.parent / "mkdocs.yml").read_text(encoding="utf-8")
    for path in pages(docs):
        assert re.search(rf"[ :-] {re.escape(path.relative_to(docs).as_posix())}$", navigation, re.MULTILINE)


def test_no_absolute_paths(docs: Path) -> None:
    """No page names a place of the machine that it was written on."""
    for path in pages(docs):
        found = re.findall(
            r"(?<![\w./])/(?:work|home|root|tmp|mnt|Users)/\S*", path.read_text(encoding="utf-8")
        )
        assert not found, path.name


def test_examples_run(docs: Path) -> None:
    """Python on the pages runs as it stands; snippets from files are tested where the files are."""
    for path in pages(docs):
        for block in PYTHON.finditer(path.read_text(encoding="utf-8")):
            if "--8<--" not in block["code"]:
                exec(compile(block["code"], str(path), "exec"), {})  # noqa: S102 -- our own pages


def test_the_minimal_worker_is_short(docs: Path) -> None:
    """The worker on the protocol's page has fewer than 60 lines and imports the standard library alone."""
    text = (docs / "examples/minimal_worker.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 60
    modules = re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE)
    assert set(modules) <= sys.stdlib_module_names


def test_the_protocol_page(docs: Path) -> None:
    """The page's tables of functions, options, faults and capabilities are the protocol's."""
    page = (docs / "protocol.md").read_text(encoding="utf-8")
    functions = [[row[0], row[1]] for row in cells(page, "## Call")]
    assert functions == [[str(f.number), f"`{f.name}`"] for f in abi.FUNCTIONS]
    for row, function in zip(cells(page, "## Call"), abi.FUNCTIONS, strict=True):
        buffers = [f"{b.name} {'in' if b.role == 'input' else 'out'}" for b in function.buffers]
        assert row[3] == ", ".join(buffers)
    options = [row[:2] for row in cells(page, "### Options")]
    assert options == [[str(option.value), f"`{option.name}`"] for option in messages.Option]
    faults = [row[:2] for row in cells(page, "## Result")]
    assert faults == [[str(fault.value), f"`{fault.name}`"] for fault in messages.Fault]
    capabilities = [row[0] for row in cells(page, "## Capabilities")]
    assert sorted(capabilities) == sorted(f"`{name}`" for name in messages.CAPABILITIES)
    assert f"2^{messages.MAX_FRAME.bit_length() - 1}" in page


def test_the_vectors_page(docs: Path) -> None:
    """The page's tables name every key of a case, a result and an outcome, and no other."""
    page = (docs / "vectors.md").read_text(encoding="utf-8")
    schema = json.loads((docs.parent / "golden/q8a8_golden/data/schema.json").read_text(encoding="utf-8"))
    definitions = schema["$defs"]
    assert [row[0] for row in cells(page, "## A case")] == [
        f"`{k}`" for k in definitions["case"]["properties"]
    ]
    outcomes = definitions["outcome"]["oneOf"]
    kinds = [outcome["properties"]["kind"]["const"] for outcome in outcomes]
    rows = cells(page, "## Outcomes")
    table = [row[0].strip("`") for row in rows if row[0]]
    assert table[: len(kinds)] == kinds
    for key in definitions["result"]["properties"]:
        assert f"| `{key}` |" in page
    for key in {key for outcome in outcomes for key in outcome["properties"]} - {"kind"}:
        assert f"`{key}`" in page
    assert load.load_cases()


def test_example_commands(docs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every example command names a command that there is, with options that it has."""
    helps: dict[str, str] = {}
    root = docs.parent
    for path in [*pages(docs), root / "README.md", root / "CONTRIBUTING.md"]:
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in re.findall(r"(?:^\$ |`|^)(q8a8 [a-z][^`\n]*)", text, re.MULTILINE):
            command = line.split()[1]
            if command not in helps:
                assert cli.main([command, "--help"]) == 0, f"{path.name}: {line}"
                helps[command] = capsys.readouterr().out
                for action in re.findall(r"^usage: .*\{([\w,]+)\} \.\.\.", helps[command], re.MULTILINE):
                    for word in action.split(","):
                        assert cli.main([command, word, "--help"]) == 0
                        helps[command] += capsys.readouterr().out
            # What is quoted is somebody else's command line.
            options = OPTION.findall(re.sub(r'"[^"]*"', "", line))
            assert set(options) <= set(OPTION.findall(helps[command])), f"{path.name}: {line}"
        for module in re.findall(r"python -m (q8a8[\w.]+)", text):
            assert importlib.util.find_spec(module), f"{path.name}: {module}"


@pytest.mark.parametrize("command", list(cli.COMMANDS))
def test_the_command_line_page(docs: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    """The page's section on a command names its options, every one and no other."""
    page = (docs / "command-line.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## .*$", page, re.MULTILINE)
    heading = next(line for line in headings if re.search(rf"q8a8 {command}(?![\w-])", line))
    section = page.partition(f"{heading}\n")[2].partition("\n## ")[0].partition("### As a pytest")[0]
    words = [[command]]
    assert cli.main([command, "--help"]) == 0
    text = capsys.readouterr().out
    if actions := re.search(r"^usage: .*\{([\w,]+)\} \.\.\.", text, re.MULTILINE):
        words = [[command, action] for action in actions[1].split(",")]
    options: set[str] = set()
    for line in words:
        assert cli.main([*line, "--help"]) == 0
        options |= set(OPTION.findall(capsys.readouterr().out))
        assert f"q8a8 {' '.join(line)}" in section
    shared = {name for name in cli.COMMANDS if re.search(rf"q8a8 {name}(?![\w-])", heading)}
    named = set(OPTION.findall(section))
    assert options - {"--help"} <= named
    if shared == {command}:
        assert named <= options


def test_the_kernel_with_a_mistake(docs: Path, tmp_path: Path) -> None:
    """The example of the first guide fails as the guide says: the case, the bytes, the cause."""
    compiler = shutil.which("cc")
    if compiler is None or platform.machine() not in {"x86_64", "aarch64"}:
        pytest.skip("no C compiler for this machine: the example is not built")
    source, library = docs / "examples/rounds_to_even.c", tmp_path / "libmine.so"
    build = [compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(source), "-lm"]
    subprocess.run(build, check=True, timeout=60)  # noqa: S603 -- our own example
    case = "quantize/ties/made-by-rounding-third/row"
    words = ["test", f"lib:{library}", "--rules", "QNT-4", "--case", case]
    judged = subprocess.run(  # noqa: S603 -- our own command
        [sys.executable, "-m", "q8a8_conformance.cli", *words],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert judged.returncode == 1, judged.stderr
    page = (docs / "judge-your-kernel.md").read_text(encoding="utf-8")
    excerpt = page.partition("```text\n")[2].partition("```")[0]
    for line in excerpt.splitlines():
        if line.startswith(("  want", "  got", "  in", "  call", "  the result")):
            assert line.removesuffix("…") in judged.stdout
    assert "likely cause: round-half-even" in judged.stdout
    assert f"--case {case}" in excerpt
    assert f"--case {case}" in judged.stdout
