"""Keyframes registered to one another: a pose graph around the views that a question touches."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from roboref_core.geometry.pose import inverse, rotation_angle
from roboref_core.views.registration.pair_memory import PairMemory
from roboref_core.views.registration.pose_graph import Edge, PoseGraph, solve
from roboref_core.views.registration.register import Registration, Verdict, relative_covariance
from roboref_core.views.registration.registrar import Registrar, RegistrationMode
from roboref_core.views.view import ImageError, View

Overlapping = Callable[[View], Sequence[tuple[View, float]]]
"""Keyframes that see part of what a view sees, with the share of it, largest first."""


@dataclass(frozen=True)
class KeyframesConfig:
    """How much one question may cost.

    Attributes:
        neighbours: keyframes that each view of a question is registered to.
        min_share: of a view that its neighbours must see.
        max_views: in one graph; earlier registrations join it up to here.
    """

    neighbours: int = 5
    min_share: float = 0.3
    max_views: int = 24


@dataclass(frozen=True, eq=False)
class _Known:
    """A registration and what it was made from."""

    stated: np.ndarray
    sigma: tuple[float, float]
    registration: Registration | None


class Registrations:
    """Registrations of pairs of images, which end with their images. Safe from several threads."""

    def __init__(self) -> None:
        self._known = PairMemory[_Known]()

    def of(self, registrar: Registrar, first: View, second: View, sigma: tuple[float, float]) -> Registration | None:
        """The registration of two posed views with a declared error, from before if they were registered so already.

        Raises ImageError if a picture cannot be decoded.
        """
        stated = relative_pose(first, second)
        known = self._known.get(first, second)
        if known is not None and known.sigma == sigma and np.array_equal(known.stated, stated):
            return known.registration
        registration = registrar.register(first, second, *sigma)
        self._known.put(first, second, _Known(stated, sigma, registration))
        return registration

    def knows(self, first: View, second: View) -> bool:
        """Whether the pair was registered, in this order."""
        return self._known.get(first, second) is not None


@dataclass(frozen=True, eq=False)
class Solved:
    """Poses of the views of a question in one graph.

    Attributes:
        views: with the stated poses, the searched one first.
        graph: their solved poses, in that order.
        connected: which of them registrations connect to the searched one.
    direct: what registering one of them to the searched view alone gave.
    """

    views: tuple[View, ...]
    graph: PoseGraph
    connected: frozenset[int]
    direct: Mapping[int, Registration]

    @property
    def searched(self) -> View:
        """The searched view with its solved pose and the covariance of that."""
        view = self.views[0]
        return view.with_pose(self.graph.poses[0], view.world_frame, self.graph.covariance_of(0))

    def registration(self, reference: View) -> Registration | None:
        """Of a view to the searched one, over all that the graph knows of both; None for a view that is not in it.

        Its counts and agreement are those of registering the two alone, 0 and NaN without.
        """
        i = next((i for i, view in enumerate(self.views) if view.images is reference.images), None)
        if i is None:
            return None
        T, covariance = self.graph.relative(i, 0)
        direct, stated = self.direct.get(i), relative_pose(self.views[i], self.views[0])
        change = T @ inverse(stated)
        correction = (float(np.linalg.norm(change[:3, 3])), rotation_angle(change))
        if direct is None:
            direct = Registration(Verdict.UNCONSTRAINED, stated, covariance)
        verdict = Verdict.REGISTERED if i in self.connected else direct.verdict
        return replace(direct, verdict=verdict, T_query_reference=T, covariance=covariance, correction=correction)


class Keyframes:
    """Solves the poses around a question from registrations, which are kept for the next one.

    Args:
        registrar: makes them.
        known: the store of them, shared by all that ask about the same views.
        overlapping: finds keyframes.
    """

    def __init__(
        self,
        registrar: Registrar,
        known: Registrations,
        overlapping: Overlapping,
        config: KeyframesConfig | None = None,
    ):
        self._registrar, self._known, self._overlapping = registrar, known, overlapping
        self.config = config or KeyframesConfig()

    def solve(
        self,
        searched: View,
        references: Sequence[View],
        translation_sigma: float,
        rotation_sigma: float,
        in_world: bool = True,
        deadline: float | None = None,
    ) -> Solved | None:
        """The poses of a searched view, of the views that hold its marks and of the keyframes around them.

        Args:
            translation_sigma, rotation_sigma: declared error of each camera pose, per axis [m, rad].
            in_world: whether the searched view's pose in the world counts; if not, keyframes are asked only where a
                mark's view could not be registered to the searched one.
            deadline: time.monotonic() after which no further pair is registered [s].
        Returns:
            None where poses have no declared error, nothing could be registered to the searched view, or the
            direct registrations are enough.
        Raises:
            ImageError: a picture of the question's own views cannot be decoded.
        """
        if self._registrar.config.mode is RegistrationMode.OFF or searched.T_world_camera is None:
            return None
        if translation_sigma <= 0 and rotation_sigma <= 0:
            return None
        sigma = (translation_sigma, rotation_sigma)
        asked = [searched]
        for view in references:
            posed = view.T_world_camera is not None and view.world_frame == searched.world_frame
            if posed and all(view.images is not other.images for other in asked):
                asked.append(view)
        direct = [self._known.of(self._registrar, view, searched, sigma) for view in asked[1:]]
        if not in_world and all(one is not None and one.verdict is Verdict.REGISTERED for one in direct):
            return None
        views, nearby = list(asked), []
        for view in asked:
            overlapping = [other for other in self._overlapping(view) if other[0].images is not view.images]
            nearby += [other for other, _ in overlapping]
            near = [other for other, share in overlapping if share >= self.config.min_share]
            for other in near[: self.config.neighbours]:
                if deadline is not None and time.monotonic() >= deadline:
                    break
                if self._edge(*self._pair(other, view), sigma) is not None:
                    _join(views, other)
        for view in views:
            # The list grows while it is read: keyframes of keyframes join as far as they were registered before.
            for other in nearby:
                if len(views) < self.config.max_views and self._known.knows(*self._pair(other, view)):
                    _join(views, other)
        return self._solved(views, sigma)

    def _pair(self, first: View, second: View) -> tuple[View, View]:
        """The two in the order in which they were registered; a second registration would have the same errors."""
        return (second, first) if self._known.knows(second, first) else (first, second)

    def _edge(self, first: View, second: View, sigma: tuple[float, float]) -> Registration | None:
        """A registration that is believed. A keyframe whose image does not decode is passed over."""
        try:
            found = self._known.of(self._registrar, first, second, sigma)
        except ImageError:
            return None
        return found if found is not None and found.verdict is Verdict.REGISTERED else None

    def _solved(self, views: list[View], sigma: tuple[float, float]) -> Solved | None:
        edges: list[Edge] = []
        for i, k in itertools.combinations(range(len(views)), 2):
            first, second = (i, k) if self._pair(views[i], views[k])[0] is views[i] else (k, i)
            if self._known.knows(views[first], views[second]):
                found = self._edge(views[first], views[second], sigma)
                if found is not None:
                    stated = relative_pose(views[first], views[second])
                    edges.append(_edge_of(first, second, found, stated, sigma))
        connected = _connected(edges)
        if len(connected) < 2:
            return None
        poses = np.stack([view.T_world_camera for view in views if view.T_world_camera is not None])
        graph = solve(poses, edges, max(sigma[0], 1e-4), max(sigma[1], 1e-4))
        direct = {}
        for i, view in enumerate(views):
            if self._known.knows(view, views[0]):
                found = self._known.of(self._registrar, view, views[0], sigma)
                if found is not None:
                    direct[i] = found
        return Solved(tuple(views), graph, connected, direct)


def relative_pose(first: View, second: View) -> np.ndarray:
    """4x4 T_second_first as stated, of two views with poses."""
    assert first.T_world_camera is not None and second.T_world_camera is not None
    return inverse(second.T_world_camera) @ first.T_world_camera


def _join(views: list[View], other: View) -> None:
    if all(other.images is not view.images for view in views):
        views.append(other)


def _edge_of(first: int, second: int, found: Registration, stated: np.ndarray, sigma: tuple[float, float]) -> Edge:
    """What the pictures alone say: a registration holds the stated poses as well, which the graph knows itself."""
    assert found.T_query_reference is not None and found.covariance is not None
    prior = np.linalg.inv(relative_covariance(stated, max(sigma[0], 1e-4), max(sigma[1], 1e-4)))
    values, vectors = np.linalg.eigh(np.linalg.inv(found.covariance) - prior)
    information = (vectors * np.maximum(values, 0.0)) @ vectors.T
    return Edge(first, second, found.T_query_reference, information, found.systematic)


def _connected(edges: Sequence[Edge]) -> frozenset[int]:
    reached, grown = {0}, True
    while grown:
        more = {end for edge in edges for end in (edge.first, edge.second) if {edge.first, edge.second} & reached}
        grown = not more <= reached
        reached |= more
    return frozenset(reached)
