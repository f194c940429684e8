"""Any OpenAI-compatible server (vLLM, SGLang, ...), by URL, through ``POST /v1/chat/completions``.

Format: OpenAI's chat completions, pictures as ``image_url`` parts with PNG data URLs.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from roboref_core.errors import ErrorCode, ReferError
from roboref_core.models.http.encoding import png_base64
from roboref_core.models.http.remote import Patience, RemoteServer
from roboref_core.models.vision_language_model import Generation, Prompt
from roboref_core.prompting.prompt import Convention, restate
from roboref_core.prompting.read_answer import read_answer


class OpenAICompatible:
    """A VisionLanguageModel behind an OpenAI-compatible server.

    Args:
        url: base URL, without or with ``/v1``.
        model: name under which the server knows the model.
        convention: scale of the coordinates that this model writes (see Convention). For PIXELS they are
            pixels of the picture as it is sent: choose ``multiple_of`` and ``max_pixels`` as the server's
            preprocessing does, so that it does not resize again (Qwen2.5-VL: 28 and its own max_pixels).
        api_key: sent as bearer token; empty: none.
        multiple_of: pictures are resized so that both sides are multiples of this [pixel]; 1: as they are.
        max_pixels: pictures with more pixels are shrunk first; None: no limit.
        max_tokens: longest answer.
        timeout, attempts: see Patience.
        concurrency: questions of one batch that are under way at once.
    """

    uses_depth = False

    def __init__(
        self,
        url: str,
        model: str,
        convention: Convention | str,
        *,
        api_key: str = "",
        multiple_of: int = 1,
        max_pixels: int | None = None,
        max_tokens: int = 128,
        timeout: float = 60.0,
        attempts: int = 4,
        concurrency: int = 8,
    ):
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else None
        self._server = RemoteServer(url.rstrip("/").removesuffix("/v1"), Patience(timeout, attempts), headers)
        self.name = model
        self.convention = Convention(convention)
        self.multiple_of, self.max_pixels, self.max_tokens = multiple_of, max_pixels, max_tokens
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="openai")

    def generate(self, prompt: Prompt) -> Generation:
        """Raises ReferError with the server's own words (see RemoteServer.post)."""
        start = time.perf_counter()
        images = [self._resized(image) for image in prompt.images]
        size = (images[-1].shape[1], images[-1].shape[0]) if images else (1, 1)
        content = [
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{png_base64(image)}"}}
            for image in images
        ]
        content.append({"type": "text", "text": restate(prompt.text, self.convention, size)})
        reply = self._server.post(
            "/v1/chat/completions",
            {
                "model": self.name,
                "messages": [{"role": "user", "content": content}],
                "temperature": 0,
                "max_tokens": self.max_tokens,
            },
        )
        try:
            text = reply["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            text = None
        if not isinstance(text, str):
            raise ReferError(
                ErrorCode.INFERENCE_FAILED,
                f"server {self._server.url} sent no choices[0].message.content: {str(reply)[:200]}",
            )
        return read_answer(text, self.convention, size, {"generate": time.perf_counter() - start})

    def generate_batch(self, prompts: Sequence[Prompt]) -> list[Generation]:
        return list(self._pool.map(self.generate, prompts))

    def _resized(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        scale = 1.0
        if self.max_pixels is not None and width * height > self.max_pixels:
            scale = (self.max_pixels / (width * height)) ** 0.5
        step = self.multiple_of
        target = [max(step, round(side * scale / step) * step) for side in (width, height)]
        if self.max_pixels is not None and target[0] * target[1] > self.max_pixels:
            target = [max(step, int(side * scale / step) * step) for side in (width, height)]
        if tuple(target) == (width, height):
            return image
        return cv2.resize(image, tuple(target), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
