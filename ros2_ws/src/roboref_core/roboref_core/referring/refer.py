"""The whole question -> the whole answer: view, marks, model, depth, frames, memory, geometric check."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from roboref_core.errors import ErrorCode, ReferError
from roboref_core.geometry.pose import transform
from roboref_core.models.cancellation import Cancellation
from roboref_core.models.mark_surface import surface_of_mark
from roboref_core.models.model_answer import Outcome
from roboref_core.models.pointing_model import Mark, PointingModel, PointingRequest, PositionMark, Prediction
from roboref_core.referring.answer import Agreement, Answer, GeometricCheck, LastKnown, Status, Target
from roboref_core.referring.asking import predict, predict_all
from roboref_core.referring.earlier import before_mark
from roboref_core.referring.filled import vouched
from roboref_core.referring.frames import FrameLookup
from roboref_core.referring.marks import mark_for_view, resolve
from roboref_core.referring.memory import memory_batches
from roboref_core.referring.query import Query, check_size
from roboref_core.referring.ranking import rank
from roboref_core.referring.recall import seen_now
from roboref_core.referring.registered import Brought, Registering, bring
from roboref_core.referring.stage import Stage
from roboref_core.referring.targets import from_view, targets_of
from roboref_core.views.locate import LocateConfig
from roboref_core.views.registration import RegistrationMode
from roboref_core.views.view import ImageError, View
from roboref_core.views.view_buffer import SECOND, ViewBuffer
from roboref_core.views.visibility import DepthTolerance, Visibility, point_visibility

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReferConfig:
    """How questions are answered.

    Attributes:
        target_frame: frame of positions where the question names none; empty: the fixed frame.
        max_view_age: oldest acceptable newest view where the question names none [s].
        max_future: how far a view's stamp may lie ahead of the clock [s].
        memory_views: most older views that one question may put to the model.
        ambiguity_ratio: a second place scoring at least this share of the first one's score ...
        ambiguity_distance: ... and this far from it makes the answer AMBIGUOUS [m].
        agreement_distance: the model agrees with geometry up to this distance in space [m] ...
        agreement_pixels: ... or in the picture, as a share of its diagonal, where there is no depth.
        locate, tolerance: how depth is read and compared.
        registration: when a mark's view is registered to the searched one.
    """

    target_frame: str = ""
    max_view_age: float = 5.0
    max_future: float = 1.0
    memory_views: int = 8
    ambiguity_ratio: float = 0.8
    ambiguity_distance: float = 0.3
    agreement_distance: float = 0.25
    agreement_pixels: float = 0.05
    locate: LocateConfig = field(default_factory=LocateConfig)
    tolerance: DepthTolerance = field(default_factory=DepthTolerance)
    registration: RegistrationMode = RegistrationMode.AUTO


@dataclass(frozen=True)
class Now:
    """The present, by which the age of views is judged.

    Attributes:
        stamp_ns: in the clock of the stamps [ns].
        steady: time.monotonic(), for the time since a view arrived [s]; None: only stamps count, as in simulated
            time, which may stand still.
    """

    stamp_ns: int
    steady: float | None = None


def answer(
    query: Query,
    buffer: ViewBuffer,
    model: PointingModel,
    config: ReferConfig | None = None,
    frames: FrameLookup | None = None,
    now: Now | None = None,
    deadline: float | None = None,
    cancellation: Cancellation | None = None,
    on_stage: Callable[[Stage], None] = lambda _: None,
    poses_disagree: bool = False,
) -> Answer:
    """Answer ``query``. Never raises for what a question, an image or a model may bring: it is mapped to its code.

    Args:
        frames: transforms between frames other than the views' world frame; None: there are none.
        now: the present, for the age of the view; None: the newest stamp.
        deadline: time.monotonic() after which nobody waits [s]; the model is told, and the search of memory ends
            with it; None: no limit.
        cancellation: of who waits; the model is told, and the answer is then CANCELED.
        on_stage: called when a stage begins, in this thread.
        poses_disagree: the residual of keyframes shows that undeclared poses are off (see ``pose_residual``).
    """
    config = config or ReferConfig()
    known = Answer(Status.ERROR, model=model.name)
    try:
        check_size(query)
        view = _searched_view(query, buffer)
        known = replace(known, view=view, view_age=_age(view, now))
        _check_age(query, view, config, now)
        marks = tuple(resolve(region, view, buffer, config.locate) for region in query.regions)
        if not query.text.strip() and not marks:
            raise ReferError(ErrorCode.INVALID_QUERY, "the question has neither text nor a marked region")
        buffer.keep(view)
        asked = tuple(mark_for_view(mark, view, frames) for mark in marks)
        registering = Registering.of(buffer, config.registration, deadline, poses_disagree)
        in_world = _frame_of_targets(query, view, config) != view.frame_id
        stated, brought = view, bring(asked, view, registering, config.locate, in_world)
        asked, view, config = brought.marks, brought.view, replace(config, locate=brought.locate)
        known = replace(known, check=_links(brought))
        if _moved(stated, view):
            known = replace(known, view=view)
            # A marked position lies in the picture where the solved pose puts it.
            asked = tuple(
                mark_for_view(mark, view, frames) if isinstance(mark, PositionMark) else seen
                for mark, seen in zip(marks, asked, strict=True)
            )
        started = time.perf_counter()
        request = replace(
            _request(query, view, asked, config, deadline, cancellation),
            surface=known.check.surface,
            earlier=before_mark(marks, view, buffer, registering, config.locate, frames),
        )
        on_stage(Stage.INFERRING)
        prediction = predict(model, request)
        on_stage(Stage.LOCATING)
        known = replace(known, inference_time=time.perf_counter() - started, raw_answer=prediction.text)
        if prediction.outcome is Outcome.UNPARSABLE:
            raise ReferError(
                ErrorCode.UNPARSABLE_ANSWER,
                f"{model.name} gave no point ({prediction.reason or 'no reason given'}): {prediction.text[:200]!r}",
            )
        frame = _frame_of_targets(query, view, config)
        targets = vouched(targets_of(prediction, view, frame, config.locate, frames), asked, view, config.tolerance)
        own, places = prediction, targets
        if prediction.said is not None:  # Geometry does not vouch for itself.
            own, places = prediction.said, targets_of(prediction.said, view, frame, config.locate, frames)
        known = replace(known, check=_check(known.check, view, asked, own, places, config, frames))
        if targets:
            status, targets = rank(
                targets,
                max(query.max_targets, 1),
                config.ambiguity_ratio,
                config.ambiguity_distance,
                prediction.conflict,
            )
            return replace(known, status=status, targets=targets)
        known = replace(known, status=Status.NOT_VISIBLE)
        if query.search_memory and not query.view_id:
            remembered, unsearched = _search_memory(
                query, view, marks, buffer, model, config, registering, frames, deadline, cancellation
            )
            remembered = tuple(_checked_now(one, view, buffer, config, frames) for one in remembered)
            known = replace(known, last_known=remembered, error_msg=unsearched)
        return known
    except ReferError as error:
        return replace(known, error_code=error.code, error_msg=str(error))
    except ImageError as error:
        return replace(known, error_code=ErrorCode.IMAGE_INVALID, error_msg=str(error))
    except Exception as error:  # A robot must get an answer: the unforeseen has a code of its own, and its traceback.
        _log.exception("question %r failed", query.text[:200])
        return replace(known, error_code=ErrorCode.UNKNOWN, error_msg=f"{type(error).__name__}: {error}")


def _moved(stated: View, solved: View) -> bool:
    """Whether a view has another pose than was stated, or one where none was."""
    a, b = stated.T_world_camera, solved.T_world_camera
    return b is not None and (a is None or not np.array_equal(a, b))


def _searched_view(query: Query, buffer: ViewBuffer) -> View:
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
    return view


def _age(view: View, now: Now | None) -> float:
    """By its stamp or by its arrival, whichever is more [s]: the clock of a camera that died may be ahead."""
    if now is None:
        return 0.0
    age = max((now.stamp_ns - view.stamp_ns) / SECOND, 0.0)
    return age if now.steady is None or view.arrival is None else max(age, now.steady - view.arrival)


def why_no_view(query: Query, buffer: ViewBuffer, config: ReferConfig, now: Now | None) -> ReferError | None:
    """Why no view can be searched now: VIEW_NOT_FOUND, NO_VIEW, VIEW_STALE, CLOCK_MISMATCH. None: one can."""
    try:
        _check_age(query, _searched_view(query, buffer), config, now)
    except ReferError as error:
        return error
    return None


def _check_age(query: Query, view: View, config: ReferConfig, now: Now | None) -> None:
    if query.view_id or now is None:
        return
    age = _age(view, now)
    limit = config.max_view_age if query.max_view_age is None else query.max_view_age
    if age > limit:
        raise ReferError(ErrorCode.VIEW_STALE, f"the newest view is {age:.2f} s old, accepted are {limit:.2f} s")
    ahead = (view.stamp_ns - now.stamp_ns) / SECOND
    if ahead > config.max_future:
        raise ReferError(
            ErrorCode.CLOCK_MISMATCH,
            f"the newest view's stamp lies {ahead:.2f} s in the future, accepted are {config.max_future:.2f} s: the "
            "camera's clock and this computer's differ",
        )


def _request(
    query: Query,
    view: View,
    marks: tuple[Mark, ...],
    config: ReferConfig,
    deadline: float | None,
    cancellation: Cancellation | None,
) -> PointingRequest:
    return PointingRequest(
        query.text, view, marks, max(query.max_targets, 1), config.locate, config.tolerance, deadline, cancellation
    )


def _frame_of_targets(query: Query, view: View, config: ReferConfig) -> str:
    return query.target_frame or config.target_frame or view.world_frame


def _check(
    check: GeometricCheck,
    view: View,
    marks: tuple[Mark, ...],
    prediction: Prediction,
    targets: tuple[Target, ...],
    config: ReferConfig,
    frames: FrameLookup | None,
) -> GeometricCheck:
    """``check`` with what depth and poses say of the one mark, against what the model says."""
    place = marks[0].place if len(marks) == 1 else None
    if place is None or view.T_world_camera is None:
        return check
    names, pixels = point_visibility(place.position, view, config.tolerance)
    visibility, pixel = names[0], pixels[0]
    expected = (float(pixel[0]), float(pixel[1])) if np.isfinite(pixel).all() else None
    if prediction.outcome is Outcome.UNPARSABLE:
        return replace(check, agreement=Agreement.UNDECIDED, visibility=visibility, expected_pixel=expected)
    if prediction.outcome is Outcome.NOT_VISIBLE:
        hidden = visibility in (Visibility.OUT_OF_FRUSTUM, Visibility.OCCLUDED)
        verdict = {Visibility.VISIBLE: Agreement.DISAGREES}.get(visibility, Agreement.UNDECIDED)
        agreement = Agreement.AGREES if hidden else verdict
        return replace(check, agreement=agreement, visibility=visibility, expected_pixel=expected)
    distance_px = float("nan") if expected is None else float(np.hypot(*(prediction.points[0] - pixel)))
    distance = float("nan")
    if targets and targets[0].position is not None:
        T = from_view(True, view, targets[0].frame_id, frames)
        distance = float(np.linalg.norm(targets[0].position - transform(T, place.position)))
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
    return replace(
        check,
        agreement=verdict,
        visibility=visibility,
        expected_pixel=expected,
        distance_px=distance_px,
        distance=distance,
    )


def _links(brought: Brought) -> GeometricCheck:
    """How the mark was brought into the searched view, and what became of the surface around it."""
    check = GeometricCheck(surface=surface_of_mark(brought.marks, brought.view))
    if brought.linked is None:
        return check
    return replace(
        check,
        registration=brought.linked.registration,
        without_poses=brought.linked.without_poses,
        via_view_ids=brought.linked.via_view_ids,
    )


def _search_memory(
    query: Query,
    searched: View,
    marks: tuple[Mark, ...],
    buffer: ViewBuffer,
    model: PointingModel,
    config: ReferConfig,
    registering: Registering,
    frames: FrameLookup | None,
    deadline: float | None,
    cancellation: Cancellation | None,
) -> tuple[tuple[LastKnown, ...], str]:
    """The newest older view in which the model finds it, if any, and why other views could not be searched.

    Where the mark's place is known only views that could see it are asked, the newest first. A thing that is known
    by words may be anywhere: views that show different space are asked first, some together, then the others. A view
    that fails (a broken image, an unparsable answer, a world frame that nothing links) is passed over: the answer for
    the present view stands without it.
    """
    failures: list[str] = []
    asked = 0
    for views in memory_batches(searched, marks, buffer, config.memory_views):
        if asked >= config.memory_views:
            break
        if deadline is not None and time.monotonic() >= deadline:
            failures.append("the time was up")
            break
        if cancellation is not None:
            cancellation.check()
        requests: list[PointingRequest] = []
        for view in views:
            try:
                there = tuple(mark_for_view(mark, view, frames) for mark in marks)
                place = there[0].place if len(there) == 1 else None
                if place is not None:
                    names, _ = point_visibility(place.position, view, config.tolerance)
                    if names[0] not in (Visibility.VISIBLE, Visibility.UNKNOWN):
                        continue
                in_world = _frame_of_targets(query, view, config) != view.frame_id
                brought = bring(there, view, registering, config.locate, in_world)
                requests.append(_request(query, brought.view, brought.marks, config, deadline, cancellation))
            except (ReferError, ImageError) as error:
                failures.append(f"view {view.view_id}: {error}")
        requests = requests[: config.memory_views - asked]
        asked += len(requests)
        for request, said in zip(requests, predict_all(model, requests), strict=True):
            try:
                if isinstance(said, Exception):
                    raise said
                frame = _frame_of_targets(query, request.view, config)
                targets = targets_of(said, request.view, frame, config.locate, frames)
                targets = vouched(targets, request.marks, request.view, config.tolerance)
            except (ReferError, ImageError) as error:
                if isinstance(error, ReferError) and error.code is ErrorCode.CANCELED:
                    raise
                failures.append(f"view {request.view.view_id}: {error}")
                continue
            found = [t for t in targets if t.position is not None][: max(query.max_targets, 1)]
            if found:
                return tuple(LastKnown(request.view.view_id, target) for target in found), _unsearched(failures)
    return (), _unsearched(failures)


def _checked_now(
    known: LastKnown, searched: View, buffer: ViewBuffer, config: ReferConfig, frames: FrameLookup | None
) -> LastKnown:
    """``known`` with what the searched view says of its place; as it is where its view was dropped meanwhile."""
    remembered = buffer.get(known.view_id)
    if remembered is None:
        return known
    return replace(known, check=seen_now(known, remembered, searched, config.locate, config.tolerance, frames))


def _unsearched(failures: list[str]) -> str:
    if not failures:
        return ""
    text = f"memory not searched in full, {len(failures)} of its views failed, the newest: {failures[0]}"
    _log.warning(text)
    return text
