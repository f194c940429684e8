"""roboref-nano: the checkpoint that comes with RoboRef, in RoboRefer's layout. Its card: README.md."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from roboref_core.models.roborefer.backend import RoboReferBackend

CHECKPOINT = Path(__file__).parent / "model"


def load(path: str = "", device: str = "auto", dtype: str = "auto", **options: Any) -> RoboReferBackend:
    """The bundled model, or another checkpoint of its kind at ``path``; options are those of RoboReferBackend.

    Depth pictures do not help it (see its card), so it asks for none unless it is told to.
    """
    from roboref_core.models.roborefer.backend import load as load_checkpoint

    return load_checkpoint(path or CHECKPOINT, device, dtype, **{"use_depth": False, **options})
