"""config.json of a RoboRefer checkpoint and of its parts, validated before anything heavy is read.

Layout: ``llm/``, ``vision_tower/``, ``mm_projector/`` and, with depth, ``depth_projector/`` and
``depth_tower/``, each a Hugging Face save of its own, below a root config.json of model_type
"llava_llama". Unknown keys are ignored, and so are all paths: they are the author's.
"""
from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from roboref_core.models.roborefer.errors import CheckpointError

MAX_CONFIG_BYTES = 64 * 2**20
CHAT_TEMPLATES = ("qwen2",)

ProjectorType = Annotated[
    str,
    Field(pattern=r"^(linear|identity|mlp[1-9]x_gelu|mlp_downsample(_2x2_fix|_3x3_fix|_3x3_s2|_3x3_s2_new)?)$"),
]
Size = Annotated[int, Field(ge=1, le=2**20)]
Layers = Annotated[int, Field(ge=1, le=1024)]
Epsilon = Annotated[float, Field(gt=0, lt=1)]
Triple = Annotated[tuple[float, ...], Field(min_length=3, max_length=3)]


def _none_to_default(value: Any) -> Any:
    return {} if value is None else value


def _scales(value: Any) -> Any:
    return value.split(",") if isinstance(value, str) else value


def _encoder(value: Any) -> Any:
    """The reference accepts a dict, its JSON, or only the class name."""
    if isinstance(value, str):
        return json.loads(value) if value.lstrip().startswith("{") else {}
    return _none_to_default(value)


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False, protected_namespaces=())


class EncoderConfig(_Part):
    """Text embedded before and after each picture's features."""

    start_tokens: str | None = None
    end_tokens: str | None = "\n"


class LanguageConfig(_Part):
    """llm/config.json: a Qwen2."""

    model_type: Literal["qwen2"]
    vocab_size: Size
    hidden_size: Size
    intermediate_size: Size
    num_hidden_layers: Layers
    num_attention_heads: Size
    num_key_value_heads: Size
    hidden_act: Literal["silu", "gelu", "gelu_pytorch_tanh", "relu"] = "silu"
    max_position_embeddings: Annotated[int, Field(ge=1, le=2**24)] = 32768
    rms_norm_eps: Epsilon = 1e-6
    rope_theta: Annotated[float, Field(gt=0)] = 1e4
    rope_scaling: dict[str, Any] | None = None
    tie_word_embeddings: bool = False
    use_sliding_window: Literal[False] = False
    model_max_length: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _rope_of_transformers_5(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("rope_parameters"), dict) and "rope_theta" not in data:
            rope = dict(data["rope_parameters"])
            theta = rope.pop("rope_theta", 1e4)
            return {**data, "rope_theta": theta, "rope_scaling": rope if rope.get("rope_type") != "default" else None}
        return data

    @model_validator(mode="after")
    def _heads_fit(self) -> LanguageConfig:
        if self.hidden_size % (2 * self.num_attention_heads):
            raise ValueError(
                f"hidden_size {self.hidden_size} must be an even multiple of num_attention_heads "
                f"{self.num_attention_heads}"
            )
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} must be a multiple of num_key_value_heads "
                f"{self.num_key_value_heads}"
            )
        return self


class TowerConfig(_Part):
    """vision_tower/config.json or depth_tower/config.json: a SigLIP vision transformer."""

    model_type: Literal["siglip_vision_model"]
    hidden_size: Size
    intermediate_size: Size
    num_hidden_layers: Layers
    num_attention_heads: Size
    num_channels: Literal[3] = 3
    image_size: Annotated[int, Field(ge=1, le=8192)]
    patch_size: Annotated[int, Field(ge=1, le=8192)]
    hidden_act: Literal["gelu_pytorch_tanh", "gelu", "relu", "silu"] = "gelu_pytorch_tanh"
    layer_norm_eps: Epsilon = 1e-6
    vision_use_head: bool = True

    @model_validator(mode="after")
    def _fits(self) -> TowerConfig:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} must be a multiple of num_attention_heads {self.num_attention_heads}"
            )
        if self.image_size < self.patch_size:
            raise ValueError(f"image_size {self.image_size} is smaller than patch_size {self.patch_size}")
        return self

    @property
    def grid(self) -> int:
        """Patches along one side of a tile."""
        return self.image_size // self.patch_size


class ProcessorConfig(_Part):
    """preprocessor_config.json of a tower: resize, rescale, normalise."""

    size: dict[str, int]
    resample: Literal[0, 1, 2, 3, 4, 5] = 3
    rescale_factor: float = 1 / 255
    image_mean: Triple = (0.5, 0.5, 0.5)
    image_std: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=3, max_length=3)] = (0.5, 0.5, 0.5)

    @model_validator(mode="after")
    def _square(self) -> ProcessorConfig:
        if set(self.size) != {"height", "width"} or self.size["height"] != self.size["width"]:
            raise ValueError(f"size must be a square {{height, width}}, found {self.size}")
        if not 1 <= self.size["height"] <= 8192:
            raise ValueError(f"size must lie in 1..8192, found {self.size}")
        return self

    @property
    def side(self) -> int:
        return self.size["height"]


class ProjectorConfig(_Part):
    """mm_projector/config.json or depth_projector/config.json."""

    mm_projector_type: ProjectorType


class RootConfig(_Part):
    """The root config.json; names and defaults are the reference's."""

    model_type: Literal["llava_llama"]
    llm_cfg: dict[str, Any]
    vision_tower_cfg: dict[str, Any]
    mm_projector_cfg: dict[str, Any]
    depth_tower_cfg: dict[str, Any] | None = None
    depth_projector_cfg: dict[str, Any] | None = None
    enable_depth: bool | None = None
    use_depth_tower: bool | None = None
    image_aspect_ratio: str | None = "resize"
    min_tiles: Annotated[int, Field(ge=1, le=144)] = 1
    max_tiles: Annotated[int, Field(ge=1, le=144)] = 12
    dynamic_s2: bool | None = False
    s2: bool | None = False
    s2_scales: Annotated[tuple[Size, ...], BeforeValidator(_scales)] = (336, 672, 1008)
    s2_resize_output_to_scale_idx: int = 0
    mm_vision_select_layer: int = -2
    mm_vision_select_feature: Literal["cls_patch", "patch"] = "cls_patch"
    mm_hidden_size: Size
    hidden_size: Size
    image_encoder: Annotated[EncoderConfig, BeforeValidator(_encoder)] = EncoderConfig()
    depth_encoder: Annotated[EncoderConfig, BeforeValidator(_encoder)] = EncoderConfig()
    chat_template: str | None = None
    model_dtype: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> RootConfig:
        if self.min_tiles > self.max_tiles:
            raise ValueError(f"min_tiles {self.min_tiles} > max_tiles {self.max_tiles}")
        if self.s2 and not self.dynamic_s2:
            raise ValueError("s2 without dynamic_s2 (static S2) is not supported")
        if self.dynamic_s2:
            scales = self.s2_scales
            if not scales or any(scale % scales[0] for scale in scales) or list(scales) != sorted(scales):
                raise ValueError(f"s2_scales must rise and be multiples of the first, found {scales}")
            if not -1 <= self.s2_resize_output_to_scale_idx < len(scales):
                raise ValueError(
                    f"s2_resize_output_to_scale_idx {self.s2_resize_output_to_scale_idx} is no index of {scales}"
                )
            # The finest scale is cut into min..max tiles; the product must leave a candidate.
            if (scales[-1] // scales[0]) ** 2 > self.max_tiles:
                raise ValueError(f"s2_scales {scales} need more than max_tiles {self.max_tiles} tiles")
        elif self.image_aspect_ratio == "dynamic_s2":
            raise ValueError("image_aspect_ratio dynamic_s2 needs dynamic_s2 true")
        if self.chat_template not in (None, *CHAT_TEMPLATES):
            raise ValueError(f"unknown chat_template {self.chat_template!r}, expected null or one of {CHAT_TEMPLATES}")
        return self


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

    def tile_side(self, kind: Literal["image", "depth"]) -> int:
        """Pixels along one side of a tile. Dynamic S2 sets it to its first scale."""
        if self.root.dynamic_s2:
            return self.root.s2_scales[0]
        return self.processor(kind).side

    def processor(self, kind: Literal["image", "depth"]) -> ProcessorConfig:
        return self.image_processor if kind == "image" else self.depth_processor

    def tower(self, kind: Literal["image", "depth"]) -> TowerConfig:
        return self.depth_tower if kind == "depth" and self.depth_tower else self.vision_tower


Config = TypeVar("Config", bound=_Part)


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


def _parse(kind: type[Config], data: dict[str, Any], part: str, file: Path) -> Config:
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

    def part(name: str, kind: type[Config], file_name: str = "config.json") -> Config:
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
    scales = len(config.root.s2_scales) if config.root.dynamic_s2 else 1
    for name in ("vision_tower", "depth_tower"):
        tower = getattr(config, name)
        if tower is None:
            continue
        file = root_dir / name / "config.json"
        kind = "image" if name == "vision_tower" else "depth"
        if config.tile_side(kind) != tower.image_size:
            raise CheckpointError(
                f"{name}: {file}: image_size {tower.image_size} differs from the {config.tile_side(kind)} pixels "
                f"that preprocessing makes"
            )
        if config.root.mm_hidden_size != tower.hidden_size * scales:
            raise CheckpointError(
                f"{name}: {file}: hidden_size {tower.hidden_size} x {scales} scale(s) must be mm_hidden_size "
                f"{config.root.mm_hidden_size} of the root config.json"
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
    if config.root.hidden_size != config.llm.hidden_size:
        raise CheckpointError(
            f"llm: {root_dir / 'llm' / 'config.json'}: hidden_size {config.llm.hidden_size} differs from "
            f"{config.root.hidden_size} in the root config.json"
        )
