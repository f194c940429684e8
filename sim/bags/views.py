"""Which messages of a bag make up each view: a colour image, the depth image beside it, and its pose, wherever in the
bag they were recorded. No ROS."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from sim.bags.player_bag import Bag, header_stamp_ns
from sim.bags.recorder_messages import typestore

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
INFO_TYPE = "sensor_msgs/msg/CameraInfo"
_TF_TYPE = "tf2_msgs/msg/TFMessage"
_POSE_TYPES = (
    _TF_TYPE,
    "nav_msgs/msg/Odometry",
    "geometry_msgs/msg/PoseStamped",
    "geometry_msgs/msg/PoseWithCovarianceStamped",
)
_DEPTH_ENCODINGS = ("16UC1", "32FC1", "mono16")
_COLOR_NAME = re.compile("colou?r|rgb")
_TRANSPORT = re.compile("/(compressed|compressedDepth|theora|ffmpeg|zstd)$")
# Poses further apart than this are no path that a place between them could be read from.
_MAX_POSE_GAP_NS = 500_000_000


class ImageTopics(NamedTuple):
    """The image topics of a bag by what they show; several of a kind are copies, or other cameras."""

    color: tuple[str, ...]
    depth: tuple[str, ...]

    @classmethod
    def of(cls, bag: Bag, topics: Collection[str]) -> ImageTopics:
        """Told apart by the encoding of their first image, not by their names."""
        images = [name for name in topics if bag.topics[name].type in IMAGE_TYPES]
        depth = tuple(name for name in images if _is_depth(bag, name))
        return cls(tuple(name for name in images if name not in depth), depth)

    def best(self, bag: Bag, heard: Collection[str]) -> tuple[str | None, str | None]:
        """One colour and one depth topic: those that somebody subscribes to, if any does; then the likeliest."""

        def choose(names: tuple[str, ...]) -> str | None:
            candidates = [name for name in names if name in heard] or list(names)
            rank = {n: (_COLOR_NAME.search(n) is None, -bag.topics[n].count, i) for i, n in enumerate(candidates)}
            return min(candidates, key=rank.__getitem__, default=None)

        return choose(self.color), choose(self.depth)


class PlannedView(NamedTuple):
    """A view, as places in the sequence of the bag's messages.

    Attributes:
        stamp_ns: its colour image's stamp.
        has_pose: whether the bag says where its camera was.
        first, last: places of the first and the last message that it needs.
    """

    stamp_ns: int
    has_pose: bool
    first: int
    last: int


class ViewPlan:
    """The views of a bag in the order in which they are complete.

    Attributes:
        views: see PlannedView.
        color_images: how many colour images there are; those without depth beside them are no views.

    Args:
        bag: read once as a whole; only stamps are kept.
        topics: what is played.
        color, depth: the topics of a view's images; without depth each colour image is a view.
        tolerance_ns: largest difference of the stamps of colour and depth [ns].
    """

    def __init__(self, bag: Bag, topics: Collection[str], color: str, depth: str | None, tolerance_ns: int):
        infos = {
            n for n in topics if bag.topics[n].type == INFO_TYPE and n in map(info_topic, filter(None, (color, depth)))
        }
        poses = {n for n in topics if bag.topics[n].type in _POSE_TYPES and not bag.topics[n].latched}
        times: list[int] = []
        stamps: dict[str, list[tuple[int, int]]] = {name: [] for name in filter(None, {color, depth, *infos, *poses})}
        for place, message in enumerate(bag.messages(topics)):
            times.append(message.time_ns)
            if message.topic in stamps:
                tf = bag.topics[message.topic].type == _TF_TYPE
                stamp = _tf_stamp_ns(message.data) if tf else header_stamp_ns(message.data)
                if stamp is not None:
                    stamps[message.topic].append((stamp, place))
        self._times = np.array(times, dtype=np.int64)
        self.color_images = len(stamps[color])
        pairs = _pairs(stamps[color], stamps[depth], tolerance_ns) if depth else [(c, c) for c in stamps[color]]
        tracks = [_Track(stamps[name], {stamp for stamp, _ in stamps[color]}) for name in sorted(poses) if stamps[name]]
        info_places = [dict(reversed(stamps[name])) for name in sorted(infos)]
        views = []
        for (stamp, place), (depth_stamp, depth_place) in pairs:
            of_poses = [found for track in tracks if (found := track.place(stamp)) is not None]
            of_infos = [places[s] for places in info_places for s in (stamp, depth_stamp) if s in places]
            needed = [place, depth_place, *of_poses, *of_infos]
            views.append(PlannedView(stamp, bool(of_poses) or not poses, min(needed), max(needed)))
        self.views = sorted(views, key=lambda view: (view.last, view.stamp_ns))
        firsts = [view.first for view in self.views]
        self._needed = np.minimum.accumulate(firsts[::-1])[::-1] if firsts else np.zeros(0, np.int64)

    def place(self, time_ns: int) -> int:
        """Place of the first message at or after a time."""
        return int(np.searchsorted(self._times, time_ns))

    def time_ns(self, view: int) -> int:
        """When the last message of a view was recorded."""
        return int(self._times[self.views[view].last])

    def next_view(self, place: int) -> int:
        """Number of the first view that is still whole when playing starts at a place."""
        i = bisect_left(self.views, place, key=lambda view: view.last)
        while i < len(self.views) and self.views[i].first < place:
            i += 1
        return i

    def needed_from(self, view: int) -> int:
        """The first place that this view or one after it needs."""
        return int(self._needed[view]) if view < len(self.views) else len(self._times)


class _Track:
    """Stamps and places of one topic's poses."""

    def __init__(self, poses: list[tuple[int, int]], color_stamps: set[int]):
        self._places = dict(reversed(poses))
        self._stamps = sorted(self._places)
        # Poses of the images themselves: an image whose own is missing has none.
        self._exact = 2 * len(color_stamps & self._places.keys()) >= min(len(color_stamps), len(self._stamps))

    def place(self, stamp_ns: int) -> int | None:
        """Place of the pose from which on a stamp's pose is known; None: it never is."""
        if self._exact:
            return self._places.get(stamp_ns)
        i = bisect_left(self._stamps, stamp_ns)
        if i == len(self._stamps) or (i == 0 and self._stamps[0] != stamp_ns):
            return None
        after, before = self._stamps[i], self._stamps[max(0, i - 1)]
        if after != stamp_ns and after - before > _MAX_POSE_GAP_NS:
            return None
        return max(self._places[after], self._places[before]) if after != stamp_ns else self._places[after]


def info_topic(image: str) -> str:
    """By convention the camera info's topic is beside its image's."""
    return _TRANSPORT.sub("", image).rpartition("/")[0] + "/camera_info"


def _is_depth(bag: Bag, topic: str) -> bool:
    kind = bag.topics[topic].type
    first = next(bag.messages([topic]), None)
    try:
        message = typestore().deserialize_cdr(first.data, kind) if first else None
    except Exception:
        # Whatever damaged bytes raise in the parser; the name is all that is left to go by.
        return "depth" in topic
    if kind == IMAGE_TYPES[0]:
        return getattr(message, "encoding", "") in _DEPTH_ENCODINGS
    return topic.endswith("/compressedDepth") or "compressedDepth" in getattr(message, "format", "")


def _pairs(
    color: list[tuple[int, int]], depth: list[tuple[int, int]], tolerance_ns: int
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Colour and depth images that are each other's nearest in stamp."""
    if not color or not depth:
        return []
    colors, depths = (np.array(sorted(images), dtype=np.int64) for images in (color, depth))
    of_color, of_depth = _nearest(colors[:, 0], depths[:, 0]), _nearest(depths[:, 0], colors[:, 0])
    return [
        ((int(colors[i, 0]), int(colors[i, 1])), (int(depths[j, 0]), int(depths[j, 1])))
        for i, j in enumerate(of_color)
        if of_depth[j] == i and abs(colors[i, 0] - depths[j, 0]) <= tolerance_ns
    ]


def _nearest(stamps: np.ndarray, among: np.ndarray) -> np.ndarray:
    """(N,) index of the nearest of (M,) sorted ``among`` for each of (N,) ``stamps``; the earlier of two."""
    right = np.clip(np.searchsorted(among, stamps), 0, len(among) - 1)
    left = np.maximum(right - 1, 0)
    return np.where(np.abs(among[left] - stamps) <= np.abs(among[right] - stamps), left, right)


def _tf_stamp_ns(cdr: bytes) -> int | None:
    """Stamp of the first transform of a tf2_msgs/TFMessage: its sequence's length, then a header."""
    order = "<" if cdr[1] & 1 else ">"
    count = int.from_bytes(cdr[4:8], "little" if order == "<" else "big")
    if not count or len(cdr) < 16:
        return None
    return header_stamp_ns(cdr[:4] + cdr[8:16])
