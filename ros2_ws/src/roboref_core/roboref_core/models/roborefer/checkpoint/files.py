"""Reads and writes whole checkpoint directories."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from torch import nn
from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding

from roboref_core.atomic import replacing_folder
from roboref_core.models.roborefer import asking
from roboref_core.models.roborefer.checkpoint.config import (
    ModelConfig,
    checkpoint_root,
    read_config,
    read_json,
    write_json,
)
from roboref_core.models.roborefer.checkpoint.weights import StoredTensor, list_tensors, read_tensors
from roboref_core.models.roborefer.errors import CheckpointError
from roboref_core.models.roborefer.network.model import RoboReferModel
from roboref_core.models.roborefer.prompt_text import add_training_tokens, load_tokenizer, read_tokenizer

_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".safetensors.index.json", ".bin.index.json")
_SHARD_BYTES = 5 * 10**9
_MUTABLE_KEYS = {"torch_dtype", "vocab_size", "model_max_length", "rope_scaling"}
_EMBEDDINGS = ("model.embed_tokens.weight", "lm_head.weight")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was checked from its headers; nothing heavy is read yet.

    Attributes:
        root: the directory that holds config.json.
        config: configuration of all parts.
        tensors: per part, by name.
    """

    root: Path
    config: ModelConfig
    tensors: dict[str, dict[str, StoredTensor]]

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for part in self.tensors.values() for tensor in part.values())

    @property
    def revision(self) -> str:
        """12 hex digits over configurations, tensor headers and samples spread over each tensor file."""
        digest = hashlib.sha256()
        for name in ("config.json", *(f"{part}/config.json" for part in self.config.parts)):
            digest.update((self.root / name).read_bytes())
        for part, tensors in sorted(self.tensors.items()):
            for tensor in sorted(tensors.values(), key=lambda t: t.name):
                digest.update(f"{part} {tensor.name} {tensor.shape} {tensor.dtype}\n".encode())
            for file in sorted({tensor.file for tensor in tensors.values()}):
                size = file.stat().st_size
                with file.open("rb") as handle:
                    for step in range(64):
                        handle.seek(size * step // 64)
                        digest.update(handle.read(512))
        return digest.hexdigest()[:12]


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Reads and checks configurations and the headers of all tensor files.

    Raises:
        CheckpointError: naming part and file, for a missing part, a truncated file, a tensor that is
            missing, unknown or of another shape than the configuration makes it.
    """
    root = checkpoint_root(path)
    config = read_config(root)
    tensors = {part: list_tensors(root / part, part) for part in config.parts}
    config = _with_stored_heads(config, tensors)
    with torch.device("meta"):
        skeleton = RoboReferModel(config, tokenizer=None)
    for part, held in tensors.items():
        _check_shapes(part, held, skeleton.part(part).state_dict(), config, root / part)
    return Checkpoint(root, config, tensors)


def _with_stored_heads(config: ModelConfig, tensors: dict[str, dict[str, StoredTensor]]) -> ModelConfig:
    """A tower has the pooling head that is stored, whatever its configuration says: no feature comes from it."""
    changes = {}
    for name in ("vision_tower", "depth_tower"):
        if name in tensors:
            stored = any(tensor.startswith("vision_model.head.") for tensor in tensors[name])
            changes[name] = getattr(config, name).model_copy(update={"vision_use_head": stored})
    return replace(config, **changes)


def _check_shapes(
    part: str, held: dict[str, StoredTensor], wanted: dict[str, torch.Tensor], config: ModelConfig, folder: Path
) -> None:
    tied = part == "llm" and config.llm.tie_word_embeddings
    missing = [name for name in wanted if name not in held and not (tied and name == "lm_head.weight")]
    if missing:
        raise CheckpointError(f"{part}: {folder} lacks {len(missing)} tensor(s), first {missing[0]}")
    if unknown := sorted(set(held) - set(wanted)):
        raise CheckpointError(
            f"{part}: {held[unknown[0]].file} holds {len(unknown)} tensor(s) that {folder / 'config.json'} does not "
            f"describe, first {unknown[0]}"
        )
    for name, tensor in held.items():
        if tensor.shape != tuple(wanted[name].shape):
            raise CheckpointError(
                f"{part}: {tensor.file}: {name} has shape {tensor.shape}, {folder / 'config.json'} makes it "
                f"{tuple(wanted[name].shape)}"
            )


def load_model(
    path: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    attention: str = "sdpa",
    for_training: bool = False,
    max_length: int | None = None,
    network: type[RoboReferModel] = RoboReferModel,
) -> RoboReferModel:
    """Loads a checkpoint for inference (eval mode) or training.

    Peak memory is that of the weights plus one batch of tensors. Embedding rows are brought to the
    tokenizer's length, as the reference does: rows without a token are cut, new tokens get the mean.

    Args:
        path: the checkpoint, or a directory that holds it as ``model/``.
        dtype: dtype of all weights; None keeps what is stored.
        for_training: adds padding and beginning tokens if the tokenizer lacks them, keeps gradients.
        max_length: replaces the tokenizer's context length. Beyond the LLM's own it stretches the rotary
            embedding linearly, by a whole factor.
        network: class of the model; a trainer's own adds the training forward pass.
    Raises:
        CheckpointError: naming part and file.
    """
    return materialise(open_checkpoint(path), torch.device(device), dtype, attention, for_training, max_length, network)


def materialise(
    checkpoint: Checkpoint,
    device: torch.device,
    dtype: torch.dtype | None = None,
    attention: str = "sdpa",
    for_training: bool = False,
    max_length: int | None = None,
    network: type[RoboReferModel] = RoboReferModel,
) -> RoboReferModel:
    """The model of a checkpoint that was opened; see ``load_model``."""
    config = checkpoint.config
    tokenizer = load_tokenizer(checkpoint.root / "llm", config.uses_depth)
    if max_length is not None:
        tokenizer.model_max_length = max_length
        config = _stretch(config, max_length)
    if for_training:
        add_training_tokens(tokenizer)
    with torch.device("meta"):
        model = network(config, tokenizer, attention)
    for part, held in checkpoint.tensors.items():
        tied = part == "llm" and config.llm.tie_word_embeddings
        wanted = [tensor for name, tensor in held.items() if not (tied and name == "lm_head.weight")]
        module = model.part(part)
        for name, stored in read_tensors(wanted, part):
            rows = len(tokenizer) if part == "llm" and name in _EMBEDDINGS else len(stored)
            tensor = _copy(stored, rows, dtype or stored.dtype, device)
            _assign(module, name, nn.Parameter(tensor, requires_grad=for_training))
    _resize_vocabulary(model.llm, len(tokenizer), config.llm.tie_word_embeddings)
    _make_buffers(model, device)
    return model.train(for_training)


def _stretch(config: ModelConfig, max_length: int) -> ModelConfig:
    factor = -(-max_length // config.llm.max_position_embeddings)
    changes: dict[str, Any] = {"model_max_length": max_length}
    if factor > 1:
        changes["rope_scaling"] = {"type": "linear", "factor": float(factor)}
    return replace(config, llm=config.llm.model_copy(update=changes))


def _copy(stored: torch.Tensor, rows: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """A copy with the given number of rows: superfluous ones cut, missing ones the mean of all."""
    tensor = torch.empty((rows, *stored.shape[1:]), dtype=dtype, device=device)
    tensor[: len(stored)].copy_(stored[:rows])
    if rows > len(stored):
        tensor[len(stored) :] = stored.mean(0, dtype=torch.float32).to(tensor)
    return tensor


def _assign(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
    owner, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(owner), leaf, parameter)


def _resize_vocabulary(llm: Any, rows: int, tied: bool) -> None:
    if tied:
        llm.lm_head.weight = llm.model.embed_tokens.weight
    llm.config.vocab_size = llm.vocab_size = llm.model.vocab_size = rows
    llm.model.embed_tokens.num_embeddings = llm.lm_head.out_features = rows


def _make_buffers(model: RoboReferModel, device: torch.device) -> None:
    """Buffers that no file holds: made on the meta device with the rest, so made again here."""
    with torch.device(device):
        model.llm.model.rotary_emb = Qwen2RotaryEmbedding(model.llm.config)
        for name in ("vision_tower", "depth_tower"):
            if getattr(model, name) is not None:
                tower: Any = model.part(name)
                embeddings = tower.vision_model.embeddings
                embeddings.position_ids = torch.arange(embeddings.num_positions)[None]


def save_checkpoint(
    model: RoboReferModel, source: str | Path, target: str | Path, root_updates: dict[str, Any] | None = None
) -> None:
    """Writes the model in the layout it was read from; loading and writing again gives the same bytes.

    Configurations, tokenizer, preprocessing files and how it is asked are taken over from ``source``, unless dtype or
    vocabulary changed. Paths that the author's training left in the configurations stay as they are:
    every reader ignores them.

    Args:
        source: the checkpoint that the model was loaded from.
        target: must not exist; is complete as soon as it does.
        root_updates: keys to change in the root config.json.
    """
    source, target = checkpoint_root(source), Path(target)
    if target.exists():
        raise FileExistsError(f"checkpoint {target} exists already")
    with replacing_folder(target) as work:
        for part in model.config.parts:
            _save_part(model, part, source / part, work / part)
        _save_root_config(model, source, work, root_updates or {})
        if (source / asking.FILE_NAME).is_file():
            shutil.copyfile(source / asking.FILE_NAME, work / asking.FILE_NAME)


def _save_part(model: RoboReferModel, part: str, source: Path, target: Path) -> None:
    target.mkdir()
    for file in sorted(source.iterdir()):
        if file.is_file() and not file.name.endswith(_WEIGHT_SUFFIXES):
            shutil.copyfile(file, target / file.name)
    state = {name: value.detach().contiguous() for name, value in model.part(part).state_dict().items()}
    if part == "llm":
        if model.config.llm.tie_word_embeddings:
            del state["lm_head.weight"]
        _save_language(model, len(state["model.embed_tokens.weight"]), source, target)
    _update_json(target / "config.json", part, {"torch_dtype": _dtype_name(next(iter(state.values()), None))})
    shards = split_torch_state_dict_into_shards(state, max_shard_size=_SHARD_BYTES)
    for name, members in shards.filename_to_tensors.items():
        save_file({key: state[key] for key in members}, target / name, metadata={"format": "pt"})
    if shards.is_sharded:
        index = {"metadata": shards.metadata, "weight_map": shards.tensor_to_filename}
        write_json(target / "model.safetensors.index.json", index)


def _save_language(model: RoboReferModel, rows: int, source: Path, target: Path) -> None:
    config = model.config.llm
    changes = {"vocab_size": rows, "model_max_length": config.model_max_length, "rope_scaling": config.rope_scaling}
    _update_json(target / "config.json", "llm", changes)
    if len(read_tokenizer(source)) != rows:
        model.tokenizer.save_pretrained(target)
    _update_json(target / "tokenizer_config.json", "llm", {"model_max_length": model.tokenizer.model_max_length})


def _save_root_config(model: RoboReferModel, source: Path, target: Path, updates: dict[str, Any]) -> None:
    raw, updates = read_json(source / "config.json", "checkpoint"), dict(updates)
    for part in model.config.parts:
        if isinstance(raw.get(f"{part}_cfg"), dict):
            state = read_json(target / part / "config.json", part)
            stated = raw[f"{part}_cfg"]
            common = _MUTABLE_KEYS & stated.keys() & state.keys()
            updates[f"{part}_cfg"] = {**stated, **{key: state[key] for key in common}}
    if raw.get("model_dtype") is not None:
        updates = {"model_dtype": str(model.dtype), **updates}
    shutil.copyfile(source / "config.json", target / "config.json")
    _update_json(target / "config.json", "checkpoint", updates, add=True)


def _dtype_name(tensor: torch.Tensor | None) -> str | None:
    return None if tensor is None else str(tensor.dtype).removeprefix("torch.")


def _update_json(file: Path, part: str, changes: dict[str, Any], add: bool = False) -> None:
    """Rewrites the file only if a value differs; keys that are not there are added only on request."""
    raw = read_json(file, part)
    wanted = {key: value for key, value in changes.items() if value is not None and (add or key in raw)}
    if any(raw.get(key) != value for key, value in wanted.items()):
        write_json(file, {**raw, **wanted})
