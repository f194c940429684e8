"""Why there is no view, or an old one: one diagnosis, from measured facts."""

from __future__ import annotations

from dataclasses import dataclass

from roboref_core.errors import ErrorCode, ReferError

_CLOCKS_DIFFER = 60.0
"""Stamps and clock this far apart are two clocks rather than a slow network [s]."""
_UNSTAMPED = 0.5
"""A stamp this close to 0, while the clock is elsewhere, was not filled in [s]."""
_SILENT = 2.0
"""A stream that was heard but not for this long is silent [s]."""


@dataclass(frozen=True)
class StreamFacts:
    """What was measured of one image topic since the node started, or since its clock jumped.

    Attributes:
        topic, info_topic: resolved names.
        count: images received.
        rate: mean rate of the last few [Hz]; NaN before the second.
        silence: time since the last one, steady [s]; None: none has come.
        delay: the node's clock minus the stamp of the last one, when it came [s]; negative: from the future.
        publishers: on the topic now.
        unpaired: images that found no partner.
        outliers: images whose stamps were outliers.
    """

    topic: str
    info_topic: str
    count: int = 0
    rate: float = float("nan")
    silence: float | None = None
    delay: float = 0.0
    publishers: int = 0
    unpaired: int = 0
    outliers: int = 0

    @property
    def heard(self) -> bool:
        return self.silence is not None and self.silence <= max(_SILENT, 3 / self.rate if self.rate > 0 else 0.0)


@dataclass(frozen=True)
class IntakeFacts:
    """What was measured of the way from images to views.

    Attributes:
        color, depth: of the two image topics.
        pairs: pairs made.
        nearest_gap: least difference of stamps between the last images of both streams [s]; None: unknown.
        slop, queue_size: of the pairing [s, images].
        overflowed: images dropped because they came faster than they could be handled.
        pending: pairs that wait for camera info or pose now.
        problem: why the newest pair became no view; None if it did.
        pose_topic, pose_problem: where poses come from, and why the newest view has none.
        simulated, clock: whether the node's clock follows /clock, and its time [s].
    """

    color: StreamFacts
    depth: StreamFacts
    pairs: int = 0
    nearest_gap: float | None = None
    slop: float = 0.0
    queue_size: int = 0
    overflowed: int = 0
    pending: int = 0
    problem: ReferError | None = None
    pose_topic: str = ""
    pose_problem: str = ""
    simulated: bool = False
    clock: float = 1.0


@dataclass(frozen=True)
class Diagnosis:
    """A cause, with the code that an answer gets, and a text for a person."""

    code: ErrorCode
    text: str


def diagnose(facts: IntakeFacts) -> Diagnosis:
    """Why the newest view is missing or old. Asked while views come in time, it says so."""
    color, depth = facts.color, facts.depth
    if facts.simulated and facts.clock <= 0.0:
        return Diagnosis(ErrorCode.NO_VIEW, "use_sim_time is set, but nobody publishes /clock: the clock stands at 0")
    if not color.count and not depth.count:
        return Diagnosis(
            ErrorCode.NO_VIEW, f"no image arrives on {color.topic} nor on {depth.topic}{_publishers(color, depth)}"
        )
    for silent, other in ((color, depth), (depth, color)):
        if not silent.count:
            text = f"{other.count} images have arrived on {other.topic}, but none on {silent.topic}"
            return Diagnosis(ErrorCode.NO_VIEW, text + _publishers(silent))
    unheard = [stream for stream in (color, depth) if not stream.heard]
    if unheard:
        texts = [f"the last image on {stream.topic} came {stream.silence:.1f} s ago" for stream in unheard]
        return Diagnosis(ErrorCode.VIEW_STALE, " and ".join(texts) + _publishers(*unheard))
    if facts.problem is not None:
        return Diagnosis(facts.problem.code, str(facts.problem))
    if abs(color.delay - depth.delay) > _CLOCKS_DIFFER:
        return Diagnosis(
            ErrorCode.NO_VIEW,
            f"the stamps on {color.topic} and on {depth.topic} are {abs(color.delay - depth.delay):.1f} s apart: their "
            "clocks differ",
        )
    if not facts.pairs:
        return Diagnosis(ErrorCode.NO_VIEW, _no_pair(facts))
    for stream in (color, depth):
        if abs(stream.delay) > _CLOCKS_DIFFER:
            code = ErrorCode.VIEW_STALE if stream.delay > 0 else ErrorCode.CLOCK_MISMATCH
            return Diagnosis(code, _other_clock(stream, facts))
    if facts.pending:
        text = f"waiting for camera info on {color.info_topic} and for a pose on {facts.pose_topic}"
        return Diagnosis(ErrorCode.NO_VIEW, text)
    if facts.overflowed:
        return Diagnosis(ErrorCode.NO_VIEW, f"images come faster than they are handled: {facts.overflowed} dropped")
    return Diagnosis(
        ErrorCode.VIEW_STALE,
        f"images arrive at {color.rate:.1f} Hz on {color.topic} and {depth.rate:.1f} Hz on {depth.topic}, "
        f"{color.delay:.2f} s and {depth.delay:.2f} s after their stamps; {facts.pairs} pairs so far",
    )


def _no_pair(facts: IntakeFacts) -> str:
    color, depth = facts.color, facts.depth
    text = f"images arrive on {color.topic} ({color.count}) and on {depth.topic} ({depth.count}), but none pair: "
    late, early = (color, depth) if color.delay > depth.delay else (depth, color)
    behind = late.delay - early.delay
    waited = facts.queue_size / early.rate if early.rate > 0 else float("inf")
    if facts.nearest_gap is not None and facts.nearest_gap <= facts.slop and behind > waited:
        needed = round(early.rate * behind * 1.5) + 1
        return text + (
            f"{late.topic} comes {behind:.2f} s after {early.topic} of the same stamp, and sync.queue_size "
            f"{facts.queue_size} holds {waited:.2f} s: set it to {needed}"
        )
    nearest = "unknown" if facts.nearest_gap is None else f"{facts.nearest_gap:.4f} s apart"
    return text + (
        f"no two have stamps within {facts.slop:g} s of each other (sync.slop), the nearest lie {nearest}; images of "
        f"{late.topic} come {behind:.2f} s later after their stamps than those of {early.topic}"
    )


def _other_clock(stream: StreamFacts, facts: IntakeFacts) -> str:
    if stream.silence is not None and abs(facts.clock - stream.silence - stream.delay) < _UNSTAMPED:
        return f"images on {stream.topic} have the stamp 0: their driver must stamp them with the time of exposure"
    where = "behind" if stream.delay > 0 else "ahead of"
    text = f"images arrive at {stream.rate:.1f} Hz on {stream.topic}, but their stamps lie {_span(abs(stream.delay))} "
    hint = (
        "/clock and the images do not come from the same bag or simulator"
        if facts.simulated
        else "is this a bag or a simulator? Set use_sim_time. Otherwise set the camera's clock"
    )
    return f"{text}{where} this node's clock: {hint}"


def _span(seconds: float) -> str:
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"


def _publishers(*streams: StreamFacts) -> str:
    counts = [stream.publishers for stream in streams]
    if not any(counts):
        return ", and nobody publishes there"
    text = " and ".join(str(count) for count in counts)
    return f", although there are publishers ({text}): paused, or images lost on the way (Fast DDS profile, QoS)"
