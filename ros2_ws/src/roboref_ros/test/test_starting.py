"""Mistyped arguments of the programs: one line, no traceback, and what is meant."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("roboref_msgs", reason="ros2_ws is not built: make setup")

from ament_index_python.packages import get_package_prefix
from roboref_ros.starting import complaint, words

WRONG = {
    "a parameter": (["--ros-args", "-p", "pose.source=pose"], "-p NAME:=VALUE"),
    "a remapping": (["--ros-args", "-r", "color/image_raw=/x"], "-r FROM:=TO"),
    "a file": (["--ros-args", "--params-file", "/nowhere.yaml"], "/nowhere.yaml"),
    "a level": (["--ros-args", "--log-level", "loud"], "debug, info, warn"),
    "ROS's option outside": (["-p", "pose.source:=pose"], "follow --ros-args"),
    "an option": (["--url"], "no option '--url'"),
}


def run(name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    program = Path(get_package_prefix("roboref_ros")) / "lib" / "roboref_ros" / name
    return subprocess.run(
        [program, *arguments], env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("program", ["roboref_node", "go_to"])
@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_arguments_are_said_in_a_line(domain, program, wrong):
    arguments, remedy = WRONG[wrong]
    done = run(program, *arguments) if program == "roboref_node" else run(program, "a chair", *arguments)
    assert done.returncode in (1, 2)
    assert remedy in done.stderr and "Traceback" not in done.stderr and "/project/" not in done.stderr
    assert done.stderr.startswith(f"{program}: ")


@pytest.mark.parametrize("program", ["roboref_node", "go_to"])
def test_the_help(domain, program):
    done = run(program, "--help")
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith(
        "usage: ros2 run roboref_ros " + program
    )


def test_an_integer_for_a_number(domain):
    done = run("go_to", "a chair", "--ros-args", "-p", "distance:=1")
    assert done.returncode == 2 and "1.0, not 1" in done.stderr and "Traceback" not in done.stderr


def test_missing_security_files_are_said(domain, tmp_path):
    secured = {"ROS_SECURITY_KEYSTORE": str(tmp_path), "ROS_SECURITY_ENABLE": "true"}
    done = run("roboref_node", "--ros-args", "--enclave", "/x", ROS_SECURITY_STRATEGY="Enforce", **secured)
    assert done.returncode == 1 and str(tmp_path) in done.stderr and "Traceback" not in done.stderr


def test_other_errors_are_faults():
    assert complaint(RuntimeError("no such publisher, at /project/src/rcl.c:3")) == ""


def test_what_is_not_ros_own():
    assert words("go_to", "", ["go_to", "the", "chair", "--ros-args", "-p", "distance:=0.5"]) == ["the", "chair"]
