"""Fuzz: many damaged inputs for what reads the outside world; ends with status 1 at the first unforeseen error.

    PYTHONPATH=. python setup/test/fuzz.py parser --count 1000000

Kinds: parser (texts of models), images (of the HTTP server), http (requests to the server's own application, in this
process), readers (each reader of the data engine in turn). Input
number i depends on the seed and i alone: --start repeats one. CI runs the same readers by hypothesis, in bounded time.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import logging
import random
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from roboref_core.models.model_answer import Outcome
from roboref_core.models.vision_language_model import Generation, Prompt
from roboref_core.prompting.conventions import FAMILIES
from roboref_core.prompting.read_answer import parse_as
from roboref_core.serve.app import Limits, create_app
from roboref_core.serve.images import ImageRefused, decode_images

from offline.data_engine.sources.test.test_damaged import EXTREMES, GROUPS, READERS
from offline.files import encode_png

PIECES = (
    "[(", ")]", "(", ")", "[", "]", "{", "}", ",", ".", "-", "+", "e", "1e999", "nan", "inf", "0.5", "1", "1000", "12",
    "NOT_VISIBLE", "<think>", "</think>", '"point_2d":', '"bbox_2d":', "```json", "```", "<point>",
    "</point>", "\\boxed{",
    "x=", "y=", '"', "\n", " ", "\ud800", "\0", "ä", "²", "９", "null", "true", "#",
    "the answer is", "<points x1=", "<loc0123>",
)  # fmt: skip
"""What texts of models are made of, and what they should not be."""


def parser_input(rng: random.Random) -> None:
    text = "".join(rng.choices(PIECES, k=rng.randint(0, 40)))
    answer = parse_as(text, rng.choice(tuple(FAMILIES)), (640, 480))
    assert (answer.outcome is Outcome.VISIBLE) == bool(len(answer.points)), text
    for x, y in answer.points:
        assert 0 <= x <= 1 and 0 <= y <= 1, text


def damaged(rng: random.Random, whole: bytes) -> bytes:
    """Flipped bytes, extreme values in place of others, a cut end."""
    changed = bytearray(whole)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(changed) + 1)
        piece = rng.choice(EXTREMES) if rng.random() < 0.3 else rng.randbytes(rng.randint(1, 4))
        changed[at : at + len(piece)] = piece
    return bytes(changed if rng.random() < 0.8 else changed[: rng.randrange(len(changed) + 1)])


def image_input(rng: random.Random, whole: bytes) -> None:
    try:
        (image,) = decode_images([base64.b64encode(damaged(rng, whole)).decode()], "images", max_pixels=100_000)
        assert image.ndim == 3 and image.shape[0] * image.shape[1] <= 100_000
    except ImageRefused:
        pass


class Echo:
    """A vision-language model that says what it was asked."""

    name, uses_depth = "echo", True

    def generate(self, prompt: Prompt) -> Generation:
        return Generation(prompt.text, Outcome.NOT_VISIBLE)

    def generate_batch(self, prompts: Sequence[Prompt]) -> list[Generation]:
        return [self.generate(prompt) for prompt in prompts]


PATHS = ("/query", "/v1/refer", "/healthz", "/metrics", "/", "/v1/../query", "/none")
METHODS = ("POST", "POST", "POST", "POST", "GET", "PUT", "OPTIONS")
FIELDS = ("image_url", "depth_url", "enable_depth", "text", "images", "depths")
VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    10**30,
    1e308,
    "",
    "AAAA",
    "\0",
    "a" * 300,
    [],
    [[]],
    [None],
    ["iVBORw0K"],
    {},
    {"text": []},
)


class Server:
    """The HTTP server's application, asked without a socket."""

    def __init__(self, picture: bytes):
        self._loop = asyncio.new_event_loop()
        limits = Limits(max_body_bytes=4000, max_pixels=100_000, max_text_chars=200, max_images=3)
        self._app = create_app(Echo(), limits)
        encoded = base64.b64encode(picture).decode()
        self._bodies = (
            {"image_url": [encoded], "depth_url": [], "enable_depth": 0, "text": "the mug"},
            {"text": "the mug", "images": [encoded], "depths": [encoded]},
        )

    def ask(self, rng: random.Random) -> None:
        """Raises AssertionError unless the answer is whole, with a status of the server's own."""
        body = dict(rng.choice(self._bodies))
        for _ in range(rng.randint(0, 3)):
            body[rng.choice(FIELDS)] = rng.choice(VALUES)
        data = json.dumps(body).encode()
        if rng.random() < 0.5:
            data = damaged(rng, data)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]
        if rng.random() < 0.3:
            headers.append((rng.choice((b"content-length", b"expect", b"transfer-encoding")), rng.choice(EXTREMES)))
        method, path = rng.choice(METHODS), rng.choice(PATHS)
        cut = rng.randrange(len(data) + 1)
        parts = [{"type": "http.request", "body": data[:cut], "more_body": True}]
        rest = {"type": "http.request", "body": data[cut:], "more_body": False}
        parts.append(rest if rng.random() < 0.95 else {"type": "http.disconnect"})
        status, reply = self._loop.run_until_complete(self._send(method, path, headers, parts))
        assert status in (200, 400, 404, 405, 413, 422), (status, reply)
        assert status == 200 or method == "HEAD" or json.loads(reply)["detail"], (status, reply)
        assert len(reply) < 30_000, len(reply)

    async def _send(self, method: str, path: str, headers: list, parts: list[dict]) -> tuple[int, bytes]:
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": path, "raw_path": path.encode(), "query_string": b"", "headers": headers, "root_path": "",
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
        }  # fmt: skip
        waiting = iter(parts)
        sent: list[MutableMapping[str, Any]] = []

        async def receive() -> dict:
            return next(waiting, {"type": "http.disconnect"})

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        assert [message["type"] for message in sent[:1]] == ["http.response.start"], sent
        assert not sent[-1].get("more_body"), sent
        return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


def reader_input(rng: random.Random, folder: Path) -> None:
    name = rng.choice(tuple(READERS))
    whole, read = READERS[name]
    path = folder / "a file"
    path.write_bytes(damaged(rng, whole))
    try:
        read(path)
    except ValueError as error:
        assert str(folder) in str(error), f"{name}: {error}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=("parser", "images", "http", "readers"))
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=np.inf, help="end after so long; SIGTERM ends it as well")
    options = parser.parse_args()
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    # What decoders say of each damaged picture takes longer than they do.
    warnings.simplefilter("ignore")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    logging.disable(logging.CRITICAL)
    started, slowest = time.monotonic(), (0.0, 0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "groups.json").write_bytes(GROUPS)
        picture = encode_png(np.zeros((12, 17, 3), np.uint8))
        server = Server(picture)
        ways: dict[str, Callable[[random.Random], None]] = {
            "http": server.ask,
            "parser": parser_input,
            "images": lambda rng: image_input(rng, picture),
            "readers": lambda rng: reader_input(rng, folder),
        }
        done = 0
        for i in range(options.start, options.start + options.count):
            begun = time.monotonic()
            if stopped or begun - started > 60 * options.minutes:
                break
            try:
                ways[options.kind](random.Random(f"{options.seed} {i}"))
            except BaseException:
                print(f"{options.kind}: input {i} of seed {options.seed}", file=sys.stderr)
                raise
            slowest = max(slowest, (time.monotonic() - begun, i))
            done += 1
    spent = time.monotonic() - started
    print(f"{options.kind}: {done} inputs in {spent:.0f} s, slowest {slowest[0]:.3f} s (input {slowest[1]})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
