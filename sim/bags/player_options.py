"""How a bag is played: what `roboref sim play` and the library share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


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
    """Publish /clock; a recorded /clock is not played then."""
    share_clock: bool = False
    """Play although somebody else publishes /clock."""
    wait_for: tuple[str, ...] | None = None
    """Recorded topics that need a subscriber first; default: a colour and a depth topic, with their camera infos."""
    discovery_seconds: float = 20.0
    """How long to wait for those."""
    attempts: int = 3
    """Stepped: how often a view is sent before it counts as not taken (a best-effort subscriber may miss it)."""
    view_topics: tuple[str, ...] = ()
    """Stepped: recorded topics of a view's colour and depth images; default: those with subscribers."""
    view_tolerance: float = 0.02
    """Stepped: largest difference of the stamps of colour and depth of a view [s], the node's sync.slop."""
    max_silence: float = 3600.0
    """Longer silences of the bag [s] are jumped over: its clock was set while it was recorded."""
    qos_overrides: Path | None = None
    """YAML file of QoS profiles by topic, as `ros2 bag play --qos-profile-overrides-path` takes it."""

    def __post_init__(self) -> None:
        if not self.rate > 0 or self.attempts < 1:
            raise ValueError(f"rate must be above 0 and attempts at least 1, found {self.rate} and {self.attempts}")
        if len(self.view_topics) not in (0, 2):
            raise ValueError(f"view topics must be two, of colour and of depth, found {len(self.view_topics)}")
        if not (self.view_tolerance >= 0 and self.max_silence > 0):
            raise ValueError("the view tolerance must not be negative and the longest silence must be positive")
