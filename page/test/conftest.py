"""Commands in a DDS domain of their own, and a real browser."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from page.test.in_browser import CHROMIUM, DRIVER


@pytest.fixture
def started(domain) -> Iterator[Callable[..., subprocess.Popen]]:
    """Starts commands in the domain and interrupts them at the end."""
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
    """Headless Chromium with its driver."""
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
