"""Answers for the eye: markers and a picture of the searched view."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from geometry_msgs.msg import Vector3
from roboref_core.geometry.pose import pose
from roboref_core.referring.answer import Answer, Status
from roboref_core.views.view import View
from sensor_msgs.msg import Image
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from roboref_ros.conversions import pose_to_message, to_time
from roboref_ros.services.targets import TargetPoses

_FOUND, _REMEMBERED = (0.1, 0.8, 0.2), (0.95, 0.6, 0.1)
# Of the ellipsoid, so that an exact point can be seen too [m].
_MIN_AXIS = 0.03
# Standard deviations that the ellipsoid holds on each side: 95 % of a 3D normal distribution.
_SIGMAS = 2.8
# Length of the arrow along which a surface is approached [m].
_ARROW = 0.15


def markers(answer: Answer, text: str, poses: TargetPoses | None = None) -> MarkerArray:
    """Ellipsoids that hold the targets with 95 %, with the question's text; they replace all earlier ones.

    Args:
        poses: show the pose of the best target: an arrow goes into its surface where that is flat.
    """
    array = MarkerArray(markers=[Marker(action=Marker.DELETEALL)])
    located = [(target, _FOUND) for target in answer.targets]
    located += [(known.target, _REMEMBERED) for known in answer.last_known]
    for i, (target, color) in enumerate(located):
        if target.position is not None and target.covariance is not None:
            array.markers += _target_markers(i, target.frame_id, target.position, target.covariance, color, text)
    if poses is not None and poses.T_frame_surface is not None:
        array.markers.append(_approach_marker(poses.header.frame_id, poses.T_frame_surface))
    return array


def _approach_marker(frame_id: str, T_frame_surface: np.ndarray) -> Marker:
    """An arrow along the z axis of a surface's pose, its tip on the surface."""
    # Arrows lie along x and begin at their pose.
    axes = T_frame_surface[:3, [2, 0, 1]]
    start = T_frame_surface[:3, 3] - _ARROW * T_frame_surface[:3, 2]
    return Marker(
        header=Header(frame_id=frame_id),
        ns="approach",
        type=Marker.ARROW,
        pose=pose_to_message(pose(axes, tuple(start))),
        scale=Vector3(x=_ARROW, y=0.01, z=0.02),
        color=ColorRGBA(r=0.2, g=0.4, b=0.95, a=0.9),
    )


def _target_markers(
    i: int, frame_id: str, position: np.ndarray, covariance: np.ndarray, color: Sequence[float], text: str
) -> list[Marker]:
    # Stamp zero: shown where the frame is now, also when the capture has left the buffer of TF.
    header = Header(frame_id=frame_id)
    red, green, blue = color
    variances, axes = np.linalg.eigh(covariance)
    if np.linalg.det(axes) < 0:
        axes[:, 0] *= -1
    x, y, z = (float(size) for size in np.maximum(2 * _SIGMAS * np.sqrt(np.maximum(variances, 0)), _MIN_AXIS))
    ellipsoid = Marker(
        header=header,
        ns="targets",
        id=i,
        type=Marker.SPHERE,
        pose=pose_to_message(pose(axes, tuple(position))),
        scale=Vector3(x=x, y=y, z=z),
        color=ColorRGBA(r=red, g=green, b=blue, a=0.6),
    )
    label = Marker(
        header=header,
        ns="labels",
        id=i,
        type=Marker.TEXT_VIEW_FACING,
        pose=pose_to_message(pose(np.eye(3), tuple(position + (0.0, 0.0, 0.1)))),
        scale=Vector3(z=0.08),
        color=ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0),
        text=text,
    )
    return [ellipsoid, label]


def debug_image(answer: Answer, view: View, text: str) -> Image:
    """The searched view with the answer's points and status on it, as rgb8. ``view`` is the answer's."""
    import cv2

    picture = view.color.copy()
    height, width = picture.shape[:2]
    # Readable on every size of image.
    scale = max(height / 480, 0.5)
    thick = max(round(2 * scale), 1)
    for rank, target in enumerate(answer.targets, start=1):
        u, v = (round(c) for c in target.pixel)
        radius = round(10 * scale)
        cv2.circle(picture, (u, v), radius, (0, 0, 0), thick + 2)
        cv2.circle(picture, (u, v), radius, (255, 40, 40), thick)
        cv2.circle(picture, (u, v), 1, (255, 40, 40), -1)
        if target.position is not None:
            label = f"{rank}: {target.depth:.2f} m"
            _write(picture, label, (u + radius + 4, v), scale, thick)
    verdict = answer.status.name if answer.status != Status.ERROR else answer.error_code.name
    _write(picture, f"{text[:60]} -> {verdict}", (8, round(22 * scale)), scale, thick)
    header = Header(stamp=to_time(view.stamp_ns), frame_id=view.frame_id)
    return Image(header=header, height=height, width=width, encoding="rgb8", step=3 * width, data=picture.tobytes())


def _write(picture: np.ndarray, text: str, place: tuple[int, int], scale: float, thick: int) -> None:
    import cv2

    for color, width in (((0, 0, 0), thick + 2), ((255, 255, 255), thick)):
        cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5 * scale, color, width, cv2.LINE_AA)
