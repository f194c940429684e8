"""All settings of a run, and the hash that names them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from offline.data_engine.building.scan import ScanConfig
from offline.data_engine.building.selection import SelectionConfig
from offline.data_engine.filters import FilterConfig
from offline.data_engine.seeing.visibility import VisibilityConfig
from offline.data_engine.tasks.pairs import PairConfig
from offline.data_engine.tasks.referring import ReferringConfig
from offline.data_engine.tasks.samples import SampleConfig

FORMAT = 3
"""Of what is written; part of every hash, so that data of an older layout is not taken for this one."""


@dataclass(frozen=True)
class SceneConfig:
    """How scenes become views.

    Attributes:
        seed: seed of everything that is drawn at random.
        downsample: pictures are this much smaller than the source's in both axes (3: the x3 tree).
        dilation: radius by which an object's mask grows before it is painted out, as a share of the diagonal.
        sources: most other views that an inpainted background is taken from.
        depth_pictures: write an 8-bit depth picture beside each picture.
    """

    seed: int = 0
    downsample: int = 1
    dilation: float = 0.02
    sources: int = 8
    depth_pictures: bool = True
    scan: ScanConfig = field(default_factory=ScanConfig)
    filters: FilterConfig = field(default_factory=FilterConfig)
    visibility: VisibilityConfig = field(default_factory=VisibilityConfig)
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    referring: ReferringConfig = field(default_factory=ReferringConfig)


@dataclass(frozen=True)
class TaskConfig:
    """How views become training samples.

    Attributes:
        seed: seed of pairs, donors and points.
    """

    seed: int = 0
    pairs: PairConfig = field(default_factory=PairConfig)
    samples: SampleConfig = field(default_factory=SampleConfig)


def config_hash(*configs: Any) -> str:
    """16 hex digits that change with any setting and with the format."""
    plain = (dataclasses.asdict(c) if dataclasses.is_dataclass(c) and not isinstance(c, type) else c for c in configs)
    values = [FORMAT, *plain]
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=_plain).encode()).hexdigest()[:16]


def _plain(value):
    if isinstance(value, Enum):
        return value.value
    raise TypeError(f"{value!r} cannot be part of a configuration")
