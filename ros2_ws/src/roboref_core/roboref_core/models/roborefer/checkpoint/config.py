"""config.json of a RoboRefer checkpoint and of its parts, validated before anything heavy is read.

Layout: ``llm/``, ``vision_tower/``, ``mm_projector/`` and, with depth, ``depth_projector/`` and
``depth_tower/``, each a Hugging Face save of its own, below a root config.json of model_type
"llava_llama". Paths inside are the author's and are ignored.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import ValidationError

from roboref_core.models.roborefer.checkpoint.config_schema import (
    LanguageConfig,
    PartConfig,
    ProcessorConfig,
    ProjectorConfig,
    RootConfig,
    TowerConfig,
)
from roboref_core.models.roborefer.errors import CheckpointError

MAX_CONFIG_BYTES = 64 * 2**20


@dataclass(frozen=True)
class ModelConfig:
    """All configurations of one checkpoint.

    Attributes:
        root: the root config.json.
        llm, vision_tower, mm_projector: of the parts that always exist.
        depth_tower: None without depth, or if depth pictures go through the vision tower.
        depth_projector: None without depth.
        image_processor, depth_processor: preprocessing per tower; the vision tower's for both without a depth tower.
    """

    root: RootConfig
    llm: LanguageConfig
    vision_tower: TowerConfig
    mm_projector: ProjectorConfig
    depth_tower: TowerConfig | None
    depth_projector: ProjectorConfig | None
    image_processor: ProcessorConfig
    depth_processor: ProcessorConfig

    @property
    def uses_depth(self) -> bool:
        return self.depth_projector is not None

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the sub-folders that hold weights."""
        optional = (("depth_tower", self.depth_tower), ("depth_projector", self.depth_projector))
        return ("llm", "vision_tower", "mm_projector", *(name for name, config in optional if config is not None))

    @property
    def channels(self) -> int:
        """Features of a token before the projector: the tower's, of all scales."""
        return self.vision_tower.hidden_size * (len(self.root.s2_scales) if self.root.dynamic_s2 else 1)

    def tile_side(self, kind: Literal["image", "depth"]) -> int:
        """Pixels along one side of a tile. Dynamic S2 sets it to its first scale."""
        if self.root.dynamic_s2:
            return self.root.s2_scales[0]
        return self.processor(kind).side

    def processor(self, kind: Literal["image", "depth"]) -> ProcessorConfig:
        return self.image_processor if kind == "image" else self.depth_processor

    def tower(self, kind: Literal["image", "depth"]) -> TowerConfig:
        return self.depth_tower if kind == "depth" and self.depth_tower else self.vision_tower


Part = TypeVar("Part", bound=PartConfig)


def checkpoint_root(path: str | Path) -> Path:
    """Where the checkpoint lies: training writes it to OUTPUT_DIR/model."""
    path = Path(path)
    return path / "model" if (path / "model").is_dir() else path


def read_json(file: Path, part: str) -> dict[str, Any]:
    """A JSON object, or a CheckpointError naming part and file."""
    try:
        if file.stat().st_size > MAX_CONFIG_BYTES:
            raise CheckpointError(f"{part}: {file} is larger than {MAX_CONFIG_BYTES} bytes")
        value = json.loads(file.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{part}: {file} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{part}: {file} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{part}: {file} must hold a JSON object, found {type(value).__name__}")
    return value


def write_json(file: Path, value: dict[str, Any]) -> None:
    """A JSON object with sorted keys; the folder is made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


def _parse(kind: type[Part], data: dict[str, Any], part: str, file: Path) -> Part:
    try:
        return kind.model_validate(data)
    except (ValidationError, RecursionError, OverflowError) as error:
        if not isinstance(error, ValidationError):
            raise CheckpointError(f"{part}: {file}: {error}") from error
        first = error.errors()[0]
        where = ".".join(str(key) for key in first["loc"])
        raise CheckpointError(
            f"{part}: {file}: {where + ': ' if where else ''}{first['msg']}, found {str(first['input'])[:80]!r}"
        ) from error


def read_config(path: str | Path) -> ModelConfig:
    """Reads and checks all configurations below a checkpoint directory.

    Raises:
        CheckpointError: naming the part and the file.
    """
    root_dir = checkpoint_root(path)
    root_file = root_dir / "config.json"
    raw = read_json(root_file, "checkpoint")
    root = _parse(RootConfig, raw, "checkpoint", root_file)
    enable_depth = root.depth_projector_cfg is not None if root.enable_depth is None else root.enable_depth
    own_tower = root.depth_tower_cfg is not None if root.use_depth_tower is None else root.use_depth_tower

    def part(name: str, kind: type[Part], file_name: str = "config.json") -> Part:
        file = root_dir / name / file_name
        return _parse(kind, read_json(file, name), name, file)

    def required(name: str, config: dict[str, Any] | None) -> None:
        if config is None:
            raise CheckpointError(f"{name}: {root_file} enables it but {name}_cfg is null")

    if enable_depth:
        required("depth_projector", root.depth_projector_cfg)
        if own_tower:
            required("depth_tower", root.depth_tower_cfg)
    depth_tower = part("depth_tower", TowerConfig) if enable_depth and own_tower else None
    image_processor = part("vision_tower", ProcessorConfig, "preprocessor_config.json")
    config = ModelConfig(
        root=root,
        llm=part("llm", LanguageConfig),
        vision_tower=part("vision_tower", TowerConfig),
        mm_projector=part("mm_projector", ProjectorConfig),
        depth_tower=depth_tower,
        depth_projector=part("depth_projector", ProjectorConfig) if enable_depth else None,
        image_processor=image_processor,
        depth_processor=(
            part("depth_tower", ProcessorConfig, "preprocessor_config.json") if depth_tower else image_processor
        ),
    )
    _check_parts_fit(config, root_dir)
    return config


def _check_parts_fit(config: ModelConfig, root_dir: Path) -> None:
    for name in ("vision_tower", "depth_tower"):
        tower = getattr(config, name)
        if tower is None:
            continue
        file = root_dir / name / "config.json"
        kind: Literal["image", "depth"] = "image" if name == "vision_tower" else "depth"
        if config.tile_side(kind) != tower.image_size:
            raise CheckpointError(
                f"{name}: {file}: image_size {tower.image_size} differs from the {config.tile_side(kind)} pixels "
                f"that preprocessing makes"
            )
        if tower.hidden_size != config.vision_tower.hidden_size:
            raise CheckpointError(
                f"{name}: {file}: hidden_size {tower.hidden_size} differs from the vision tower's "
                f"{config.vision_tower.hidden_size}"
            )
        if not -tower.num_hidden_layers - 1 <= config.root.mm_vision_select_layer <= tower.num_hidden_layers:
            raise CheckpointError(
                f"{name}: {file}: mm_vision_select_layer {config.root.mm_vision_select_layer} does not exist in "
                f"{tower.num_hidden_layers} layers"
            )
    if config.root.mm_vision_select_feature == "patch" and "downsample" in config.mm_projector.mm_projector_type:
        raise CheckpointError(
            f"mm_projector: {root_dir / 'config.json'}: mm_vision_select_feature patch leaves no square grid for "
            f"{config.mm_projector.mm_projector_type}"
        )
    if config.root.mm_hidden_size not in (None, config.channels):
        raise CheckpointError(
            f"vision_tower: {root_dir / 'vision_tower' / 'config.json'}: {config.channels} channels of all scales "
            f"differ from mm_hidden_size {config.root.mm_hidden_size} in the root config.json"
        )
    for name in ("mm_projector", "depth_projector"):
        projector = getattr(config, name)
        if projector and projector.mm_projector_type == "identity" and config.channels != config.llm.hidden_size:
            raise CheckpointError(
                f"{name}: {root_dir / name / 'config.json'}: identity needs {config.channels} channels to be the "
                f"hidden_size {config.llm.hidden_size} of the llm"
            )
    if config.root.hidden_size not in (None, config.llm.hidden_size):
        raise CheckpointError(
            f"llm: {root_dir / 'llm' / 'config.json'}: hidden_size {config.llm.hidden_size} differs from "
            f"{config.root.hidden_size} in the root config.json"
        )
