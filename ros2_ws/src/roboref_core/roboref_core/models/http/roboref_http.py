"""Client of ``roboref serve``'s typed API. It reads the replies itself: a robot needs no validation library."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from roboref_core.errors import ErrorCode, ReferError
from roboref_core.models.http.encoding import png_base64
from roboref_core.models.http.remote import RemoteServer, RetryPolicy
from roboref_core.models.model_answer import Outcome
from roboref_core.models.vision_language_model import Generation, Prompt

_REQUIRED = ("answer", "visible", "points")


@dataclass(frozen=True)
class Health:
    """What a server says of itself.

    Attributes:
        status: "ok", or what is wrong.
        model: name of its model, with a revision.
        uses_depth: whether its model takes depth pictures.
    """

    status: str
    model: str
    uses_depth: bool


class RoboRefClient:
    """A VisionLanguageModel behind ``POST /v1/refer``.

    Args:
        url: base URL, e.g. ``http://127.0.0.1:25547``.
        timeout, attempts: see RetryPolicy.
        concurrency: questions of one batch that are under way at once; the server batches them.
    """

    def __init__(self, url: str, *, timeout: float = 60.0, attempts: int = 4, concurrency: int = 8):
        self._server = RemoteServer(url, RetryPolicy(timeout, attempts))
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="refer")
        self.name = f"roboref_http {self._server.url}"

    @cached_property
    def uses_depth(self) -> bool:
        """Whether the server's model takes depth pictures; asked once."""
        return self.health().uses_depth

    def health(self) -> Health:
        """Raises ReferError if the server cannot be reached or its model is dead."""
        try:
            reply = json.loads(self._server.get("/healthz"))
            status, model, uses_depth = reply["status"], reply["model"], reply["uses_depth"]
            if not (isinstance(status, str) and isinstance(model, str) and isinstance(uses_depth, bool)):
                raise TypeError(f"found {str(reply)[:200]}")
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise self._foreign(f"expected status, model and uses_depth ({error!r})") from error
        return Health(status, model, uses_depth)

    def generate(self, prompt: Prompt) -> Generation:
        """Raises ReferError with the server's own words (see RemoteServer.post)."""
        start = time.perf_counter()
        payload = {
            "text": prompt.text,
            "images": [png_base64(image) for image in prompt.images],
            "depths": [png_base64(depth) for depth in prompt.depths],
        }
        reply = self._server.post("/v1/refer", payload, prompt.deadline, prompt.cancellation)
        try:
            return _generation(reply, time.perf_counter() - start)
        except (ValueError, TypeError, OverflowError) as error:
            raise self._foreign(str(error)) from error

    def generate_batch(self, prompts: Sequence[Prompt]) -> list[Generation]:
        return list(self._pool.map(self.generate, prompts))

    def close(self) -> None:
        self._pool.shutdown()
        self._server.close()

    def _foreign(self, what: str) -> ReferError:
        return ReferError(
            ErrorCode.INFERENCE_FAILED, f"server {self._server.url} does not speak roboref's API: {what[:500]}"
        )


def _generation(reply: dict[str, Any], round_trip: float) -> Generation:
    """A Generation from a reply as serve.schema.ReferReply describes it. Raises ValueError or TypeError."""
    missing = [name for name in _REQUIRED if name not in reply]
    if missing:
        raise ValueError(f"expected {', '.join(_REQUIRED)}, found no {', '.join(missing)}")
    answer, visible, timings = reply["answer"], reply["visible"], reply.get("timings") or {}
    if not isinstance(answer, str) or not (visible is None or isinstance(visible, bool)):
        raise TypeError(f"expected a text and true, false or null, found {answer!r:.80} and {visible!r:.80}")
    if not isinstance(timings, dict):
        raise TypeError(f"expected timings by name, found {timings!r:.80}")
    p_visible = reply.get("p_visible")
    points, covariance = _numbers(reply["points"]), _numbers(reply.get("point_covariance"))
    if covariance is not None and covariance.size == 0:
        # JSON's empty list has lost the shape of no covariances.
        covariance = covariance.reshape(-1, 2, 2)
    if points is None:
        raise TypeError("expected points, found null")
    return Generation(
        text=answer,
        outcome=Outcome.from_json(visible),
        points=points.reshape(-1, 2) if points.size == 0 else points,
        reason=str(reply.get("reason") or ("the server says so" if visible is None else "")),
        point_covariance=covariance,
        scores=_numbers(reply.get("scores")),
        p_visible=None if p_visible is None else float(p_visible),
        p_visible_calibrated=reply.get("p_visible_calibrated") is True,
        timings={**{str(name): float(seconds) for name, seconds in timings.items()}, "round_trip": round_trip},
    )


def _numbers(value: object) -> np.ndarray | None:
    return None if value is None else np.array(value, dtype=np.float64)
