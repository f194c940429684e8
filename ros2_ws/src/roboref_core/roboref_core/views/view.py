"""What was seen, from where: one RGB-D view. Immutable; images are held by reference and decoded on first use."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from roboref_core.geometry.camera import Camera


class ImageError(ValueError):
    """An image that cannot be decoded, or that its camera info does not fit."""


class LazyImage:
    """An image that is an array already, or will be decoded from its message once, when first read.

    The executor thread of a node wraps the message it received and returns; the consumer of the pixels
    pays for them, in its own thread, once. Thread-safe.

    Args:
        source: the array, or a function without arguments that decodes it (may raise ValueError).
        nbytes: bytes that the undecoded source holds.

    Attributes:
        source_nbytes: the same.
    """

    def __init__(self, source: np.ndarray | Callable[[], np.ndarray], nbytes: int = 0):
        self._lock = threading.Lock()
        self._decode = source if callable(source) else lambda: source
        self._array: np.ndarray | None = None
        self.source_nbytes = nbytes
        self._array_nbytes = 0
        if not callable(source):
            self.read()

    def read(self) -> np.ndarray:
        """The decoded, read-only array. Raises ImageError with the decoder's own text."""
        with self._lock:
            if self._array is None:
                try:
                    array = self._decode()
                except ValueError as error:
                    raise ImageError(str(error)) from error
                # An array that only views the source's memory (a raw message) costs nothing more.
                self._array_nbytes = array.nbytes if _owns_memory(array) else 0
                self._array = _frozen(array)
            return self._array

    @property
    def nbytes(self) -> int:
        """Bytes held now: the source's plus the decoded array's, if there is one of its own."""
        return self.source_nbytes + self._array_nbytes


def _frozen(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view


def _owns_memory(array: np.ndarray) -> bool:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array.base is None


class View:
    """One RGB-D view.

    Args:
        view_id: identifier, unique over restarts (see ViewBuffer).
        stamp_ns: capture time [ns].
        color: (H, W, 3) uint8 RGB, or a LazyImage of one.
        camera: intrinsics of the colour image.
        depth: (h, w) float32 [m] with 0 or non-finite = no measurement, a LazyImage of one, or None.
        depth_camera: intrinsics of the depth image, which is registered to the colour image but may
            differ in size; None means the colour camera's.
        T_world_camera: 4x4 pose of the optical frame in ``world_frame``; None if unknown.
        frame_id: name of the optical frame.
        world_frame: name of the fixed frame.
        pose_covariance: (6, 6) of the error of T_world_camera as a twist (translation [m], rotation [rad]) in the
            optical frame; None: the reader's own assumption about its poses holds.
        arrival: time.monotonic() at which its last image arrived [s]; None if it did not arrive live.
    """

    def __init__(
        self,
        *,
        view_id: str,
        stamp_ns: int,
        color: np.ndarray | LazyImage,
        camera: Camera,
        depth: np.ndarray | LazyImage | None = None,
        depth_camera: Camera | None = None,
        T_world_camera: np.ndarray | None = None,
        frame_id: str = "camera_color_optical_frame",
        world_frame: str = "world",
        arrival: float | None = None,
        pose_covariance: np.ndarray | None = None,
    ):
        self.view_id = view_id
        self.stamp_ns = int(stamp_ns)
        self.camera = camera
        self.depth_camera = depth_camera or camera
        self.frame_id = frame_id
        self.world_frame = world_frame
        self.arrival = arrival
        self.T_world_camera = None if T_world_camera is None else _frozen(np.array(T_world_camera, dtype=np.float64))
        self.pose_covariance = None if pose_covariance is None else _frozen(np.array(pose_covariance, dtype=np.float64))
        self._color = color if isinstance(color, LazyImage) else LazyImage(color)
        self._depth = depth if isinstance(depth, LazyImage) or depth is None else LazyImage(depth)

    def __repr__(self) -> str:
        return f"View({self.view_id!r}, stamp_ns={self.stamp_ns}, posed={self.T_world_camera is not None})"

    @property
    def color(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB, read-only. Raises ImageError if it does not decode or its camera has another size."""
        return self._checked(self._color, self.camera, "colour image")

    @property
    def has_depth(self) -> bool:
        return self._depth is not None

    @property
    def depth(self) -> np.ndarray | None:
        """(h, w) float32 [m], read-only, or None. Raises ImageError as ``color`` does."""
        return None if self._depth is None else self._checked(self._depth, self.depth_camera, "depth image")

    def _checked(self, lazy: LazyImage, camera: Camera, what: str) -> np.ndarray:
        image = lazy.read()
        try:
            camera.check_size(image.shape, f"view {self.view_id}: {what}")
        except ValueError as error:
            raise ImageError(str(error)) from error
        return image

    @property
    def images(self) -> LazyImage:
        """Stands for the images of the view: the same object in views that differ by their pose only."""
        return self._color

    @property
    def nbytes(self) -> int:
        """Bytes of image data held now."""
        return self._color.nbytes + (0 if self._depth is None else self._depth.nbytes)

    @property
    def full_nbytes(self) -> int:
        """Bytes of image data once both images are decoded."""
        decoded = self.camera.width * self.camera.height * 3
        if self._depth is not None:
            decoded += self.depth_camera.width * self.depth_camera.height * 4
        sources = self._color.source_nbytes + (0 if self._depth is None else self._depth.source_nbytes)
        return sources + decoded

    def with_pose(
        self,
        T_world_camera: np.ndarray | None,
        world_frame: str | None = None,
        pose_covariance: np.ndarray | None = None,
    ) -> View:
        """The same view (images shared) with another pose."""
        return View(
            view_id=self.view_id,
            stamp_ns=self.stamp_ns,
            color=self._color,
            camera=self.camera,
            depth=self._depth,
            depth_camera=self.depth_camera,
            T_world_camera=T_world_camera,
            frame_id=self.frame_id,
            world_frame=world_frame or self.world_frame,
            arrival=self.arrival,
            pose_covariance=pose_covariance,
        )


def valid_depth(depth: np.ndarray) -> np.ndarray:
    """Boolean image: where ``depth`` [m] is a measurement (finite and > 0). NaN-safe (REP-117)."""
    return np.isfinite(depth) & (depth > 0)
