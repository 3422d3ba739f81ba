"""The house stands: imports make no circle, and none goes upwards.

Imports for type checking alone and imports inside functions count as well as any other; so do the modules
that the command line imports by name when a command is asked for. docs/architecture.md draws the layers.
"""

from __future__ import annotations

import ast
import copy
import graphlib
import pkgutil
from pathlib import Path

import grimp
import pytest

import q8a8_conformance
from q8a8_conformance.cli import COMMANDS

PACKAGES = ("q8a8", "q8a8_golden", "q8a8_conformance", "q8a8_evaluation", "q8a8_lab")

LAYERS = {
    "": ("q8a8_lab", "q8a8_evaluation", "q8a8_conformance", "q8a8_golden", "q8a8"),
    "q8a8": ("schemes", "llama", "ggufio", "methods"),
    "q8a8_golden": (
        "__main__", "generate", "schema", "load", "document", "conform", "cases", "edges", "oracle",
    ),
    "q8a8_conformance": (
        "cli", "plugin", "commands", "suite", "diagnosis", "reveal", "mutants", "faults",
        "certify", "smoke", "worker", "report", "files", "results", "inputs", "protocol", "spec",
    ),
    "q8a8_evaluation": ("commands", "measure", "calibration"),
    "q8a8_lab": ("demo", "mutation", "pages", "evaluation", "peers", "native_build"),
}  # fmt: skip
"""The layers of each package, the highest first: a layer may import those after it, and none before it."""

LIBRARY = ("schemes", "llama", "ggufio", "methods")
"""What stands on the format's own modules in `q8a8`; none of these imports one of those."""


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """Return the imports of all packages, those by name among them."""
    found = grimp.build_graph(*PACKAGES, cache_dir=None)
    for command in COMMANDS.values():
        found.add_import(importer="q8a8_conformance.cli", imported=command.module)
    return found


def test_no_circle(graph: grimp.ImportGraph) -> None:
    """No module imports itself by way of others. A package is no module of its own here: it is its names."""
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        tuple(graphlib.TopologicalSorter(imports).static_order())
    except graphlib.CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


@pytest.mark.parametrize("package", LAYERS)
def test_no_import_goes_upwards(graph: grimp.ImportGraph, package: str) -> None:
    """Each layer imports what stands below it alone; only the entry point reaches above its package."""
    graph = copy.deepcopy(graph)
    if not package:
        for command in COMMANDS.values():
            graph.remove_import(importer="q8a8_conformance.cli", imported=command.module)
    illegal = graph.find_illegal_dependencies_for_layers(
        layers=LAYERS[package], containers={package} if package else None
    )
    found = sorted(
        " -> ".join((*sorted(route.heads), *route.middle, *sorted(route.tails)))
        for dependency in illegal
        for route in dependency.routes
    )
    assert not found


def test_every_room_has_its_layer() -> None:
    """Whoever adds a room says where it stands; at the top of the suite are at most eight modules."""
    rooms = list(pkgutil.iter_modules(q8a8_conformance.__path__))
    assert {room.name for room in rooms} - {"adapters"} == set(LAYERS["q8a8_conformance"])
    assert sum(not room.ispkg for room in rooms) <= 8


def test_the_drawing_shows_the_layers(graph: grimp.ImportGraph) -> None:
    """Every room of the suite is in the drawing of docs/architecture.md, above all rooms that it imports."""
    page = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawing = page.partition("```text\n")[2].partition("```")[0].splitlines()
    rooms = [room for room in LAYERS["q8a8_conformance"] if room != "mutants"]
    line = {room: next(n for n, text in enumerate(drawing) if room in text[20:57].split()) for room in rooms}
    upward = {
        f"{room} imports {other}"
        for room in rooms
        for other in rooms
        if room != other and line[other] <= line[room]
        if graph.find_shortest_chains(
            importer=f"q8a8_conformance.{room}", imported=f"q8a8_conformance.{other}", as_packages=True
        )
    }
    assert not upward


def test_the_format_stands_by_itself(graph: grimp.ImportGraph) -> None:
    """The format's own modules import neither model files nor models nor methods."""
    own = {module for module in graph.find_children("q8a8") if module.removeprefix("q8a8.") not in LIBRARY}
    above = {f"q8a8.{name}" for name in LIBRARY}
    found = {
        (module, other)
        for module in own
        for other in graph.find_modules_directly_imported_by(module)
        if any(other == name or other.startswith(f"{name}.") for name in above)
    }
    assert not found


def test_no_private_name_is_imported(graph: grimp.ImportGraph) -> None:
    """A name that begins with an underscore stays in its module; a private module stays in its package.

    The tests keep to that, too, but for the private modules that they test.
    """
    root = Path(__file__).parents[2]
    found = [
        f"{path.relative_to(root)}:{node.lineno}: {alias.name}"
        for top in ("refimpl", "golden", "conformance")
        for path in sorted((root / top).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name.startswith("_") and not alias.name.startswith("__")
        if (node.module or "").partition(".")[0] in PACKAGES
        if f"{node.module}.{alias.name}" not in graph.modules
    ]
    assert not found
    private = {module for module in graph.modules if module.rpartition(".")[2].startswith("_")}
    outside = {
        f"{importer} imports {module}"
        for module in private
        for importer in graph.find_modules_that_directly_import(module)
        if importer.rpartition(".")[0] != module.rpartition(".")[0]
        if not module.endswith("__main__")
    }
    assert not outside
