"""The site builds without warnings and without the network, and the pages agree with the code."""

from __future__ import annotations

import html
import importlib.util
import json
import pkgutil
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
from q8a8_lab.pages import drawings
from q8a8_lab.pages.site import build

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PYTHON = re.compile(r"^```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
SOURCES = ("docs", "refimpl", "conformance", "golden", "native_check")
# A name with a dot, of one of the packages; not the name of a file.
NAME = re.compile(
    r"(?<![\w/.-])(q8a8(?:_golden|_conformance|_evaluation|_lab)?(?:\.(?!json\b|md\b|npy\b)\w+)+)(?![\w/(-])"
)
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")


class Resources(HTMLParser):
    """Collects the resources that a browser fetches for a page: scripts, styles, images, frames."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record the address of a resource."""
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


def test_site_builds(site: Path, docs: Path) -> None:
    """`mkdocs build --strict` passes without a warning and writes every page of both languages."""
    korean = docs.parent / "docs-ko"
    for folder, target in ((docs, site), (korean, site / "ko")):
        for path in pages(folder):
            assert (target / path.relative_to(folder)).with_suffix(".html").is_file()


def test_language_switch(site: Path, docs: Path) -> None:
    """Every page links to itself in the other language, or to that language's home; no link is broken."""
    korean = docs.parent / "docs-ko"
    translated = {path.relative_to(korean).with_suffix(".html").as_posix() for path in pages(korean)}
    for path in site.rglob("*.html"):
        if path.name == "404.html":
            continue  # it is shown at any address: its links start at the root
        name = path.relative_to(site).as_posix().removeprefix("ko/")
        found = re.findall(r'<a href="([^"]*)" hreflang="(\w+)"', path.read_text(encoding="utf-8"))
        links = {language: (path.parent / address).resolve() for address, language in found}
        home = name if name in translated else "index.html"
        assert links == {"en": site / name, "ko": site / "ko" / home}, path
        assert all(link.is_file() for link in links.values())


def test_site_builds_with_the_successor(
    site: Path, tmp_path: Path, need: Callable[[object, str], None]
) -> None:
    """Zensical, which succeeds Material for MkDocs, builds the same pages of both languages, strictly."""
    need(importlib.util.find_spec("zensical"), "zensical is not installed")
    other = tmp_path / "site"
    build(other, "zensical")
    names = [{path.relative_to(folder) for path in folder.rglob("*.html")} for folder in (site, other)]
    assert names[0] == names[1]
    for name in (
        "assets/iframe-worker.js",
        "assets/q8a8.js",
        "assets/mathjax/tex-svg.js",
        "ko/assets/q8a8.css",
    ):
        assert (other / name).read_bytes() == (site / name).read_bytes()


def test_drawings_are_current(docs: Path, tmp_path: Path) -> None:
    """The drawings are those that their command makes."""
    drawings.main(["--write", str(tmp_path)])
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (docs / "assets" / path.name).read_bytes(), drawings.COMMAND


def test_api_pages_read_as_prose(site: Path) -> None:
    """No page of the API shows marks of reStructuredText, and none is large."""
    for path in (site / "api").glob("*.html"):
        page = path.read_text(encoding="utf-8")
        assert len(page) < 300_000, path.name
        words = html.unescape(re.sub(r"<pre>.*?</pre>|<[^>]*>", "", page, flags=re.DOTALL))
        assert not re.findall(r":\w+:`|``|\.\. \w+::", words), path.name


def test_site_needs_no_network(site: Path) -> None:
    """No page and no style sheet fetches anything from another host."""
    for path in site.rglob("*.html"):
        resources = Resources()
        resources.feed(path.read_text(encoding="utf-8"))
        assert [address for address in resources.found if "//" in address] == [], path.name
    for path in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", path.read_text(encoding="utf-8"))


def test_every_rule_has_its_anchor(site: Path) -> None:
    """The anchors in rules.json exist in the built pages."""
    from q8a8_conformance.spec.rules import load_rules  # noqa: PLC0415 -- for this test alone

    for rule in load_rules():
        page = (site / rule.page).with_suffix(".html").read_text(encoding="utf-8")
        assert f'id="{rule.anchor}"' in page, rule.id


def test_snippets_are_included(site: Path, docs: Path) -> None:
    """A page that includes a file shows the file's last line, and not the marker."""
    included = [
        (path, name)
        for path in pages(docs)
        for name in re.findall(r'^--8<-- "(.*)"$', path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert included
    for path, name in included:
        source = next(folder / name for folder in (docs, docs.parent) if (folder / name).is_file())
        last = source.read_text(encoding="utf-8").splitlines()[-1].lstrip("- ").replace("`", "")
        last = html.unescape(re.sub(r"<[^>]*>", "", last)) if name.endswith(".svg") else last
        built = (site / path.relative_to(docs)).with_suffix(".html").read_text(encoding="utf-8")
        page = html.unescape(re.sub(r"<[^>]*>", "", built))
        assert last in page, f"{path.name}: {name}"
        assert "--8" not in page


def test_no_absolute_paths(docs: Path) -> None:
    """No page has an absolute path of a developer's machine."""
    for path in pages(docs):
        found = re.findall(
            r"(?<![\w./])/(?:work|home|root|tmp|mnt|Users)/\S*", path.read_text(encoding="utf-8")
        )
        assert not found, path.name


def test_examples_run(docs: Path) -> None:
    """Python blocks on the pages run, except included files, which are tested elsewhere."""
    for path in pages(docs):
        for block in PYTHON.finditer(path.read_text(encoding="utf-8")):
            if "--8<--" not in block["code"]:
                exec(compile(block["code"], str(path), "exec"), {})  # noqa: S102 -- our own pages


def test_minimal_worker_is_short(docs: Path) -> None:
    """The worker on the protocol's page has under 60 lines and imports only the standard library."""
    text = (docs / "examples/minimal_worker.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 60
    modules = re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE)
    assert set(modules) <= sys.stdlib_module_names


def test_protocol_page(docs: Path) -> None:
    """The page's tables of functions, options, faults and capabilities agree with the protocol."""
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


def test_vectors_page(docs: Path) -> None:
    """The page's tables have the keys of a case, a result and an outcome."""
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


def test_named_targets_and_files_exist(docs: Path) -> None:
    """Every `make` target and every path of the project that a page names is there."""
    root = docs.parent
    targets = set(re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for path in [*pages(docs), root / "README.md", root / "CONTRIBUTING.md"]:
        text = path.read_text(encoding="utf-8")
        named = set(re.findall(r"(?:`|^|\$ )make ([a-z-]+)", text, re.MULTILINE))
        assert named <= targets, f"{path.name}: {named - targets}"
        for name in re.findall(rf"(?<![\w/.-])((?:{'|'.join(SOURCES)})/[\w./-]*)", text):
            if "/build/" not in name:  # what a build makes is not in a fresh checkout
                assert (root / name.rstrip(".")).exists(), f"{path.name}: {name}"


def test_named_modules_exist(docs: Path) -> None:
    """Every dotted name of the project's packages on a page can be imported."""
    for path in [*pages(docs), docs.parent / "README.md", docs.parent / "CONTRIBUTING.md"]:
        for name in set(NAME.findall(path.read_text(encoding="utf-8"))):
            assert pkgutil.resolve_name(name), f"{path.name}: {name}"


@pytest.mark.parametrize("command", list(cli.COMMANDS))
def test_command_line_page(docs: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    """The page's section on a command has exactly its options."""
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


def test_example_kernel(docs: Path, tmp_path: Path, need: Callable[[object, str], None]) -> None:
    """The guide's example kernel fails with the case, the bytes and the cause on the page."""
    compiler = shutil.which("cc")
    need(compiler and platform.machine() in {"x86_64", "aarch64"}, "no C compiler for this machine")
    source, library = docs / "examples/rounds_to_even.c", tmp_path / "libmine.so"
    build = [str(compiler), "-O2", "-shared", "-fPIC", "-o", str(library), str(source), "-lm"]
    subprocess.run(build, check=True, timeout=60)
    case = "state/process/quantize_row_q8_a8"
    words = ["test", f"lib:{library}", "--case", case]
    judged = subprocess.run(
        [sys.executable, "-m", "q8a8_conformance.cli", *words],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert judged.returncode == 1, judged.stderr
    page = (docs / "judge-your-kernel.md").read_text(encoding="utf-8")
    excerpt = page.partition("```text\n")[2].partition("```")[0]
    printed = [line for line in excerpt.splitlines() if line.startswith("  ") and "likely cause" not in line]
    assert len(printed) == 6
    for line in printed[:-1]:
        assert line.removesuffix("…") in judged.stdout
    assert "likely cause: round-half-even" in judged.stdout
    assert f"--case {case}" in excerpt
    assert f"--case {case}" in judged.stdout
