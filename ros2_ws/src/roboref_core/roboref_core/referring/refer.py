"""The whole question -> the whole answer: view, marks, model, depth, frames, memory, geometric check."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import numpy as np

from roboref_core.errors import ErrorCode, ReferError
from roboref_core.geometry.pose import inverse, transform
from roboref_core.models.pointing_model import Mark, PointingModel, PointingRequest, Prediction
from roboref_core.referring.answer import Agreement, Answer, GeometricCheck, LastKnown, Status, Target
from roboref_core.referring.frames import FrameLookup, lookup
from roboref_core.referring.marks import resolve
from roboref_core.referring.query import Query
from roboref_core.views.locate import DepthSource, LocateConfig, locate
from roboref_core.views.view import ImageError, View
from roboref_core.views.view_buffer import SECOND, ViewBuffer
from roboref_core.views.visibility import DepthTolerance, Visibility, point_visibility


@dataclass(frozen=True)
class ReferConfig:
    """How questions are answered.

    Attributes:
        target_frame: frame of positions where the question names none; empty: the fixed frame.
        max_view_age: oldest acceptable newest view where the question names none [s].
        memory_views: most older views that one question may put to the model.
        ambiguity_ratio: a second place scoring at least this share of the first one's score ...
        ambiguity_distance: ... and this far from it makes the answer AMBIGUOUS [m].
        agreement_distance: the model agrees with geometry up to this distance in space [m] ...
        agreement_pixels: ... or in the picture, as a share of its diagonal, where there is no depth.
        locate, tolerance: how depth is read and compared.
    """

    target_frame: str = ""
    max_view_age: float = 5.0
    memory_views: int = 8
    ambiguity_ratio: float = 0.8
    ambiguity_distance: float = 0.3
    agreement_distance: float = 0.25
    agreement_pixels: float = 0.05
    locate: LocateConfig = field(default_factory=LocateConfig)
    tolerance: DepthTolerance = field(default_factory=DepthTolerance)


def answer(
    query: Query,
    buffer: ViewBuffer,
    model: PointingModel,
    config: ReferConfig | None = None,
    frames: FrameLookup | None = None,
    now_ns: int | None = None,
    deadline: float | None = None,
) -> Answer:
    """Answer ``query``. Never raises for what a question, an image or a model may bring: it is mapped to its code.

    Args:
        frames: transforms between frames other than the views' world frame; None: there are none.
        now_ns: the present in the clock of the stamps [ns], for the age of the view; None: the newest stamp.
        deadline: time.monotonic() at which the search of memory ends [s]; None: no limit.
    """
    config = config or ReferConfig()
    view = None
    known = {"model": model.name}
    try:
        view = _searched_view(query, buffer, config, now_ns)
        known |= {"view": view, "view_age": _age(view, buffer, now_ns)}
        marks = tuple(resolve(region, view, buffer, frames, config.locate) for region in query.regions)
        if not query.text.strip() and not marks:
            raise ReferError(ErrorCode.INVALID_QUERY, "the question has neither text nor a marked region")
        buffer.keep(view)
        started = time.perf_counter()
        prediction = _predict(model, _request(query, view, marks, config))
        known |= {"inference_time": time.perf_counter() - started, "raw_answer": prediction.text}
        if prediction.visible is None:
            raise ReferError(ErrorCode.UNPARSABLE_ANSWER, f"{model.name} gave no point: {prediction.text[:200]!r}")
        targets = _targets(query, view, prediction, config, frames) if prediction.visible else ()
        known["check"] = _check(view, marks, prediction, targets, config, frames)
        if targets:
            status, targets = _rank(targets, query, config)
            return Answer(status=status, targets=targets, **known)
        remembered = ()
        if query.search_memory and not query.view_id:
            remembered = _search_memory(query, view, marks, buffer, model, config, frames, deadline)
        return Answer(status=Status.NOT_VISIBLE, last_known=remembered, **known)
    except ReferError as error:
        return Answer.error(error.code, str(error), **known)
    except ImageError as error:
        return Answer.error(ErrorCode.IMAGE_INVALID, str(error), **known)
    except Exception as error:  # A robot must get an answer: the unforeseen has a code of its own, and its text.
        return Answer.error(ErrorCode.UNKNOWN, f"{type(error).__name__}: {error}", **known)


def _searched_view(query: Query, buffer: ViewBuffer, config: ReferConfig, now_ns: int | None) -> View:
    if query.view_id:
        view = buffer.get(query.view_id)
        if view is None:
            raise ReferError(
                ErrorCode.VIEW_NOT_FOUND, f"view {query.view_id!r} is not among the {len(buffer)} buffered views"
            )
        return view
    view = buffer.newest()
    if view is None:
        raise ReferError(
            ErrorCode.NO_VIEW, "no complete view has arrived yet: colour, depth and camera info with matching stamps"
        )
    limit = config.max_view_age if query.max_view_age is None else query.max_view_age
    age = _age(view, buffer, now_ns)
    if age > limit:
        raise ReferError(ErrorCode.VIEW_STALE, f"the newest view is {age:.2f} s old, accepted are {limit:.2f} s")
    return view


def _age(view: View, buffer: ViewBuffer, now_ns: int | None) -> float:
    if now_ns is None:
        newest = buffer.newest()
        now_ns = view.stamp_ns if newest is None else newest.stamp_ns
    return max((now_ns - view.stamp_ns) / SECOND, 0.0)


def _request(query: Query, view: View, marks: tuple[Mark, ...], config: ReferConfig) -> PointingRequest:
    return PointingRequest(query.text, view, marks, max(query.max_targets, 1), config.locate, config.tolerance)


def _predict(model: PointingModel, request: PointingRequest) -> Prediction:
    try:
        return model.predict(request)
    except (ReferError, ImageError):
        raise
    except MemoryError as error:
        raise ReferError(ErrorCode.OUT_OF_MEMORY, f"{model.name}: {error}") from error
    except Exception as error:
        raise ReferError(ErrorCode.INFERENCE_FAILED, f"{model.name}: {type(error).__name__}: {error}") from error


def _targets(
    query: Query, view: View, prediction: Prediction, config: ReferConfig, frames: FrameLookup | None
) -> tuple[Target, ...]:
    frame = query.target_frame or config.target_frame or view.world_frame
    targets = []
    for i, pixel in enumerate(prediction.points):
        covariance = None if prediction.point_covariance is None else prediction.point_covariance[i]
        place = locate(view, pixel, covariance, config.locate)
        target = Target(
            pixel=(float(pixel[0]), float(pixel[1])),
            frame_id=frame,
            stamp_ns=view.stamp_ns,
            score=-1.0 if prediction.scores is None else float(prediction.scores[i]),
        )
        if place.source != DepthSource.NONE:
            T = _from_view(place.in_world, view, frame, frames)
            target = replace(
                target,
                position=transform(T, place.point),
                covariance=T[:3, :3] @ place.covariance @ T[:3, :3].T,
                depth_source=place.source,
                depth=place.depth,
                depth_spread=place.spread,
            )
        targets.append(target)
    return tuple(targets)


def _from_view(in_world: bool, view: View, frame: str, frames: FrameLookup | None) -> np.ndarray:
    """Transform into ``frame`` of a point that the view gives in its world frame, or without a pose in its own."""
    if in_world:
        if frame == view.frame_id:
            return inverse(view.T_world_camera)
        return lookup(frames, frame, view.world_frame, view.stamp_ns)
    if frame == view.frame_id:
        return np.eye(4)
    try:
        return lookup(frames, frame, view.frame_id, view.stamp_ns)
    except ReferError as error:
        raise ReferError(
            ErrorCode.TF_ERROR,
            f"view {view.view_id} has no camera pose, so its points are known in {view.frame_id!r} only ({error}): "
            "ask with that target_frame, or check the pose source",
        ) from error


def _rank(targets: tuple[Target, ...], query: Query, config: ReferConfig) -> tuple[Status, tuple[Target, ...]]:
    wanted = max(query.max_targets, 1)
    # The model's order is best first; among several targets one with a position is of more use.
    kept = targets[:wanted]
    if kept[0].position is None:
        return Status.FOUND_WITHOUT_POSITION, kept
    if wanted == 1 and len(targets) > 1 and targets[0].score > 0:
        rivals = [
            t
            for t in targets[1:]
            if t.position is not None
            and t.score >= config.ambiguity_ratio * targets[0].score
            and np.linalg.norm(t.position - targets[0].position) > config.ambiguity_distance
        ]
        if rivals:
            return Status.AMBIGUOUS, (targets[0], *rivals)
    return Status.FOUND, kept


def _check(
    view: View,
    marks: tuple[Mark, ...],
    prediction: Prediction,
    targets: tuple[Target, ...],
    config: ReferConfig,
    frames: FrameLookup | None,
) -> GeometricCheck:
    """What depth and poses say of the one mark, against what the model says."""
    if len(marks) != 1 or marks[0].position is None or view.T_world_camera is None:
        return GeometricCheck()
    names, pixels = point_visibility(marks[0].position, view, config.tolerance)
    visibility, pixel = names[0], pixels[0]
    expected = (float(pixel[0]), float(pixel[1])) if np.isfinite(pixel).all() else None
    if not prediction.visible:
        hidden = visibility in (Visibility.OUT_OF_FRUSTUM, Visibility.OCCLUDED)
        verdict = {Visibility.VISIBLE: Agreement.DISAGREES}.get(visibility, Agreement.UNDECIDED)
        return GeometricCheck(Agreement.AGREES if hidden else verdict, visibility, expected)
    distance_px = float("nan") if expected is None else float(np.hypot(*(prediction.points[0] - pixel)))
    distance = float("nan")
    if targets and targets[0].position is not None:
        T = _from_view(True, view, targets[0].frame_id, frames)
        distance = float(np.linalg.norm(targets[0].position - transform(T, marks[0].position)))
    if visibility in (Visibility.UNKNOWN, Visibility.CONFLICT):
        verdict = Agreement.UNDECIDED
    elif visibility != Visibility.VISIBLE:
        # The marked point is hidden, another part of its object may well be seen.
        near = np.isfinite(distance) and distance <= config.agreement_distance
        verdict = Agreement.UNDECIDED if near else Agreement.DISAGREES
    elif np.isfinite(distance):
        verdict = Agreement.AGREES if distance <= config.agreement_distance else Agreement.DISAGREES
    else:
        limit = config.agreement_pixels * np.hypot(view.camera.width, view.camera.height)
        verdict = Agreement.AGREES if distance_px <= limit else Agreement.DISAGREES
    return GeometricCheck(verdict, visibility, expected, distance_px, distance)


def _search_memory(
    query: Query,
    searched: View,
    marks: tuple[Mark, ...],
    buffer: ViewBuffer,
    model: PointingModel,
    config: ReferConfig,
    frames: FrameLookup | None,
    deadline: float | None,
) -> tuple[LastKnown, ...]:
    """The newest older view in which the model finds it, if any.

    Where the mark's place is known only views that could see it are asked. A view that fails (a broken
    image, an unparsable answer) is passed over: the answer for the present view stands without it.
    """
    position = marks[0].position if len(marks) == 1 else None
    older = [v for v in buffer.views() if v.stamp_ns < searched.stamp_ns and v.T_world_camera is not None]
    asked = 0
    for view in older:
        if asked == config.memory_views or (deadline is not None and time.monotonic() >= deadline):
            break
        try:
            if position is not None:
                names, _ = point_visibility(position, view, config.tolerance)
                if names[0] not in (Visibility.VISIBLE, Visibility.UNKNOWN):
                    continue
            asked += 1
            prediction = _predict(model, _request(query, view, marks, config))
            if not prediction.visible:
                continue
            targets = _targets(query, view, prediction, config, frames)
        except (ReferError, ImageError):
            continue
        found = [t for t in targets if t.position is not None][: max(query.max_targets, 1)]
        if found:
            return tuple(LastKnown(view.view_id, target) for target in found)
    return ()
