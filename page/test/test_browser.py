"""The page in a real browser, with a real node over DDS: mark, ask, and see the answer where it belongs."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np

from page.test.in_browser import free_port, is_served, needs_browser, wait_for

pytestmark = needs_browser


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

    ActionChains(browser).move_to_element_with_offset(reference, -60, -40).click_and_hold().move_by_offset(
        90, 70
    ).release().perform()
    wait_for(lambda: element("reference").find_elements(By.TAG_NAME, "rect"), "the box to be drawn")
    box = element("reference").find_element(By.TAG_NAME, "rect")
    size = [float(box.get_attribute(side)) for side in ("width", "height")]
    # The views are 640 pixels wide, and the mark is drawn in their pixels.
    scale = 640 / reference.size["width"]
    assert np.abs(np.array(size) - np.array((90, 70)) * scale).max() < 3
    severe = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not severe, json.dumps(severe, indent=1)
