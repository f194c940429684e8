"""Nodes and cameras on a ROS domain of each test module's own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# pytest's importlib mode does not find what lies beside a test.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="module")
def domain() -> Iterator[int]:
    """A ROS domain of this module's own, also that of the commands that it starts."""
    from ros_domains import unused_domain

    with unused_domain() as number, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_DOMAIN_ID", str(number))
        yield number


@pytest.fixture(scope="module")
def start(domain, tmp_path_factory):
    """Starts nodes with a camera each; all are stopped at the module's end."""
    from fake_rgbd import FakeCamera, NodeProcess
    from geometry_msgs.msg import PoseStamped
    from sensor_msgs.msg import Image

    started = []

    def start_node(arguments=(), topics=None, service="/roboref", kinds=None):
        log = tmp_path_factory.mktemp("node") / "log.txt"
        process = NodeProcess(domain, list(arguments), log)
        names = ("color", "depth")
        topics = topics or {
            **{name: f"/{name}/image_raw" for name in names},
            **{f"{name}_info": f"/{name}/camera_info" for name in names},
            "pose": "/pose",
        }
        kinds = {"color": Image, "depth": Image, "pose": PoseStamped} | (kinds or {})
        camera = FakeCamera(domain, topics, service, kinds)
        started.append((process, camera))
        camera.wait_for_node()
        return process, camera

    yield start_node
    for _, camera in started:
        camera.close()
    for process, _ in started:
        assert process.stop() == 0, "SIGINT ends the node in order"
        assert "Traceback" not in process.log.read_text()
