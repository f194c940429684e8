"""RoboRefer-2B's shape (random weights) on one GPU, bf16: tokens/s, MFU and memory of full SFT and of LoRA.

The baseline is transformers' Trainer on the same weights and batches in the same run.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import tyro
from roboref_core.models.roborefer.checkpoint.random import SHAPES

from benchmarks._training import HEADER, Case, compare


@dataclass
class GpuTrainingConfig:
    """What is measured.

    Attributes:
        micro_batch: samples per step, of two 448 px pictures each.
        peak_tflops: dense bf16 peak of the GPU; 989 is NVIDIA's figure for H100 and H200.
        gradient_checkpointing: recompute activations.
        out: also write the figures here, as JSON.
    """

    micro_batch: int = 16
    steps: int = 20
    peak_tflops: float = 989.0
    gradient_checkpointing: bool = False
    shape: str = "2b"
    out: Path | None = None


def main(config: GpuTrainingConfig) -> None:
    if not torch.cuda.is_available():
        raise SystemExit("gpu_training: no GPU here")
    print(f"{torch.cuda.get_device_name()}, bf16 autocast over float32 weights, {config.micro_batch} samples a step")
    print(HEADER)
    figures = {}
    for name, lora in (("full SFT", False), ("LoRA", True)):
        case = Case(
            SHAPES[config.shape],
            config.micro_batch,
            config.steps,
            precision="bf16",
            lora=lora,
            gradient_checkpointing=config.gradient_checkpointing,
            peak_tflops=config.peak_tflops,
        )
        stock, ours = compare(case)
        for side in (stock, ours):
            print(side.row(stock).replace("| ", f"| {name}: ", 1), flush=True)
        figures[name] = {side.name: asdict(side) for side in (stock, ours)}
    if config.out is not None:
        config.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(GpuTrainingConfig, description=__doc__))
