"""The native model as a trainer sees it: which tensors learn, adapters, and its state in the published names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from peft import LoraConfig, inject_adapter_in_model
from roboref_core.models.roborefer.checkpoint import save_checkpoint
from roboref_core.models.roborefer.model import RoboReferModel
from roboref_core.models.roborefer.training import Batch
from torch import nn

from offline.train.plan import PARTS, Lora

_BASE, _LORA = ".base_layer.", ".lora_"


class Network(nn.Module):
    """A RoboReferModel of which only some parts learn; the others stay in eval mode and get no gradient.

    Args:
        parts: that learn; those that the model does not have are ignored.
        lora: adapters in place of the LLM's own weights.
        seed: of the adapters.
    """

    def __init__(self, model: RoboReferModel, parts: Iterable[str], lora: Lora | None = None, seed: int = 0):
        super().__init__()
        self.model = model
        self.parts = tuple(part for part in PARTS if part in set(parts) and getattr(model, part) is not None)
        if not self.parts:
            raise ValueError(f"the checkpoint has none of the parts to train: {', '.join(parts)}")
        if lora is not None:
            config = LoraConfig(r=lora.r, lora_alpha=lora.lora_alpha, target_modules=list(lora.target_modules))
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                inject_adapter_in_model(config, model.llm)
        unused = {id(parameter) for parameter in _unused(model)}
        for part in PARTS:
            module = getattr(model, part)
            for name, parameter in module.named_parameters() if module is not None else ():
                adapted = part != "llm" or lora is None or _LORA in name
                parameter.requires_grad = part in self.parts and adapted and id(parameter) not in unused

    def forward(self, batch: Batch, num_items: torch.Tensor | int) -> torch.Tensor:
        """Sum of the label tokens' cross-entropies over ``num_items``."""
        return self.model(batch, num_items)

    def train(self, mode: bool = True) -> Network:
        super().train(mode)
        for part in PARTS:
            if part not in self.parts and (module := getattr(self.model, part)) is not None:
                module.eval()
        return self

    def learning(self, part: str) -> list[tuple[str, nn.Parameter]]:
        """Tensors of a part that learn, with their names in the network."""
        module = getattr(self.model, part)
        named = module.named_parameters() if module is not None else ()
        return [(f"{part}.{name}", parameter) for name, parameter in named if parameter.requires_grad]

    def checkpoint_activations(self, reentrant: bool) -> None:
        """Recompute activations in the backward pass. ZeRO-3 needs the reentrant kind."""
        modules = [self.model.llm]
        modules += [
            self.model.part(tower).vision_model
            for tower in ("vision_tower", "depth_tower")
            if getattr(self.model, tower) is not None
        ]
        for module in modules:
            module.gradient_checkpointing_enable({"use_reentrant": reentrant})


def _unused(model: RoboReferModel) -> list[nn.Parameter]:
    """Tensors of the towers behind the selected layer: nothing depends on them."""
    found: list[nn.Parameter] = []
    for tower in ("vision_tower", "depth_tower"):
        if getattr(model, tower) is None:
            continue
        vision = model.part(tower).vision_model
        layer = model.config.root.mm_vision_select_layer
        count = layer if layer >= 0 else len(vision.encoder.layers) + 1 + layer
        used = [vision.embeddings, *vision.encoder.layers[:count]]
        kept = {id(parameter) for module in used for parameter in module.parameters()}
        found += [parameter for parameter in vision.parameters() if id(parameter) not in kept]
    return found


def merged(state: Mapping[str, torch.Tensor], lora: Lora | None) -> dict[str, torch.Tensor]:
    """A network's state dict in the names of the published model, adapters added to the weights they belong to."""
    state = {name.removeprefix("model."): tensor for name, tensor in state.items()}
    if lora is None:
        return state
    plain = {name: tensor for name, tensor in state.items() if _BASE not in name and _LORA not in name}
    for name, tensor in state.items():
        if _BASE not in name:
            continue
        owner, _, leaf = name.partition(_BASE)
        if leaf == "weight":
            a, b = (state[f"{owner}.lora_{side}.default.weight"].float() for side in "AB")
            tensor = (tensor.float() + (b @ a) * (lora.lora_alpha / lora.r)).to(tensor.dtype)
        plain[f"{owner}.{leaf}"] = tensor
    return plain


def adapter_state(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Everything of a network's state but the LLM's own weights, under the network's names."""
    return {name: tensor for name, tensor in state.items() if _LORA in name or not name.startswith("model.llm.")}


def write_model(
    model: RoboReferModel, state: Mapping[str, torch.Tensor], source: Path, target: Path, aspect: str | None = None
) -> None:
    """Writes a state of published names as a checkpoint.

    Args:
        model: the one that the state belongs to; only its configuration and tokenizer are used.
        source: its base checkpoint.
        aspect: image_aspect_ratio that it was trained with, if not the base checkpoint's.
    """
    with torch.device("meta"):
        shell = RoboReferModel(model.config, model.tokenizer)
    names = [name for name, _ in shell.named_parameters(remove_duplicate=False)]
    tied = model.config.llm.tie_word_embeddings
    for name in names:
        value = state["llm.model.embed_tokens.weight" if tied and name == "llm.lm_head.weight" else name]
        owner, _, leaf = name.rpartition(".")
        parameter = nn.Parameter(value.detach().cpu(), requires_grad=False)
        setattr(shell.get_submodule(owner), leaf, parameter)
    save_checkpoint(shell, source, target, {"image_aspect_ratio": aspect} if aspect else None)
