"""What goes over the wire: RoboRefer's published API (Query), which ignores unknown fields, and the typed one."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class QueryRequest(BaseModel):
    """``POST /query``: files as base64 without a data-URI prefix."""

    image_url: list[str] = []
    depth_url: list[str] = []
    enable_depth: int = Field(default=0, description="1: use depth; depth_url, or what the server estimates")
    text: str = ""


class QueryReply(BaseModel):
    result: int = 1
    answer: str


class ReferRequest(BaseModel):
    """``POST /v1/refer``: one prompt, as ``models.vision_language_model.Prompt``. Unknown fields are errors."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(description="the whole prompt, without media placeholders")
    images: list[str] = Field(min_length=1, description="image files as base64; the answered one is last")
    depths: list[str] = Field(default=[], description="8-bit depth pictures, near = bright: one per image, or none")


class ReferReply(BaseModel):
    """As ``models.vision_language_model.Generation``: coordinates are in [0, 1] of the last image."""

    model: str
    answer: str = Field(description="the model's text")
    visible: bool | None = Field(description="true: points; false: NOT_VISIBLE; null: the text was not parsable")
    reason: str = Field(default="", description="why the text was not parsable")
    points: list[tuple[float, float]] = Field(description="(x, y), best first")
    point_covariance: list[list[list[float]]] | None = Field(description="2x2 for each point, normalised units squared")
    scores: list[float] | None
    p_visible: float | None
    p_visible_calibrated: bool
    timings: dict[str, float] = Field(description="[s]: decode, queue, generate and what the model adds")


class HealthReply(BaseModel):
    status: str
    model: str
    uses_depth: bool


class ErrorReply(BaseModel):
    detail: str
    code: int = Field(default=0, description="an ErrorCode of roboref_core.errors, where there is one")
