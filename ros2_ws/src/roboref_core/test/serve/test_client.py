from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from roboref_core.errors import ErrorCode, ReferError
from roboref_core.models.http.remote import RemoteServer, RetryPolicy
from roboref_core.models.http.roboref_http import RoboRefClient
from roboref_core.models.http.roborefer_http import RoboReferHTTP
from roboref_core.models.model_answer import Outcome
from roboref_core.models.vision_language_model import Prompt, VisionLanguageModel
from roboref_core.serve.app import create_app

PROGRAM = Path(__file__).with_name("served_model.py")
DOT = np.zeros((1, 1, 3), np.uint8)


def test_the_typed_client_gets_what_the_model_gave(serve, make_model, spot):
    model = make_model()
    client = RoboRefClient(serve(create_app(model)))
    assert isinstance(client, VisionLanguageModel) and client.uses_depth is True
    prompt = Prompt("Where?", (spot(33, 20, 1, 2), spot(41, 30, 8, 6)), (spot(33, 20, 3, 3), spot(41, 30, 4, 4)))
    there, here = client.generate(prompt), make_model().generate(prompt)
    assert (
        there.text == here.text
        and there.outcome is here.outcome is Outcome.VISIBLE
        and there.p_visible == here.p_visible
    )
    for name in ("points", "point_covariance", "scores"):
        np.testing.assert_array_equal(getattr(there, name), getattr(here, name))
    (received,) = model.prompts
    for sent, got in zip(prompt.images + prompt.depths, received.images + received.depths, strict=True):
        np.testing.assert_array_equal(sent, got)
    assert client.health().model == "brightest-pixel"
    client.close()


def test_the_published_client_sends_depth_as_it_was_told(serve, make_model, spot):
    url = serve(create_app(make_model()))
    prompt = Prompt("Where?", (spot(33, 20, 1, 2),), (spot(33, 20, 3, 3),))
    for depth, expected in (("none", "depths=0"), ("picture", "depths=1"), ("estimated", "depths=0")):
        client = RoboReferHTTP(url, depth)
        assert client.uses_depth == (depth == "picture")
        generation = client.generate(prompt)
        assert len(generation.points) == 1 and generation.text == f"[(0.045, 0.125)] Where? {expected}"
    assert len(client.generate_batch([prompt, prompt])) == 2


def test_batches_of_the_client_are_batches_of_the_model(serve, make_model):
    model = make_model(seconds=0.05)
    client = RoboRefClient(serve(create_app(model, max_batch=8)), concurrency=8)
    generations = client.generate_batch([Prompt(f"q{i}", (DOT,)) for i in range(24)])
    assert len(generations) == 24 and sum(map(len, model.batches)) == 24
    assert len(model.batches) < 24


def test_refusals_carry_the_server_s_words(serve, make_model):
    client = RoboRefClient(serve(create_app(make_model())))
    with pytest.raises(ReferError, match="the model does not like this prompt") as error:
        client.generate(Prompt("fail", (DOT,)))
    assert error.value.code == ErrorCode.INVALID_QUERY


def test_a_server_of_another_kind_is_told_apart():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=_reply_once, args=(listening, b'{"hello": 1}'), daemon=True)
        thread.start()
        with pytest.raises(ReferError, match="does not speak roboref's API"):
            RoboRefClient(f"http://127.0.0.1:{listening.getsockname()[1]}").health()


def test_a_refusal_with_no_covariances_is_an_answer(spot):
    """NOT_VISIBLE of a model that knows covariances: an empty list has lost their shape."""
    body = b'{"answer": "NOT_VISIBLE", "visible": false, "points": [], "point_covariance": [], "scores": []}'
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=_reply_once, args=(listening, body), daemon=True).start()
        client = RoboRefClient(f"http://127.0.0.1:{listening.getsockname()[1]}")
        answer = client.generate(Prompt("Where?", (spot(33, 20, 1, 2),)))
        assert answer.outcome is Outcome.NOT_VISIBLE and answer.point_covariance.shape == (0, 2, 2)
        client.close()


def _reply_once(listening, body):
    connection, _ = listening.accept()
    with connection:
        connection.recv(10_000)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


def test_nobody_listening_is_an_error(free_port):
    server = RemoteServer(f"http://127.0.0.1:{free_port}", RetryPolicy(timeout=5, attempts=2))
    with pytest.raises(ReferError, match=r"cannot be reached.*refused") as error:
        server.post("/query", {})
    assert error.value.code == ErrorCode.INFERENCE_FAILED


def test_a_server_that_accepts_and_says_nothing_runs_into_the_timeout():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = RemoteServer(f"http://127.0.0.1:{listening.getsockname()[1]}", RetryPolicy(timeout=0.3))
        with pytest.raises(ReferError, match=r"within 0\.3 s") as error:
            server.post("/query", {})
    assert error.value.code == ErrorCode.TIMEOUT


def test_a_server_that_trickles_runs_into_the_same_timeout():
    stop = threading.Event()

    def trickle(listening):
        connection, _ = listening.accept()
        with connection:
            connection.recv(10_000)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            while not stop.wait(0.05):
                try:
                    connection.sendall(b" ")
                except OSError:
                    return

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=trickle, args=(listening,), daemon=True)
        thread.start()
        server = RemoteServer(f"http://127.0.0.1:{listening.getsockname()[1]}", RetryPolicy(timeout=0.5))
        with pytest.raises(ReferError) as error:
            server.post("/query", {})
        stop.set()
        thread.join()
    assert error.value.code == ErrorCode.TIMEOUT


@pytest.fixture
def server_process(free_port):
    """start(seconds) -> (process, url): the server as a process of its own, up and healthy."""
    started = []

    def start(seconds):
        process = subprocess.Popen([sys.executable, str(PROGRAM), str(free_port), str(seconds)])
        started.append(process)
        url = f"http://127.0.0.1:{free_port}"
        deadline = time.monotonic() + 60
        while True:
            try:
                RoboRefClient(url, attempts=1).health()
                return process, url
            except ReferError:
                assert time.monotonic() < deadline and process.poll() is None
                time.sleep(0.05)

    yield start
    for process in started:
        process.kill()
        process.wait()


def in_flight(url):
    text = RemoteServer(url).get("/metrics").decode()
    return float(text.split("\nroboref_in_flight ")[1].split("\n")[0])


@pytest.mark.parametrize("make_client", [RoboRefClient, RoboReferHTTP])
def test_a_server_killed_mid_request_is_a_clear_error(server_process, make_client):
    process, url = server_process(60)
    client = make_client(url, timeout=30, attempts=2)
    failure = []

    def ask():
        try:
            client.generate(Prompt("x", (DOT,)))
        except ReferError as error:
            failure.append(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    while in_flight(url) < 1:
        time.sleep(0.01)
    process.kill()
    asking.join(25)  # less than both the client's timeout and the model's time
    assert not asking.is_alive()
    (error,) = failure
    assert error.code == ErrorCode.INFERENCE_FAILED and url in str(error) and "closed the connection" in str(error)


def test_a_graceful_stop_answers_what_was_accepted(server_process):
    process, url = server_process(1.0)
    answers = []

    def ask():
        answers.append(RoboRefClient(url, attempts=1).generate(Prompt("x", (DOT,))))

    asking = [threading.Thread(target=ask, daemon=True) for _ in range(6)]
    for thread in asking:
        thread.start()
    while in_flight(url) < 6:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    for thread in asking:
        thread.join(30)
    assert [answer.text for answer in answers] == ["[(0.500, 0.500)] x depths=0"] * 6
    assert process.wait(30) in (0, -signal.SIGTERM)
    with pytest.raises(ReferError, match="cannot be reached"):
        RoboRefClient(url, attempts=1).generate(Prompt("late", (DOT,)))
