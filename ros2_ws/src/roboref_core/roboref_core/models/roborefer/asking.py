"""How a fine-tuned checkpoint is asked: what its training showed it travels beside its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from roboref_core.atomic import write_json
from roboref_core.models.roborefer.checkpoint.config import checkpoint_root, read_json
from roboref_core.models.roborefer.errors import CheckpointError

FILE_NAME = "asking.json"


class Asking(BaseModel):
    """What a checkpoint was trained on.

    Attributes:
        depth: whether it saw depth pictures; a model that never did is asked without them.
        plan: the plan of its training, for the record.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    depth: bool = True
    plan: dict[str, Any] = {}

    def save(self, folder: Path) -> None:
        """Store it beside the config.json in ``folder``."""
        write_json(folder / FILE_NAME, self.model_dump(mode="json"))


def load(path: str | Path) -> Asking:
    """What travels with a checkpoint; the defaults where nothing does, as with published ones.

    Raises CheckpointError naming the file if it is damaged.
    """
    file = checkpoint_root(path) / FILE_NAME
    if not file.is_file():
        return Asking()
    try:
        return Asking.model_validate(read_json(file, "asking"))
    except ValidationError as error:
        raise CheckpointError(f"asking: {file}: {error.errors()[0]['msg']}") from error
