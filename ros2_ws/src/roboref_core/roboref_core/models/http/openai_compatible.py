"""Any OpenAI-compatible server (vLLM, SGLang, Gemini, ...), by URL, through its chat completions.

Format: OpenAI's chat completions, pictures as ``image_url`` parts with PNG data URLs.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np

from roboref_core.errors import ErrorCode, ReferError
from roboref_core.models.cancellation import Cancellation
from roboref_core.models.http.credentials import checked_url, read_api_key
from roboref_core.models.http.encoding import png_base64
from roboref_core.models.http.remote import RemoteServer, RetryPolicy
from roboref_core.models.vision_language_model import Generation, Prompt
from roboref_core.prompting.conventions import Convention, Family, family_of, restate
from roboref_core.prompting.read_answer import read_answer, unread

_CHAT = "/chat/completions"
_VERSIONED = re.compile(r"/(?:v\d+\w*|openai)$")


class OpenAICompatible:
    """A VisionLanguageModel behind an OpenAI-compatible server.

    Args:
        url: base URL: of the server (``/v1`` is added), of its API (it ends in ``/v1``, ``/openai`` or the like), or
            of its chat completions.
        model: name under which the server knows the model.
        convention: family of the model, or scale of the coordinates that it writes (see conventions.FAMILIES). Pixels
            are those of the picture as it is sent: choose ``multiple_of`` and ``max_pixels`` as the server's
            preprocessing does, so that it does not resize again (Qwen2.5-VL: 28 and its own max_pixels).
        api_key_env, api_key_file: environment variable or file that holds the key; neither: none is sent.
        multiple_of: pictures are resized so that both sides are multiples of this [pixel]; 1: as they are.
        max_pixels: pictures with more pixels are shrunk first; None: no limit.
        max_tokens: longest answer, thoughts included. An answer that reaches it is unparsable.
        timeout, attempts: see RetryPolicy.
        concurrency: questions of one batch that are under way at once.
    """

    uses_depth = False

    def __init__(
        self,
        url: str,
        model: str,
        convention: Family | Convention | str,
        *,
        api_key_env: str = "",
        api_key_file: str = "",
        multiple_of: int = 1,
        max_pixels: int | None = None,
        max_tokens: int = 4096,
        timeout: float = 60.0,
        attempts: int = 4,
        concurrency: int = 8,
    ):
        if multiple_of < 1 or max_tokens < 1 or (max_pixels is not None and max_pixels < 1) or concurrency < 1:
            raise ValueError(
                "expected multiple_of, max_pixels, max_tokens and concurrency of at least 1, found "
                f"{multiple_of}, {max_pixels}, {max_tokens} and {concurrency}"
            )
        self._url = chat_url(url)
        self.family = family_of(convention)
        key = read_api_key(api_key_env, api_key_file)
        self._server = RemoteServer(self._url.removesuffix(_CHAT), RetryPolicy(timeout, attempts), key)
        self.name = model
        self.multiple_of, self.max_pixels, self.max_tokens = multiple_of, max_pixels, max_tokens
        self._parameters: dict[str, Any] = {"temperature": 0, "max_tokens": max_tokens}
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="openai")

    def generate(self, prompt: Prompt) -> Generation:
        """Raises ReferError with the server's own words (see RemoteServer.post)."""
        start = time.perf_counter()
        images = [self._resized(image) for image in prompt.images]
        size = (images[-1].shape[1], images[-1].shape[0]) if images else (1, 1)
        content: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{png_base64(image)}"}}
            for image in images
        ]
        content.append({"type": "text", "text": restate(prompt.text, self.family, size)})
        reply = self._complete([{"role": "user", "content": content}], prompt.deadline, prompt.cancellation)
        timings = {"generate": time.perf_counter() - start}
        try:
            choice = reply["choices"][0]
            message = choice["message"]
            text, refusal = text_of(message.get("content")), message.get("refusal")
            finish = choice.get("finish_reason")
        except (KeyError, IndexError, TypeError, AttributeError):
            raise self._unexpected(reply) from None
        if refusal:
            return unread(text or str(refusal), f"the model refused: {str(refusal)[:200]}", timings)
        thoughts = message.get("reasoning_content") or message.get("reasoning")
        if finish == "length":
            return unread(
                text or "", f"the answer was cut off after {self.max_tokens} tokens (option max_tokens)", timings
            )
        if finish == "content_filter":
            return unread(text or "", "the server's content filter withheld the answer", timings)
        if text is None:
            if thoughts:
                return unread("", "the server sent thoughts but no answer", timings)
            raise self._unexpected(reply)
        return read_answer(text, self.family, size, timings, prompt.text)

    def generate_batch(self, prompts: Sequence[Prompt]) -> list[Generation]:
        return list(self._pool.map(self.generate, prompts))

    def close(self) -> None:
        self._pool.shutdown()
        self._server.close()

    def _complete(
        self, messages: list[dict[str, Any]], deadline: float | None, cancellation: Cancellation | None
    ) -> dict[str, Any]:
        """One completion. What a server says it does not support is left out or renamed, once and for all."""
        while True:
            parameters = dict(self._parameters)
            try:
                payload = {"model": self.name, "messages": messages, **parameters}
                return self._server.post(_CHAT, payload, deadline, cancellation)
            except ReferError as error:
                words = str(error)
                if error.code != ErrorCode.INVALID_QUERY:
                    raise
                if "max_tokens" in parameters and "max_completion_tokens" in words:
                    parameters["max_completion_tokens"] = parameters.pop("max_tokens")
                elif "temperature" in parameters and "temperature" in words and "upport" in words:
                    del parameters["temperature"]
                else:
                    raise
                self._parameters = parameters

    def _unexpected(self, reply: dict[str, Any]) -> ReferError:
        return ReferError(
            ErrorCode.INFERENCE_FAILED,
            f"server {self._server.url} sent no choices[0].message.content: {str(reply)[:200]}",
        )

    def _resized(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        scale = 1.0
        if self.max_pixels is not None and width * height > self.max_pixels:
            scale = (self.max_pixels / (width * height)) ** 0.5
        step = self.multiple_of
        target = [max(step, round(side * scale / step) * step) for side in (width, height)]
        if self.max_pixels is not None and target[0] * target[1] > self.max_pixels:
            target = [max(step, int(side * scale / step) * step) for side in (width, height)]
        if target == [width, height]:
            return image
        return cv2.resize(image, tuple(target), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def chat_url(url: str) -> str:
    """The URL of chat completions of a base URL in any of the ways in which servers state theirs."""
    url = checked_url(url)
    if url.endswith(_CHAT):
        return url
    return url + _CHAT if _VERSIONED.search(url) else f"{url}/v1{_CHAT}"


def text_of(content: object) -> str | None:
    """The text of a message: a string, or a list of parts of which the text parts count; None if there is none."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return None
    texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") in ("text", None)]
    found = [text for text in texts if isinstance(text, str)]
    return "".join(found) if found else None
