"""DeepSpeed's sharded optimizer state for another number of ranks, by its universal checkpoints (arXiv:2406.18820)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

# DeepSpeed's names.
_LATEST, _LATEST_UNIVERSAL = "latest", "latest_universal"
_MOST_WORKERS = 8


def to_universal(checkpoint: Path) -> None:
    """Writes the whole state, tensor by tensor, beside the sharded one, where DeepSpeed finds it.

    It takes 12 bytes per learned parameter on the disk, until ``drop_universal``.

    Raises ValueError with what DeepSpeed's converter says.
    """
    drop_universal(checkpoint)
    workers = str(min(_MOST_WORKERS, len(os.sched_getaffinity(0))))
    sharded = checkpoint / (checkpoint / _LATEST).read_text().strip()
    command = [
        sys.executable,
        "-m",
        "deepspeed.checkpoint.ds_to_universal",
        "--input_folder",
        str(sharded),
        "--output_folder",
        str(_universal(checkpoint)),
        "--inject_missing_state",
        "--num_extract_workers",
        workers,
        "--num_merge_workers",
        workers,
    ]
    # It is not a rank of the run.
    environment = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"{sharded}: cannot be cut for another number of ranks: {done.stderr[-2000:]}")


def drop_universal(checkpoint: Path) -> None:
    (checkpoint / _LATEST_UNIVERSAL).unlink(missing_ok=True)
    shutil.rmtree(_universal(checkpoint), ignore_errors=True)


def _universal(checkpoint: Path) -> Path:
    return checkpoint / f"{(checkpoint / _LATEST).read_text().strip()}_universal"
