"""Questions about the ``wall`` of conftest.py."""

from __future__ import annotations

import numpy as np
from roboref_core.geometry.camera import pixel_to_normalised


def question(root, mark, query, camera, **changes):
    """An entry of a file of samples: what is marked in frame 0, asked for in frame ``query``."""
    entry = {
        "id": f"{mark} {query}",
        "task": "t1",
        "image": ["a.png", "b.png"],
        "scene_id": root.name,
        "conversations": [{"from": "human", "value": "Where?"}, {"from": "gpt", "value": "NOT_VISIBLE"}],
        "ref_frame": "0",
        "query_frame": query,
        "visibility": {"visible": False, "reason": "occluded"},
        "ref_point": pixel_to_normalised(np.array(mark), camera.width, camera.height).tolist(),
    }
    return entry | changes
