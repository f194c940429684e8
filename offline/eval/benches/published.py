"""Figures that others published for these benchmarks. None of them was measured here.

In percent; "overall" is what its source calls that. Prompts and parsers differ between sources, and so do scores:
RefSpatial-Bench's tasks have 77 to 100 questions, where 47 % of 100 has a 95 % interval of 37.5 to 56.7 %.

RoboRefer's table was checked against the paper's text, those of SpaceTools, RoboBrain 2.5 and Vesta against readers'
summaries of them. CrossPoint-Bench's own paper (arXiv 2512.04686) is not listed: only its abstract could be checked,
and that states differences alone (Gemini-2.5-Pro 54.65 points under humans, CroPond 39.7 over Gemini-2.5-Pro).
"""

from __future__ import annotations

NOTICE = "published, not measured here"
_ROBOREFER = "RoboRefer, arXiv 2506.04308, table 2"
_ISSUE = "Zhoues/RoboRefer, GitHub issue 24: a user's run"
_SPACETOOLS = "SpaceTools, arXiv 2512.04069"
_ROBOBRAIN = "RoboBrain 2.5, arXiv 2601.14352, 2D spatial reasoning"
_UNIFOLM = "UnifoLM-ER-1's own README"
_VESTA = "Vesta, arXiv 2606.20905, table 1"


def _refspatial(location: float, placement: float, unseen: float) -> dict[str, float]:
    return {"Location": location, "Placement": placement, "Unseen": unseen}


# (model, figures by task, source)
REFSPATIAL = (
    ("RoboRefer-2B-SFT", _refspatial(47.00, 48.00, 33.77), _ROBOREFER),
    ("RoboRefer-8B-SFT", _refspatial(52.00, 53.00, 37.66), _ROBOREFER),
    ("RoboRefer-2B-RFT", _refspatial(52.00, 54.00, 41.56), _ROBOREFER),
    ("RoboRefer-2B-SFT, released weights, RGB", _refspatial(51.00, 49.00, 38.96), _ISSUE),
    ("RoboRefer-2B-SFT, released weights, RGB-D", _refspatial(50.00, 51.00, 42.86), _ISSUE),
    ("Gemini-2.5-Pro", _refspatial(46.96, 24.21, 27.14), _ROBOREFER),
    ("SpaceLLaVA", _refspatial(5.82, 4.31, 4.02), _ROBOREFER),
    ("RoboPoint", _refspatial(22.87, 9.27, 8.40), _ROBOREFER),
    ("Molmo-7B", _refspatial(21.91, 12.85, 12.23), _ROBOREFER),
    ("Molmo-72B", _refspatial(45.77, 14.74, 21.24), _ROBOREFER),
    ("RoboRefer-8B-SFT", {"overall": 48.37}, f"{_SPACETOOLS}, table 2"),
    ("SpaceTools-3B", {"overall": 53.07}, f"{_SPACETOOLS}, table 2 (its every answer calls RoboRefer once)"),
    ("Gemini-ER 1.5", {"overall": 41.72}, f"{_SPACETOOLS}, table 2"),
    ("GPT-5", {"overall": 23.10}, f"{_SPACETOOLS}, table 2"),
    ("Claude Sonnet 4.5", {"overall": 7.49}, f"{_SPACETOOLS}, table 2"),
    ("RoboBrain2.0-7B", {"overall": 32.50}, _ROBOBRAIN),
    ("Qwen3-VL-8B", {"overall": 54.20}, _ROBOBRAIN),
    ("RoboBrain2.5-8B", {"overall": 60.50}, _ROBOBRAIN),
    ("UnifoLM-ER-1-4B", {"overall": 61.7}, _UNIFOLM),
)
WHERE2PLACE = (
    ("RoboRefer-2B-SFT", {"Where2Place": 66.0}, _ROBOREFER),
    ("RoboRefer-8B-SFT", {"Where2Place": 70.0}, _ROBOREFER),
    ("RoboRefer-2B-RFT", {"Where2Place": 71.0}, _ROBOREFER),
    ("Gemini-2.5-Pro", {"Where2Place": 61.9}, _ROBOREFER),
    ("SpaceLLaVA", {"Where2Place": 11.8}, _ROBOREFER),
    ("RoboPoint", {"Where2Place": 46.8}, _ROBOREFER),
    ("Molmo-7B", {"Where2Place": 45.0}, _ROBOREFER),
    ("Molmo-72B", {"Where2Place": 63.8}, _ROBOREFER),
    ("RoboBrain2.0-7B", {"Where2Place": 63.59}, "FlagRelease, model card of RoboBrain2.0-7B-FlagOS"),
    ("UnifoLM-ER-1-4B", {"Where2Place": 82.0}, _UNIFOLM),
)
CROSSPOINT = (
    ("RoboBrain2.0-7B", {"overall": 26.00}, _ROBOBRAIN),
    ("Qwen3-VL-8B", {"overall": 28.40}, _ROBOBRAIN),
    ("Qwen3-VL-8B", {"overall": 28.7}, _VESTA),
    ("GPT-5.2", {"overall": 33.00}, _ROBOBRAIN),
    ("Gemini-3-Pro-Preview", {"overall": 38.60}, _ROBOBRAIN),
    ("RynnBrain-8B", {"overall": 44.3}, _VESTA),
    ("RoboBrain2.5-8B", {"overall": 75.40}, f"{_ROBOBRAIN}; the same in {_VESTA}"),
    ("Vesta-8B", {"overall": 76.0}, _VESTA),
)
PUBLISHED = {"refspatial": REFSPATIAL, "where2place": WHERE2PLACE, "crosspoint": CROSSPOINT}


def rows(benchmark: str) -> list[list[str]]:
    """Model, figures, source: for a table under NOTICE."""
    return [
        [model, ", ".join(f"{task} {value:.2f}" for task, value in figures.items()), source]
        for model, figures, source in PUBLISHED.get(benchmark, ())
    ]
