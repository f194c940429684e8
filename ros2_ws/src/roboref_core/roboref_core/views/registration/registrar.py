"""Which pairs of views are registered, and with what stated error of their poses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from roboref_core.geometry.pose import inverse
from roboref_core.views.registration.features import FeatureCache
from roboref_core.views.registration.refine import agreement, disagreement
from roboref_core.views.registration.register import Registration, RegistrationConfig, Verdict, register
from roboref_core.views.view import View

_SENSOR_NOISE = (0.001, 0.0015)
"""Median disagreement of two measured surfaces in exact poses: base and growth with the squared depth [m, 1/m]."""
_EXPLAINED = 0.1
"""Share of the disagreement of undeclared poses that a registration must remove; else moved things explain it."""


class RegistrationMode(Enum):
    """When views are registered to one another."""

    OFF = "off"
    AUTO = "auto"
    """Where poses have a declared error, where there are none, and where the surfaces of two views disagree."""
    ALWAYS = "always"


@dataclass(frozen=True)
class RegistrarConfig:
    """Attributes:
    mode: when to register.
    translation_sigma, rotation_sigma: error per axis that a camera pose is taken to have where none is declared and
        the surfaces disagree [m, rad].
    agreed_share: share of comparable surface points that lie on one another where undeclared poses are believed.
    poses_disagree: undeclared poses are known to be off (the residual of keyframes shows it), so that AUTO registers
        pairs too whose own surfaces agree, as those of two views of one wall do.
    criteria: when a registration is believed.
    """

    mode: RegistrationMode = RegistrationMode.AUTO
    translation_sigma: float = 0.05
    rotation_sigma: float = float(np.radians(3.0))
    agreed_share: float = 0.8
    poses_disagree: bool = False
    criteria: RegistrationConfig = field(default_factory=RegistrationConfig)


class Registrar:
    """Registers views where it helps. Safe from several threads.

    Args:
        cache: of features, shared by all that register the same views.
    """

    def __init__(self, config: RegistrarConfig | None = None, cache: FeatureCache | None = None):
        self.config = config or RegistrarConfig()
        self.cache = cache or FeatureCache()

    def register(
        self, reference: View, query: View, translation_sigma: float = 0.0, rotation_sigma: float = 0.0
    ) -> Registration | None:
        """The relative pose of two views; None where the stated poses stand.

        Args:
            translation_sigma, rotation_sigma: declared error of each camera pose, per axis [m, rad]; 0: undeclared.
        Raises:
            ImageError: a picture cannot be decoded.
        """
        config = self.config
        if config.mode is RegistrationMode.OFF or reference.images is query.images:
            return None
        posed = reference.T_world_camera is not None and query.T_world_camera is not None
        if posed and translation_sigma == 0 and rotation_sigma == 0:
            trusted = config.mode is RegistrationMode.AUTO and not config.poses_disagree
            if trusted and self._agree(reference, query):
                return None
            sigmas = config.translation_sigma, config.rotation_sigma
            found = register(reference, query, self.cache, *sigmas, config.criteria)
            return None if trusted and not self._explains(found) else found
        return register(reference, query, self.cache, translation_sigma, rotation_sigma, config.criteria)

    def through(
        self, reference: View, query: View, between: Iterable[View], limit: int = 16
    ) -> tuple[Registration, tuple[str, ...]] | None:
        """Two views without a known relative pose, registered directly or over a chain of views in which neighbours
        overlap.

        Where two do not overlap, views from the middle of the time between them are tried first, and each half in the
        same way: a camera in motion has seen what lies between.

        Args:
            between: views that the chain may use.
            limit: most pairs that are registered.
        Returns:
            The registration, whose counts are those of its weakest link, and the ids of the views between (none if
            direct); None where nothing connects them.
        """
        ends = (reference.images, query.images)
        others = [view.with_pose(None) for view in between if view.images not in ends]
        return _Chain(self, others, limit).connect(reference.with_pose(None), query.with_pose(None))

    def residual(self, views: Iterable[View]) -> float:
        """Median disagreement of the surfaces of overlapping views in their stated poses [m]; NaN without overlap.

        It grows as poses go bad. Views are compared each with the one before.
        """
        distances: list[float] = []
        before: View | None = None
        for view in views:
            if before is not None and before.world_frame == view.world_frame:
                distance = self.disagreement(before, view)
                if np.isfinite(distance):
                    distances.append(distance)
            before = view
        return float(np.median(distances)) if distances else float("nan")

    def disagreement(self, reference: View, query: View) -> float:
        """Median distance of the surfaces of two views in their stated poses [m]; NaN where they cannot be compared.

        Raises ImageError if a depth image is broken.
        """
        if reference.T_world_camera is None or query.T_world_camera is None:
            return float("nan")
        a, b = self.cache.surface(reference), self.cache.surface(query)
        if a is None or b is None:
            return float("nan")
        return disagreement(_stated(reference, query), a, b)

    def noise(self, view: View) -> float:
        """Median disagreement with another view in exact poses: the noise of depth sensors [m]; NaN without depth."""
        surface = self.cache.surface(view)
        if surface is None or len(surface.points) == 0:
            return float("nan")
        return _SENSOR_NOISE[0] + _SENSOR_NOISE[1] * float(np.median(surface.points[:, 2])) ** 2

    def _explains(self, found: Registration) -> bool:
        """Whether a registration makes surfaces agree that did not. Things that were moved disagree in any pose."""
        if found.verdict is not Verdict.REGISTERED:
            return True
        return found.agreement - found.stated_agreement >= _EXPLAINED * (1.0 - found.stated_agreement)

    def _agree(self, reference: View, query: View) -> bool:
        a, b = self.cache.surface(reference), self.cache.surface(query)
        if a is None or b is None:
            return True  # Nothing speaks against the poses.
        share, pairs = agreement(_stated(reference, query), a, b)
        return pairs < self.config.criteria.min_pairs or share >= self.config.agreed_share


def _stated(reference: View, query: View) -> np.ndarray:
    assert reference.T_world_camera is not None and query.T_world_camera is not None
    return inverse(query.T_world_camera) @ reference.T_world_camera


class _Chain:
    """Looks for a chain of registrations between two views, within a number of registrations."""

    def __init__(self, registrar: Registrar, others: list[View], limit: int):
        self._registrar, self._others, self._left = registrar, others, limit
        self._tried: dict[tuple[int, int], Registration | None] = {}

    def connect(
        self, first: View, last: View, used: frozenset[int] = frozenset()
    ) -> tuple[Registration, tuple[str, ...]] | None:
        direct = self._direct(first, last)
        if direct is not None:
            return direct, ()
        used = used | {id(first.images), id(last.images)}
        middle = (first.stamp_ns + last.stamp_ns) / 2
        free = [view for view in self._others if id(view.images) not in used]
        for view in sorted(free, key=lambda view: abs(view.stamp_ns - middle)):
            if self._left <= 0:
                return None
            start = self.connect(first, view, used)
            end = None if start is None else self.connect(view, last, used)
            if start is not None and end is not None:
                return start[0].then(end[0]), (*start[1], view.view_id, *end[1])
        return None

    def _direct(self, first: View, last: View) -> Registration | None:
        key = (id(first.images), id(last.images))
        if key not in self._tried:
            if self._left <= 0:
                return None
            self._left -= 1
            found = self._registrar.register(first, last)
            self._tried[key] = found if found is not None and found.verdict is Verdict.REGISTERED else None
        return self._tried[key]
