"""A training run in one YAML file: what is trained, on what, in which stages.

    model: checkpoints/RoboRefer-2B-Depth-Align
    registry: datasets.yaml
    output: runs/t1
    preset: curriculum
    batch: 64

``preset`` names a file of ``presets/``, whose keys the plan's own keys replace. Relative paths are relative to the
plan's folder.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from roboref_core.command_line import did_you_mean

Part = Literal["llm", "vision_tower", "mm_projector", "depth_tower", "depth_projector"]
PARTS: tuple[Part, ...] = get_args(Part)
PRESETS = Path(__file__).parent / "presets"
# What may differ between a run and its continuation: where and how it computes, not what.
_FREE_ON_RESUME = (
    "output",
    "batch",
    "micro_batch",
    "workers",
    "log_every",
    "save_every",
    "keep",
    "report_to",
    "max_corrupt",
    "gradient_checkpointing",
    "offload",
    "peak_tflops",
    "evaluation",
)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Lora(_Strict):
    """Low-rank adapters on linear layers of the LLM; everything else of the LLM stays frozen. Names are peft's."""

    r: int = Field(16, ge=1)
    lora_alpha: float = Field(32.0, gt=0)
    target_modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class Evaluation(_Strict):
    """Attributes:
    data: samples of a task file, see ``offline.eval.records.samples``; of scenes that are not trained on.
    samples: only the first so many.
    metric: a figure of ``offline.eval.scoring.metrics``, larger is better; the checkpoint where it is largest is kept.
    """

    data: Path
    samples: int = Field(64, ge=1)
    metric: str = "correct"


class Stage(_Strict):
    """Attributes:
    mixture: of registered data sets, see ``registry.parse_mixture``; without it ``data_path`` of the plan is used.
    until_step: global step at which the stage ends, counted from the start of the run.
    epochs: the stage's length instead, in passes over its mixture.
    train: parts that learn; all others stay as they are, to the bit.
    lr: peak learning rate, for all parts or by part.
    """

    name: str = Field(min_length=1)
    mixture: str | None = None
    until_step: int | None = Field(None, ge=1)
    epochs: float | None = Field(None, gt=0)
    train: tuple[Part, ...] = Field(PARTS, min_length=1)
    lr: float | dict[Part, float] = 2e-5

    @model_validator(mode="after")
    def _check(self):
        if (self.until_step is None) == (self.epochs is None):
            raise ValueError(f"stage {self.name}: give either until_step or epochs")
        if isinstance(self.lr, dict) and (missing := set(self.train) - set(self.lr)):
            raise ValueError(f"stage {self.name}: lr lacks {', '.join(sorted(missing))}")
        return self

    def lr_of(self, part: Part) -> float:
        """Peak learning rate of a part that this stage trains."""
        return self.lr[part] if isinstance(self.lr, dict) else self.lr


class Rewards(_Strict):
    """Weights of what an answer is rewarded for; each term is in [0, 1], see ``rft.rewards``.

    Attributes:
    format: the text is of the answer grammar, and nothing else.
    decision: it points where there is something to be seen, and refuses where there is not.
    hit: the point lies in the mask, or within ``hit_radius`` of a true point where there is no mask.
    distance: 1 at a true point, falling to 0 at ``reach`` of the picture's diagonal.
    process: the share of a sample's "steps" that the answer's lines before the last one get right.
    """

    format: float = Field(0.2, ge=0)
    decision: float = Field(0.5, ge=0)
    hit: float = Field(1.0, ge=0)
    distance: float = Field(0.3, ge=0)
    process: float = Field(0.5, ge=0)
    hit_radius: float = Field(0.05, gt=0)
    reach: float = Field(0.25, gt=0)


class Reinforcement(_Strict):
    """Group-relative policy optimisation (GRPO, arXiv:2402.03300) in place of cross-entropy, from ``model`` on.

    Attributes:
    group: answers sampled for each question.
    temperature: of sampling, and of the probabilities that are optimised.
    max_new_tokens: of an answer.
    constrained: only texts of the answer grammar are sampled.
    kl: weight of the divergence from ``model``; 0 keeps no second copy of it.
    clip, clip_high: how far the probability ratio may leave 1, down and up; clip_high is clip if it is not given.
    updates: optimizer steps on each set of answers.
    scale: divide a group's advantages by its standard deviation.
    average: of the tokens' losses: over each answer, then over answers ("sequence", as published), or over all tokens.
    """

    group: int = Field(8, ge=2)
    temperature: float = Field(1.0, gt=0)
    max_new_tokens: int = Field(64, ge=1)
    constrained: bool = False
    kl: float = Field(0.04, ge=0)
    clip: float = Field(0.2, gt=0, lt=1)
    clip_high: float | None = Field(None, gt=0)
    updates: int = Field(1, ge=1)
    scale: bool = True
    average: Literal["sequence", "token"] = "sequence"
    rewards: Rewards = Rewards()


class Plan(_Strict):
    """Attributes:
    model: base checkpoint; its config.json says whether it is RoboRefer's or LLaVA-OneVision's (``families``).
    registry: YAML of data sets, for stages with a mixture.
    data_path: a file of samples instead; takes precedence over every mixture. Pictures below image_folder,
        depth pictures, if wanted, below depth_folder.
    output: folder of the run.
    batch: samples per optimizer step over all ranks and accumulated batches; micro_batch: per rank and pass.
    zero: DeepSpeed ZeRO stage; 0 is plain (distributed) data parallelism.
    image_aspect_ratio: how RoboRefer cuts pictures, instead of what its checkpoint says.
    prompt_form: RoboRefer's prompts as its own training writes them, or as it is asked: those of two colour pictures
        have a newline less before the question. Published checkpoints were trained with "training".
    model_max_length: positions of an example, instead of the checkpoint's.
    embedding_lr_scale: learning rate of the LLM's token embeddings as a multiple of the LLM's: tokens that the base
        checkpoint never met must move farther than its weights may.
    window, group: samples of like length come in groups of ``group``, shuffled within windows of ``window``.
    max_corrupt: share of unusable samples at which the run stops (at least 10 must have been seen).
    rft: reinforcement fine-tuning with the questions of the data, instead of learning their answers.
    report_to: where metrics go beside log.jsonl.
    evaluation: of each saved model; none by default.
    peak_tflops: of one device, for model FLOPs utilisation; 0: not reported.
    """

    model: Path
    output: Path
    stages: tuple[Stage, ...] = Field(min_length=1)
    registry: Path | None = None
    data_path: Path | None = None
    image_folder: Path = Path("/")
    depth_folder: Path | None = None
    seed: int = Field(0, ge=0)
    batch: int = Field(16, ge=1)
    micro_batch: int = Field(1, ge=1)
    workers: int = Field(0, ge=0)
    precision: Literal["fp32", "bf16"] = "bf16"
    zero: Literal[0, 2, 3] = 0
    offload: bool = False
    gradient_checkpointing: bool = False
    lora: Lora | None = None
    image_aspect_ratio: str | None = None
    prompt_form: Literal["training", "inference"] = "training"
    model_max_length: int | None = Field(None, ge=1)
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, ge=0)
    warmup_ratio: float = Field(0.03, ge=0, lt=1)
    lr_schedule: Literal["constant", "cosine", "linear"] = "cosine"
    embedding_lr_scale: float = Field(1.0, gt=0)
    window: int = Field(512, ge=1)
    group: int = Field(16, ge=1)
    max_corrupt: float = Field(0.05, ge=0, le=1)
    save_every: int = Field(500, ge=1)
    keep: int = Field(2, ge=1)
    log_every: int = Field(1, ge=1)
    report_to: tuple[Literal["tensorboard", "wandb"], ...] = ("tensorboard",)
    rft: Reinforcement | None = None
    evaluation: Evaluation | None = None
    peak_tflops: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _check(self):
        steps = [stage.until_step for stage in self.stages if stage.until_step is not None]
        if any(b <= a for a, b in itertools.pairwise(steps)):
            raise ValueError(f"until_step counts from the start of the run and must grow, found {steps}")
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"stages need names of their own, found {names}")
        if self.data_path is None:
            if bare := [stage.name for stage in self.stages if not stage.mixture]:
                raise ValueError(f"stage {bare[0]} has no mixture, and the plan no data_path")
            if self.registry is None:
                raise ValueError("mixtures need a registry")
        if self.offload and not self.zero:
            raise ValueError("offload needs zero: 2 or 3")
        if self.rft is not None and self.zero == 3:
            # Ranks draw answers of different lengths, so that they would gather sharded weights at different times.
            raise ValueError("rft draws answers from whole weights: use zero: 0 or 2, found 3")
        if self.lora and any("llm" not in stage.train for stage in self.stages):
            raise ValueError("lora adapts the llm: every stage must train it")
        return self


_KEYS = {key for each in (Plan, Stage, Lora, Evaluation, Reinforcement, Rewards) for key in each.model_fields}


@dataclass(frozen=True)
class Segment:
    """Consecutive stages that train the same parts: one optimizer, one warm-up and decay.

    Attributes:
        stages: indices into the plan's.
        start, end: global steps.
    """

    stages: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Schedule:
    """A plan with every stage's end as a global step.

    Attributes:
        until: per stage.
    """

    plan: Plan
    until: tuple[int, ...]

    def __post_init__(self):
        if any(b <= a for a, b in itertools.pairwise((0, *self.until))):
            raise ValueError(f"stages must end one after the other, found steps {self.until}")

    def stage_at(self, step: int) -> int:
        """Index of the stage that makes the step after ``step`` done ones; the number of stages at the end."""
        return next((i for i, end in enumerate(self.until) if step < end), len(self.until))

    @property
    def segments(self) -> list[Segment]:
        found: list[Segment] = []
        start = 0
        for index, (stage, end) in enumerate(zip(self.plan.stages, self.until, strict=True)):
            if found and set(stage.train) == set(self.plan.stages[found[-1].stages[0]].train):
                found[-1] = Segment((*found[-1].stages, index), found[-1].start, end)
            else:
                found.append(Segment((index,), start, end))
            start = end
        return found

    def segment_at(self, step: int) -> Segment | None:
        """The segment that makes the step after ``step`` done ones; None at the end."""
        return next((segment for segment in self.segments if step < segment.end), None)

    def lr(self, part: Part, step: int) -> float:
        """Learning rate of a part in the step after ``step`` done ones; 0 where it is not trained."""
        segment = self.segment_at(step) or self.segments[-1]
        stage = self.plan.stages[min(self.stage_at(step), segment.stages[-1])]
        if part not in stage.train:
            return 0.0
        length = segment.end - segment.start
        warmup = math.ceil(self.plan.warmup_ratio * length)
        done = step - segment.start
        if done < warmup:
            return stage.lr_of(part) * (done + 1) / (warmup + 1)
        progress = min(1.0, (done - warmup) / max(1, length - warmup))
        factor = {
            "constant": 1.0,
            "linear": 1 - progress,
            "cosine": 0.5 * (1 + math.cos(math.pi * progress)),
        }[self.plan.lr_schedule]
        return stage.lr_of(part) * factor


def preset_names() -> list[str]:
    return sorted(file.stem for file in PRESETS.glob("*.yaml"))


def load_plan(path: str | Path, changes: Mapping[str, Any] | None = None) -> Plan:
    """Read a plan; ``changes`` replace its keys.

    Raises ValueError naming the file and the key that is wrong.
    """
    path = Path(path)
    raw = read_yaml(path)
    folder = path.absolute().parent
    return plan_of({**raw, **(changes or {})}, path, folder)


def plan_of(raw: Mapping[str, Any], origin: Path, folder: Path) -> Plan:
    """A plan from its keys; relative paths are put below ``folder``."""
    raw = dict(raw)
    if (preset := raw.pop("preset", None)) is not None:
        if preset not in preset_names():
            raise ValueError(f"{origin}: no preset {preset!r}; there are {', '.join(preset_names())}")
        raw = {**read_yaml(PRESETS / f"{preset}.yaml"), **raw}
    try:
        plan = Plan.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "plan"
        hint = did_you_mean(str(first["loc"][-1]), _KEYS) if first["type"] == "extra_forbidden" else ""
        raise ValueError(f"{origin}: {where}: {first['msg']}{hint}") from error
    paths = {
        name: folder / value
        for name in ("model", "output", "registry", "data_path", "image_folder", "depth_folder")
        if (value := getattr(plan, name)) is not None
    }
    if plan.evaluation is not None:
        paths["evaluation"] = plan.evaluation.model_copy(update={"data": folder / plan.evaluation.data})
    return plan.model_copy(update=paths)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping. Raises ValueError naming the file."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as YAML ({error})") from error
    if not isinstance(raw, dict):
        raise ValueError(f"{path}: expected keys and values, found {type(raw).__name__}")
    return raw


def dump_plan(plan: Plan) -> str:
    """YAML that ``load_plan`` reads back."""
    return yaml.safe_dump(plan.model_dump(mode="json"), sort_keys=False)


def differences(before: Plan, now: Plan) -> list[str]:
    """What must not differ between a run and its continuation, but does: "key: before -> now"."""
    old, new = before.model_dump(mode="json"), now.model_dump(mode="json")
    return [
        f"{key}: {old[key]!r} -> {new[key]!r}" for key in old if key not in _FREE_ON_RESUME and old[key] != new[key]
    ]
