"""What the configuration files of a checkpoint may hold, by the reference's names; other keys are ignored."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

CHAT_TEMPLATES = ("qwen2",)
AspectRatio = Literal["resize", "pad", "dynamic", "dynamic_s2"]
ASPECT_RATIOS: tuple[str, ...] = get_args(AspectRatio)

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


class PartConfig(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False, protected_namespaces=())


class EncoderConfig(PartConfig):
    """Text embedded before and after each picture's features."""

    start_tokens: str | None = None
    end_tokens: str | None = "\n"


class LanguageConfig(PartConfig):
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


class TowerConfig(PartConfig):
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


class ProcessorConfig(PartConfig):
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


class ProjectorConfig(PartConfig):
    """mm_projector/config.json or depth_projector/config.json."""

    mm_projector_type: ProjectorType


class RootConfig(PartConfig):
    """The root config.json."""

    model_type: Literal["llava_llama"]
    llm_cfg: dict[str, Any]
    vision_tower_cfg: dict[str, Any]
    mm_projector_cfg: dict[str, Any]
    depth_tower_cfg: dict[str, Any] | None = None
    depth_projector_cfg: dict[str, Any] | None = None
    enable_depth: bool | None = None
    use_depth_tower: bool | None = None
    image_aspect_ratio: AspectRatio | None = "resize"
    min_tiles: Annotated[int, Field(ge=1, le=144)] = 1
    max_tiles: Annotated[int, Field(ge=1, le=144)] = 12
    dynamic_s2: bool | None = False
    s2: bool | None = False
    s2_scales: Annotated[tuple[Size, ...], BeforeValidator(_scales)] = (336, 672, 1008)
    s2_resize_output_to_scale_idx: int = 0
    mm_vision_select_layer: int = -2
    mm_vision_select_feature: Literal["cls_patch", "patch"] = "cls_patch"
    mm_hidden_size: Size | None = None
    hidden_size: Size | None = None
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
