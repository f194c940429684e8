"""A replay's report: one HTML file that needs nothing else, for reading figures and looking at cases."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jinja2
from roboref_core.atomic import write_text

from offline.eval.records.outcomes import Outcome
from offline.eval.replay.scoring.cards import Pictures, cards, worst
from offline.eval.replay.scoring.space import module
from offline.eval.replay.scoring.table import FAR, OUTSIDE, Run, table
from offline.files import write_json

MOST_BYTES = 10_000_000
"""A page stays below this; of larger replays the right answers are left out of the cards."""
_GLOSSARY = (
    ("mark", "A point in an earlier picture that a question means; the operator clicked on it."),
    ("reference view, query view", "The picture with the mark, and the picture in which the node looks for it now."),
    (str(Outcome.HIT), "The node points at the visible thing itself."),
    (str(Outcome.MISS), "The thing is visible, and the node points beside it."),
    (str(Outcome.FALSE_POINT), "The thing is hidden, outside the picture or gone, and the node points at something."),
    (str(Outcome.FALSE_REFUSAL), "The thing is visible, and the node says NOT_VISIBLE."),
    (str(Outcome.RIGHT_REFUSAL), "The thing is not to be seen, and the node says NOT_VISIBLE."),
    (str(Outcome.UNDECIDABLE), "Within a few pixels of an outline or a border, or hidden by a hair: not scored."),
    ("moved, removed, unchanged", "What became of the thing between the marked view and the queried one."),
    (OUTSIDE, "The true point lies outside the 95 % ellipsoid of the covariance that the node states."),
    (FAR, "The answered position is 5 cm or more from the true point."),
    ("share (hits/cases; interval)", "Percentage, counts, and the 95 % Wilson interval of the percentage."),
)


def write_report(title: str, runs: Sequence[Run], facts: dict[str, str], path: Path) -> None:
    """Write ``path`` (HTML) and beside it the same figures as JSON (suffix .json).

    Of what makes a page too large, right answers go first, then the 3D views.
    """
    for everything, spaces in ((True, True), (False, True), (False, False)):
        page = _page(title, runs, facts, everything, spaces)
        if len(page) <= MOST_BYTES:
            break
    write_text(path, page)
    write_json(path.with_suffix(".json"), {"title": title, "facts": facts, "runs": {r.name: r.scores for r in runs}})


def _page(title: str, runs: Sequence[Run], facts: dict[str, str], everything: bool, spaces: bool) -> str:
    pictures = Pictures()
    drawn_by = module() if spaces else ""
    right = (Outcome.HIT, Outcome.RIGHT_REFUSAL)
    chosen = [[c for c in cards(run, pictures) if everything or c["outcome"] not in right] for run in runs]
    if not everything:
        shown = {c[kind]["name"] for own in chosen for c in own for kind in ("query", "reference") if c[kind]}
        pictures.sources = {name: source for name, source in pictures.sources.items() if name in shown}
    return (
        environment()
        .get_template("report.html.jinja")
        .render(
            title=title,
            facts=facts,
            names=[run.name for run in runs],
            rows=table(runs),
            worst=worst(chosen),
            runs=[
                {"name": r.name, "description": r.description, "cards": own}
                for r, own in zip(runs, chosen, strict=True)
            ],
            kinds=[*map(str, Outcome), FAR, OUTSIDE],
            glossary=_GLOSSARY,
            pictures=pictures.sources,
            everything=everything,
            three=drawn_by,
            clouds=_clouds(chosen, pictures) if drawn_by else {},
        )
    )


def _clouds(chosen: Sequence[Sequence[dict]], pictures: Pictures) -> dict[str, dict]:
    """The points that the chosen cards show, under short names, which the cards get."""
    names: dict[str, str] = {}
    for card in (card for own in chosen for card in own if card["space"]):
        views = card["space"]["views"]
        card["space"]["views"] = {k: names.setdefault(path, f"c{len(names)}") for k, path in views.items()}
    return {name: pictures.clouds[path].as_json() for path, name in names.items()}


def environment() -> jinja2.Environment:
    """Of this folder's templates."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("offline.eval.replay", "templates"), autoescape=True, trim_blocks=True
    )
