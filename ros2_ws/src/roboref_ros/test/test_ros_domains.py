"""Test processes side by side, and beside other people's nodes, do not hear each other."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

pytest.importorskip("domain_coordinator", reason="ROS 2 is not in the environment: source setup/env.sh")
pytest.importorskip("rclpy", reason="ROS 2 is not in the environment: source setup/env.sh")

import rclpy
from ros_domains import DOMAINS, inhabited, unused_domain

HOLDER = """
import sys
sys.path.insert(0, sys.argv[1])
import rclpy
from ros_domains import unused_domain
with unused_domain() as domain:
    print(domain, flush=True)
    sys.stdin.read()
"""


def test_processes_have_domains_of_their_own():
    held = [
        subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(Path(__file__).parent)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    try:
        with ExitStack() as stack:
            domains = [int(process.stdout.readline()) for process in held]
            domains += [stack.enter_context(unused_domain()) for _ in range(20)]
            assert len(set(domains)) == len(domains) and set(domains) <= set(DOMAINS)
    finally:
        for process in held:
            process.communicate()


def test_a_domain_with_a_node_of_somebody_else_is_not_taken():
    with unused_domain() as domain:
        assert not inhabited(domain)
        context = rclpy.Context()
        rclpy.init(context=context, domain_id=domain)
        node = rclpy.create_node("somebody", context=context)
        assert inhabited(domain)
    try:
        with ExitStack() as stack:
            taken = {stack.enter_context(unused_domain()) for _ in range(60)}
            assert domain not in taken
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)


def test_the_domain_of_a_test_is_also_that_of_its_commands(domain):
    assert os.environ["ROS_DOMAIN_ID"] == str(domain)
