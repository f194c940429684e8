"""The page in a real browser, with a real node over DDS: mark, ask, and see the answer where it belongs."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs Debian's chromium and chromium-driver"),
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_served(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def started(monkeypatch):
    """Starts commands in a DDS domain of their own and interrupts them at the end."""
    monkeypatch.setenv("ROS_DOMAIN_ID", str(51 + os.getpid() % 50))
    running: list[subprocess.Popen] = []
    # NiceGUI takes a process that knows of pytest for a test of its own.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}

    def start(*command: str | Path, log: Path) -> subprocess.Popen:
        with open(log, "wb") as file:
            running.append(
                subprocess.Popen(
                    list(map(str, command)),
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    env=environment,
                )
            )
        return running[-1]

    yield start
    for process in reversed(running):
        process.send_signal(signal.SIGINT)
    for process in running:
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()


@pytest.fixture
def browser(tmp_path):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--enable-unsafe-swiftshader", "--window-size=1500,1400"):
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={tmp_path / 'profile'}")
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


def wait_for(condition, what: str, seconds: float = 90.0):
    """The first true value of ``condition``, which may meet elements that the page is replacing."""
    from selenium.common.exceptions import WebDriverException

    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if found := condition():
                return found
        except WebDriverException:
            pass
        time.sleep(0.25)
    pytest.fail(f"waited {seconds:.0f} s for {what}")


def test_mark_ask_and_see_the_answer(tmp_path, started, browser):
    from ament_index_python.packages import get_package_prefix
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    from sim.bags.recorder import RecordOptions, record
    from sim.rooms.sim_source import make_source

    record(make_source(3, 12, triangles=20_000), tmp_path / "bag", RecordOptions(color="raw"))
    node = Path(get_package_prefix("roboref_ros")) / "lib/roboref_ros/roboref_node"
    port = free_port()
    remaps = {
        "color/image_raw": "/camera/color/image_raw",
        "color/camera_info": "/camera/color/camera_info",
        "depth/image_raw": "/camera/depth/image_raw",
        "depth/camera_info": "/camera/depth/camera_info",
        "pose": "/camera_pose",
    }
    arguments = [part for pair in remaps.items() for part in ("-r", ":=".join(pair))]
    started(
        node, "--ros-args", "-p", "pose.source:=pose", "-p", "use_sim_time:=true", *arguments, log=tmp_path / "node"
    )
    roboref = (sys.executable, "-m", "offline.cli")
    topics = ("--color", "/camera/color/image_raw", "--depth", "/camera/depth/image_raw")
    started(*roboref, "page", "--port", str(port), *topics, log=tmp_path / "page")
    started(*roboref, "sim", "play", tmp_path / "bag", "--stepped", log=tmp_path / "play")

    wait_for(lambda: is_served(port), "the page to be served")
    browser.get(f"http://127.0.0.1:{port}/")

    def element(name: str):
        return browser.find_element(By.CSS_SELECTOR, f"[data-testid={name}]")

    wait_for(lambda: re.match(r"[1-9]\d* reference views", element("state").text), "views of the node")
    reference = wait_for(lambda: (e := element("reference")).size["height"] > 100 and e, "a reference view")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", reference)
    ActionChains(browser).move_to_element_with_offset(reference, 30, 40).click().perform()
    wait_for(lambda: element("reference").find_elements(By.TAG_NAME, "circle"), "the mark to be drawn")
    element("ask").click()
    words = wait_for(lambda: element("words").text, "an answer in words")
    assert words.startswith("FOUND"), words
    assert "cm in map" in words

    # The mark was made in the newest view, which is the one that was searched: mark and answer are one place.
    def drawn(name: str) -> np.ndarray:
        circle = element(name).find_element(By.TAG_NAME, "circle")
        return np.array([float(circle.get_attribute(axis)) for axis in ("cx", "cy")])

    wait_for(lambda: element("answer").find_elements(By.TAG_NAME, "ellipse"), "the answer to be drawn")
    assert np.abs(drawn("answer") - drawn("reference")).max() < 1.5
    severe = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not severe, json.dumps(severe, indent=1)
