"""An answer in words, as a person wants to read it."""

from __future__ import annotations

import math

import numpy as np
from roboref_core.errors import ErrorCode
from roboref_core.referring.answer import Agreement, Status
from roboref_core.views.locate import DepthSource
from roboref_core.views.registration import Change
from roboref_msgs.msg import GeometricCheck, ReferAnswer, ReferredTarget, ViewRegistration
from roboref_ros.conversions import stamp_ns


def position_of(target: ReferredTarget) -> np.ndarray | None:
    """(3,) [m] in the frame of the target's header; None if it has no place."""
    p = np.array([target.position.x, target.position.y, target.position.z])
    return p if target.depth_source != int(DepthSource.NONE) and np.isfinite(p).all() else None


def covariance_of(target: ReferredTarget) -> np.ndarray | None:
    """(3, 3) [m^2], or None if it is not known."""
    full = target.covariance_type == ReferredTarget.COVARIANCE_FULL
    return np.array(target.position_covariance).reshape(3, 3) if full else None


def describe(answer: ReferAnswer) -> list[str]:
    """Status first, then one line per target or place, then how the answer was made."""
    status = Status(answer.status)
    lines = [status.name]
    if status == Status.ERROR:
        lines = [f"{ErrorCode(answer.error_code).name}: {answer.error_msg}"]
    lines += [_target(target) for target in answer.targets]
    for known in answer.last_known:
        lines.append(f"last seen in view {known.view_id}: {_target(known.target)}")
    lines += [f"geometry: {said}" for said in _geometry(answer.check)]
    inference, queue, age = (
        stamp_ns(duration) / 1e9 for duration in (answer.inference_time, answer.queue_time, answer.view_age)
    )
    lines.append(f"{answer.model}: {1e3 * inference:.0f} ms, {1e3 * queue:.0f} ms in the queue; view {age:.1f} s old")
    return lines


def _geometry(check: GeometricCheck) -> list[str]:
    said = []
    if check.agreement != int(Agreement.NOT_CHECKED):
        said.append(Agreement(check.agreement).name)
    link, surface = check.registration, check.surface
    if link.without_poses:
        via = f" over view {', '.join(link.via_view_ids)}" if link.via_view_ids else ""
        found = link.verdict == ViewRegistration.VERDICT_REGISTERED
        said.append(f"without poses, {f'linked by the pictures{via}' if found else 'nothing links the two views'}")
    elif link.verdict == ViewRegistration.VERDICT_REGISTERED:
        off, turned = 100 * link.correction_distance, math.degrees(link.correction_angle)
        said.append(f"views registered, poses were off by {off:.1f} cm and {turned:.1f} degrees")
    elif link.verdict != ViewRegistration.VERDICT_NONE:
        rejected = link.verdict == ViewRegistration.VERDICT_REJECTED
        said.append(f"views not registered ({'REJECTED' if rejected else 'UNCONSTRAINED'}), poses as stated")
    if surface.change != int(Change.NOT_CHECKED):
        said.append(f"surface {Change(surface.change).name}")
    return said


def _target(target: ReferredTarget) -> str:
    position, covariance = position_of(target), covariance_of(target)
    pixel = f"pixel ({target.pixel.u:.0f}, {target.pixel.v:.0f})"
    if position is None:
        return f"{pixel}, no depth there"
    sigma = ""
    if covariance is not None:
        sigma = f" ± {100 * math.sqrt(max(0.0, float(np.linalg.eigvalsh(covariance)[-1]))):.1f} cm"
    score = f", score {target.score:.2f}" if target.score >= 0 else ""
    x, y, z = position
    return f"({x:.2f}, {y:.2f}, {z:.2f}) m{sigma} in {target.header.frame_id}, {target.depth:.2f} m away{score}"
