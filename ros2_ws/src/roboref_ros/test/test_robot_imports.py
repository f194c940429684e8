"""What a robot's computer must have installed: the node and the remote models run without what only servers need."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("roboref_msgs", reason="ros2_ws is not built: make setup")

# Ubuntu 24.04's pydantic is 1.10, and a robot has no torch: an import of them here breaks the node there.
WITHOUT = """
import sys

MISSING = {"pydantic", "torch", "transformers", "fastapi", "uvicorn", "tyro", "tqdm", "numba"}

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in MISSING:
            raise ModuleNotFoundError(f"a robot has no {name}", name=name)

sys.meta_path.insert(0, Refused())
"""
USE = """
import roboref_ros.main, roboref_ros.node, roboref_ros.clients, roboref_ros.go_to
from roboref_core.models.registry import load_model
where = "http://127.0.0.1:9"
load_model("reprojection")
load_model("roboref_http", url=where)
load_model("roborefer_http", url=where)
load_model("openai", url=where, model="any", convention="normalised")
"""


def test_the_node_and_remote_models_need_no_package_of_a_server():
    done = subprocess.run([sys.executable, "-c", WITHOUT + USE], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
