"""What a live replay says beyond the answers: latency under load, and how far behind they were."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LiveStats:
    """Of one live replay.

    Attributes:
        speed: at which the bag was to be played, relative to the recording.
        played: duration of the bag as far as it was played [s]; took: how long that took [s].
        latencies: of every answer, those asked for load alone included: from call to reply at the client [s].
        load_errors: names of the error codes among answers that nobody scores.
        behind: how many views later a scored answer's view is than the one it was meant for, where it names one.
        not_asked: ids of questions whose marked view the node did not capture, and why.
    """

    speed: float
    played: float
    took: float
    latencies: list[float]
    load_errors: list[str]
    behind: list[int]
    not_asked: dict[str, str]


def live_figures(all_stats: Sequence[LiveStats]) -> dict:
    """Pooled over replays, JSON-ready; ``achieved`` is the speed that playing had."""
    latencies = [latency for stats in all_stats for latency in stats.latencies]
    behind = [views for stats in all_stats for views in stats.behind]
    took = sum(stats.took for stats in all_stats)
    return {
        "speed": all_stats[0].speed,
        "achieved": sum(stats.played for stats in all_stats) / took if took > 0 else None,
        "answers": len(latencies),
        "latency": _percentiles(latencies),
        "load_errors": dict(sorted(Counter(code for stats in all_stats for code in stats.load_errors).items())),
        "behind": _percentiles(behind),
        "not_asked": sum(len(stats.not_asked) for stats in all_stats),
    }


def _percentiles(values: Sequence[float]) -> dict:
    p50, p95 = np.percentile(values, (50, 95)).tolist() if len(values) else (None, None)
    return {"p50": p50, "p95": p95}
