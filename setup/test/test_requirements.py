"""What the code imports is pinned, and what is pinned is installed."""

from __future__ import annotations

import ast
import re
import sys
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("ros2_ws/src", "sim", "offline", "page", "benchmarks", "setup")
# ROS has them, PyPI does not; code that imports them runs without them too.
ROS_ONLY = {"ament_index_python", "cv_bridge", "launch", "launch_pytest", "launch_ros", "message_filters"}
ROS_ONLY |= {"moveit", "nav2_msgs", "rosbag2_py", "tf2_msgs", "tf2_ros"}
# Installed by those who ask for it; a clear error says so where it is missing.
OPTIONAL = {"wandb"}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(*stages: str) -> dict[str, str]:
    lines = "\n".join((ROOT / "setup" / f"requirements-{stage}.txt").read_text() for stage in stages)
    requirements = [line for line in lines.splitlines() if line and not line.startswith("#")]
    found = [re.fullmatch(r"([A-Za-z0-9._-]+)(?:\[\w+\])?==([\w.]+)", line) for line in requirements]
    assert all(found), f"not an exact pin: {requirements[found.index(None)]}"
    return {canonical(match[1]): match[2] for match in found}


def imported_modules() -> dict[str, Path]:
    """Top-level name -> a file that imports it."""
    modules = {}
    for folder in SOURCES:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(), str(path))):
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    names = [node.module]
                else:
                    continue
                modules |= {name.partition(".")[0]: path for name in names}
    return modules


@pytest.mark.parametrize("name, version", pins("base", "demo", "full").items())
def test_pin_is_installed(name, version):
    assert metadata.version(name).partition("+")[0] == version


def test_every_import_is_pinned():
    providers = metadata.packages_distributions()
    ours = {path.stem for folder in SOURCES for path in (ROOT / folder).rglob("test/**/*.py")}
    ours |= {path.stem for path in (ROOT / "setup" / "manual").glob("*.py")}
    ours |= {"roboref_core", "roboref_msgs", "roboref_ros", "offline", "sim", "page", "benchmarks"}
    pinned = pins("base", "demo", "full", "docs")
    loose = {}
    for module, path in imported_modules().items():
        if module in sys.stdlib_module_names or module in ours or module in ROS_ONLY | OPTIONAL:
            continue
        # A stage that is not installed here has modules of its distributions' names.
        distributions = {canonical(name) for name in providers.get(module, [module])}
        # What comes with a Jazzy package has the version that Jazzy's meta packages ask for.
        if not distributions & set(pinned) and not any(name.startswith("ros-") for name in distributions):
            loose[module] = str(path.relative_to(ROOT))
    assert not loose
