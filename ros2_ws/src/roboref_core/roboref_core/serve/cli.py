"""``roboref serve``: answers over HTTP."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import tyro
import uvicorn

from roboref_core.models.options import ModelOptions
from roboref_core.models.registry import options_of, parse_options, vlm_backend
from roboref_core.models.vision_language_model import VisionLanguageModel
from roboref_core.serve.app import Limits, create_app
from roboref_core.serve.protocol import http_protocol

_log = logging.getLogger("roboref.serve")
# Names under which backends limit their answers.
_LENGTH_OPTIONS = ("max_new_tokens", "max_tokens")


@dataclass(frozen=True)
class Serve:
    """Serve a vision-language model over HTTP.

    POST /query is RoboRefer's published API, POST /v1/refer the typed one (points, p_visible, covariance); GET /docs
    describes both, GET /healthz and GET /metrics watch the server. SIGTERM stops it after what it has accepted.

      roboref serve --path checkpoints/RoboRefer-2B-SFT
      roboref serve --backend nano
    """

    model: tyro.conf.OmitArgPrefixes[ModelOptions] = field(default_factory=lambda: ModelOptions("roborefer"))
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

    def __call__(self) -> None:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        vlm, text_vlm = self._load()
        estimate_depth = self._depth_estimator(vlm.uses_depth)
        if not _is_loopback(self.host):
            _log.warning("bound to %s without authentication: everybody who reaches it can ask", self.host)
        uvicorn.run(
            create_app(vlm, self.limits, self.max_batch, estimate_depth, text_vlm),
            host=self.host,
            port=self.port,
            http=http_protocol(self.limits.header_timeout),
            timeout_graceful_shutdown=self.graceful_timeout,
            access_log=False,
        )

    def _load(self) -> tuple[VisionLanguageModel, VisionLanguageModel]:
        """The model of the typed API and that of the published one, whose askers expect free text."""
        try:
            known = options_of(vlm_backend(self.model.backend, parse_options(self.model.options)))
        except ImportError:
            known = {}  # loading says what to install
        free = "decoding" in known
        names = () if free else [name for name in _LENGTH_OPTIONS if name in known]
        vlm = self.model.load_vlm(**dict.fromkeys(names, self.max_new_tokens))
        if not free:
            return vlm, vlm
        from roboref_core.models.roborefer.backend import RoboReferBackend

        assert isinstance(vlm, RoboReferBackend)
        return vlm, vlm.free_text(self.max_new_tokens)

    def _depth_estimator(self, uses_depth: bool) -> Callable[[np.ndarray], np.ndarray] | None:
        if not self.depth_estimator:
            if uses_depth:
                _log.warning(
                    "no depth estimator: questions that want depth and bring none are answered from colour alone"
                )
            return None
        from roboref_core.models.depth_anything import DepthAnything

        return DepthAnything(self.depth_estimator, self.model.device).picture


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
