"""The floor plan: which room may import which, and no circles."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "roboref_core": ROOT / "ros2_ws/src/roboref_core/roboref_core",
    "roboref_ros": ROOT / "ros2_ws/src/roboref_ros/roboref_ros",
    **{name: ROOT / name for name in ("sim", "offline", "benchmarks")},
}
# What each room may import beside itself. roboref_ros starts nothing of sim or offline; only replays start the node.
ALLOWED = {
    "roboref_core": set(),
    "roboref_ros": {"roboref_core"},
    "sim": {"roboref_core", "roboref_ros"},
    "offline": {"roboref_core", "roboref_ros", "sim"},
    "benchmarks": {"roboref_core", "roboref_ros", "sim", "offline"},
}
# Floors of the library, from the ground up: a module imports from its own floor or from below.
CORE_FLOORS = (
    {"errors", "atomic", "seeds", "command_line"},
    {"geometry"},
    {"scene"},
    {"views"},
    {"referring.query", "referring.answer", "referring.frames"},
    {"models", "prompting"},
    {"referring"},
    {"serve"},
)


def imports(path: Path) -> list[str]:
    """Modules of this project that a file imports anywhere in it, functions and type checking included."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            found += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    return [name for name in found if name.partition(".")[0] in PACKAGES]


def modules() -> dict[str, Path]:
    found = {}
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            if "test" in parts or path.stem == "conftest":
                continue
            found[".".join([package, *(part for part in parts if part != "__init__")])] = path
    return found


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    """module -> the modules of the project that it imports."""
    known = modules()
    found = {}
    for name, path in known.items():
        edges = set()
        for target in imports(path):
            while target and target not in known:
                target = target.rpartition(".")[0]
            edges.add(target)
        found[name] = edges - {name, ""}
    return found


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
    """The lowest floor whose longest matching name holds a module of the library."""
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
    for module, path in modules().items():
        for target in imports(path):
            parts = target.split(".")
            private = [i for i, part in enumerate(parts) if part.startswith("_") and not part.startswith("__")]
            if private and module.split(".")[: private[0]] != parts[: private[0]]:
                foreign.append(f"{module}: {target}")
    assert not foreign
