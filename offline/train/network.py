"""A model as the trainer sees it: which tensors learn, adapters, and its state in the published names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import Linear as LoraLinear
from safetensors.torch import load_file
from torch import nn

from offline.train.families import family_of
from offline.train.families.base import Family
from offline.train.plan import PARTS, Lora, Part, Plan

ADAPTER = "adapter.safetensors"
_BASE, _LORA, _MODEL = ".base_layer.", ".lora_", "model."


class Network(nn.Module):
    """A model of which only some parts learn; the others stay in eval mode and get no gradient.

    Args:
        parts: that learn; those that the model does not have are ignored.
        lora: adapters in place of the LLM's own weights.
        seed: of the adapters.
    """

    def __init__(self, family: Family, model: nn.Module, parts: Iterable[str], lora: Lora | None = None, seed: int = 0):
        super().__init__()
        self.family, self.model = family, model
        unused = {id(parameter) for parameter in family.unused(model)}
        if lora is not None:
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                inject_adapter_in_model(_peft_config(lora), family.language_model(model))
        self.held: dict[Part, list[tuple[str, nn.Parameter]]] = {part: [] for part in PARTS}
        for name, parameter in model.named_parameters():
            part = family.part_of(name)
            assert part is not None, name
            self.held[part].append((name, parameter))
        self.parts = tuple(part for part in PARTS if part in set(parts) and self.held[part])
        if not self.parts:
            raise ValueError(f"the checkpoint has none of the parts to train: {', '.join(parts)}")
        for part, held in self.held.items():
            for name, parameter in held:
                adapted = part != "llm" or lora is None or _LORA in name
                parameter.requires_grad = part in self.parts and adapted and id(parameter) not in unused

    def forward(
        self, batch: Any, num_items: torch.Tensor | int, loss: Callable[..., torch.Tensor] | None = None
    ) -> torch.Tensor:
        """Sum of the label tokens' cross-entropies over ``num_items``, or another loss (see ``objective.Update``)."""
        if loss is not None:
            return loss(self.family, self.model, batch, num_items)
        return self.family.loss(self.model, batch, num_items)

    def train(self, mode: bool = True) -> Network:
        super().train(mode)
        for name, module in self.model.named_modules():
            if (part := self.family.part_of(name)) is not None and part not in self.parts:
                module.training = False
        return self

    def learning(self, part: Part) -> list[tuple[str, nn.Parameter]]:
        """Tensors of a part that learn, with their names in the model."""
        return [(name, parameter) for name, parameter in self.held[part] if parameter.requires_grad]

    def checkpoint_activations(self, reentrant: bool) -> None:
        """Recompute activations in the backward pass. ZeRO-3 needs the reentrant kind."""
        language = self.family.language_model(self.model)
        for module in (language, *self.family.towers(self.model)):
            module.gradient_checkpointing_enable({"use_reentrant": reentrant})
        if reentrant:
            # Else frozen embeddings would end the backward pass before it reaches adapters.
            language.enable_input_require_grads()


def load_network(plan: Plan, parts: tuple[str, ...], checkpoint: Path | None) -> Network:
    """The network of the base checkpoint or, with its learned state, of a run's checkpoint."""
    # DeepSpeed keeps its own float32 copy; without it, the weights themselves are it, and autocast computes.
    dtype = torch.bfloat16 if plan.zero and plan.precision == "bf16" else torch.float32
    path = plan.model if checkpoint is None or plan.lora else checkpoint / "model"
    family = family_of(plan.model)
    network = Network(family, family.load(path, dtype, plan.model_max_length), parts, plan.lora, plan.seed)
    if checkpoint is not None and plan.lora:
        saved = load_file(checkpoint / ADAPTER)
        unknown = network.load_state_dict(saved, strict=False).unexpected_keys
        if unknown:
            raise ValueError(f"{checkpoint / ADAPTER}: tensors that the model does not have, first {unknown[0]}")
    return network


def merged(state: Mapping[str, torch.Tensor], lora: Lora | None) -> dict[str, torch.Tensor]:
    """A network's state dict in the model's own names, adapters added to the weights they belong to."""
    state = {name.removeprefix(_MODEL): tensor for name, tensor in state.items()}
    if lora is None:
        return state
    plain = {name: tensor for name, tensor in state.items() if _BASE not in name and _LORA not in name}
    for name, tensor in state.items():
        if _BASE not in name:
            continue
        owner, _, leaf = name.partition(_BASE)
        if leaf == "weight":
            tensor = _merged_weight(
                tensor, state[f"{owner}.lora_A.default.weight"], state[f"{owner}.lora_B.default.weight"], lora
            )
        plain[f"{owner}.{leaf}"] = tensor
    return plain


def _merged_weight(weight: torch.Tensor, a: torch.Tensor, b: torch.Tensor, lora: Lora) -> torch.Tensor:
    """One adapted weight merged by peft, which needs a layer; in float32, so that half precision rounds once.

    ZeRO-3 has no layer with whole weights to merge in place: what there is, is the gathered state.
    """
    outputs, inputs = weight.shape
    base = nn.Linear(inputs, outputs, bias=False, device="meta")
    base.weight = nn.Parameter(weight.to(torch.float32, copy=True), requires_grad=False)
    layer = LoraLinear(base, "default", _peft_config(lora), r=lora.r, lora_alpha=cast(int, lora.lora_alpha))
    layer.lora_A["default"].weight.data, layer.lora_B["default"].weight.data = a.float(), b.float()
    layer.merge()
    return base.weight.data.to(weight.dtype)


def _peft_config(lora: Lora) -> LoraConfig:
    return LoraConfig(r=lora.r, lora_alpha=cast(int, lora.lora_alpha), target_modules=list(lora.target_modules))


def adapter_state(state: Mapping[str, torch.Tensor], family: Family) -> dict[str, torch.Tensor]:
    """Everything of a network's state but the LLM's own weights, under the network's names."""
    return {
        name: tensor
        for name, tensor in state.items()
        if _LORA in name or family.part_of(name.removeprefix(_MODEL)) != "llm"
    }
