"""kill -9 of the model's server at each state of a goal: what the goal ends with, and that the next one is answered."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

pytest.importorskip("roboref_msgs", reason="ros2_ws is not built: make setup")

from action_msgs.msg import GoalStatus
from fake_rgbd import AHEAD
from in_process import spinning
from roboref_core.errors import ErrorCode
from roboref_core.referring.answer import Status
from roboref_core.referring.query import Query
from roboref_core.referring.stage import Stage
from test_action import Asker, end_of

# Speaks as RoboRefer's own server does; answers when the file that it is given exists.
SERVER = """
import json, os, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args): pass
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        while not os.path.exists(sys.argv[2]): time.sleep(0.01)
        reply = json.dumps({"result": 1, "answer": "[(0.5, 0.5)]"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)
ThreadingHTTPServer.allow_reuse_address = True
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


class ModelServer:
    """A process that is killed and started again at the same address."""

    def __init__(self, folder):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._answers = folder / "answers"
        self._process = None
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-c", SERVER, str(self.port), str(self._answers)])
        deadline = time.monotonic() + 20
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def kill(self) -> None:
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def let(self, answer: bool) -> None:
        self._answers.touch() if answer else self._answers.unlink(missing_ok=True)


@pytest.fixture
def robot(domain, tmp_path, request):
    """The parameter: how often the node tries to reach its server."""
    server = ModelServer(tmp_path)
    parameters = {"model.backend": "roborefer_http", "model.url": server.url, "inference.timeout": 30.0}
    parameters["model.options"] = [f"attempts={getattr(request, 'param', 4)}"]
    with spinning(domain, **parameters) as (_, camera):
        asker = Asker(camera)
        yield server, camera, asker
        server.let(True)
        asker.close()
    server.kill()


def assert_recovers(server, camera) -> None:
    """Asked as soon as the server listens again, the node answers."""
    server.start()
    server.let(True)
    started = time.monotonic()
    answer = camera.client.refer(Query("it"), timeout=30)
    assert answer.status == Status.FOUND, answer.error_msg
    print(f"answered {time.monotonic() - started:.2f} s after the server was back")


def test_killed_while_the_goal_waits_for_a_view(robot):
    server, camera, asker = robot
    goal = asker.send("blind")
    asker.wait_for("blind", Stage.WAITING_FOR_VIEW)
    server.kill()
    server.start()
    server.let(True)
    camera.see(AHEAD)
    assert end_of(goal)[0] == GoalStatus.STATUS_SUCCEEDED, "it never knew"
    server.kill()
    assert_recovers(server, camera)


def test_killed_while_one_runs_and_one_is_queued(robot):
    """For good: both end with the reason; the connection is tried again first, as often as the options say."""
    server, camera, asker = robot
    camera.see(AHEAD)
    goals = [asker.send("runs"), asker.send("waits")]
    asker.wait_for("runs", Stage.INFERRING)
    asker.wait_for("waits", Stage.QUEUED)
    server.kill()
    for goal in goals:
        status, code, answer = end_of(goal)
        assert (status, code) == (GoalStatus.STATUS_ABORTED, ErrorCode.INFERENCE_FAILED)
        assert server.url in answer.error_msg
    assert_recovers(server, camera)


@pytest.mark.parametrize("robot", [8], indirect=True)
def test_killed_and_restarted_while_a_goal_runs(robot):
    """A server that a supervisor restarts at once costs no goal."""
    server, camera, asker = robot
    camera.see(AHEAD)
    goal = asker.send("runs")
    asker.wait_for("runs", Stage.INFERRING)
    server.kill()
    server.let(True)
    server.start()
    assert end_of(goal)[0] == GoalStatus.STATUS_SUCCEEDED


def test_killed_after_it_answered(robot):
    server, camera, asker = robot
    camera.see(AHEAD)
    server.let(True)
    goal = asker.send("it")
    asker.wait_for("it", Stage.LOCATING)
    server.kill()
    assert end_of(goal)[0] == GoalStatus.STATUS_SUCCEEDED
    assert_recovers(server, camera)


def test_cancelled_while_a_dead_server_is_tried_again(robot):
    server, camera, asker = robot
    camera.see(AHEAD)
    goal = asker.send("runs")
    asker.wait_for("runs", Stage.INFERRING)
    server.kill()
    goal.cancel_goal_async()
    assert end_of(goal)[:2] == (GoalStatus.STATUS_CANCELED, ErrorCode.CANCELED)
    assert_recovers(server, camera)
