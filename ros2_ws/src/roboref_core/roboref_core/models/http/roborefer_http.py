"""Client of RoboRefer's published HTTP API (``POST /query``), which ``roboref serve`` speaks too."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal

from roboref_core.errors import ErrorCode, ReferError
from roboref_core.models.http.encoding import png_base64
from roboref_core.models.http.remote import RemoteServer, RetryPolicy
from roboref_core.models.vision_language_model import Generation, Prompt
from roboref_core.prompting.read_answer import read_answer


class RoboReferHTTP:
    """A VisionLanguageModel behind the published API. Answers are text in [0, 1] coordinates.

    Args:
        url: base URL, e.g. ``http://127.0.0.1:25547``.
        depth: "none": colour only; "picture": the prompt's depth pictures are sent along;
            "estimated": the server makes them itself (Depth-Anything-V2).
        timeout, attempts: see RetryPolicy.
    """

    def __init__(
        self,
        url: str,
        depth: Literal["none", "picture", "estimated"] = "none",
        *,
        timeout: float = 60.0,
        attempts: int = 4,
    ):
        if depth not in ("none", "picture", "estimated"):
            raise ValueError(f"roborefer_http: depth must be 'none', 'picture' or 'estimated', found {depth!r}")
        self._server = RemoteServer(url, RetryPolicy(timeout, attempts))
        self.name = f"roborefer_http {self._server.url}"
        self.depth = depth
        self.uses_depth = depth == "picture"

    def generate(self, prompt: Prompt) -> Generation:
        """Raises ReferError with the server's own words (see RemoteServer.post)."""
        start = time.perf_counter()
        depths = prompt.depths if self.uses_depth else ()
        reply = self._server.post(
            "/query",
            {
                "image_url": [png_base64(image) for image in prompt.images],
                "depth_url": [png_base64(depth) for depth in depths],
                "enable_depth": int(bool(depths) or self.depth == "estimated"),
                "text": prompt.text,
            },
            prompt.deadline,
            prompt.cancellation,
        )
        answer = reply.get("answer")
        if reply.get("result") != 1 or not isinstance(answer, str):
            raise ReferError(
                ErrorCode.INFERENCE_FAILED,
                f"server {self._server.url}: expected result 1 and an answer, found {str(reply)[:200]}",
            )
        timings = {"generate": time.perf_counter() - start}
        return read_answer(answer, "roborefer", (1, 1), timings, prompt.text)

    def generate_batch(self, prompts: Sequence[Prompt]) -> list[Generation]:
        """One after the other: the published server answers one question at a time."""
        return [self.generate(prompt) for prompt in prompts]

    def close(self) -> None:
        self._server.close()
