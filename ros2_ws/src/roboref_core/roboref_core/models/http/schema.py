"""What goes over the wire: RoboRefer's published API (Query) and the typed one (Refer). Unknown fields are ignored."""

from __future__ import annotations

from pydantic import BaseModel, Field


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
    """``POST /v1/refer``: one prompt, as ``models.base.Prompt``."""

    text: str = Field(description="the whole prompt, without media placeholders")
    images: list[str] = Field(default=[], description="image files as base64; the answered one is last")
    depths: list[str] = Field(default=[], description="8-bit depth pictures, near = bright: one per image, or none")


class ReferReply(BaseModel):
    """As ``models.base.Generation``: coordinates are in [0, 1] of the last image."""

    model: str
    answer: str = Field(description="the model's text")
    visible: bool | None = Field(description="true: points; false: NOT_VISIBLE; null: the text was not parsable")
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
    code: int = Field(default=0, description="an ErrorCode of roboref_core.referring.answer, where there is one")
