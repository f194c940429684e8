"""Figures that others published for these benchmarks. None of them was measured here.

Per-task figures are in percent of the task; "overall" is weighted by the tasks' sizes (277 questions) unless its
source says otherwise. Prompts and parsers differ between sources, and so do scores: RefSpatial-Bench's tasks have
77 to 100 questions, where 47 % of 100 has a 95 % interval of 37.5 to 56.7 %.
"""

from __future__ import annotations

NOTICE = "published, not measured here"
_PAPER = "RoboRefer, arXiv 2506.04308"

# (model, figures by task, source)
REFSPATIAL = (
    ("RoboRefer-2B-SFT", {"Location": 47.00, "Placement": 48.00, "Unseen": 33.77}, f"{_PAPER}, table 2"),
    ("RoboRefer-2B-RFT", {"Location": 52.00, "Placement": 54.00, "Unseen": 41.56}, f"{_PAPER}, table 2"),
    (
        "RoboRefer-2B-SFT, released weights, RGB",
        {"Location": 51.00, "Placement": 49.00, "Unseen": 38.96},
        "Zhoues/RoboRefer, issue 24",
    ),
    (
        "RoboRefer-2B-SFT, released weights, RGB-D",
        {"Location": 50.00, "Placement": 51.00, "Unseen": 42.86},
        "Zhoues/RoboRefer, issue 24",
    ),
    ("Gemini-2.5-Pro", {"Location": 46.96, "Placement": 24.21, "Unseen": 27.14}, _PAPER),
    ("Molmo-72B", {"Location": 45.77, "Placement": 14.74, "Unseen": 21.24}, _PAPER),
    ("RoboRefer-8B-SFT", {"overall": 48.37}, "SpaceTools, table 2"),
    ("SpaceTools-3B", {"overall": 53.07}, "SpaceTools, table 2 (its every answer calls RoboRefer once)"),
    ("RoboPoint-13B", {"overall": 15.59}, "SpaceTools, its own prompts"),
    ("Qwen2.5-VL-32B", {"overall": 7.28}, "SpaceTools, its own prompts"),
    ("RoboBrain2.0-7B", {"overall": 32.50}, "SpaceTools, its own prompts"),
)
WHERE2PLACE = (("RoboBrain2.0-32B", {"Where2Place": 73.59}, "RoboBrain 2.0"),)
# CrossPoint-Bench's paper (2512.04686) states differences only: Gemini-2.5-Pro lies 54.65 points under humans, and
# CroPond 39.7 points over it.
PUBLISHED = {"refspatial": REFSPATIAL, "where2place": WHERE2PLACE, "crosspoint": ()}


def rows(benchmark: str) -> list[list[str]]:
    """Model, figures, source: for a table under NOTICE."""
    return [
        [model, ", ".join(f"{task} {value:.2f}" for task, value in figures.items()), source]
        for model, figures, source in PUBLISHED[benchmark]
    ]
