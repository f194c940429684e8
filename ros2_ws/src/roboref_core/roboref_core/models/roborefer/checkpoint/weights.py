"""Tensor files of one part: what they hold, without reading it, and the tensors themselves, one batch at a time."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from roboref_core.models.roborefer.checkpoint.config import read_json
from roboref_core.models.roborefer.errors import CheckpointError

_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
}  # fmt: skip
# Buffers that older transformers stored with the weights; they follow from the configuration.
_DERIVED = ("rotary_emb.inv_freq", "embeddings.position_ids")
# Pages of a mapped file count as resident until it is closed; so it is closed after this many bytes.
_BATCH_BYTES = 64 * 2**20


@dataclass(frozen=True)
class StoredTensor:
    """Where one tensor lies and what it looks like."""

    name: str
    file: Path
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        return torch.Size(self.shape).numel() * self.dtype.itemsize


def list_tensors(folder: Path, part: str) -> dict[str, StoredTensor]:
    """Every tensor of a part by name, from the headers of its files.

    Single and sharded safetensors files are read, and PyTorch files as ``torch.load(weights_only=True)`` does.

    Raises:
        CheckpointError: naming part and file, if a file is missing, truncated or not of its format.
    """
    for stem, read_headers in (("model.safetensors", _safetensors_headers), ("pytorch_model.bin", _torch_headers)):
        index = folder / f"{stem}.index.json"
        if index.is_file():
            return _list_shards(index, part, read_headers)
        if (folder / stem).is_file():
            return {tensor.name: tensor for tensor in read_headers(folder / stem, part)}
    raise CheckpointError(f"{part}: no model.safetensors, pytorch_model.bin or index of either in {folder}")


def read_tensors(tensors: list[StoredTensor], part: str) -> Iterator[tuple[str, torch.Tensor]]:
    """Yields (name, tensor), as stored, in any order.

    A yielded tensor may be a view of a mapped file: copy what is to be kept. Then no more than one
    batch of tensors is resident beyond the copies.
    """
    by_file: dict[Path, list[StoredTensor]] = {}
    for tensor in tensors:
        by_file.setdefault(tensor.file, []).append(tensor)
    for file, members in by_file.items():
        try:
            if file.name.endswith(".safetensors"):
                yield from _read_safetensors(file, members)
            else:
                # Files from before PyTorch 1.6 are no zip archives and cannot be mapped.
                mapped = zipfile.is_zipfile(file)
                state = torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
                for member in members:
                    yield member.name, state.pop(member.name)
        except (SafetensorError, OSError, RuntimeError) as error:
            raise CheckpointError(f"{part}: {file} cannot be read: {error}") from error


def _read_safetensors(file: Path, members: list[StoredTensor]) -> Iterator[tuple[str, torch.Tensor]]:
    start = 0
    while start < len(members):
        with safe_open(file, framework="pt", device="cpu") as handle:
            size = 0
            while start < len(members) and size < _BATCH_BYTES:
                member = members[start]
                yield member.name, handle.get_tensor(member.name)
                size += member.nbytes
                start += 1


def _list_shards(
    index: Path, part: str, read_headers: Callable[[Path, str], Iterator[StoredTensor]]
) -> dict[str, StoredTensor]:
    weight_map = read_json(index, part).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise CheckpointError(f"{part}: {index} has no weight_map of tensor names to files")
    held: dict[str, StoredTensor] = {}
    for name in sorted(set(weight_map.values())):
        if Path(name).name != name:
            raise CheckpointError(f"{part}: {index} names a file outside its folder: {name!r}")
        held.update({tensor.name: tensor for tensor in read_headers(index.parent / name, part)})
    for name, file_name in weight_map.items():
        if not name.endswith(_DERIVED) and (name not in held or held[name].file.name != file_name):
            raise CheckpointError(f"{part}: {index} puts {name} in {file_name}, which does not hold it")
    return held


def _safetensors_headers(file: Path, part: str) -> Iterator[StoredTensor]:
    try:
        with safe_open(file, framework="pt", device="cpu") as handle:
            for name in handle.keys():
                if name.endswith(_DERIVED):
                    continue
                piece = handle.get_slice(name)
                kind = piece.get_dtype()
                if kind not in _DTYPES:
                    raise CheckpointError(f"{part}: {file}: {name} has dtype {kind}, expected one of {list(_DTYPES)}")
                yield StoredTensor(name, file, tuple(piece.get_shape()), _DTYPES[kind])
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{part}: {file} is truncated or no safetensors file: {error}") from error


def _torch_headers(file: Path, part: str) -> Iterator[StoredTensor]:
    try:
        state = torch.load(file, map_location="meta", weights_only=True)
    # torch.load documents no closed set of exceptions for damaged or unsafe files; the cause stays attached.
    except Exception as error:
        raise CheckpointError(f"{part}: {file} is truncated, unsafe or no PyTorch file: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise CheckpointError(f"{part}: {file} must hold a state dict of tensors")
    for name, value in state.items():
        if str(name).endswith(_DERIVED):
            continue
        if value.dtype not in _DTYPES.values():
            raise CheckpointError(f"{part}: {file}: {name} has dtype {value.dtype}, expected a floating-point one")
        yield StoredTensor(str(name), file, tuple(value.shape), value.dtype)
