"""The node's parameters: declared with unit, range and description, read into the configurations of the parts.

Defaults of the core's parts are the core's own; config/roboref.yaml lists them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter
from roboref_core.geometry.pose import from_quaternion
from roboref_core.models.registry import BACKENDS, parse_options
from roboref_core.referring.refer import ReferConfig
from roboref_core.views.locate import LocateConfig
from roboref_core.views.registration import RegistrationMode
from roboref_core.views.view_buffer import ViewBufferConfig
from roboref_core.views.visibility import DepthTolerance

from roboref_ros.poses.base import PoseConfig

_BUFFER, _REFER, _LOCATE, _TOLERANCE = ViewBufferConfig(), ReferConfig(), LocateConfig(), DepthTolerance()


@dataclass(frozen=True)
class Parameter:
    """One parameter. ``allowed`` is (lowest, highest) of a number or the words of a string; None: anything.

    ``changeable`` ones are read again for every question; the others when the node is configured or activated, and may
    be changed while it is unconfigured.
    """

    name: str
    default: bool | str | int | float | list[float] | list[str]
    description: str
    allowed: tuple[Any, ...] | None = None
    changeable: bool = False

    def descriptor(self) -> ParameterDescriptor:
        descriptor = ParameterDescriptor(description=self.description)
        if isinstance(self.default, str) and self.allowed:
            descriptor.additional_constraints = f"one of {', '.join(self.allowed)}"
        elif isinstance(self.default, int) and self.allowed:
            descriptor.integer_range = [IntegerRange(from_value=self.allowed[0], to_value=self.allowed[1])]
        elif self.allowed:
            low, high = (float(limit) for limit in self.allowed)
            descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
        return descriptor


PARAMETERS = (
    Parameter("autostart", True, "Configure and activate at start, without a lifecycle manager."),
    Parameter(
        "action.preemption",
        "queue",
        "What a new goal of the action does to those under way: waits behind them, ends them, or is rejected.",
        ("queue", "newest", "reject"),
        True,
    ),
    Parameter("ask.mark_lifetime", 60.0, "How long texts on ~/ask are about a clicked point [s].", (0, 1e6), True),
    Parameter("color.transport", "raw", "Transport of color/image_raw.", ("raw", "compressed")),
    Parameter("depth.transport", "raw", "Transport of depth/image_raw.", ("raw", "compressedDepth")),
    Parameter(
        "depth.extrinsics",
        [0.0] * 7,
        "Pose of the depth camera's optical frame in colour's, if depth is not registered and TF does not tell: "
        "x y z [m] qx qy qz qw. All zero: TF tells.",
    ),
    Parameter("depth.min_depth", _LOCATE.min_depth, "Readings below this are treated as missing [m].", (0, 100), True),
    Parameter("depth.max_depth", _LOCATE.max_depth, "Readings above this are treated as missing [m].", (0, 1000), True),
    Parameter(
        "depth.patch_radius", _LOCATE.patch_radius, "Half the side of the patch read [depth pixel].", (0, 100), True
    ),
    Parameter(
        "depth.fill_radius", _LOCATE.fill_radius, "How far into a hole depth is carried [depth pixel].", (0, 1000), True
    ),
    Parameter("depth.fill_share", _LOCATE.fill_share, "Share of a hole's rim on one surface to fill it.", (0, 1), True),
    Parameter(
        "depth.gap_base", _LOCATE.gap_base, "Two surfaces: apart by more than base + slope * depth [m].", (0, 10), True
    ),
    Parameter("depth.gap_slope", _LOCATE.gap_slope, "See gap_base [m/m].", (0, 1), True),
    Parameter("depth.pixel_sigma", _LOCATE.pixel_sigma, "Standard deviation of a pixel [pixel].", (0, 1000), True),
    Parameter(
        "depth.noise_base",
        _LOCATE.noise_base,
        "Sensor sigma = base + quadratic * (depth - origin)^2 [m].",
        (0, 1),
        True,
    ),
    Parameter("depth.noise_quadratic", _LOCATE.noise_quadratic, "See noise_base [1/m].", (0, 1), True),
    Parameter("depth.noise_origin", _LOCATE.noise_origin, "See noise_base [m].", (0, 100), True),
    Parameter("depth.tolerance_base", _TOLERANCE.a, "Same surface within base + slope * depth [m].", (0, 10), True),
    Parameter("depth.tolerance_slope", _TOLERANCE.b, "See tolerance_base [m/m].", (0, 1), True),
    Parameter("qos_depth", 10, "Messages of each input that the middleware keeps for the node.", (1, 1000)),
    Parameter("sync.slop", 0.02, "Largest difference of stamps of colour and depth [s]. 0: equal only.", (0, 0.5)),
    Parameter("sync.queue_size", 10, "Most images of a stream that wait for a partner.", (1, 100)),
    Parameter(
        "sync.max_backwards",
        1.0,
        "How far stamps may come out of order; beyond, an outlier or a clock jump [s].",
        (0, 60),
    ),
    Parameter(
        "sync.warn_after", 5.0, "Warn, with the cause, when no view has arrived for this long [s, steady].", (0.1, 3600)
    ),
    Parameter(
        "pose.source", "tf", "Where camera poses come from: TF, or the topics odom or pose.", ("tf", "odometry", "pose")
    ),
    Parameter("pose.timeout", 0.5, "Longest wait of a view for its pose and camera info [s, steady].", (0, 10)),
    Parameter("pose.tolerance", 0.02, "Age at which a pose still stands for a view beyond the newest [s].", (0, 1)),
    Parameter(
        "pose.max_gap", 0.25, "Largest time between two poses of odom or pose that is interpolated [s].", (0, 10)
    ),
    Parameter(
        "pose.extrinsics",
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0],
        "Pose of the camera's optical frame in the frame whose pose odom or pose gives: x y z [m] qx qy qz qw.",
    ),
    Parameter(
        "pose.translation_sigma",
        _LOCATE.pose_translation_sigma,
        "Standard deviation of camera poses per axis, for covariances [m].",
        (0, 10),
        True,
    ),
    Parameter("pose.rotation_sigma", _LOCATE.pose_rotation_sigma, "The same of their rotation [rad].", (0, 1), True),
    Parameter(
        "pose.residual_period",
        2.0,
        "How often the poses of new keyframes are compared with their surfaces [s, steady]. 0: never.",
        (0, 3600),
    ),
    Parameter(
        "registration",
        _REFER.registration.value,
        "Register a mark's view to the searched one: never, where poses have a sigma or disagree, or always.",
        tuple(mode.value for mode in RegistrationMode),
        True,
    ),
    Parameter("fixed_frame", "odom", "World frame of camera poses from TF; odom and pose messages name their own."),
    Parameter("tf.cache_time", 30.0, "How long transforms are kept [s].", (1, 3600)),
    Parameter("tf.timeout", 0.2, "Longest wait of a question for a transform [s, steady].", (0, 10)),
    Parameter("target_frame", _REFER.target_frame, "Frame of positions if the question names none.", None, True),
    Parameter("views.max_views", _BUFFER.max_views, "Most keyframes.", (2, 100_000)),
    Parameter("views.max_bytes", _BUFFER.max_bytes, "Most image data of keyframes [byte].", (1_000_000, 2**40)),
    Parameter("views.min_translation", _BUFFER.min_translation, "Motion that makes a new keyframe [m].", (0, 100)),
    Parameter("views.min_rotation", float(_BUFFER.min_rotation), "Motion that makes a new keyframe [rad].", (0, 3.15)),
    Parameter("views.min_interval", _BUFFER.min_interval, "No new keyframe sooner than this [s].", (0, 3600)),
    Parameter("views.max_interval", _BUFFER.max_interval, "A new keyframe after this, even at rest [s].", (0, 86400)),
    Parameter(
        "views.unposed_interval", _BUFFER.unposed_interval, "The same, for views without a pose [s].", (0, 86400)
    ),
    Parameter(
        "views.sharpness_window", _BUFFER.sharpness_window, "Candidates of which the sharpest is kept.", (1, 100)
    ),
    Parameter("views.max_kept", _BUFFER.max_kept, "Most other views that stay since answers named them.", (1, 10_000)),
    Parameter("refer.max_view_age", _REFER.max_view_age, "Oldest acceptable newest view [s].", (0, 1e9), True),
    Parameter("refer.max_future", _REFER.max_future, "How far a stamp may lie ahead of the clock [s].", (0, 1e9), True),
    Parameter(
        "refer.memory_views", _REFER.memory_views, "Most older views that one question may search.", (0, 10_000), True
    ),
    Parameter(
        "refer.ambiguity_ratio", _REFER.ambiguity_ratio, "Share of the best score that makes a rival.", (0, 1), True
    ),
    Parameter(
        "refer.ambiguity_distance", _REFER.ambiguity_distance, "Distance that makes a rival [m].", (0, 100), True
    ),
    Parameter(
        "refer.agreement_distance",
        _REFER.agreement_distance,
        "Model and geometry agree up to this [m].",
        (0, 100),
        True,
    ),
    Parameter(
        "refer.agreement_pixels",
        _REFER.agreement_pixels,
        "The same without depth [share of the diagonal].",
        (0, 1),
        True,
    ),
    Parameter("capture.timeout", 5.0, "Longest wait of capture_view, if it says none [s, steady].", (0.01, 3600), True),
    Parameter("model.backend", "reprojection", "Name of the pointing model.", BACKENDS),
    Parameter("model.path", "", "Its checkpoint folder, for backends that have one."),
    Parameter("model.url", "", "Its server, for backends that have one."),
    Parameter("model.device", "auto", "Its device: auto, cpu, cuda or cuda:N."),
    Parameter("model.dtype", "auto", "Its number type: auto, float32, float16 or bfloat16."),
    Parameter("model.options", [""], "Its further options, each name=value, e.g. convention=thousand."),
    Parameter(
        "inference.timeout",
        30.0,
        "Longest wait for an answer, if the question says none [s, steady].",
        (0.01, 3600),
        True,
    ),
    Parameter("inference.queue_size", 4, "Most questions that wait; more are answered BUSY.", (1, 100)),
)


def declare(node: Node) -> None:
    """Declare all parameters. Raises ValueError naming the first whose value is not allowed."""
    for parameter in PARAMETERS:
        try:
            node.declare_parameter(parameter.name, parameter.default, parameter.descriptor())
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            hint = " (write 1.0, not 1)" if "expecting type 'DOUBLE'" in str(error) else ""
            raise ValueError(f"parameter {parameter.name}: {error}{hint}") from error
        if problem := _refused(parameter, node.get_parameter(parameter.name).value):
            raise ValueError(problem)


def guard(unconfigured: Callable[[], bool]) -> Callable[[list[RosParameter]], SetParametersResult]:
    """What refuses changes: of words that are not allowed, and of parameters that are in use by the configured node."""
    known = {parameter.name: parameter for parameter in PARAMETERS}

    def check_change(changes: list[RosParameter]) -> SetParametersResult:
        for change in changes:
            parameter = known.get(change.name)
            if parameter is None:
                continue
            if not parameter.changeable and not unconfigured():
                reason = f"{change.name} can be changed in the state unconfigured only: clean up first"
                return SetParametersResult(successful=False, reason=reason)
            if problem := _refused(parameter, change.value):
                return SetParametersResult(successful=False, reason=problem)
        return SetParametersResult(successful=True)

    return check_change


def check(node: Node) -> None:
    """Raises ValueError for what cannot be used and can be told without a model or TF."""
    pose_config(node)
    depth_extrinsics(node)
    refer_config(node)
    buffer_config(node)
    parse_options(text for text in node.get_parameter("model.options").value if text)


def _refused(parameter: Parameter, value: Any) -> str:
    """Why a word is not allowed; ranges of numbers are ROS's own business."""
    if isinstance(value, str) and parameter.allowed and value not in parameter.allowed:
        return f"parameter {parameter.name}: expected one of {', '.join(parameter.allowed)}, found {value!r}"
    return ""


def pose_config(node: Node) -> PoseConfig:
    return PoseConfig(
        source=node.get_parameter("pose.source").value,
        fixed_frame=node.get_parameter("fixed_frame").value,
        timeout=node.get_parameter("pose.timeout").value,
        tolerance=node.get_parameter("pose.tolerance").value,
        max_gap=node.get_parameter("pose.max_gap").value,
        extrinsics=tuple(node.get_parameter("pose.extrinsics").value),
        tf_cache_time=node.get_parameter("tf.cache_time").value,
        tf_timeout=node.get_parameter("tf.timeout").value,
        max_backwards=node.get_parameter("sync.max_backwards").value,
    )


def depth_extrinsics(node: Node) -> np.ndarray | None:
    """T_color_depth; None if TF is to tell. Raises ValueError for anything but a pose."""
    numbers = list(node.get_parameter("depth.extrinsics").value)
    if len(numbers) != 7:
        raise ValueError(f"depth.extrinsics must be x y z qx qy qz qw, found {len(numbers)} numbers")
    return from_quaternion(numbers[3:], numbers[:3]) if any(numbers) else None


def buffer_config(node: Node) -> ViewBufferConfig:
    return ViewBufferConfig(**_group(node, "views."))


def refer_config(node: Node) -> ReferConfig:
    """The present values: they may be changed while the node runs."""
    depth = _group(node, "depth.", changeable=True)
    tolerance = DepthTolerance(a=depth.pop("tolerance_base"), b=depth.pop("tolerance_slope"))
    return ReferConfig(
        **_group(node, "refer."),
        target_frame=node.get_parameter("target_frame").value,
        locate=LocateConfig(
            **depth,
            pose_translation_sigma=node.get_parameter("pose.translation_sigma").value,
            pose_rotation_sigma=node.get_parameter("pose.rotation_sigma").value,
        ),
        tolerance=tolerance,
        registration=RegistrationMode(node.get_parameter("registration").value),
    )


def _group(node: Node, prefix: str, changeable: bool | None = None) -> dict[str, Any]:
    return {
        parameter.name.removeprefix(prefix): node.get_parameter(parameter.name).value
        for parameter in PARAMETERS
        if parameter.name.startswith(prefix) and changeable in (None, parameter.changeable)
    }
