"""roboref_msgs and roboref_core say the same: constants, field names, and a zero that is never FOUND."""

from __future__ import annotations

import dataclasses

import pytest
from roboref_core.referring import answer, query
from roboref_core.referring.pose_residual import PoseResidual
from roboref_core.views.registration import Change, ChangeEvidence, Registration, Verdict
from roboref_core.views.visibility import Visibility

msg = pytest.importorskip("roboref_msgs.msg", reason="ros2_ws is not built: make setup")


def constants(message, prefix=""):
    """Of a message class whose names start with ``prefix``, without it."""
    names = [name for name in dir(type(message)) if name.isupper() and name.startswith(prefix) and name[0] != "_"]
    return {name.removeprefix(prefix): getattr(message, name) for name in names}


def members(enum):
    return {member.name: member.value for member in enum}


def test_constants_are_the_enums():
    assert constants(msg.ReferAnswer, "STATUS_") == members(answer.Status)
    codes = {name: value for name, value in constants(msg.ReferAnswer).items() if not name.startswith("STATUS_")}
    assert codes == members(answer.ErrorCode)
    assert constants(msg.ReferredTarget, "DEPTH_") == members(answer.DepthSource)
    assert constants(msg.GeometricCheck, "AGREEMENT_") == members(answer.Agreement)
    assert constants(msg.SurfaceChange, "CHANGE_") == members(Change)


def test_verdict_constants_name_every_verdict_and_its_absence():
    verdict = constants(msg.ViewRegistration, "VERDICT_")
    assert verdict.pop("NONE") == 0
    assert set(verdict) == {member.name for member in Verdict}
    assert len(set(verdict.values()) | {0}) == len(verdict) + 1


def test_visibility_constants_name_every_visibility_and_its_absence():
    visibility = constants(msg.GeometricCheck, "VISIBILITY_")
    assert visibility.pop("NOT_CHECKED") == 0
    assert set(visibility) == {member.name for member in Visibility}
    assert len(set(visibility.values()) | {0}) == len(visibility) + 1


@pytest.mark.parametrize(
    "dataclass, message, only_core, only_message",
    [
        (query.Query, msg.ReferQuery, set(), set()),
        (query.MarkedPoint, msg.MarkedRegion, set(), {"type", "box", "position"}),
        (query.MarkedBox, msg.MarkedRegion, set(), {"type", "point", "position"}),
        (query.MarkedPosition, msg.MarkedRegion, {"frame_id"}, {"type", "view_id", "point", "box"}),
        (answer.Answer, msg.ReferAnswer, set(), set()),
        (answer.LastKnown, msg.LastKnownTarget, set(), set()),
        (answer.GeometricCheck, msg.GeometricCheck, {"without_poses", "via_view_ids"}, {"has_expected_pixel"}),
        (
            Registration,
            msg.ViewRegistration,
            {"T_query_reference", "covariance", "correction", "systematic"},
            {"without_poses", "via_view_ids", "correction_distance", "correction_angle"},
        ),
        (ChangeEvidence, msg.SurfaceChange, set(), set()),
        (PoseResidual, msg.PoseResidual, set(), {"header", "poses_disagree"}),
        (
            answer.Target,
            msg.ReferredTarget,
            {"frame_id", "stamp_ns", "covariance"},
            {"header", "covariance_type", "position_covariance"},
        ),
    ],
)
def test_fields_mirror_the_dataclass(dataclass, message, only_core, only_message):
    core = {field.name for field in dataclasses.fields(dataclass)}
    wire = set(message.get_fields_and_field_types())
    assert core - wire == only_core
    assert wire - core == only_message


def test_zero_initialised_answer_found_nothing():
    zero = msg.ReferAnswer()
    assert zero.status not in (zero.STATUS_FOUND, zero.STATUS_FOUND_WITHOUT_POSITION, zero.STATUS_AMBIGUOUS)
    assert not zero.targets
    assert not zero.last_known
    assert not zero.check.has_expected_pixel
    assert zero.check.registration.verdict != zero.check.registration.VERDICT_REGISTERED
    assert zero.check.surface.change == zero.check.surface.CHANGE_NOT_CHECKED
    assert zero.check.agreement != zero.check.AGREEMENT_AGREES
    assert msg.ReferredTarget().depth_source == msg.ReferredTarget.DEPTH_NONE
