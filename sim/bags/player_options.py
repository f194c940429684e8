"""How a bag is played: what `roboref sim play` and the library share."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class PlayOptions:
    """How a bag is played."""

    rate: float = 1.0
    """Speed, relative to the recording."""
    topics: tuple[str, ...] = ()
    """Play only these topics (as recorded); none: all."""
    remaps: dict[str, str] = field(default_factory=dict)
    """Recorded topic -> topic to publish on."""
    clock: bool = True
    """Publish /clock."""
    share_clock: bool = False
    """Play although somebody else publishes /clock."""
    wait_for: tuple[str, ...] | None = None
    """Recorded topics that need a subscriber before the first message; none given: the images and camera infos."""
    discovery_seconds: float = 20.0
    """How long to wait for those."""
    attempts: int = 3
    """Stepped: how often a view is sent before it counts as not taken (a best-effort subscriber may miss it)."""

    def __post_init__(self):
        if not self.rate > 0 or self.attempts < 1:
            raise ValueError(f"rate must be above 0 and attempts at least 1, found {self.rate} and {self.attempts}")
