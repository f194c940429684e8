"""The floor plan: which room may import which, no circles, and a page that shows it as it is."""

from __future__ import annotations

import importlib.util
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SETUP = Path(__file__).parents[1]
_spec = importlib.util.spec_from_file_location("architecture", SETUP / "architecture.py")
architecture = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(architecture)

# What each room may import beside itself.
ALLOWED = {
    "roboref_core": set(),
    "roboref_ros": {"roboref_core"},
    "sim": {"roboref_core"},
    "page": {"roboref_core", "roboref_ros"},
    "offline": {"roboref_core", "roboref_ros", "sim"},
    "benchmarks": {"roboref_core", "roboref_ros", "sim", "offline"},
}
# Floors of the library, from the ground up: a module imports from its own floor or from below.
CORE_FLOORS = (
    {"errors", "atomic", "seeds", "command_line", "completion", "progress"},
    {"geometry"},
    {"scene"},
    {"views"},
    {"referring.query", "referring.answer", "referring.frames"},
    {"models", "prompting"},
    {"referring", "approach", "grasp", "pursuit", "lookouts"},
    {"serve"},
)


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    return architecture.import_graph()


def test_no_circles(graph):
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"modules import each other: {' -> '.join(error.args[1])}")


def test_rooms_import_downwards(graph):
    upward = [
        f"{module} -> {target}"
        for module, targets in graph.items()
        for target in targets
        if (room := target.partition(".")[0]) != (own := module.partition(".")[0]) and room not in ALLOWED[own]
    ]
    assert not upward


def floor(module: str) -> int | None:
    """The floor of the longest name in CORE_FLOORS that holds a module of the library."""
    inside = module.removeprefix("roboref_core").lstrip(".")
    matches = [
        (len(name), number)
        for number, names in enumerate(CORE_FLOORS)
        for name in names
        if inside == name or inside.startswith(f"{name}.")
    ]
    return max(matches)[1] if matches else None


def test_library_has_floors(graph):
    library = {module: targets for module, targets in graph.items() if module.startswith("roboref_core.")}
    assert not [module for module in library if floor(module) is None], "these modules are on no floor"
    upward = [
        f"{module} -> {target}"
        for module, targets in library.items()
        for target in targets
        if target != "roboref_core" and floor(target) > floor(module)
    ]
    assert not upward


def test_private_modules_stay_at_home():
    foreign = []
    for module, path in architecture.modules().items():
        for target in architecture.imports(path):
            parts = target.split(".")
            private = [i for i, part in enumerate(parts) if part.startswith("_") and not part.startswith("__")]
            if private and module.split(".")[: private[0]] != parts[: private[0]]:
                foreign.append(f"{module}: {target}")
    assert not foreign


def test_the_page_shows_the_code_as_it_is(graph):
    drawn = architecture.page_with(architecture.figure(graph))
    assert drawn == architecture.PAGE.read_text(encoding="utf-8"), "run python setup/architecture.py"


PATH = re.compile(r"`((?:offline|sim|ros2_ws|roboref_core|roboref_ros|benchmarks|setup|docker|docs)/[\w./-]+)`")


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "README.md", "docs/architecture.md", "docs/glossary.md"])
def test_files_that_the_pages_name_exist(page):
    root = architecture.ROOT
    homes = (root, root / "ros2_ws/src", root / "ros2_ws/src/roboref_core", root / "ros2_ws/src/roboref_ros")
    named = PATH.findall((root / page).read_text(encoding="utf-8"))
    assert not [name for name in named if not any((home / name).exists() for home in homes)]
