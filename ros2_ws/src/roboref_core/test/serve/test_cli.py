"""`roboref serve` as a process, with a real (tiny, random) RoboRefer checkpoint."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from roboref_core.errors import ReferError
from roboref_core.models.http.roboref_http import RoboRefClient
from roboref_core.models.http.roborefer_http import RoboReferHTTP
from roboref_core.models.roborefer import load
from roboref_core.models.vision_language_model import Prompt
from roboref_core.prompting.prompt import correspondence

CHECKPOINT = Path(__file__).parents[1] / "roborefer/fixtures/ckpt_rgbd_3x3"
SCRIPT = """
import sys
from roboref_core.command_line import run
from roboref_core.serve.cli import Serve
sys.exit(run(Serve, "roboref serve"))
"""
COMMAND = [sys.executable, "-c", SCRIPT]


@pytest.fixture
def url(free_port):
    process = subprocess.Popen(
        [
            *COMMAND,
            "--path",
            str(CHECKPOINT),
            "--device",
            "cpu",
            "--dtype",
            "float32",
            "--port",
            str(free_port),
            "--max-new-tokens",
            "12",
        ]
    )
    url = f"http://127.0.0.1:{free_port}"
    deadline = time.monotonic() + 120
    while True:
        try:
            RoboRefClient(url, attempts=1).health()
            break
        except ReferError:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.1)
    yield url
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) in (0, -signal.SIGTERM)


def test_both_apis_give_what_the_checkpoint_gives(url):
    rng = np.random.default_rng(0)
    images = tuple(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8) for _ in range(2))
    prompt = Prompt(correspondence(), images, images)
    client = RoboRefClient(url)
    assert client.uses_depth and client.health().model.startswith("ckpt_rgbd_3x3")
    here = load(CHECKPOINT, device="cpu").generate(prompt)
    there = client.generate(prompt)
    assert there.text == here.text and there.outcome == here.outcome
    assert there.p_visible == pytest.approx(here.p_visible)
    np.testing.assert_allclose(there.points, here.points)
    np.testing.assert_allclose(there.point_covariance, here.point_covariance, atol=1e-9)
    free = load(CHECKPOINT, device="cpu", decoding="free", max_new_tokens=12).generate(prompt)
    assert RoboReferHTTP(url, "picture").generate(prompt).text == free.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--path", "/nowhere"], "/nowhere"),
        (["--backend", "openai", "--url", "http://x"], "model"),
        (["--options", "max_points=many"], "needs a path"),
        ([], "needs a path"),
        (["--backend", "reprojection"], "is no vision-language model"),
        (["--backend", "nano", "--url", "http://a", "http://b"], "expected one server"),
    ],
)
def test_what_cannot_be_served_is_said_before_binding(arguments, message):
    result = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=120)
    assert result.returncode == 2 and message in result.stderr and "Traceback" not in result.stderr
