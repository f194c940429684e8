"""Where the frames of a `.sens` file lie: found once, kept in a sidecar."""

from __future__ import annotations

import hashlib
import os
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from roboref_core.atomic import replacing

# The fixed part of a frame, before its colour and depth blobs.
FRAME = np.dtype(
    [
        ("camera_to_world", "<f4", (4, 4)),
        ("color_stamp", "<u8"),
        ("depth_stamp", "<u8"),
        ("color_bytes", "<u8"),
        ("depth_bytes", "<u8"),
    ]
)
_HASHED_BYTES = 1 << 16


@dataclass(frozen=True)
class SensIndex:
    """The fixed parts of all whole frames of a file.

    Attributes:
        frames: (N,) FRAME records. N is less than the header's count if the file is truncated.
        offsets: (N,) int64 file offset of each record [byte].
        file_size: size of the file [byte].
    """

    frames: np.ndarray
    offsets: np.ndarray
    file_size: int

    @classmethod
    def load_or_build(cls, path: Path, fd: int, first_frame: int, num_frames: int) -> SensIndex:
        """The index of the open file ``fd``: from its sidecar if that fits, else by walking the frames once.

        The sidecar lies beside the file, or in the user's cache folder if the file's folder is read-only. It is
        bound to the file's size, modification time and first 64 KiB. A disk that takes neither costs a walk at each
        opening, nothing else.
        """
        status = os.fstat(fd)
        head = hashlib.sha256(os.pread(fd, _HASHED_BYTES, 0)).hexdigest()
        key = f"{FRAME.descr} {status.st_size} {status.st_mtime_ns} {head}"
        sidecars = _sidecar_paths(path)
        for sidecar in sidecars:
            index = cls._load(sidecar, key, status.st_size)
            if index is not None:
                return index
        index = cls._build(fd, first_frame, num_frames, status.st_size)
        for sidecar in sidecars:
            with suppress(OSError):
                index._save(sidecar, key)
                break
        return index

    @classmethod
    def _build(cls, fd: int, first_frame: int, num_frames: int, file_size: int) -> SensIndex:
        records, offsets = [], []
        offset = first_frame
        for _ in range(num_frames):
            record = os.pread(fd, FRAME.itemsize, offset)
            if len(record) < FRAME.itemsize:
                break
            end = (
                offset
                + FRAME.itemsize
                + int.from_bytes(record[80:88], "little")
                + int.from_bytes(record[88:96], "little")
            )
            if end > file_size:
                break
            records.append(record)
            offsets.append(offset)
            offset = end
        return cls(np.frombuffer(b"".join(records), FRAME), np.array(offsets, dtype=np.int64), file_size)

    @classmethod
    def _load(cls, sidecar: Path, key: str, file_size: int) -> SensIndex | None:
        try:
            with np.load(sidecar, allow_pickle=False) as file:
                if str(file["key"]) != key:
                    return None
                return cls(file["frames"].view(FRAME), file["offsets"], file_size)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None  # absent, or not ours: it is only a cache

    def _save(self, sidecar: Path, key: str) -> None:
        with replacing(sidecar) as file:
            np.savez(file, key=key, frames=self.frames.view(np.uint8), offsets=self.offsets)


def _sidecar_paths(path: Path) -> tuple[Path, Path]:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "roboref" / "sens"
    name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()
    return path.with_name(f"{path.name}.index.npz"), cache / f"{name}.npz"
