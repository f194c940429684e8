"""``roboref serve``: answers over HTTP."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import tyro
import uvicorn

from roboref_core.models.registry import load_vlm
from roboref_core.models.vision_language_model import VisionLanguageModel
from roboref_core.serve.app import Limits, create_app

_log = logging.getLogger("roboref.serve")


@dataclass(frozen=True)
class ServeConfig:
    """Serve a vision-language model over HTTP.

    POST /query is RoboRefer's published API, POST /v1/refer the typed one (points, p_visible, covariance); GET /docs
    describes both, GET /healthz and GET /metrics watch the server. SIGTERM stops it after what it has accepted.

        roboref serve --path checkpoints/RoboRefer-2B-SFT
    """

    path: str = ""
    """Checkpoint folder."""
    backend: Literal["roborefer", "llava_onevision", "hugging_face", "openai", "roborefer_http", "roboref_http"] = (
        "roborefer"
    )
    """Kind of model."""
    url: str = ""
    """Server behind this one, for the backends that need one."""
    convention: Literal["normalised", "thousand", "pixels"] | None = None
    """Coordinates that the model writes; hugging_face and openai must be told."""
    model: str = ""
    """Name of the model at its server; openai only."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """Number format of the weights."""
    depth_estimator: str = ""
    """Folder of a Depth-Anything checkpoint, for questions that want depth and bring none."""
    host: str = "127.0.0.1"
    """Address to bind. There is no authentication: bind others only behind something that has it."""
    port: int = 25547
    """Port to bind."""
    max_new_tokens: int = 512
    """Longest answer of free text."""
    max_batch: int = 8
    """Most questions answered in one call of the model."""
    graceful_timeout: int = 60
    """After SIGTERM: longest wait for what was accepted [s]."""
    limits: Limits = field(default_factory=Limits)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the server until it is told to stop."""
    config = tyro.cli(ServeConfig, args=argv, prog="roboref serve")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        vlm, text_vlm = _load(config)
        estimate_depth = _depth_estimator(config, vlm.uses_depth)
    except (ValueError, ImportError, OSError) as error:
        _log.error("%s", error)
        return 1
    if not _is_loopback(config.host):
        _log.warning("bound to %s without authentication: everybody who reaches it can ask", config.host)
    uvicorn.run(
        create_app(vlm, config.limits, config.max_batch, estimate_depth, text_vlm),
        host=config.host,
        port=config.port,
        timeout_graceful_shutdown=config.graceful_timeout,
        access_log=False,
    )
    return 0


def _load(config: ServeConfig) -> tuple[VisionLanguageModel, VisionLanguageModel]:
    """The model of the typed API and that of the published one, whose askers expect free text."""
    options = {"convention": config.convention, "model": config.model}
    if config.backend in ("llava_onevision", "hugging_face"):
        options["max_new_tokens"] = config.max_new_tokens
    elif config.backend == "openai":
        options["max_tokens"] = config.max_new_tokens
    options = {name: value for name, value in options.items() if value}
    vlm = load_vlm(config.backend, config.path, config.url, config.device, config.dtype, **options)
    if config.backend != "roborefer":
        return vlm, vlm
    from roboref_core.models.roborefer import RoboReferBackend

    return vlm, RoboReferBackend(vlm.model, vlm.name, decoding="free", max_new_tokens=config.max_new_tokens)


def _depth_estimator(config: ServeConfig, uses_depth: bool):
    if not config.depth_estimator:
        if uses_depth:
            _log.warning("no depth estimator: questions that want depth and bring none are answered from colour alone")
        return None
    from roboref_core.models.depth_anything import DepthAnything

    return DepthAnything(config.depth_estimator, config.device).picture


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
