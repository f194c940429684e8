"""Depth pictures from colour alone, by Depth-Anything-V2 (arXiv 2406.09414) through transformers.

Preprocessing as in the published RoboRefer server: both sides at least 518 pixels and a multiple of 14, cubic,
ImageNet mean and deviation; the output is brought back to the image's size bilinearly.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from transformers import AutoConfig, DepthAnythingForDepthEstimation

from roboref_core.models.device import resolve_device
from roboref_core.views.depth_picture import relative_to_picture

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class DepthAnything:
    """A relative depth estimator.

    Args:
        path: folder of a Hugging Face Depth-Anything checkpoint (safetensors), of the relative kind.
        device: torch device, or "auto".
        size: shorter side of the network's input [pixel].
    """

    def __init__(self, path: str | Path, device: str = "auto", size: int = 518):
        if not Path(path, "config.json").is_file():
            raise ValueError(f"{path}: expected a folder with config.json of a Depth-Anything checkpoint")
        config = AutoConfig.from_pretrained(path, local_files_only=True)
        if config.model_type != "depth_anything" or config.depth_estimation_type != "relative":
            raise ValueError(
                f"{path}: expected model_type depth_anything for relative depth, found {config.model_type} for "
                f"{getattr(config, 'depth_estimation_type', 'no')} depth"
            )
        self._device = resolve_device(device)
        # transformers' types refuse a device by position.
        estimator: Any = DepthAnythingForDepthEstimation
        self._model = estimator.from_pretrained(path, local_files_only=True, use_safetensors=True)
        self._model.to(self._device).eval()
        self._patch, self._size = config.patch_size, size

    def picture(self, image: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 RGB -> (H, W, 3) uint8 depth picture, near = bright."""
        return relative_to_picture(self.relative(image))

    @torch.inference_mode()
    def relative(self, image: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 RGB -> (H, W) float32 relative depth, larger = nearer."""
        pixels = torch.from_numpy(network_input(image, self._size, self._patch))[None].to(self._device)
        depth = self._model(pixel_values=pixels).predicted_depth[:, None]
        depth = torch.nn.functional.interpolate(depth, image.shape[:2], mode="bilinear", align_corners=True)
        return depth[0, 0].float().cpu().numpy()


def network_size(width: int, height: int, size: int = 518, multiple: int = 14) -> tuple[int, int]:
    """(width, height) of the network's input: the shorter side ``size``, the aspect kept, both multiples."""
    scale = max(size / width, size / height)

    def rounded(side: float) -> int:
        nearest = round(side / multiple) * multiple
        return int(nearest if nearest >= size else np.ceil(side / multiple) * multiple)

    return rounded(scale * width), rounded(scale * height)


def network_input(image: np.ndarray, size: int = 518, multiple: int = 14) -> np.ndarray:
    """(H, W, 3) uint8 RGB -> (3, h, w) float32."""
    height, width = image.shape[:2]
    resized = cv2.resize(image / 255.0, network_size(width, height, size, multiple), interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(((resized - _MEAN) / _DEVIATION).transpose(2, 0, 1), dtype=np.float32)
