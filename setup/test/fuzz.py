"""Fuzz: many damaged inputs for what reads the outside world; ends with status 1 at the first unforeseen error.

    PYTHONPATH=. python setup/test/fuzz.py parser --count 1000000

Kinds: parser (texts of models), images (of the HTTP server), readers (each reader of the data engine in turn). Input
number i depends on the seed and i alone: --start repeats one. CI runs the same readers by hypothesis, in bounded time.
"""

from __future__ import annotations

import argparse
import base64
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from roboref_core.models.model_answer import Outcome
from roboref_core.prompting.conventions import FAMILIES
from roboref_core.prompting.read_answer import parse_as
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
    parser.add_argument("kind", choices=("parser", "images", "readers"))
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    started, slowest = time.monotonic(), (0.0, 0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "groups.json").write_bytes(GROUPS)
        picture = encode_png(np.zeros((12, 17, 3), np.uint8))
        ways: dict[str, Callable[[random.Random], None]] = {
            "parser": parser_input,
            "images": lambda rng: image_input(rng, picture),
            "readers": lambda rng: reader_input(rng, folder),
        }
        for i in range(options.start, options.start + options.count):
            begun = time.monotonic()
            try:
                ways[options.kind](random.Random(f"{options.seed} {i}"))
            except BaseException:
                print(f"{options.kind}: input {i} of seed {options.seed}", file=sys.stderr)
                raise
            slowest = max(slowest, (time.monotonic() - begun, i))
    spent = time.monotonic() - started
    print(f"{options.kind}: {options.count} inputs in {spent:.0f} s, slowest {slowest[0]:.3f} s (input {slowest[1]})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
