"""A small real vision-language model for the server's tests: it looks at the pictures, and answers what it was asked.

Also a program, ``served_model.py PORT SECONDS``: a server of it that takes SECONDS for each call of the model.
"""

from __future__ import annotations

import sys
import threading
import time

import numpy as np
from roboref_core.errors import ErrorCode, ReferError
from roboref_core.models.model_answer import Outcome
from roboref_core.models.vision_language_model import Generation
from roboref_core.prompting.answer_text import format_answer


class BrightestPixel:
    """Points at the brightest pixel of the last image; "fail", "explode" and "gate" in the prompt make it misbehave."""

    name = "brightest-pixel"
    uses_depth = True

    def __init__(self, seconds: float = 0.0):
        self.seconds = seconds
        self.batches: list[list[str]] = []
        self.prompts = []
        self.gate = threading.Event()

    def generate(self, prompt):
        return self.generate_batch([prompt])[0]

    def generate_batch(self, prompts):
        self.batches.append([prompt.text for prompt in prompts])
        self.prompts.extend(prompts)
        time.sleep(self.seconds)
        return [self._answer(prompt) for prompt in prompts]

    def _answer(self, prompt):
        if "gate" in prompt.text:
            self.gate.wait(30)
        if "fail" in prompt.text:
            raise ReferError(ErrorCode.INVALID_QUERY, "the model does not like this prompt")
        if "explode" in prompt.text:
            raise ZeroDivisionError("in the model")
        if not prompt.images or "absent" in prompt.text:
            return Generation("NOT_VISIBLE", Outcome.NOT_VISIBLE)
        image = prompt.images[-1].sum(axis=2)
        v, u = np.unravel_index(int(image.argmax()), image.shape)
        point = np.array([[(u + 0.5) / image.shape[1], (v + 0.5) / image.shape[0]]])
        return Generation(
            text=format_answer(point) + f" {prompt.text} depths={len(prompt.depths)}",
            points=point,
            outcome=Outcome.VISIBLE,
            point_covariance=np.array([[[1e-4, 2e-5], [2e-5, 3e-4]]]),
            scores=np.array([0.75]),
            p_visible=0.875,
            timings={"generate": 0.0},
        )


if __name__ == "__main__":
    import uvicorn
    from roboref_core.serve.app import create_app

    uvicorn.run(create_app(BrightestPixel(float(sys.argv[2])), max_batch=2), port=int(sys.argv[1]), log_level="warning")
