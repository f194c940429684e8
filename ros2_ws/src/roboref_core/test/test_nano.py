"""The bundled model: it loads like any other and looks where it is told."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from roboref_core.models.model_answer import Outcome  # noqa: E402
from roboref_core.models.registry import load_model, load_vlm  # noqa: E402
from roboref_core.models.vision_language_model import Prompt  # noqa: E402
from roboref_core.prompting import prompt  # noqa: E402


@pytest.fixture(scope="module")
def nano():
    return load_vlm("nano", device="cpu", dtype="float32")


def test_it_loads_by_name_alone(nano):
    assert not nano.uses_depth
    assert load_vlm("nano", device="cpu", use_depth=True).uses_depth
    assert load_model("nano", device="cpu").vlm.name == nano.name


def test_it_answers_pictures_of_any_shape_with_and_without_depth(nano):
    rng = np.random.default_rng(0)
    for height, width in ((480, 640), (480, 1280), (1080, 1920), (31, 17)):
        picture = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        for depths in ((), (picture,)):
            found = nano.generate(Prompt(prompt.referring("the red chair"), (picture,), depths))
            assert 0.0 <= found.p_visible <= 1.0
            assert (found.outcome is Outcome.VISIBLE) == (len(found.points) == 1)
