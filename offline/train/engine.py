"""What turns a loss into a step: plain (distributed) data parallelism, or DeepSpeed's ZeRO. One interface."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from offline.train.network import Network
from offline.train.plan import Part, Plan
from offline.train.ranks import Ranks
from offline.train.resharding import drop_universal, to_universal

OPTIMIZER = "optimizer.pt"
_BETAS = (0.9, 0.999)


class Engine(ABC):
    """A network that learns.

    Every process calls every method, in the same order.

    Attributes:
        network: what learns.
        parts: of each parameter group of the optimizer.
        scales: multiples of their parts' learning rates, of the same groups.
    """

    network: Network
    parts: tuple[Part, ...]
    scales: tuple[float, ...]

    @abstractmethod
    def accumulate(self, batch: Any, num_items: Any, loss: Callable[..., torch.Tensor] | None, last: bool) -> float:
        """Adds the gradients of a micro-batch, see ``Network.forward``.

        Args:
            last: of the step.
        Returns:
            Its loss times the number of processes: gradients are averaged over them, the loss is a sum.
        """

    @abstractmethod
    def step(self, rates: Mapping[Part, float]) -> float:
        """One step of the optimizer with these learning rates by part. Returns the gradients' norm before clipping."""

    @abstractmethod
    def state(self) -> dict[str, torch.Tensor]:
        """Whole tensors under the network's names on the first rank; others may get less."""

    @abstractmethod
    def save(self, folder: Path, ranks: Ranks) -> None:
        """The optimizer's state; each process writes its share."""

    @abstractmethod
    def load(self, folder: Path, ranks: Ranks, world: int) -> None:
        """What ``save`` of ``world`` processes wrote."""

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Every process holds every weight, to answer with the network."""
        yield

    @abstractmethod
    def close(self) -> None:
        """Frees what the engine holds beside the network."""


def open_engine(plan: Plan, network: Network, ranks: Ranks, universal: bool = False) -> Engine:
    """The engine of a plan.

    Args:
        universal: a checkpoint of another number of processes is loaded next.
    """
    if plan.batch % (ranks.world * plan.micro_batch):
        raise ValueError(
            f"batch {plan.batch} does not divide into {ranks.world} ranks of micro-batches of {plan.micro_batch}"
        )
    if plan.gradient_checkpointing:
        network.checkpoint_activations(reentrant=plan.zero == 3)
    return DeepSpeedEngine(plan, network, ranks, universal) if plan.zero else PlainEngine(plan, network, ranks)


class PlainEngine(Engine):
    """Weights in float32 on every process; in bf16, autocast computes."""

    def __init__(self, plan: Plan, network: Network, ranks: Ranks):
        self.network, self._ranks = network.to(ranks.device), ranks
        self._clip = plan.max_grad_norm or math.inf
        self._half = plan.precision == "bf16"
        self._distributed = DistributedDataParallel(network) if ranks.world > 1 else None
        self._module: nn.Module = self._distributed or network
        groups, self.parts, self.scales = parameter_groups(network, plan.weight_decay, plan.embedding_lr_scale)
        self._optimizer = torch.optim.AdamW(groups, betas=_BETAS)

    def accumulate(self, batch: Any, num_items: Any, loss: Callable[..., torch.Tensor] | None, last: bool) -> float:
        with self._distributed.no_sync() if self._distributed is not None and not last else nullcontext():
            with torch.autocast(self._ranks.device.type, torch.bfloat16, enabled=self._half):
                value = self._module(batch, num_items, loss) * self._ranks.world
            value.backward()
        return value.item()

    def step(self, rates: Mapping[Part, float]) -> float:
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self._clip)
        for group, part, scale in zip(self._optimizer.param_groups, self.parts, self.scales, strict=True):
            group["lr"] = rates[part] * scale
        self._optimizer.step()
        self._optimizer.zero_grad()
        return float(norm)

    def state(self) -> dict[str, torch.Tensor]:
        return self.network.state_dict()

    def save(self, folder: Path, ranks: Ranks) -> None:
        if ranks.first:
            torch.save(self._optimizer.state_dict(), folder / OPTIMIZER)

    def load(self, folder: Path, ranks: Ranks, world: int) -> None:
        self._optimizer.load_state_dict(torch.load(folder / OPTIMIZER, map_location="cpu", weights_only=True))

    def close(self) -> None:
        del self._distributed, self._module, self._optimizer


class DeepSpeedEngine(Engine):
    """Optimizer state and gradients (ZeRO-2), and weights (ZeRO-3), shared out among the processes."""

    def __init__(self, plan: Plan, network: Network, ranks: Ranks, universal: bool):
        import deepspeed

        self.network, self._ranks, self._zero = network, ranks, plan.zero
        groups, self.parts, self.scales = parameter_groups(network, plan.weight_decay, plan.embedding_lr_scale)
        self._settings = [{key: value for key, value in group.items() if key != "params"} for group in groups]
        if plan.offload:
            from deepspeed.ops.adam import DeepSpeedCPUAdam

            optimizer = DeepSpeedCPUAdam(groups, betas=_BETAS)
        else:
            optimizer = torch.optim.AdamW(groups, betas=_BETAS)
        self._engine, *_ = deepspeed.initialize(
            model=network, optimizer=optimizer, config=deepspeed_config(plan, ranks.world, universal)
        )

    def accumulate(self, batch: Any, num_items: Any, loss: Callable[..., torch.Tensor] | None, last: bool) -> float:
        value = self._engine(batch, num_items, loss) * self._ranks.world
        self._engine.set_gradient_accumulation_boundary(last)
        self._engine.backward(value, scale_wrt_gas=False)
        return value.item()

    def step(self, rates: Mapping[Part, float]) -> float:
        for group, part, scale in zip(self._engine.optimizer.param_groups, self.parts, self.scales, strict=True):
            group["lr"] = rates[part] * scale
        self._engine.step()
        return float(self._engine.get_global_grad_norm())

    def state(self) -> dict[str, torch.Tensor]:
        if self._zero == 3:
            return self._engine._zero3_consolidated_16bit_state_dict() or {}
        from deepspeed.checkpoint.utils import clone_tensors_for_torch_save

        # Views of one flat buffer each.
        return clone_tensors_for_torch_save(self.network.state_dict())

    def save(self, folder: Path, ranks: Ranks) -> None:
        self._engine.save_checkpoint(str(folder))

    def load(self, folder: Path, ranks: Ranks, world: int) -> None:
        universal = world != ranks.world
        if universal:
            if ranks.first:
                to_universal(folder)
            ranks.barrier()
        self._engine.load_checkpoint(str(folder), load_lr_scheduler_states=False)
        if not universal:
            return
        # DeepSpeed takes the first group's settings for those of all groups, and under ZeRO-3 lets all tensors
        # count their steps in one and the same number, which then runs ahead.
        for state in self._engine.basic_optimizer.state.values():
            if isinstance(state.get("step"), torch.Tensor):
                state["step"] = state["step"].clone()
        for group, settings in zip(self._engine.optimizer.param_groups, self._settings, strict=True):
            group.update(settings)
        ranks.barrier()
        if ranks.first:
            drop_universal(folder)

    @contextmanager
    def whole(self) -> Iterator[None]:
        if self._zero < 3:
            yield
            return
        import deepspeed

        with deepspeed.zero.GatheredParameters(list(self.network.parameters())):
            yield

    def close(self) -> None:
        self._engine.destroy()


def parameter_groups(
    network: Network, weight_decay: float, embedding_scale: float = 1.0
) -> tuple[list[dict[str, Any]], tuple[Part, ...], tuple[float, ...]]:
    """Groups of an optimizer, with the part of each and the multiple of the part's learning rate that it takes.

    A part has one group of weights that decay and one of its others; the LLM's token embeddings have a group of their
    own if ``embedding_scale`` is not 1.
    """
    embeddings = network.family.language_model(network.model).get_input_embeddings().weight
    groups: list[dict[str, Any]] = []
    parts: list[Part] = []
    scales: list[float] = []
    for part in network.parts:
        by_setting: dict[tuple[float, float], list[nn.Parameter]] = {}
        for _, parameter in network.learning(part):
            scale = embedding_scale if parameter is embeddings else 1.0
            decay = weight_decay if parameter.ndim > 1 else 0.0
            by_setting.setdefault((scale, decay), []).append(parameter)
        # Weights that decay first, as checkpoints of earlier versions have them.
        for (scale, decay), members in sorted(by_setting.items(), key=lambda one: (one[0][0] != 1.0, -one[0][1])):
            # The loop sets the learning rate before each step.
            groups.append({"params": members, "weight_decay": decay, "lr": 1.0})
            parts.append(part)
            scales.append(scale)
    return groups, tuple(parts), tuple(scales)


def deepspeed_config(plan: Plan, world: int, universal: bool = False) -> dict[str, Any]:
    """DeepSpeed's configuration for a plan."""
    zero: dict[str, Any] = {
        "stage": plan.zero,
        "overlap_comm": True,
        "contiguous_gradients": True,
        "reduce_bucket_size": 200_000_000,
    }
    if plan.zero == 2:
        zero["allgather_bucket_size"] = 200_000_000
    else:
        zero |= {
            "sub_group_size": 1_000_000_000,
            "stage3_prefetch_bucket_size": 50_000_000,
            "stage3_param_persistence_threshold": 100_000,
            "stage3_max_live_parameters": 1_000_000_000,
            "stage3_max_reuse_distance": 1_000_000_000,
            "stage3_gather_16bit_weights_on_model_save": True,
        }
    if plan.offload:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
        if plan.zero == 3:
            zero["offload_param"] = {"device": "cpu", "pin_memory": True}
    return {
        "train_batch_size": plan.batch,
        "train_micro_batch_size_per_gpu": plan.micro_batch,
        "gradient_accumulation_steps": plan.batch // (world * plan.micro_batch),
        "gradient_clipping": plan.max_grad_norm,
        "bf16": {"enabled": plan.precision == "bf16"},
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "checkpoint": {"load_universal": universal},
        "steps_per_print": 2**62,
    }
