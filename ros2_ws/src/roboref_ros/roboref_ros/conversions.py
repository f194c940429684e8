"""Messages of roboref_msgs <-> types of roboref_core, field by field."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion
from roboref_core.geometry.camera import Camera
from roboref_core.geometry.pose import to_quaternion
from roboref_core.referring.answer import Agreement, Answer, GeometricCheck, LastKnown, Target
from roboref_core.referring.query import MarkedRegion, Query, RegionType
from roboref_core.views.view import View, valid_depth
from roboref_core.views.visibility import Visibility
from roboref_msgs import msg
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

SECOND = 1_000_000_000
_VISIBILITY = {
    None: msg.GeometricCheck.VISIBILITY_NOT_CHECKED,
    Visibility.VISIBLE: msg.GeometricCheck.VISIBILITY_VISIBLE,
    Visibility.OUT_OF_FRUSTUM: msg.GeometricCheck.VISIBILITY_OUT_OF_FRUSTUM,
    Visibility.OCCLUDED: msg.GeometricCheck.VISIBILITY_OCCLUDED,
    Visibility.UNKNOWN: msg.GeometricCheck.VISIBILITY_UNKNOWN,
    Visibility.CONFLICT: msg.GeometricCheck.VISIBILITY_CONFLICT,
}


def stamp_ns(time: Time | Duration) -> int:
    """[ns]"""
    return time.sec * SECOND + time.nanosec


def to_time(ns: int) -> Time:
    sec, nanosec = divmod(int(ns), SECOND)
    return Time(sec=sec, nanosec=nanosec)


def to_duration(seconds: float) -> Duration:
    sec, nanosec = divmod(round(seconds * SECOND), SECOND)
    return Duration(sec=sec, nanosec=nanosec)


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
    try:
        kind = RegionType(message.type)
    except ValueError as error:
        raise ValueError(f"a marked region has type {message.type}, expected 0 to {max(RegionType)}") from error
    region = MarkedRegion(type=kind, label=message.label, view_id=message.view_id)
    if kind == RegionType.POINT:
        return replace(region, point=(message.point.u, message.point.v))
    if kind == RegionType.BOX:
        box = message.box
        return replace(region, box=(box.u_min, box.v_min, box.u_max, box.v_max))
    p = message.position.point
    return replace(region, position=(p.x, p.y, p.z), frame_id=message.position.header.frame_id)


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
    for region in query.regions:
        mark = msg.MarkedRegion(type=int(region.type), label=region.label, view_id=region.view_id)
        if region.point is not None:
            mark.point = _pixel(region.point)
        if region.box is not None:
            box = (float(edge) for edge in region.box)
            mark.box.u_min, mark.box.v_min, mark.box.u_max, mark.box.v_max = box
        if region.position is not None:
            mark.position.header.frame_id = region.frame_id
            mark.position.point = _point(region.position)
        message.regions.append(mark)
    return message


def answer_to_message(answer: Answer, pinned: bool = False) -> msg.ReferAnswer:
    """``pinned``: whether the searched view is."""
    return msg.ReferAnswer(
        status=int(answer.status),
        error_code=int(answer.error_code),
        error_msg=answer.error_msg,
        targets=[_target(target) for target in answer.targets],
        last_known=[_last_known(known) for known in answer.last_known],
        check=_check(answer.check),
        view=msg.ReferenceView() if answer.view is None else view_to_message(answer.view, pinned, coverage=True),
        view_age=to_duration(answer.view_age),
        queue_time=to_duration(answer.queue_time),
        inference_time=to_duration(answer.inference_time),
        model=answer.model,
        raw_answer=answer.raw_answer,
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
    if target.position is not None:
        message.position = _point(target.position)
    if target.covariance is not None:
        message.covariance_type = msg.ReferredTarget.COVARIANCE_FULL
        message.position_covariance = np.asarray(target.covariance, dtype=np.float64).ravel()
    return message


def _last_known(known: LastKnown) -> msg.LastKnownTarget:
    return msg.LastKnownTarget(view_id=known.view_id, target=_target(known.target))


def _check(check: GeometricCheck) -> msg.GeometricCheck:
    message = msg.GeometricCheck(
        agreement=int(Agreement(check.agreement)),
        visibility=_VISIBILITY[check.visibility],
        has_expected_pixel=check.expected_pixel is not None,
        distance_px=float(check.distance_px),
        distance=float(check.distance),
    )
    if check.expected_pixel is not None:
        message.expected_pixel = _pixel(check.expected_pixel)
    return message


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
        return np.count_nonzero(valid_depth(view.depth)) / view.depth.size if view.has_depth else 0.0
    except ValueError:
        return 0.0


def pose_to_message(T: np.ndarray) -> Pose:
    """4x4 -> geometry_msgs/Pose."""
    x, y, z, w = (float(c) for c in to_quaternion(T))
    return Pose(position=_point(T[:3, 3]), orientation=Quaternion(x=x, y=y, z=z, w=w))


def _point(xyz) -> Point:
    x, y, z = (float(c) for c in xyz)
    return Point(x=x, y=y, z=z)


def _pixel(uv) -> msg.Pixel:
    return msg.Pixel(u=float(uv[0]), v=float(uv[1]))
