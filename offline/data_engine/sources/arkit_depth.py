"""The iPhone's depth maps, read by frame: ScanNet++'s `depth.bin`, in one of two encodings, or pictures of them.

Either one raw deflate stream of float32 metres for all frames, or per frame a little-endian u32 size and a blob, which
is an LZ4 block of uint16 millimetres or a raw deflate stream of float32 metres.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Mapping
from pathlib import Path

import lz4.block
import numpy as np
from roboref_core.scene import BadFrame

from offline.data_engine.sources.images import decode_depth
from offline.files import picture_size

HEIGHT, WIDTH = 192, 256
_U16_BYTES, _F32_BYTES = HEIGHT * WIDTH * 2, HEIGHT * WIDTH * 4
# The single stream is entered again at copies of its decompressor, kept every so many frames.
_CHECKPOINT_FRAMES = 32
_CHUNK = 1 << 16


class ArkitDepth:
    """Depth maps of one recording in a `depth.bin`. Reading is safe from several threads."""

    size = (WIDTH, HEIGHT)

    def __init__(self, path: Path):
        self._path = path
        self._file = open(path, "rb", buffering=0)
        self._blobs = self._walk()
        self._lock = threading.Lock()
        # Position k of this list: state before frame k * _CHECKPOINT_FRAMES.
        self._checkpoints = [_Inflater(self._file.fileno(), zlib.decompressobj(-zlib.MAX_WBITS), 0)]
        self._cursor: tuple[int, _Inflater] | None = None

    def metres(self, frame: int, where: str) -> np.ndarray:
        """(192, 256) float32 [m], 0 = no measurement. Raises BadFrame naming ``where``."""
        try:
            raw = self._from_blob(frame) if self._blobs is not None else self._from_stream(frame)
        except (zlib.error, ValueError) as error:
            raise BadFrame(f"{self._path} ({where}): corrupt depth: {error}") from error
        if len(raw) == _U16_BYTES:
            return (np.frombuffer(raw, "<u2").reshape(HEIGHT, WIDTH) * np.float32(0.001)).astype(np.float32)
        if len(raw) == _F32_BYTES:
            metres = np.frombuffer(raw, "<f4").reshape(HEIGHT, WIDTH)
            return np.where(np.isfinite(metres) & (metres > 0), metres, np.float32(0))
        raise BadFrame(f"{self._path} ({where}): depth of {len(raw)} bytes, expected {_U16_BYTES} or {_F32_BYTES}")

    def _walk(self) -> list[tuple[int, int]] | None:
        """Offset and size of each blob, or None if the file is not a sequence of sized blobs."""
        fd, end = self._file.fileno(), os.fstat(self._file.fileno()).st_size
        blobs, offset = [], 0
        while offset < end:
            size = int.from_bytes(os.pread(fd, 4, offset), "little")
            offset += 4
            # A depth map never deflates to nothing, and hardly grows.
            if not 0 < size <= 2 * _F32_BYTES or offset + size > end:
                return None
            blobs.append((offset, size))
            offset += size
        return blobs or None

    def _from_blob(self, frame: int) -> bytes:
        assert self._blobs is not None
        if not 0 <= frame < len(self._blobs):
            raise ValueError(f"the file has {len(self._blobs)} depth maps")
        offset, size = self._blobs[frame]
        blob = os.pread(self._file.fileno(), size, offset)
        try:
            raw = lz4.block.decompress(blob, uncompressed_size=_U16_BYTES)
        except lz4.block.LZ4BlockError:
            raw = b""
        if len(raw) == _U16_BYTES:
            return raw
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(blob, _F32_BYTES + 1)

    def _from_stream(self, frame: int) -> bytes:
        with self._lock:
            at, inflater = self._cursor or (0, self._checkpoints[0].copy())
            nearest = min(frame // _CHECKPOINT_FRAMES, len(self._checkpoints) - 1)
            if not nearest * _CHECKPOINT_FRAMES <= at <= frame:
                at, inflater = nearest * _CHECKPOINT_FRAMES, self._checkpoints[nearest].copy()
            self._cursor = None
            while True:
                raw = inflater.read(_F32_BYTES)
                if len(raw) < _F32_BYTES:
                    raise ValueError(f"the stream ends in depth map {at}")
                at += 1
                if at == len(self._checkpoints) * _CHECKPOINT_FRAMES:
                    self._checkpoints.append(inflater.copy())
                if at > frame:
                    self._cursor = at, inflater
                    return raw


class DepthPictures:
    """Depth maps of one recording as pictures: 16-bit, in millimetres.

    Args:
        files: frame number -> file, not empty.
    """

    def __init__(self, files: Mapping[int, Path]):
        self._files = files
        first = files[min(files)]
        self.size = picture_size(first)

    def metres(self, frame: int, where: str) -> np.ndarray:
        """(h, w) float32 [m], 0 = no measurement. Raises BadFrame naming ``where``."""
        path = self._files.get(frame)
        if path is None:
            raise BadFrame(f"{where}: no depth picture of this frame")
        try:
            counts = decode_depth(path.read_bytes(), f"{path} ({where})")
        except OSError as error:
            raise BadFrame(f"{path} ({where}): {error}") from error
        if counts.shape[::-1] != self.size:
            found = f"{counts.shape[1]}x{counts.shape[0]}"
            raise BadFrame(f"{path} ({where}): {found}, expected {self.size[0]}x{self.size[1]} as the first")
        return (counts * np.float32(0.001)).astype(np.float32)


class _Inflater:
    """A raw deflate stream in a file, at some place."""

    def __init__(self, fd: int, stream, offset: int):
        self._fd, self._stream, self._offset = fd, stream, offset

    def copy(self) -> _Inflater:
        return _Inflater(self._fd, self._stream.copy(), self._offset)

    def read(self, size: int) -> bytes:
        """The next ``size`` bytes, fewer at the end."""
        out = []
        while size:
            data = self._stream.unconsumed_tail
            if not data:
                data = os.pread(self._fd, _CHUNK, self._offset)
                self._offset += len(data)
            part = self._stream.decompress(data, size)
            if not part and (self._stream.eof or not data):
                break
            out.append(part)
            size -= len(part)
        return b"".join(out)
