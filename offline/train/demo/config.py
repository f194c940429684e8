"""What the demo and the ablations do, in one place. Light: every worker process of the data engine imports it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from roboref_core.models.nano import CHECKPOINT


@dataclass(frozen=True)
class RoomsConfig:
    """Rooms, and what is asked about them.

    Attributes:
        seed: of the first room; the others follow. Replayed rooms come after them.
        rooms: to learn from.
        held_out: further rooms, that are only asked about.
        frames: of each room's walk, 6 a second.
        questions: most held-out ones of each task.
        by_heart: questions to learn by heart, of all tasks.
    """

    seed: int = 100
    rooms: int = 26
    held_out: int = 10
    frames: int = 48
    questions: int = 200
    by_heart: int = 64

    @property
    def free_seed(self) -> int:
        """The first seed that is of none of the rooms."""
        return self.seed + self.rooms + self.held_out


@dataclass(frozen=True)
class TuningConfig:
    """How the base model is fine-tuned.

    Attributes:
        base: a RoboRefer checkpoint.
        steps: of optimisation.
        batch: samples of one.
        lr: peak learning rate; it warms up, then falls as a cosine.
        threads: of torch, and processes that make rooms and questions.
    """

    base: Path = CHECKPOINT
    steps: int = 200
    batch: int = 16
    lr: float = 1e-4
    threads: int = 2


@dataclass(frozen=True)
class DemoConfig:
    """Fine-tune a small model and see what it learned: rooms -> questions -> training -> scores -> the node over DDS.

    A small checkpoint is fine-tuned twice by the project's trainer: on a few questions, which it is then asked again,
    and on the data engine's questions about some rooms. Then it is asked about rooms that it has not seen, and through
    the node while bags of further rooms are played. Run again, it goes on where it was: what exists is kept.

    Attributes:
        out: everything goes here; report.html and table.md at last.
        by_heart_steps: of learning the few questions by heart.
        by_heart_lr: its peak learning rate.
        replays: rooms to replay.
        replay_frames: of each replayed walk, 10 a second.
        replay_questions: asked of each.
    """

    out: Path = Path("out/train-demo")
    data: RoomsConfig = field(default_factory=RoomsConfig)
    tuning: TuningConfig = field(default_factory=TuningConfig)
    by_heart_steps: int = 120
    by_heart_lr: float = 1e-3
    replays: int = 2
    replay_frames: int = 150
    replay_questions: int = 40


@dataclass(frozen=True)
class AblationConfig:
    """The base model, fine-tuned equally long with everything, without grids, and without NOT_VISIBLE; asked the same.

    Attributes:
        rooms_of: folder of a demo, whose rooms and questions are used; they are made if they are not there.
        out: models, answers, ablations.md and ablations.json.
        data: as the demo's.
    """

    rooms_of: Path = Path("out/train-demo")
    out: Path = Path("out/train-ablations")
    data: RoomsConfig = field(default_factory=RoomsConfig)
    tuning: TuningConfig = field(default_factory=lambda: TuningConfig(steps=100))
