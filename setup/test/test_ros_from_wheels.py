"""The environment that setup/ makes, used as a person at a shell would."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sysconfig
from pathlib import Path

import numpy
import pytest

SETUP = Path(__file__).resolve().parents[1]
ROOT = SETUP.parent


@pytest.fixture
def ros_from_wheels():
    spec = importlib.util.spec_from_file_location("ros_from_wheels", SETUP / "ros_from_wheels.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_cmake_exports_are_repaired_once(ros_from_wheels, tmp_path):
    export = tmp_path / "share" / "some_msgs" / "cmake" / "export_some_msgs__rosidl_generator_pyExport.cmake"
    export.parent.mkdir(parents=True)
    wheel = "/opt/python/cp312-cp312"
    export.write_text(
        f'"${{_IMPORT_PREFIX}}/include;{wheel}/include/python3.12;'
        f'{wheel}/lib/python3.12/site-packages/numpy/_core/include"\n'
    )
    assert ros_from_wheels.repair_cmake_exports(tmp_path) == 1
    expected = f'"${{_IMPORT_PREFIX}}/include;{sysconfig.get_path("include")};{numpy.get_include()}"\n'
    assert export.read_text() == expected
    assert ros_from_wheels.repair_cmake_exports(tmp_path) == 0
    assert export.read_text() == expected
    assert [path.name for path in export.parent.iterdir()] == [export.name]


def source(*commands: str, cwd: Path, **environment: str) -> str:
    """Output of commands in a strict bash that knows nothing but its PATH, after `source setup/env.sh`."""
    script = "\n".join(["set -euo pipefail", f"source {SETUP}/env.sh", *commands])
    clean = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **environment}
    result = subprocess.run(["bash", "-c", script], cwd=cwd, env=clean, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.skipif(not (ROOT / ".venv").is_dir(), reason="the environment is not the one of setup/setup.sh")
def test_env_serves_from_any_folder(tmp_path):
    probe = (
        "import rclpy, roboref_core, roboref_msgs.srv;"
        "from ament_index_python import get_package_prefix;"
        "from rclpy.utilities import get_rmw_implementation_identifier as rmw;"
        "print(get_package_prefix('roboref_msgs')); print(rmw())"
    )
    out = source(f'python -c "{probe}"', cwd=tmp_path).split()
    assert out == [str(ROOT / "ros2_ws" / "install" / "roboref_msgs"), "rmw_fastrtps_cpp"]


@pytest.mark.skipif(not (ROOT / ".venv").is_dir(), reason="the environment is not the one of setup/setup.sh")
def test_env_twice_is_env_once_and_another_ros_does_not_shine_through(tmp_path):
    show = 'echo "$PATH|$LD_LIBRARY_PATH|$AMENT_PREFIX_PATH|$PYTHONPATH"'
    other = {"AMENT_PREFIX_PATH": "/opt/ros/other", "PYTHONPATH": "/opt/ros/other/python"}
    once = source(show, cwd=tmp_path, **other)
    twice = source(f"source {SETUP}/env.sh", show, cwd=tmp_path, **other)
    assert once == twice
    assert "/opt/ros/other" not in once
