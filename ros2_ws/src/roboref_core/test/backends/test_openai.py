"""Against a server that speaks the chat-completions format of OpenAI's reference, written here from that reference."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest
from roboref_core.errors import ErrorCode, ReferError
from roboref_core.models.http.openai_compatible import OpenAICompatible
from roboref_core.models.http.remote import seconds_of
from roboref_core.models.model_answer import Outcome
from roboref_core.models.vision_language_model import Prompt
from roboref_core.prompting.conventions import Convention
from roboref_core.prompting.prompt import correspondence, referring


class ChatServer(ThreadingHTTPServer):
    """Finds the brightest pixel of the last picture; ``script`` holds what comes before an honest answer."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), ChatHandler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.script: list[tuple[int, bytes, dict[str, str]]] = []
        self.requests: list[dict] = []
        self.answer = lambda u, v, width, height: f"[({(u + 0.5) / width:.3f}, {(v + 0.5) / height:.3f})]"


class ChatHandler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append({"path": self.path, "auth": self.headers.get("Authorization"), "body": body})
        status, reply, headers = self.server.script.pop(0) if self.server.script else (200, self._honest(body), {})
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(reply))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply)

    def _honest(self, body):
        parts = body["messages"][0]["content"]
        head, _, data = [p for p in parts if p["type"] == "image_url"][-1]["image_url"]["url"].partition(",")
        assert head == "data:image/png;base64"
        image = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        # The bright spot is blue in RGB, that is, first in cv2's BGR.
        v, u = np.unravel_index(int(image[..., 0].argmax()), image.shape[:2])
        text = self.server.answer(u, v, image.shape[1], image.shape[0])
        return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()


@pytest.fixture
def server():
    with ChatServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def spot(width, height, u, v):
    image = np.full((height, width, 3), 9, dtype=np.uint8)
    image[v - 3 : v + 4, u - 3 : u + 4] = (9, 9, 200)
    image[v, u] = (9, 9, 255)
    return image


def test_pictures_and_words_arrive_as_they_are(server, monkeypatch):
    monkeypatch.setenv("SOME_KEY", " secret\n")
    model = OpenAICompatible(server.url + "/v1/", "vlm", "normalised", api_key_env="SOME_KEY")
    prompt = Prompt(correspondence(), (spot(40, 30, 5, 6), spot(60, 50, 20, 30)))
    generation = model.generate(prompt)
    np.testing.assert_allclose(generation.points, [[20.5 / 60, 30.5 / 50]], atol=5e-4)
    assert generation.outcome is Outcome.VISIBLE
    (request,) = server.requests
    assert request["path"] == "/v1/chat/completions" and request["auth"] == "Bearer secret"
    assert request["body"]["model"] == "vlm" and request["body"]["temperature"] == 0
    *pictures, text = request["body"]["messages"][0]["content"]
    assert [part["type"] for part in pictures] == ["image_url"] * 2
    assert text == {"type": "text", "text": prompt.text}


@pytest.mark.parametrize(
    ("convention", "answer", "asked"),
    [
        (Convention.THOUSAND, lambda u, v, w, h: f"[({round(1000 * u / w)}, {round(1000 * v / h)})]", "0 and 1000"),
        (
            Convention.PIXELS,
            lambda u, v, w, h: json.dumps([{"point_2d": [int(u), int(v)], "label": "spot"}]),
            "112 wide and 84 high",
        ),
    ],
)
def test_the_stated_convention_is_asked_for_and_read(server, convention, answer, asked):
    server.answer = answer
    model = OpenAICompatible(server.url, "vlm", convention, multiple_of=28, max_pixels=28 * 28 * 12)
    generation = model.generate(Prompt(referring("the spot"), (spot(640, 480, 480, 120),)))
    np.testing.assert_allclose(generation.points, [[0.75, 0.25]], atol=0.02)
    assert asked in server.requests[0]["body"]["messages"][0]["content"][-1]["text"]


def test_an_answer_in_another_scale_is_unparsable_and_never_rescaled(server):
    server.answer = lambda u, v, w, h: "[(500, 250)]"
    generation = OpenAICompatible(server.url, "vlm", "normalised").generate(Prompt("x", (spot(40, 30, 5, 6),)))
    assert (
        generation.outcome is Outcome.UNPARSABLE
        and generation.points.shape == (0, 2)
        and generation.text == "[(500, 250)]"
    )


def test_pictures_keep_within_the_pixel_budget(server):
    model = OpenAICompatible(server.url, "vlm", "pixels", multiple_of=28, max_pixels=100_000)
    for width, height in ((1000, 800), (3000, 40), (29, 27)):
        resized = model._resized(np.zeros((height, width, 3), np.uint8))
        assert resized.shape[0] % 28 == resized.shape[1] % 28 == 0
        assert resized.shape[0] * resized.shape[1] <= 100_000


def test_busy_and_failing_servers_are_asked_again(server):
    server.script = [(429, b"slow down", {"Retry-After": "0"}), (503, b"warming up", {"Retry-After": "0"})]
    generation = OpenAICompatible(server.url, "vlm", "normalised").generate(Prompt("x", (spot(40, 30, 5, 6),)))
    assert generation.outcome is Outcome.VISIBLE and len(server.requests) == 3


@pytest.mark.parametrize(
    ("reply", "code", "asked"),
    [
        ((429, b"quota exceeded", {"Retry-After": "0"}), ErrorCode.BUSY, 2),
        ((500, b"CUDA error", {"Retry-After": "0"}), ErrorCode.INFERENCE_FAILED, 2),
        ((400, b"context length 4096 exceeded", {}), ErrorCode.INVALID_QUERY, 1),
        ((401, b"wrong key", {}), ErrorCode.INFERENCE_FAILED, 1),
        ((404, b"no such model", {}), ErrorCode.INFERENCE_FAILED, 1),
        ((307, b"moved", {"Location": "http://example.invalid/"}), ErrorCode.INFERENCE_FAILED, 1),
        ((200, b"<html>", {}), ErrorCode.INFERENCE_FAILED, 1),
        ((200, b"[1]", {}), ErrorCode.INFERENCE_FAILED, 1),
        ((200, b'{"choices": []}', {}), ErrorCode.INFERENCE_FAILED, 1),
        ((200, b'{"choices": [{"message": {"content": null}}]}', {}), ErrorCode.INFERENCE_FAILED, 1),
        ((200, b"[" * 100_000, {}), ErrorCode.INFERENCE_FAILED, 1),
        ((200, b" " * 17_000_000, {}), ErrorCode.INFERENCE_FAILED, 1),
    ],
    ids=lambda value: str(value)[:40],
)
def test_the_server_s_own_words_are_passed_on(server, reply, code, asked):
    server.script = [reply] * 5
    with pytest.raises(ReferError) as error:
        OpenAICompatible(server.url, "vlm", "normalised", attempts=2).generate(Prompt("x", (spot(40, 30, 5, 6),)))
    assert error.value.code == code and server.url in str(error.value) and len(str(error.value)) < 1000
    if reply[0] != 200:
        assert reply[1].decode() in str(error.value)
    assert len(server.requests) == asked


def test_batches_keep_their_order(server):
    model = OpenAICompatible(server.url, "vlm", "normalised", concurrency=4)
    prompts = [Prompt("x", (spot(100, 50, 5 + 8 * i, 25),)) for i in range(10)]
    for i, generation in enumerate(model.generate_batch(prompts)):
        np.testing.assert_allclose(generation.points, [[(5.5 + 8 * i) / 100, 0.51]], atol=1e-3)


def test_conventions_and_urls_are_checked_at_once():
    with pytest.raises(ValueError, match=r"'ppm'.*roborefer.*gemini.*pixels"):
        OpenAICompatible("http://127.0.0.1:1", "vlm", "ppm")
    with pytest.raises(ValueError, match="http"):
        OpenAICompatible("localhost:8000", "vlm", "normalised")


@pytest.mark.parametrize(
    ("base", "path"),
    [
        ("", "/v1/chat/completions"),
        ("/", "/v1/chat/completions"),
        ("/v1", "/v1/chat/completions"),
        ("/v1/", "/v1/chat/completions"),
        ("/v1beta/openai", "/v1beta/openai/chat/completions"),
        ("/v1beta/openai/", "/v1beta/openai/chat/completions"),
        ("/api/v1", "/api/v1/chat/completions"),
        ("/proxy", "/proxy/v1/chat/completions"),
        ("/v1/chat/completions", "/v1/chat/completions"),
    ],
)
def test_base_urls_as_servers_state_them(server, base, path):
    OpenAICompatible(server.url + base, "vlm", "normalised").generate(Prompt("x", (spot(40, 30, 5, 6),)))
    assert [request["path"] for request in server.requests] == [path]


def completion(content, finish="stop", **message):
    choice = {"finish_reason": finish, "message": {"role": "assistant", "content": content, **message}}
    return 200, json.dumps({"choices": [choice]}).encode(), {}


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (completion("[(0.5, 0.5)]", "length"), "cut off after 4096 tokens"),
        (completion("[(0.512, 0.4", "length"), "cut off"),
        (completion(None, "length", reasoning_content="The cup is at [(0.5, 0.5)]"), "cut off"),
        (completion("", "content_filter"), "content filter"),
        (completion(None, refusal="I cannot help with that."), "refused: I cannot help"),
        (completion("[(0.5, 0.5)]", refusal="No."), "refused"),
        (completion(None, reasoning_content="It is at [(0.5, 0.5)]"), "thoughts but no answer"),
        (completion(None, reasoning="It is at [(0.5, 0.5)]"), "thoughts but no answer"),
        (completion("<think>It is at [(0.5, 0.5)]"), "thoughts do not end"),
    ],
)
def test_what_is_no_answer_is_unparsable_with_its_reason(server, reply, reason):
    server.script = [reply]
    generation = OpenAICompatible(server.url, "vlm", "normalised").generate(Prompt("x", (spot(40, 30, 5, 6),)))
    assert generation.outcome is Outcome.UNPARSABLE and reason in generation.reason


def test_content_may_be_a_list_of_parts(server):
    parts = [{"type": "thinking", "thinking": "(0.1, 0.1)"}, {"type": "text", "text": "[(0.5, "}]
    server.script = [completion([*parts, {"type": "text", "text": "0.25)]"}], reasoning_content="(0.9, 0.9)")]
    generation = OpenAICompatible(server.url, "vlm", "normalised").generate(Prompt("x", (spot(40, 30, 5, 6),)))
    assert generation.points.tolist() == [[0.5, 0.25]]


def test_parameters_that_a_server_does_not_support_are_renamed_or_left_out(server):
    error = {"error": {"message": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."}}
    cold = {"error": {"message": "Unsupported value: 'temperature' does not support 0 with this model."}}
    server.script = [(400, json.dumps(error).encode(), {}), (400, json.dumps(cold).encode(), {})]
    model = OpenAICompatible(server.url, "vlm", "normalised", max_tokens=77)
    for _ in range(2):
        assert model.generate(Prompt("x", (spot(40, 30, 5, 6),))).outcome is Outcome.VISIBLE
    bodies = [request["body"] for request in server.requests]
    assert len(bodies) == 4
    assert all("max_tokens" not in body and body["max_completion_tokens"] == 77 for body in bodies[1:])
    assert all("temperature" not in body for body in bodies[2:])


def test_a_wait_longer_than_what_is_left_is_not_begun(server):
    server.script = [(429, b"quota", {"Retry-After": "3600"})] * 3
    with pytest.raises(ReferError, match="quota") as error:
        OpenAICompatible(server.url, "vlm", "normalised").generate(Prompt("x", (spot(40, 30, 5, 6),)))
    assert error.value.code == ErrorCode.BUSY and len(server.requests) == 1


def test_retry_after_is_a_number_or_a_date():
    assert seconds_of("0.5") == 0.5 and seconds_of("7") == 7.0 and seconds_of("-3") == 0.0
    assert seconds_of("Fri, 27 Nov 2099 00:00:00 GMT") > 1e9
    assert seconds_of("Fri, 27 Nov 1999 00:00:00 GMT") == 0.0
    assert seconds_of(None) is seconds_of("soon") is seconds_of("nan") is None


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"])
def test_a_question_s_deadline_cancels_a_hung_server_in_any_state(sent):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        model = OpenAICompatible(f"http://127.0.0.1:{listening.getsockname()[1]}", "vlm", "normalised", timeout=600)
        received = []

        def hang():
            connection, _ = listening.accept()
            with connection:
                connection.recv(1_000_000)
                connection.sendall(sent)
                while data := connection.recv(1_000_000):
                    received.append(len(data))
            received.append("closed")

        thread = threading.Thread(target=hang, daemon=True)
        thread.start()
        with pytest.raises(ReferError) as error:
            model.generate(Prompt("x", (spot(40, 30, 5, 6),), deadline=time.monotonic() + 0.5))
        assert error.value.code == ErrorCode.TIMEOUT
        thread.join(30)
        assert received[-1] == "closed"  # the server is not left with a connection that nobody reads


def test_a_deadline_that_is_over_asks_nobody(server):
    with pytest.raises(ReferError) as error:
        OpenAICompatible(server.url, "vlm", "normalised").generate(Prompt("x", deadline=time.monotonic() - 1))
    assert error.value.code == ErrorCode.TIMEOUT and server.requests == []


def test_a_question_s_own_scale_wins_over_the_family_s(server):
    server.answer = lambda u, v, w, h: "[(0.25, 0.75)]"
    model = OpenAICompatible(server.url, "vlm", "gemini")
    question = "Where is room? The coordinates should be between 0 and 1, indicating normalized locations."
    assert model.generate(Prompt(question, (spot(40, 30, 5, 6),))).points.tolist() == [[0.25, 0.75]]
    server.answer = lambda u, v, w, h: '[{"point": [750, 250], "label": "mug"}]'
    generation = model.generate(Prompt(referring("the mug"), (spot(40, 30, 5, 6),)))
    assert generation.points.tolist() == [[0.25, 0.75]] and generation.labels == ("mug",)
    assert "[y, x]" in server.requests[-1]["body"]["messages"][0]["content"][-1]["text"]
