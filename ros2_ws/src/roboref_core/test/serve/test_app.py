from __future__ import annotations

import base64
import io
import json
import socket
import struct
import textwrap
import threading
import time
import urllib.error
import urllib.request
import zlib
from contextlib import ExitStack

import numpy as np
import pytest
import uvicorn
from PIL import Image
from roboref_core.serve.app import Limits, create_app
from roboref_core.serve.protocol import http_protocol


def encoded(image, format="PNG"):
    file = io.BytesIO()
    Image.fromarray(image).save(file, format)
    return base64.b64encode(file.getvalue()).decode()


def published_client(url, prompt, images, enable_depth=0, depths=None):
    """What the published query_server does: JSON to /query, the answer of a 200, nothing otherwise."""
    payload = {"image_url": images, "depth_url": depths or [], "enable_depth": enable_depth, "text": prompt}
    request = urllib.request.Request(url + "/query", json.dumps(payload).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as reply:
        assert reply.status == 200
        return json.loads(reply.read())


def status_of(url, body, path="/v1/refer", headers=None):
    if path == "/v1/refer" and isinstance(body, dict) and body.keys() == {"text"}:
        body = body | {"images": [FINE]}
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url + path, body, {"Content-Type": "application/json"} | (headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_the_published_api(serve, make_model, spot):
    model = make_model()
    url = serve(create_app(model))
    image, depth = encoded(spot(40, 30, 8, 6)), encoded(spot(40, 30, 0, 0))
    assert urllib.request.urlopen(url + "/").read() == b"Hello, World!"
    reply = published_client(url, "Where?", [image])
    assert reply == {"result": 1, "answer": "[(0.212, 0.217)] Where? depths=0"}
    assert published_client(url, "Where?", [image, image], 1, [depth, depth])["answer"].endswith("depths=2")
    # As published: depth that comes without enable_depth is ignored, enable_depth without depth is answered.
    assert published_client(url, "Where?", [image], 0, [depth])["answer"].endswith("depths=0")
    assert published_client(url, "Where?", [image], 1)["answer"].endswith("depths=0")
    assert published_client(url, "Text only", [])["answer"] == "NOT_VISIBLE"
    assert "roboref_answered_without_depth_total 1.0" in urllib.request.urlopen(url + "/metrics").read().decode()


def test_depth_is_estimated_when_asked_for_and_not_given(serve, make_model, spot):
    model = make_model()
    url = serve(create_app(model, estimate_depth=lambda image: image[..., ::-1] // 2))
    image = spot(40, 30, 8, 6)
    published_client(url, "Where?", [encoded(image)], 1)
    (prompt,) = model.prompts
    assert (prompt.images[0] == image).all() and (prompt.depths[0] == image // 2).all()


def test_the_published_api_may_have_a_model_of_its_own(serve, make_model):
    typed, text = make_model(), make_model()
    url = serve(create_app(typed, text_vlm=text))
    published_client(url, "published", [])
    status_of(url, {"text": "typed"})
    assert text.batches == [["published"]] and typed.batches == [["typed"]]


def test_a_model_without_depth_refuses_depth_in_the_typed_api_and_ignores_it_in_the_published_one(serve, make_model):
    model = make_model()
    model.uses_depth = False
    url = serve(create_app(model))
    status, reply = status_of(url, {"text": "x", "images": [FINE], "depths": [FINE]})
    assert status == 422 and "takes none" in reply["detail"]
    assert published_client(url, "x", [FINE], 1, [FINE])["answer"].endswith("depths=0")


def test_the_typed_api(serve, make_model, spot):
    url = serve(create_app(make_model()))
    status, reply = status_of(url, {"text": "Where?", "images": [encoded(spot(40, 30, 8, 6))]})
    assert status == 200
    assert reply["model"] == "brightest-pixel" and reply["visible"] is True and reply["p_visible"] == 0.875
    assert reply["points"] == [pytest.approx([8.5 / 40, 6.5 / 30])]
    assert reply["point_covariance"] == [[[1e-4, 2e-5], [2e-5, 3e-4]]] and reply["scores"] == [0.75]
    assert {"decode", "queue", "generate"} <= set(reply["timings"])
    status, reply = status_of(url, {"text": "absent", "images": [FINE]})
    assert status == 200 and reply["visible"] is False and reply["points"] == [] and reply["p_visible"] is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"text": "x", "images": []}, "images"),
        ({"text": "x", "depths": []}, "images"),
        ({"text": "x", "images": ["FINE"], "image": "y"}, "image: Extra inputs"),
        ({"txt": "x", "images": ["FINE"]}, "text: Field required"),
        ({"text": "x", "images": ["FINE"], "max_tokens": 3}, "max_tokens"),
    ],
)
def test_misspelt_and_missing_fields_of_the_typed_api_are_errors(serve, make_model, body, words):
    body = {name: [FINE] if value == ["FINE"] else value for name, value in body.items()}
    status, reply = status_of(serve(create_app(make_model())), body)
    assert status == 422 and words in reply["detail"]


def test_base64_may_have_line_breaks(serve, make_model, spot):
    url = serve(create_app(make_model()))
    image = "\r\n".join(textwrap.wrap(encoded(spot(40, 30, 8, 6)), 76))
    assert published_client(url, "Where?", [image])["answer"].startswith("[(0.212, 0.217)]")


def test_slow_bodies_keep_nobody_waiting(serve, make_model):
    """Forty clients that never finish their bodies, more than the server answers at once and reads at once."""
    url = serve(create_app(make_model(), Limits(max_in_flight=4, max_readers=8, body_timeout=30)))
    host, port = url.removeprefix("http://").split(":")
    with ExitStack() as stack:
        for _ in range(40):
            connection = stack.enter_context(socket.create_connection((host, int(port)), timeout=30))
            connection.sendall(b"POST /v1/refer HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert status_of(url, {"text": "x"})[0] == 200


def test_headers_that_do_not_end_are_given_up(make_model):
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        config = uvicorn.Config(create_app(make_model()), http=http_protocol(0.3), log_level="error")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        listening.listen()
        for sent in (b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /"):
            with socket.create_connection(listening.getsockname(), timeout=20) as connection:
                connection.sendall(sent)
                while connection.recv(1000):
                    pass  # closed by the server, or the time-out of the socket raises
        server.should_exit = True
        thread.join()


def test_health_metrics_and_documentation(serve, make_model):
    url = serve(create_app(make_model()))
    status_of(url, {"text": "x"})
    status_of(url, b"{")
    health = json.loads(urllib.request.urlopen(url + "/healthz").read())
    assert health == {"status": "ok", "model": "brightest-pixel", "uses_depth": True}
    metrics = urllib.request.urlopen(url + "/metrics").read().decode()
    assert 'roboref_requests_total{endpoint="/v1/refer",status="200"} 1.0' in metrics
    assert 'roboref_requests_total{endpoint="/v1/refer",status="400"} 1.0' in metrics
    assert "roboref_in_flight 0.0" in metrics
    described = json.loads(urllib.request.urlopen(url + "/openapi.json").read())["paths"]
    assert {"/query", "/v1/refer", "/healthz", "/metrics"} <= set(described)


def png_header(width, height):
    """A PNG that claims any size and holds no pixels: a decompression bomb in 60 bytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def b64(data):
    return base64.b64encode(data).decode()


GREY16 = io.BytesIO()
Image.fromarray(np.zeros((4, 4), np.uint16)).save(GREY16, "PNG")
FINE = encoded(np.zeros((4, 4, 3), np.uint8))
CUT = encoded(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))[:8000]


@pytest.mark.parametrize(
    ("path", "body", "status", "detail"),
    [
        ("/v1/refer", b"", 400, "JSON"),
        ("/v1/refer", b"{", 400, "JSON"),
        ("/query", b"\xff\xfe", 400, "JSON"),
        ("/query", b"[" * 100_000, 400, "JSON"),
        ("/query", b"[]", 422, "object"),
        ("/query", {"image_url": "one"}, 422, "image_url"),
        ("/query", {"image_url": [7]}, 422, "image_url.0"),
        ("/query", {"enable_depth": "yes"}, 422, "enable_depth"),
        ("/v1/refer", {"images": []}, 422, "text"),
        ("/v1/refer", {"text": "x" * 20_001}, 422, "20000"),
        ("/v1/refer", {"text": "x", "images": [FINE] * 11}, 422, "at most 10"),
        ("/v1/refer", {"text": "x", "images": ["not base64!"]}, 422, r"images[0]: not base64"),
        ("/v1/refer", {"text": "x", "images": [FINE, b64(b"text")]}, 422, "images[1]: not a PNG"),
        ("/v1/refer", {"text": "x", "images": [CUT]}, 422, "damaged"),
        ("/v1/refer", {"text": "x", "images": [b64(png_header(100_000, 100_000))]}, 422, "damaged"),
        ("/v1/refer", {"text": "x", "images": [b64(png_header(5000, 5000))]}, 422, "25000000 pixels"),
        ("/v1/refer", {"text": "x", "images": [b64(png_header(4000, 3000))] * 2}, 422, "24000000 pixels"),
        ("/v1/refer", {"text": "x", "images": [b64(png_header(100, 100))]}, 422, "damaged"),
        ("/v1/refer", {"text": "x", "images": [FINE], "depths": [FINE, FINE]}, 422, "1 images but 2 depth"),
        ("/query", {"image_url": [FINE], "depth_url": [FINE] * 2, "enable_depth": 1}, 422, "1 images but 2"),
        ("/v1/refer", {"text": "x", "images": [FINE], "depths": [b64(GREY16.getvalue())]}, 422, "mode I;16"),
        ("/v1/refer", {"text": "please fail"}, 422, "does not like"),
        ("/v1/refer", {"text": "please explode"}, 500, "ZeroDivisionError"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_bad_bodies_get_a_status_and_a_reason(shared_url, path, body, status, detail):
    found, reply = status_of(shared_url, body, path)
    assert found == status and detail in reply["detail"] and len(reply["detail"]) < 1000
    assert status_of(shared_url, {"text": "still alive"})[0] == 200


@pytest.fixture(scope="module")
def shared_url(running, make_model):
    with running(create_app(make_model())) as url:
        yield url


@pytest.mark.parametrize("declared", [True, False])
def test_oversized_bodies_are_refused_without_being_kept(serve, make_model, declared):
    url = serve(create_app(make_model(), Limits(max_body_bytes=1000)))
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        size = 5_000_000
        framing = f"Content-Length: {size}" if declared else "Transfer-Encoding: chunked"
        connection.sendall(f"POST /v1/refer HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n".encode())
        if declared:
            connection.sendall(b"x" * size)
        else:
            for _ in range(50):
                connection.sendall(b"186a0\r\n" + b"x" * 100_000 + b"\r\n")
            connection.sendall(b"0\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 413")
    assert status_of(url, {"text": "x"})[0] == 200


def test_a_body_that_stops_arriving_is_given_up(serve, make_model):
    url = serve(create_app(make_model(), Limits(body_timeout=0.2)))
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(b"POST /query HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert connection.recv(1000).startswith(b"HTTP/1.1 408")


def test_a_body_cut_short_harms_nobody(serve, make_model):
    url = serve(create_app(make_model()))
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(b'POST /query HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"text": ')
        connection.shutdown(socket.SHUT_WR)
        reply = connection.recv(1000)
        assert reply == b"" or reply.startswith(b"HTTP/1.1 400")
    wait_for(lambda: 'status="400"' in urllib.request.urlopen(url + "/metrics").read().decode())
    assert status_of(url, {"text": "x"})[0] == 200


def test_a_full_server_says_so_and_recovers(serve, make_model):
    model = make_model()
    url = serve(create_app(model, Limits(max_in_flight=2)))
    replies = []
    waiting = [
        threading.Thread(target=lambda: replies.append(status_of(url, {"text": "gate"})[0]), daemon=True)
        for _ in range(2)
    ]
    for thread in waiting:
        thread.start()
    wait_for(lambda: "roboref_in_flight 2.0" in urllib.request.urlopen(url + "/metrics").read().decode())
    status, reply = status_of(url, {"text": "one more" * 1000})
    assert status == 503 and "in flight" in reply["detail"]
    model.gate.set()
    for thread in waiting:
        thread.join()
    assert replies == [200, 200]
    assert status_of(url, {"text": "x"})[0] == 200


def test_a_model_that_does_not_answer_in_time(serve, make_model):
    model = make_model()
    url = serve(create_app(model, Limits(answer_timeout=0.2)))
    assert status_of(url, {"text": "gate"})[0] == 504
    model.gate.set()
    assert status_of(url, {"text": "x"})[0] == 200


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
