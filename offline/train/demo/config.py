"""What the demo and the ablations do, in one place. Light: every worker process of the data engine imports it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from roboref_core.models.nano import CHECKPOINT

Look = Literal["home", "workshop"]
"""Furnished rooms as roboref-nano knows them; or another world, see ``workshop``."""


@dataclass(frozen=True)
class RoomsConfig:
    """Rooms, and what is asked about them.

    Attributes:
        look: of rooms, things, words, camera and pictures.
        seed: of the first room; the others follow. Replayed rooms come after them.
        rooms: to learn from.
        aside: further rooms, on which the probability that something is visible is calibrated after training.
        held_out: further rooms, that are only asked about.
        frames: of each room's walk, 6 a second.
        questions: most held-out ones of each task, and most of each task that are set aside.
        variants: make what the ablations compare, too: grids, both views in one picture, depth pictures.
    """

    look: Look = "workshop"
    seed: int = 100
    rooms: int = 12
    aside: int = 2
    held_out: int = 8
    frames: int = 40
    questions: int = 120
    variants: bool = False

    @property
    def free_seed(self) -> int:
        """The first seed that is of none of the rooms."""
        return self.seed + self.rooms + self.aside + self.held_out


@dataclass(frozen=True)
class TuningConfig:
    """How the base model is fine-tuned.

    Attributes:
        base: a RoboRefer checkpoint.
        steps: of optimisation.
        replay_steps: after those, with questions about known rooms among the others, at half the rate.
        batch: samples of a step.
        lr: peak learning rate; it warms up, then falls as a cosine.
        embedding_lr_scale: multiple of it that token embeddings take.
        threads: of torch, and processes that make rooms and questions.
    """

    base: Path = CHECKPOINT
    steps: int = 180
    replay_steps: int = 90
    batch: int = 8
    lr: float = 3e-4
    embedding_lr_scale: float = 10.0
    threads: int = 2

    def replaying(self, base: Path) -> TuningConfig:
        """What follows: from a fine-tuned model, with replayed questions."""
        return replace(self, base=base, steps=self.replay_steps, lr=self.lr / 2)


@dataclass(frozen=True)
class DemoConfig:
    """What fine-tuning is worth where a model has never been: rooms -> questions -> training -> scores -> the node.

    The base model knows furnished rooms. It is asked about workshops, whose things, materials, light, words, camera and
    pictures are all new to it, and about rooms as it knows them. It is fine-tuned on workshops alone, then a little
    longer with questions about known rooms among them, so that it remembers those. Both are asked the same as before,
    and the last through the node while recordings of further workshops are played. Run again, it goes on where it was:
    what exists is kept.

    Attributes:
        out: everything goes here; report.html and table.md at last.
        data: workshops.
        known: rooms as the base model knows them.
        replays: workshops to replay.
        replay_frames: of each replayed walk, 6 a second.
        replay_questions: asked of each.
    """

    out: Path = Path("out/train-demo")
    data: RoomsConfig = field(default_factory=RoomsConfig)
    known: RoomsConfig = field(
        default_factory=lambda: RoomsConfig(look="home", seed=500, rooms=3, aside=1, held_out=4, questions=50)
    )
    tuning: TuningConfig = field(default_factory=TuningConfig)
    replays: int = 1
    replay_frames: int = 60
    replay_questions: int = 40


@dataclass(frozen=True)
class AblationConfig:
    """What each ingredient of a fine-tuning is worth: the same number of steps with it and without it, asked the same.

    Attributes:
        out: rooms, models, answers, ablations.md and ablations.json.
        data: workshops, with all variants of pictures.
        only: names of ablations; all if empty.
    """

    out: Path = Path("out/train-ablations")
    data: RoomsConfig = field(default_factory=lambda: RoomsConfig(variants=True))
    tuning: TuningConfig = field(default_factory=lambda: TuningConfig(steps=100))
    only: tuple[str, ...] = ()
