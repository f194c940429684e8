"""How much memory and time a run takes, from sizes alone: before a GPU is rented.

Every term is held against a measurement of a small run by ``test/test_estimate.py``: parameters and model states to the
byte, activations by what autograd keeps, floating-point operations by PyTorch's counter. What is left out: the
allocator's fragmentation, CUDA's own memory (about 1 GB), and communication time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from roboref_core.models.roborefer.checkpoint.config import ModelConfig, read_config

GIGA = 1e9
# Elements in flight beside what autograd keeps: reduce and gather buckets of engine.deepspeed_config.
_BUCKETS = {0: 0, 2: 4 * 10**8, 3: 2 * 10**8 + 5 * 10**7}
_LIVE_PARAMETERS = 10**9


@dataclass(frozen=True)
class LanguageSize:
    """Qwen2's dimensions; ``tied``: the output layer is the embedding."""

    hidden: int
    layers: int
    intermediate: int
    heads: int
    kv_heads: int
    vocabulary: int
    tied: bool

    @property
    def kv(self) -> int:
        return self.hidden // self.heads * self.kv_heads

    @property
    def layer(self) -> int:
        """Parameters of a layer."""
        h, kv = self.hidden, self.kv
        return h * h + h + 2 * (h * kv + kv) + h * h + 3 * h * self.intermediate + 2 * h

    @property
    def parameters(self) -> int:
        return self.layers * self.layer + self.hidden + self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def linear_shapes(self) -> tuple[tuple[int, int], ...]:
        """(in, out) of a layer's linear maps: where adapters go."""
        h, kv, m = self.hidden, self.kv, self.intermediate
        return ((h, h), (h, kv), (h, kv), (h, h), (h, m), (h, m), (m, h))

    def kept(self, half: bool) -> int:
        """Bytes that autograd keeps of a layer for each position, measured."""
        h, kv, m, n = self.hidden, self.kv, self.intermediate, self.heads
        return 20 * h + 4 * kv + 8 * m + 4 * n + 8 if half else 32 * h + 8 * kv + 16 * m + 4 * n + 8


@dataclass(frozen=True)
class TowerSize:
    """SigLIP's dimensions; ``used``: layers up to the selected one."""

    hidden: int
    layers: int
    used: int
    intermediate: int
    heads: int
    grid: int
    patch: int

    @property
    def layer(self) -> int:
        """Parameters of a layer."""
        h, m = self.hidden, self.intermediate
        return 4 * (h * h + h) + 2 * h * m + m + h + 4 * h

    @property
    def parameters(self) -> int:
        h = self.hidden
        return self.layers * self.layer + 3 * self.patch**2 * h + h + self.grid**2 * h + 2 * h

    @property
    def learning(self) -> int:
        """Parameters that the loss depends on."""
        return self.parameters - (self.layers - self.used) * self.layer - 2 * self.hidden

    def kept(self, half: bool) -> int:
        """Bytes that autograd keeps of a layer for each patch, measured."""
        h, m, n = self.hidden, self.intermediate, self.heads
        return 16 * h + 4 * m + 4 * n + 8 if half else 32 * h + 8 * m + 4 * n + 16


@dataclass(frozen=True)
class ModelSize:
    """A RoboRefer model.

    Attributes:
        projector: parameters of one projector.
        depth: there are a depth tower and projector, too.
    """

    llm: LanguageSize
    tower: TowerSize
    projector: int
    depth: bool

    @property
    def parameters(self) -> int:
        return self.llm.parameters + (self.tower.parameters + self.projector) * (2 if self.depth else 1)


def projector_parameters(kind: str, channels: int, hidden: int) -> int:
    """Parameters of a projector of the published kinds. Raises ValueError for others."""
    c, h = channels, hidden
    if kind in ("mlp_downsample", "mlp_downsample_2x2_fix"):
        return 8 * c + 4 * c * h + h + h * h + h
    if kind == "mlp_downsample_3x3_fix":
        return 18 * c + 27 * c * c + 3 * c + 6 * c + 3 * c * h + h + h * h + h
    raise ValueError(f"no estimate for a projector {kind!r}")


_SIGLIP = TowerSize(hidden=1152, layers=27, used=26, intermediate=4304, heads=16, grid=32, patch=14)
# Language models as Qwen2-1.5B and Qwen2-7B are published; towers and projectors as RoboRefer's.
PUBLISHED = {
    "2B": ModelSize(
        LanguageSize(1536, 28, 8960, 12, 2, 151_651, True),
        _SIGLIP,
        projector_parameters("mlp_downsample_3x3_fix", 1152, 1536),
        True,
    ),
    "8B": ModelSize(
        LanguageSize(3584, 28, 18_944, 28, 4, 151_651, False),
        _SIGLIP,
        projector_parameters("mlp_downsample", 3 * 1152, 3584),
        True,
    ),
}


def size_of(checkpoint: Path) -> ModelSize:
    """The size of a RoboRefer checkpoint, from its configuration. Raises ValueError if it cannot be read."""
    config: ModelConfig = read_config(checkpoint)
    llm, tower = config.llm, config.vision_tower
    layer = config.root.mm_vision_select_layer
    used = layer if layer >= 0 else tower.num_hidden_layers + 1 + layer
    return ModelSize(
        LanguageSize(
            llm.hidden_size,
            llm.num_hidden_layers,
            llm.intermediate_size,
            llm.num_attention_heads,
            llm.num_key_value_heads,
            llm.vocab_size,
            llm.tie_word_embeddings,
        ),
        TowerSize(
            tower.hidden_size,
            tower.num_hidden_layers,
            used,
            tower.intermediate_size,
            tower.num_attention_heads,
            tower.grid,
            tower.patch_size,
        ),
        projector_parameters(config.mm_projector.mm_projector_type, config.channels, llm.hidden_size),
        config.depth_projector is not None and config.depth_tower is not None,
    )


@dataclass(frozen=True)
class Workload:
    """What is trained, and how.

    Attributes:
        batch: samples of a step over all GPUs; micro_batch: of a pass.
        positions: of a sample, text and pictures; labels: of them, learned ones; tiles: of its pictures.
        lora: rank of adapters on the LLM; 0: everything of it learns.
        vision: the towers learn.
        zero: ZeRO stage; 0 keeps weights in float32.
        half: bfloat16.
        recompute: activations of a layer are computed again in the backward pass.
    """

    batch: int = 64
    micro_batch: int = 1
    positions: int = 600
    labels: int = 16
    tiles: int = 2
    lora: int = 0
    vision: bool = True
    zero: Literal[0, 2, 3] = 2
    half: bool = True
    recompute: bool = True


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    buffers: float

    @property
    def total(self) -> float:
        return self.weights + self.gradients + self.optimizer + self.activations + self.buffers


def learning_parameters(size: ModelSize, work: Workload) -> int:
    """Parameters that learn; projectors always do, and the depth side as the colour side."""
    sides = 2 if size.depth else 1
    adapters = size.llm.layers * sum(work.lora * (a + b) for a, b in size.llm.linear_shapes)
    llm = adapters if work.lora else size.llm.parameters
    return llm + sides * (size.projector + (size.tower.learning if work.vision else 0))


def memory(size: ModelSize, work: Workload, gpus: int) -> Memory:
    """What one of ``gpus`` GPUs holds at the peak of a step."""
    learning = learning_parameters(size, work)
    total = size.parameters + (learning_parameters(size, work) - _without_lora(size, work) if work.lora else 0)
    sharded = work.zero and work.half
    weight, gradient, state = (2, 2, 12) if sharded else (4, 4, 8)
    if work.zero and not work.half:
        # DeepSpeed keeps a copy of its own in float32, too.
        state = 12
    share = gpus if work.zero else 1
    weights = weight * total / (gpus if work.zero == 3 else 1)
    if work.zero == 3 and gpus > 1:
        weights += weight * min(total, _LIVE_PARAMETERS)
    return Memory(
        weights=weights,
        gradients=gradient * learning / share,
        optimizer=state * learning / share,
        activations=work.micro_batch * activations(size, work),
        buffers=weight * min(_BUCKETS[work.zero], 2 * learning),
    )


def _without_lora(size: ModelSize, work: Workload) -> int:
    sides = 2 if size.depth else 1
    return sides * (size.projector + (size.tower.learning if work.vision else 0))


def activations(size: ModelSize, work: Workload) -> float:
    """Bytes that autograd keeps of one sample. Depth pictures take as many tiles as colour ones."""
    llm, tower = size.llm, size.tower
    width = 2 if work.half else 4
    patches = work.tiles * tower.grid**2
    # With recomputation, the inputs of all layers and the whole of one.
    layers = llm.kept(work.half) if work.recompute else llm.layers * llm.kept(work.half)
    found: float = work.positions * (layers + (llm.layers * llm.hidden * width if work.recompute else 0))
    if work.vision:
        kept = tower.kept(work.half) * (1 if work.recompute else tower.used)
        found += patches * (kept + (tower.used * tower.hidden * width if work.recompute else 0))
    # Logits in float32, their softmax, and those in the model's precision.
    return found + work.labels * llm.vocabulary * (8 + width)


def operations(size: ModelSize, work: Workload) -> float:
    """Floating-point operations of one sample, forward and backward, without recomputation (as for MFU)."""
    llm, tower = size.llm, size.tower
    passes = 4 if work.lora else 6
    attention = 2 * llm.layers * llm.hidden * work.positions
    body = passes * (llm.layers * llm.layer + attention) * work.positions
    head = passes * llm.vocabulary * llm.hidden * work.labels
    patches = work.tiles * tower.grid**2
    per_patch = tower.used * tower.layer + 2 * tower.used * tower.hidden * tower.grid**2
    return body + head + (6 if work.vision else 2) * patches * per_patch


def seconds_per_step(size: ModelSize, work: Workload, gpus: int, tflops: float, mfu: float) -> float:
    """Time of a step at a model FLOPs utilisation of ``mfu`` of GPUs with a peak of ``tflops``."""
    return work.batch * operations(size, work) / (gpus * tflops * 1e12 * mfu)


def table(
    size: ModelSize, work: Workload, gpus: tuple[int, ...], tflops: float, mfu: float, gpu_memory: float
) -> list[list[str]]:
    """Rows of full and LoRA training under ZeRO-2 and ZeRO-3: memory per GPU [GB] and seconds per step, by GPUs."""
    rows = [["", *(f"{count} GPU{'s' if count > 1 else ''}" for count in gpus)]]
    for lora in (0, work.lora or 16):
        for zero in (2, 3):
            one = replace(work, lora=lora, zero=zero)
            cells = []
            for count in gpus:
                if one.batch % (count * one.micro_batch):
                    cells.append("batch too small")
                    continue
                needed = memory(size, one, count).total / GIGA
                fits = "" if needed <= gpu_memory - 1 else ", too much"
                cells.append(f"{needed:.0f} GB{fits}; {seconds_per_step(size, one, count, tflops, mfu):.2f} s")
            rows.append([f"{f'LoRA {lora}' if lora else 'full'}, ZeRO-{zero}", *cells])
    return rows
