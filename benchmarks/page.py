"""Page: CPU to show 640x480 RGB-D live in one browser tab, against a process that only receives the same images.

Colour and depth are published raw; headless Chromium counts what it draws. Aim: 10 views/s at under 0.3 core.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tyro

from offline.eval.replay.playing.node_process import cpu_seconds, start, stop

TOPICS = ("/camera/color/image_raw", "/camera/depth/image_raw")
_LISTENER = f"""
import rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
rclpy.init()
node = rclpy.create_node("listener")
for topic in {TOPICS!r}:
    node.create_subscription(Image, topic, lambda message: None, qos_profile_sensor_data)
rclpy.spin(node)
"""
_COUNT_DRAWN = """
window.drawn = 0;
new MutationObserver(() => { window.drawn += 1; }).observe(
    document.querySelector('[data-testid=live]'), {subtree: true, childList: true, attributeFilter: ['src']});
"""


@dataclass(frozen=True)
class PageConfig:
    """Load of the page."""

    rate: float = 10.0
    """Views per second."""
    seconds: float = 20.0
    """How long each process is watched."""
    domain: int = 97
    """DDS domain."""


def main() -> int:
    config = tyro.cli(PageConfig, description=__doc__)
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        print("left out: needs Debian's chromium and chromium-driver")
        return 0
    os.environ["ROS_DOMAIN_ID"] = str(config.domain)
    publish = publisher()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    page = (sys.executable, "-m", "offline.cli", "page", "--port", str(port), "--rate", str(config.rate))
    cores = {}
    with tempfile.TemporaryDirectory() as profile:
        process = start([*page, "--color", TOPICS[0], "--depth", TOPICS[1]], Path(os.devnull))
        browser = opened(chromium, driver, port, profile)
        try:
            published(publish, config.rate, 5.0)
            before = browser.execute_script("return window.drawn")
            cores["page"], seconds = watched(process, publish, config)
            drawn = (browser.execute_script("return window.drawn") - before) / seconds
        finally:
            browser.quit()
            stop([process])
    process = start([sys.executable, "-c", _LISTENER], Path(os.devnull))
    published(publish, config.rate, 5.0)
    cores["received only"], _ = watched(process, publish, config)
    stop([process])
    print(
        f"{config.rate:g} views/s published, {drawn:.1f} drawn, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    for name, used in cores.items():
        print(f"  {name:14} {used:5.2f} core   {used / cores['received only']:5.1f} of receiving")
    return 0


def publisher() -> Callable[[int], None]:
    """Publishes the view of a number, from a robot that turns about."""
    import rclpy
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image

    from sim.bags.recorder_messages import Frames, Messages
    from sim.robot.drive import Velocity
    from sim.robot.simulation import Simulation
    from sim.rooms.rooms import make_scene

    simulation, messages, views = Simulation(make_scene(7, triangles=50_000)), Messages(Frames()), []
    for _ in range(10):
        simulation.command(Velocity(turn=0.6))
        simulation.advance()
        seen = simulation.observe()
        views.append([bytes(messages.image(seen.stamp_ns, image)) for image in (seen.color, seen.depth_mm)])
    rclpy.init()
    node = rclpy.create_node("camera")
    publishers = [node.create_publisher(Image, topic, qos_profile_sensor_data) for topic in TOPICS]

    def publish(number: int) -> None:
        for where, image in zip(publishers, views[number % len(views)], strict=True):
            where.publish(image)

    return publish


def published(publish: Callable[[int], None], rate: float, seconds: float) -> None:
    began = time.monotonic()
    for number in range(round(rate * seconds)):
        publish(number)
        time.sleep(max(0.0, began + (number + 1) / rate - time.monotonic()))


def watched(process: subprocess.Popen, publish: Callable[[int], None], config: PageConfig) -> tuple[float, float]:
    """Cores that a process uses while views are published, and for how long that was [s]."""
    began, before = time.monotonic(), cpu_seconds(process)
    published(publish, config.rate, config.seconds)
    seconds = time.monotonic() - began
    return (cpu_seconds(process) - before) / seconds, seconds


def opened(chromium: str, driver: str, port: int, profile: str):
    """A tab of headless Chromium with the page in it, which counts the views that it draws."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    end = time.monotonic() + 60
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.2)
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--enable-unsafe-swiftshader", f"--user-data-dir={profile}"):
        options.add_argument(argument)
    browser = webdriver.Chrome(options=options, service=Service(driver))
    browser.get(f"http://127.0.0.1:{port}/")
    time.sleep(3)
    browser.execute_script(_COUNT_DRAWN)
    return browser


if __name__ == "__main__":
    sys.exit(main())
