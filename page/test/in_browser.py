"""Waiting for pages in a real browser."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Callable

import pytest

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
# Of a test module that needs a browser.
needs_browser = [
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


def wait_for(condition: Callable, what: str, seconds: float = 150.0):
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
