"""RoboInter-VLM's recipe (LLaVA-OneVision on manipulation data) by its own arguments, as a plan.

The arguments are those of its ``finetune_manip.sh``, with its defaults. Its vision encoder comes with the checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from roboref_core.atomic import write_text
from roboref_core.command_line import ExitStatus

_ZERO = {"zero3": 3, "zero2": 2, "none": 0}


@dataclass(frozen=True)
class RoboInter:
    """Write the plan of RoboInter-VLM's recipe from the arguments of its own script.

    roboref train robointer --pretrain-model llava-onevision-qwen2-7b-ov-hf --registry llava/data.py
    --datasets droid_grounding,rh20t_choice --output-dir runs/manip --plan manip.yaml
    """

    pretrain_model: Path
    """LLaVA-OneVision in transformers' layout."""
    registry: Path
    """llava/data.py with annotation_path and data_path of each data set, or the same in YAML."""
    datasets: str
    """Names in the registry, separated by commas."""
    output_dir: Path
    """Folder of the run."""
    plan: Path
    """Plan to write, for `roboref train check`, `run` and `slurm`."""
    gpus_per_node: int = 8
    """GPUs of each node."""
    nodes: int = 1
    """Nodes."""
    per_device_train_batch_size: int = 2
    """Samples of a GPU in one pass."""
    gradient_accumulation_steps: int = 2
    """Passes of one step."""
    learning_rate: float = 2e-5
    """Of the language model and the projector."""
    mm_vision_tower_lr: float = 4e-6
    """Of the vision tower."""
    num_train_epochs: float = 1.0
    """Passes over the data."""
    model_max_length: int = 32768
    """Longest example [token]."""
    deepspeed: Literal["zero3", "zero2", "none"] = "zero3"
    """ZeRO stage."""
    wandb: bool = False
    """Report to Weights & Biases."""

    def __call__(self) -> int:
        from offline.train.plan import plan_of
        from offline.train.registry import terms_of

        keys = self.keys()
        plan = plan_of(keys, self.plan, Path.cwd())
        # Whatever is wrong with registry or names is told before a plan is there.
        terms = terms_of(plan, plan.stages[0])
        write_text(self.plan, yaml.safe_dump(keys, sort_keys=False))
        print(f"{self.plan}: {len(terms)} data sets, {plan.batch} samples a step")
        return ExitStatus.DONE

    def keys(self) -> dict[str, Any]:
        """The plan."""
        if min(self.gpus_per_node, self.nodes, self.per_device_train_batch_size, self.gradient_accumulation_steps) < 1:
            raise ValueError("GPUs, nodes, batch size and accumulation steps must be at least 1")
        devices = self.gpus_per_node * self.nodes
        return {
            "preset": "llava_onevision",
            "model": str(self.pretrain_model.absolute()),
            "registry": str(self.registry.absolute()),
            "output": str(self.output_dir.absolute()),
            "batch": self.per_device_train_batch_size * self.gradient_accumulation_steps * devices,
            "micro_batch": self.per_device_train_batch_size,
            "model_max_length": self.model_max_length,
            "zero": _ZERO[self.deepspeed],
            "report_to": ["wandb"] if self.wandb else ["tensorboard"],
            "stages": [
                {
                    "name": "manipulation",
                    "mixture": self.datasets,
                    "epochs": self.num_train_epochs,
                    "train": ["llm", "vision_tower", "mm_projector"],
                    "lr": {
                        "llm": self.learning_rate,
                        "vision_tower": self.mm_vision_tower_lr,
                        "mm_projector": self.learning_rate,
                    },
                }
            ],
        }
