"""A ReferAnswer message as evaluation needs it: what was said, and where in the world and in the camera's frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel
from roboref_core.errors import ErrorCode
from roboref_core.geometry.pose import from_quaternion, inverse, transform
from roboref_core.referring.answer import Status
from roboref_core.views.locate import DepthSource

from offline.eval.records.answers import Answer

POINTING = (Status.FOUND, Status.AMBIGUOUS, Status.FOUND_WITHOUT_POSITION)


@dataclass(frozen=True)
class Place:
    """A position with its uncertainty, in one frame.

    Attributes:
        position: (3,) [m].
        covariance: (3, 3) [m^2]; None if the node does not state it.
    """

    position: np.ndarray
    covariance: np.ndarray | None

    def error(self, true: tuple[float, float, float]) -> float:
        """Distance from the true point [m]."""
        return float(np.linalg.norm(self.position - true))

    @property
    def sigma(self) -> float:
        """Largest standard deviation that is stated, along any axis [m]; 0 if none is."""
        return 0.0 if self.covariance is None else float(np.sqrt(max(np.linalg.eigvalsh(self.covariance)[-1], 0.0)))

    def holds(self, true: tuple[float, float, float], chi2: float) -> bool:
        """Whether the true point lies in the ellipsoid whose squared Mahalanobis radius is ``chi2``."""
        if self.covariance is None:
            return False
        off = self.position - true
        return bool(off @ np.linalg.solve(self.covariance, off) <= chi2)


@dataclass(frozen=True)
class NodeAnswer:
    """A ReferAnswer message, as evaluation needs it.

    Attributes:
        message: as it came, field by field.
        status: the node's.
        pixel: (u, v) of the first target in the searched view; None without a target.
        in_world: the first target in the world; None without a metric one.
        in_camera: the same in the optical frame of the searched view, by the pose that the node was told.
        error: name of the error code, "NONE" without an error.
        check: name of the geometric check's verdict, "" if there is none.
    """

    message: dict[str, Any]
    status: Status
    pixel: tuple[float, float] | None = None
    in_world: Place | None = None
    in_camera: Place | None = None
    error: str = "NONE"
    model: str = ""
    raw_answer: str = ""
    error_msg: str = ""
    view_stamp_ns: int | None = None

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> NodeAnswer:
        """Raises pydantic.ValidationError naming the field that is missing or of another form."""
        read = _Answer.model_validate(message)
        target = read.targets[0] if read.targets and read.status in POINTING else None
        place = in_camera = None
        if target is not None and read.status != Status.FOUND_WITHOUT_POSITION:
            place = target.place()
            in_camera = None if place is None else _seen_from(place, target, read.view)
        return cls(
            message=message,
            status=read.status,
            pixel=None if target is None else (target.pixel.u, target.pixel.v),
            in_world=place,
            in_camera=in_camera,
            error=_code(read.error_code),
            model=read.model,
            raw_answer=read.raw_answer,
            error_msg=read.error_msg,
            view_stamp_ns=read.view.header.stamp.ns if read.view.header is not None else None,
        )

    @property
    def answer(self) -> Answer:
        """What the answer says, in the terms of every other evaluation."""
        if self.status in POINTING:
            return Answer.POINT
        if self.status == Status.NOT_VISIBLE:
            return Answer.NOT_VISIBLE
        return Answer.UNPARSABLE if self.error == ErrorCode.UNPARSABLE_ANSWER.name else Answer.ERROR


class _Stamp(BaseModel):
    sec: int = 0
    nanosec: int = 0

    @property
    def ns(self) -> int:
        return self.sec * 10**9 + self.nanosec


class _Header(BaseModel):
    stamp: _Stamp = _Stamp()
    frame_id: str = ""


class _Pixel(BaseModel):
    u: float
    v: float


class _Vector(BaseModel):
    x: float
    y: float
    z: float
    w: float = 1.0


class _Position(BaseModel):
    """Numbers that are not finite come as null: the node's word for an unknown place."""

    x: float | None
    y: float | None
    z: float | None

    @property
    def known(self) -> np.ndarray | None:
        return None if None in (self.x, self.y, self.z) else np.array([self.x, self.y, self.z], dtype=float)


class _Pose(BaseModel):
    position: _Vector
    orientation: _Vector


class _PoseStamped(BaseModel):
    header: _Header = _Header()
    pose: _Pose


class _View(BaseModel):
    header: _Header | None = None
    has_camera_pose: bool = False
    camera_pose: _PoseStamped | None = None


class _Target(BaseModel):
    header: _Header = _Header()
    pixel: _Pixel
    position: _Position
    position_covariance: list[float | None] = []
    covariance_type: int = 2
    depth_source: DepthSource

    def place(self) -> Place | None:
        position = self.position.known
        if self.depth_source == DepthSource.NONE or position is None:
            return None
        stated = (
            self.covariance_type != 0 and len(self.position_covariance) == 9 and None not in self.position_covariance
        )
        covariance = np.array(self.position_covariance, dtype=float).reshape(3, 3) if stated else None
        return Place(position, covariance)


class _Answer(BaseModel):
    status: Status
    error_code: int = 0
    error_msg: str = ""
    targets: list[_Target] = []
    view: _View = _View()
    model: str = ""
    raw_answer: str = ""


def _seen_from(place: Place, target: _Target, view: _View) -> Place | None:
    """A place in the optical frame of the searched view."""
    if view.header is not None and target.header.frame_id and target.header.frame_id == view.header.frame_id:
        return place
    if not view.has_camera_pose or view.camera_pose is None:
        return None
    at, turn = view.camera_pose.pose.position, view.camera_pose.pose.orientation
    T_camera_world = inverse(from_quaternion((turn.x, turn.y, turn.z, turn.w), (at.x, at.y, at.z)))
    R = T_camera_world[:3, :3]
    covariance = None if place.covariance is None else R @ place.covariance @ R.T
    return Place(transform(T_camera_world, place.position), covariance)


def _code(number: int) -> str:
    try:
        return ErrorCode(number).name
    except ValueError:
        return str(number)
