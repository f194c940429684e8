"""Pre-grasp and grasp for what the text refers to, along the normal of its surface; planned by MoveIt 2 if asked to.

    python examples/pre_grasp.py "the red mug" --ros-args -p frame:=base_link
    ... -p group:=panda_arm -p link:=panda_hand     also plans to both poses with MoveIt's moveit_py, and executes them

Publishes the poses on /pre_grasp_pose and /grasp_pose. Their z axis goes into the surface, their y axis is horizontal.
Parameters: node (/roboref), frame with z up ("": the node's), distance (0.10 m), tool (0.0 m, from the link to the
fingertips).
"""

from __future__ import annotations

import sys
import threading

import rclpy
from geometry_msgs.msg import PoseStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.utilities import remove_ros_args
from roboref_core.grasp import grasp_along_normal
from roboref_core.referring.answer import Status
from roboref_core.referring.query import Query
from roboref_ros.clients import ReferClient
from roboref_ros.conversions import pose_from_message, pose_to_message

_SURFACE_SECONDS = 5.0


class PreGrasp(Node):
    """Asks once, and makes two poses of the surface that the answer lies on."""

    def __init__(self) -> None:
        super().__init__("pre_grasp")
        names = {"node": "/roboref", "frame": "", "group": "", "link": "", "distance": 0.10, "tool": 0.0}
        self.options = {name: self.declare_parameter(name, default).value for name, default in names.items()}
        self._client = ReferClient(self, self.options["node"])
        self._surfaces: list[PoseStamped] = []
        self._arrived = threading.Condition()
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.create_subscription(PoseStamped, f"{self.options['node']}/surface_pose", self._on_surface, latched)
        self._goals = [self.create_publisher(PoseStamped, f"/{name}_pose", latched) for name in ("pre_grasp", "grasp")]

    def _on_surface(self, surface: PoseStamped) -> None:
        with self._arrived:
            self._surfaces.append(surface)
            self._arrived.notify_all()

    def poses(self, text: str) -> tuple[PoseStamped, PoseStamped]:
        """Pre-grasp and grasp. Raises LookupError, saying why, if there are none."""
        answer = self._client.refer(Query(text, target_frame=self.options["frame"]))
        if answer.status != Status.FOUND:
            raise LookupError(f"{Status(answer.status).name}: {answer.error_msg or 'nothing to grasp'}")
        target = answer.targets[0]

        def of_this_answer() -> list[PoseStamped]:
            return [s for s in self._surfaces if s.header.stamp == target.header.stamp]

        with self._arrived:
            if not self._arrived.wait_for(of_this_answer, _SURFACE_SECONDS):
                raise LookupError("the surface there is not flat enough to have a normal, or the camera has no pose")
            surface = of_this_answer()[-1]
        T = pose_from_message(surface.pose)
        grasp = grasp_along_normal(T[:3, 3], -T[:3, 2], self.options["distance"], self.options["tool"])
        poses = [PoseStamped(header=surface.header, pose=pose_to_message(T_frame_gripper)) for T_frame_gripper in grasp]
        for goal, topic in zip(poses, self._goals, strict=True):
            topic.publish(goal)
        return poses[0], poses[1]


def execute(poses: tuple[PoseStamped, PoseStamped], group: str, link: str) -> None:
    """Plan to one pose after the other with moveit_py, and execute. Raises RuntimeError where no plan is found."""
    from moveit.planning import MoveItPy

    robot = MoveItPy(node_name="pre_grasp_moveit")
    arm = robot.get_planning_component(group)
    for goal in poses:
        arm.set_start_state_to_current_state()
        arm.set_goal_state(pose_stamped_msg=goal, pose_link=link)
        plan = arm.plan()
        if not plan:
            raise RuntimeError(f"MoveIt finds no way to {goal.pose.position} in {goal.header.frame_id}")
        robot.execute(plan.trajectory, controllers=[])


def main() -> int:
    """Returns 0, 1 if there is nothing to grasp, 2 for wrong usage."""
    words = remove_ros_args(sys.argv)[1:]
    if not words:
        print(__doc__, file=sys.stderr)
        return 2
    rclpy.init(args=sys.argv)
    node = PreGrasp()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    try:
        poses = node.poses(" ".join(words))
        for name, goal in zip(("pre-grasp", "grasp"), poses, strict=True):
            p = goal.pose.position
            print(f"{name}: {p.x:.3f} {p.y:.3f} {p.z:.3f} in {goal.header.frame_id}")
        if node.options["group"]:
            execute(poses, node.options["group"], node.options["link"])
    except (LookupError, TimeoutError) as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        executor.shutdown()
        thread.join()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
