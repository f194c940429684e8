"""Messages of roboref_msgs <-> types of roboref_core, field by field."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion
from roboref_core.errors import ErrorCode
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import from_quaternion, to_quaternion
from roboref_core.referring.answer import Agreement, Answer, GeometricCheck, LastKnown, Status, Target
from roboref_core.referring.query import MarkedBox, MarkedPoint, MarkedPosition, MarkedRegion, Query
from roboref_core.views.locate import DepthSource
from roboref_core.views.registration import ChangeEvidence, Verdict
from roboref_core.views.view import View, valid_depth
from roboref_core.views.view_buffer import SECOND
from roboref_core.views.visibility import Visibility
from roboref_msgs import msg
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

MAX_TEXT = 20_000
"""Most characters of a text in an answer: a model may go on for megabytes."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_UNKNOWN_POSITION = (float("nan"),) * 3
_VISIBILITY = {
    None: msg.GeometricCheck.VISIBILITY_NOT_CHECKED,
    Visibility.VISIBLE: msg.GeometricCheck.VISIBILITY_VISIBLE,
    Visibility.OUT_OF_FRUSTUM: msg.GeometricCheck.VISIBILITY_OUT_OF_FRUSTUM,
    Visibility.OCCLUDED: msg.GeometricCheck.VISIBILITY_OCCLUDED,
    Visibility.UNKNOWN: msg.GeometricCheck.VISIBILITY_UNKNOWN,
    Visibility.CONFLICT: msg.GeometricCheck.VISIBILITY_CONFLICT,
}
_VERDICT = {
    Verdict.REGISTERED: msg.ViewRegistration.VERDICT_REGISTERED,
    Verdict.UNCONSTRAINED: msg.ViewRegistration.VERDICT_UNCONSTRAINED,
    Verdict.REJECTED: msg.ViewRegistration.VERDICT_REJECTED,
}


def clean_text(text: str) -> str:
    """Text that a message can carry: valid UTF-8 without control characters but line ends and tabs, and bounded."""
    text = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text[: MAX_TEXT + 1])
    text = text.encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "\N{HORIZONTAL ELLIPSIS}"


def stamp_ns(time: Time | Duration) -> int:
    """[ns]"""
    return time.sec * SECOND + time.nanosec


def to_time(ns: int) -> Time:
    sec, nanosec = divmod(int(ns), SECOND)
    return Time(sec=sec, nanosec=nanosec)


def to_duration(seconds: float) -> Duration:
    sec, nanosec = divmod(round(seconds * SECOND), SECOND)
    return Duration(sec=min(max(sec, -(2**31)), 2**31 - 1), nanosec=nanosec)


def duration_or_none(duration: Duration) -> float | None:
    """[s]; None for zero, which means the default. Raises ValueError if negative."""
    ns = stamp_ns(duration)
    if ns < 0:
        raise ValueError(f"a duration must not be negative, found {ns / SECOND} s")
    return ns / SECOND if ns else None


def camera_from_info(info: CameraInfo) -> Camera:
    """Raises ValueError: not calibrated, unknown distortion model, cropped or binned."""
    full = (0, info.width), (0, info.height)
    if info.binning_x > 1 or info.binning_y > 1 or info.roi.width not in full[0] or info.roi.height not in full[1]:
        raise ValueError(
            f"camera info has binning {info.binning_x}x{info.binning_y} and region of interest "
            f"{info.roi.width}x{info.roi.height}: only full images are supported"
        )
    return Camera.from_camera_info(info.width, info.height, info.k, info.distortion_model, info.d)


def camera_to_info(camera: Camera, header: Header) -> CameraInfo:
    """Intrinsics of an image without rectification: R is the identity and P is K."""
    undistorted = camera.distortion_model == "none"
    k = camera.matrix
    return CameraInfo(
        header=header,
        width=camera.width,
        height=camera.height,
        # What drivers of undistorted images send, and every consumer knows.
        distortion_model="plumb_bob" if undistorted else camera.distortion_model,
        d=[0.0] * 5 if undistorted else list(camera.distortion),
        k=k.ravel(),
        r=np.eye(3).ravel(),
        p=np.hstack([k, np.zeros((3, 1))]).ravel(),
    )


def query_from_message(message: msg.ReferQuery) -> Query:
    """Raises ValueError: negative duration, unknown type of a marked region."""
    return Query(
        text=message.text,
        view_id=message.view_id,
        regions=tuple(_region(region) for region in message.regions),
        target_frame=message.target_frame,
        max_targets=message.max_targets,
        max_view_age=duration_or_none(message.max_view_age),
        timeout=duration_or_none(message.timeout),
        search_memory=message.search_memory,
    )


def _region(message: msg.MarkedRegion) -> MarkedRegion:
    if message.type == msg.MarkedRegion.TYPE_POINT:
        return MarkedPoint((message.point.u, message.point.v), message.view_id, message.label)
    if message.type == msg.MarkedRegion.TYPE_BOX:
        box = message.box
        return MarkedBox((box.u_min, box.v_min, box.u_max, box.v_max), message.view_id, message.label)
    if message.type == msg.MarkedRegion.TYPE_POSITION:
        p = message.position.point
        return MarkedPosition((p.x, p.y, p.z), message.position.header.frame_id, message.label)
    raise ValueError(f"a marked region has type {message.type}, expected 0 to {msg.MarkedRegion.TYPE_POSITION}")


def query_to_message(query: Query) -> msg.ReferQuery:
    message = msg.ReferQuery(
        text=query.text,
        view_id=query.view_id,
        target_frame=query.target_frame,
        max_targets=query.max_targets,
        max_view_age=to_duration(query.max_view_age or 0.0),
        timeout=to_duration(query.timeout or 0.0),
        search_memory=query.search_memory,
    )
    message.regions = [_region_to_message(region) for region in query.regions]
    return message


def _region_to_message(region: MarkedRegion) -> msg.MarkedRegion:
    message = msg.MarkedRegion(label=region.label)
    if isinstance(region, MarkedPosition):
        message.type = msg.MarkedRegion.TYPE_POSITION
        message.position.header.frame_id = region.frame_id
        message.position.point = _point(region.position)
        return message
    message.view_id = region.view_id
    if isinstance(region, MarkedPoint):
        message.type = msg.MarkedRegion.TYPE_POINT
        message.point = _pixel(region.point)
    else:
        message.type = msg.MarkedRegion.TYPE_BOX
        box = (float(edge) for edge in region.box)
        message.box.u_min, message.box.v_min, message.box.u_max, message.box.v_max = box
    return message


def answer_to_message(answer: Answer, pinned: bool = False) -> msg.ReferAnswer:
    """``pinned``: whether the searched view is."""
    return msg.ReferAnswer(
        status=int(answer.status),
        error_code=int(answer.error_code),
        error_msg=clean_text(answer.error_msg),
        targets=[_target(target) for target in answer.targets],
        last_known=[_last_known(known) for known in answer.last_known],
        check=_check(answer.check),
        view=msg.ReferenceView() if answer.view is None else view_to_message(answer.view, pinned, coverage=True),
        view_age=to_duration(answer.view_age),
        queue_time=to_duration(answer.queue_time),
        inference_time=to_duration(answer.inference_time),
        model=clean_text(answer.model),
        raw_answer=clean_text(answer.raw_answer),
    )


def answer_from_message(message: msg.ReferAnswer) -> Answer:
    """What a client decides by: status, error, places with their visibility, and times; without view and evidence."""
    return Answer(
        Status(message.status),
        ErrorCode(message.error_code),
        message.error_msg,
        tuple(_target_from_message(target) for target in message.targets),
        tuple(_last_known_from_message(known) for known in message.last_known),
        view_age=stamp_ns(message.view_age) / SECOND,
        queue_time=stamp_ns(message.queue_time) / SECOND,
        inference_time=stamp_ns(message.inference_time) / SECOND,
        model=message.model,
        raw_answer=message.raw_answer,
    )


def _last_known_from_message(message: msg.LastKnownTarget) -> LastKnown:
    visibility = next(name for name, number in _VISIBILITY.items() if number == message.check.visibility)
    check = GeometricCheck(Agreement(message.check.agreement), visibility)
    return LastKnown(message.view_id, _target_from_message(message.target), check)


def _target_from_message(message: msg.ReferredTarget) -> Target:
    position = np.array([message.position.x, message.position.y, message.position.z])
    full = message.covariance_type == msg.ReferredTarget.COVARIANCE_FULL
    return Target(
        (message.pixel.u, message.pixel.v),
        message.header.frame_id,
        stamp_ns(message.header.stamp),
        position if np.isfinite(position).all() else None,
        np.array(message.position_covariance).reshape(3, 3) if full else None,
        DepthSource(message.depth_source),
        message.depth,
        message.depth_spread,
        message.score,
    )


def _target(target: Target) -> msg.ReferredTarget:
    message = msg.ReferredTarget(
        header=Header(stamp=to_time(target.stamp_ns), frame_id=target.frame_id),
        pixel=_pixel(target.pixel),
        depth_source=int(target.depth_source),
        depth=float(target.depth),
        depth_spread=float(target.depth_spread),
        score=float(target.score),
    )
    message.position = _point(_UNKNOWN_POSITION if target.position is None else target.position)
    if target.covariance is None:
        message.position_covariance = np.full(9, np.nan)
    else:
        message.covariance_type = msg.ReferredTarget.COVARIANCE_FULL
        message.position_covariance = np.asarray(target.covariance, dtype=np.float64).ravel()
    return message


def _last_known(known: LastKnown) -> msg.LastKnownTarget:
    return msg.LastKnownTarget(view_id=known.view_id, target=_target(known.target), check=_check(known.check))


def _check(check: GeometricCheck) -> msg.GeometricCheck:
    message = msg.GeometricCheck(
        agreement=int(Agreement(check.agreement)),
        visibility=_VISIBILITY[check.visibility],
        has_expected_pixel=check.expected_pixel is not None,
        distance_px=float(check.distance_px),
        distance=float(check.distance),
        registration=_registration(check),
        surface=_surface(check.surface),
    )
    if check.expected_pixel is not None:
        message.expected_pixel = _pixel(check.expected_pixel)
    return message


def _registration(check: GeometricCheck) -> msg.ViewRegistration:
    message = msg.ViewRegistration(
        without_poses=check.without_poses,
        via_view_ids=list(check.via_view_ids),
        correction_distance=float("nan"),
        correction_angle=float("nan"),
        deviation=float("nan"),
        agreement=float("nan"),
        stated_agreement=float("nan"),
    )
    found = check.registration
    if found is None:
        return message
    message.verdict = _VERDICT[found.verdict]
    message.correction_distance, message.correction_angle = (float(part) for part in found.correction)
    message.deviation = float(found.deviation)
    message.inliers, message.pairs = found.inliers, found.pairs
    message.agreement, message.stated_agreement = float(found.agreement), float(found.stated_agreement)
    return message


def _surface(evidence: ChangeEvidence) -> msg.SurfaceChange:
    return msg.SurfaceChange(
        change=int(evidence.change),
        agrees=float(evidence.agrees),
        hidden=float(evidence.hidden),
        looked_through=float(evidence.looked_through),
        color_difference=float(evidence.color_difference),
        samples=evidence.samples,
    )


def view_to_message(view: View, pinned: bool, coverage: bool) -> msg.ReferenceView:
    """Args: coverage: decode the depth image to count its measurements; otherwise the share is NaN."""
    header = Header(stamp=to_time(view.stamp_ns), frame_id=view.frame_id)
    message = msg.ReferenceView(
        header=header,
        view_id=view.view_id,
        camera_info=camera_to_info(view.camera, header),
        has_camera_pose=view.T_world_camera is not None,
        depth_coverage=_depth_coverage(view) if coverage else float("nan"),
        pinned=pinned,
    )
    if view.T_world_camera is not None:
        message.camera_pose = PoseStamped(
            header=Header(stamp=header.stamp, frame_id=view.world_frame), pose=pose_to_message(view.T_world_camera)
        )
    return message


def _depth_coverage(view: View) -> float:
    try:
        depth = view.depth
    except ValueError:
        return 0.0
    return 0.0 if depth is None else np.count_nonzero(valid_depth(depth)) / depth.size


def pose_from_message(pose: Pose) -> np.ndarray:
    """geometry_msgs/Pose -> 4x4. Raises ValueError if it is not finite or its quaternion is zero."""
    p, q = pose.position, pose.orientation
    return from_quaternion((q.x, q.y, q.z, q.w), (p.x, p.y, p.z))


def pose_to_message(T: np.ndarray) -> Pose:
    """4x4 -> geometry_msgs/Pose."""
    x, y, z, w = (float(c) for c in to_quaternion(T))
    return Pose(position=_point(T[:3, 3]), orientation=Quaternion(x=x, y=y, z=z, w=w))


def _point(xyz: Sequence[float] | np.ndarray) -> Point:
    x, y, z = (float(c) for c in xyz)
    return Point(x=x, y=y, z=z)


def _pixel(uv: Sequence[float] | np.ndarray) -> msg.Pixel:
    return msg.Pixel(u=float(uv[0]), v=float(uv[1]))
