"""Training steps per second: ours (packed rows, logits of labels only, data read) against transformers' Trainer.

The baseline gets its batches ready-made from memory, padded; ours reads and cuts its pictures while it trains.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import tyro
from roboref_core.models.roborefer.checkpoint.random import Shape

from benchmarks._training import HEADER, Case, compare


@dataclass
class TrainingConfig:
    """What is measured.

    Attributes:
        threads: threads of torch.
    """

    threads: int = 2
    steps: int = 5
    micro_batch: int = 8
    seed: int = 0
    shape: Shape = field(
        default_factory=lambda: Shape(
            hidden=192,
            intermediate=512,
            layers=4,
            heads=4,
            kv_heads=2,
            vocabulary=16000,
            tower_hidden=96,
            tower_intermediate=384,
            tower_layers=4,
            tower_heads=4,
            image_size=112,
            aspect="resize",
            depth="none",
        )
    )


def main(config: TrainingConfig) -> None:
    torch.set_num_threads(config.threads)
    case = Case(config.shape, config.micro_batch, config.steps, warm=2, size=(320, 240))
    stock, ours = compare(case, config.seed)
    print(f"float32, {config.threads} thread(s) of the CPU, {config.micro_batch} samples of two pictures a step")
    print("\n".join([HEADER, stock.row(stock), ours.row(stock)]))


if __name__ == "__main__":
    main(tyro.cli(TrainingConfig, description=__doc__))
