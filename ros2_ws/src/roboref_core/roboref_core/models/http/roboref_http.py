"""Client of ``roboref serve``'s typed API."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import numpy as np
from pydantic import ValidationError

from roboref_core.errors import ErrorCode, ReferError
from roboref_core.models.http.encoding import png_base64
from roboref_core.models.http.remote import Patience, RemoteServer
from roboref_core.models.http.schema import HealthReply, ReferReply
from roboref_core.models.vision_language_model import Generation, Prompt


class RoboRefClient:
    """A VisionLanguageModel behind ``POST /v1/refer``.

    Args:
        url: base URL, e.g. ``http://127.0.0.1:25547``.
        timeout, attempts: see Patience.
        concurrency: questions of one batch that are under way at once; the server batches them.
    """

    def __init__(self, url: str, *, timeout: float = 60.0, attempts: int = 4, concurrency: int = 8):
        self._server = RemoteServer(url, Patience(timeout, attempts))
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="refer")
        self.name = f"roboref_http {self._server.url}"

    @cached_property
    def uses_depth(self) -> bool:
        """Whether the server's model takes depth pictures; asked once."""
        return self.health().uses_depth

    def health(self) -> HealthReply:
        """Raises ReferError if the server cannot be reached or its model is dead."""
        return self._read(HealthReply.model_validate_json, self._server.get("/healthz"))

    def generate(self, prompt: Prompt) -> Generation:
        """Raises ReferError with the server's own words (see RemoteServer.post)."""
        start = time.perf_counter()
        payload = {
            "text": prompt.text,
            "images": [png_base64(image) for image in prompt.images],
            "depths": [png_base64(depth) for depth in prompt.depths],
        }
        reply = self._read(ReferReply.model_validate, self._server.post("/v1/refer", payload))
        return Generation(
            text=reply.answer,
            points=np.array(reply.points, dtype=np.float64).reshape(-1, 2),
            visible=reply.visible,
            point_covariance=None if reply.point_covariance is None else np.array(reply.point_covariance),
            scores=None if reply.scores is None else np.array(reply.scores),
            p_visible=reply.p_visible,
            p_visible_calibrated=reply.p_visible_calibrated,
            timings={**reply.timings, "round_trip": time.perf_counter() - start},
        )

    def generate_batch(self, prompts: Sequence[Prompt]) -> list[Generation]:
        return list(self._pool.map(self.generate, prompts))

    def close(self) -> None:
        self._pool.shutdown()
        self._server.close()

    def _read(self, validate, reply):
        try:
            return validate(reply)
        except ValidationError as error:
            raise ReferError(
                ErrorCode.INFERENCE_FAILED, f"server {self._server.url} does not speak roboref's API: {error}"
            ) from error
