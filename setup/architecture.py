"""The import graph of the project, and the figure of docs/architecture.md that is drawn from it.

python setup/architecture.py            rewrite the figure and print modules and arrows per wing
"""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {
    "roboref_core": ROOT / "ros2_ws/src/roboref_core/roboref_core",
    "roboref_ros": ROOT / "ros2_ws/src/roboref_ros/roboref_ros",
    **{name: ROOT / name for name in ("sim", "offline", "page", "benchmarks")},
}
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- drawn from the imports: begin -->", "<!-- drawn from the imports: end -->"


def imports(path: Path) -> list[str]:
    """Dotted names of this project that a file imports anywhere in it, in functions and for type checking too."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            found += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    return [name for name in found if name.partition(".")[0] in PACKAGES]


def modules() -> dict[str, Path]:
    """Dotted name -> file of every module that is no test."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            if "test" not in parts and path.stem != "conftest":
                found[".".join([package, *(part for part in parts if part != "__init__")])] = path
    return found


def import_graph() -> dict[str, set[str]]:
    """module -> the modules of the project that it imports, itself not counted."""
    known = modules()
    graph = {}
    for name, path in known.items():
        targets = set()
        for target in imports(path):
            while target and target not in known:
                target = target.rpartition(".")[0]
            targets.add(target)
        graph[name] = targets - {name, ""}
    return graph


def wing(module: str) -> str:
    """The room of a module: the package and its first folder ("offline.eval"), or the package alone."""
    parts = module.split(".")
    folder = PACKAGES[parts[0]]
    return ".".join(parts[:2]) if len(parts) > 1 and (folder / parts[1]).is_dir() else parts[0]


def wings(graph: dict[str, set[str]]) -> tuple[Counter[str], Counter[tuple[str, str]]]:
    """Modules per wing, and imports from wing to wing (within one wing too)."""
    sizes = Counter(wing(module) for module in graph)
    arrows = Counter((wing(module), wing(target)) for module, targets in graph.items() for target in targets)
    return sizes, arrows


def figure(graph: dict[str, set[str]]) -> str:
    """Mermaid: a box per wing with its modules, an arrow where one imports another; benchmarks are left out."""
    sizes, arrows = wings(graph)
    lines = ["```mermaid", "flowchart TD"]
    for package in ("offline", "sim", "page", "roboref_ros", "roboref_core"):
        lines.append(f"  subgraph {package}")
        for name in sorted(name for name in sizes if name.partition(".")[0] == package):
            label = name.partition(".")[2] or "(top)"
            lines.append(f'    {_key(name)}["{label} · {sizes[name]}"]')
        lines.append("  end")
    drawn = {name for name in sizes if not name.startswith("benchmarks")}
    for (source, target), _ in sorted(arrows.items()):
        if source != target and {source, target} <= drawn:
            lines.append(f"  {_key(source)} --> {_key(target)}")
    return "\n".join([*lines, "```"])


def _key(name: str) -> str:
    return name.replace(".", "_")


def page_with(drawing: str) -> str:
    """The architecture page with its figure replaced. Raises ValueError if the page has no place for one."""
    text = PAGE.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE}: expected {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n{drawing}\n{END}{after}"


if __name__ == "__main__":
    drawn_from = import_graph()
    PAGE.write_text(page_with(figure(drawn_from)), encoding="utf-8")
    counts, between = wings(drawn_from)
    for room in sorted(counts):
        outward = sum(n for (source, target), n in between.items() if source == room != target)
        print(f"{room:32} {counts[room]:4d} modules {between[room, room]:4d} arrows inside {outward:4d} outward")
