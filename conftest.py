"""How Hypothesis draws, and where ROS nodes meet, in every room's tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The same examples every time, so that a failure is the code's; `--hypothesis-profile=default` looks for new ones.
# Registered here and not taken from Hypothesis: Ubuntu 24.04's has no such profile.
settings.register_profile(
    "repeatable", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repeatable")


@pytest.fixture
def domain(monkeypatch) -> Iterator[int]:
    """A DDS domain that no other test on this machine has; also that of the commands that the test starts."""
    sys.path.insert(0, str(Path(__file__).parent / "ros2_ws/src/roboref_ros/test"))
    from ros_domains import unused_domain

    with unused_domain() as number:
        monkeypatch.setenv("ROS_DOMAIN_ID", str(number))
        yield number
