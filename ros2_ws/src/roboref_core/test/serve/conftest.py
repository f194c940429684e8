from __future__ import annotations

import importlib.util
import socket
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
import uvicorn

_spec = importlib.util.spec_from_file_location("served_model", Path(__file__).with_name("served_model.py"))
served_model = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(served_model)


@contextmanager
def run_server(app):
    """A real server on a free loopback port, in a thread; yields its URL."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    listening.listen()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


@pytest.fixture(scope="session")
def running():
    return run_server


@pytest.fixture
def serve():
    """serve(app) -> URL, stopped after the test."""
    with ExitStack() as stack:
        yield lambda app: stack.enter_context(run_server(app))


@pytest.fixture(scope="session")
def make_model():
    return served_model.BrightestPixel


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def spot():
    """spot(width, height, u, v): a dark picture with one bright pixel."""

    def make(width, height, u, v):
        image = np.full((height, width, 3), 20, dtype=np.uint8)
        image[v, u] = 255
        return image

    return make
