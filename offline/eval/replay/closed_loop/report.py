"""What came of closed loops: one HTML page with each way from above and what was seen on it, and the figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from roboref_core.scene import Mesh

from offline.eval.records.replays import Question
from offline.eval.replay.closed_loop.closed_loop import Drive
from offline.eval.replay.closed_loop.floor_plan import FloorPlan
from offline.eval.replay.scoring.pictures import embedded, query_picture, reference_picture
from offline.eval.replay.scoring.report import environment
from offline.eval.replay.truth.surface import ObjectSurface
from offline.eval.replay.truth.truth import GroundTruthScene
from offline.eval.scoring.intervals import Share
from offline.files import write_bytes, write_json

_PLAN_WIDTH, _VIEW_WIDTH = 640, 240
_ABOVE_CAMERA = 0.25


@dataclass(frozen=True)
class Way:
    """One way: the question, where it led, the object's true surface, and ``closed_loop.summary`` of it."""

    question: Question
    drive: Drive
    surface: ObjectSurface
    figures: dict


def write_loop_report(
    scene: GroundTruthScene, mesh: Mesh, recorded: np.ndarray, ways: Sequence[Way], figures: dict, folder: Path
) -> None:
    """Write closed_loop.html, closed_loop.json and one PNG per way.

    Args:
        recorded: (N, 4, 4) poses as the robot knew them.
    """
    plan = FloorPlan(mesh, float(np.nanmedian(scene.poses[:, 2, 3])) + _ABOVE_CAMERA)
    shown = [_shown(scene, recorded, way, plan, folder) for way in ways]
    page = environment().get_template("closed_loop.html.jinja").render(figures=figures, rows=rows(figures), ways=shown)
    write_bytes(folder / "closed_loop.html", page.encode())
    write_json(folder / "closed_loop.json", figures)


def rows(figures: dict) -> list[tuple[str, str]]:
    """The pooled figures as (name, text)."""
    pooled, loop = figures["pooled"], figures["loop"]
    answers = pooled["answers"]
    return [
        ("log", f"{figures['log']}; {figures['views']} views"),
        ("model", figures["model"]),
        ("ways", f"{pooled['ways']}: " + ", ".join(f"{n} {end}" for end, n in pooled["ends"].items())),
        (
            f"success: arrived, and the true object within {loop['reach']:g} m over the floor (10 cm allowed)",
            _share(pooled["success"], pooled["ways"]),
        ),
        ("robot to the true object at the end, over the floor, median", f"{pooled['final_distance']:.2f} m"),
        (
            f"coverage: places with a recorded view within {loop['tolerance']:g} m "
            f"(metres + {loop['rotation_weight']:g} m/rad times the angle)",
            _share(pooled["covered"], pooled["wanted"]),
        ),
        ("nearest recorded view, median distance", _metres(pooled["miss"])),
        (
            f"answered place to the true object, first and last of {answers['ways']} ways, median",
            f"{_metres(answers['first'])} and {_metres(answers['last'])}; "
            f"nearer {answers['nearer']}, farther {answers['farther']}",
        ),
    ]


def print_loop(figures: dict) -> None:
    """The figures, in the terminal."""
    table = rows(figures)
    width = max(len(name) for name, _ in table)
    print()
    for name, text in table:
        print(f"{name:{width}}  {text}")
    print()
    for way in figures["ways"]:
        print(f"  {way['id']}  {_story(way)}")


def _story(way: dict) -> str:
    errors = ", ".join("-" if error is None else f"{100 * error:.1f}" for error in way["answer_error"])
    return (
        f"{way['object']}: {way['end']} after {way['steps']} steps, {'success' if way['success'] else 'no success'}; "
        f"from {way['start_distance']:.2f} to {way['final_distance']:.2f} m; answers off by {errors} cm"
    )


def _share(hits: int, total: int) -> str:
    share = Share(hits, total).to_json()
    if share["value"] is None:
        return "no case"
    return f"{100 * share['value']:.0f} % ({hits}/{total}; {100 * share['low']:.0f} to {100 * share['high']:.0f})"


def _metres(value: float | None) -> str:
    return "no case" if value is None else f"{value:.3f} m"


def _shown(scene: GroundTruthScene, recorded: np.ndarray, way: Way, plan: FloorPlan, folder: Path) -> dict:
    stops = way.drive.stops
    picture = plan.draw(
        recorded,
        way.surface.points,
        [stop.T_world_robot for stop in stops],
        list(recorded[[stop.position for stop in stops]]),
        [stop.target for stop in stops],
        [T for T, _ in way.drive.uncovered],
    )
    _, png = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    write_bytes(folder / f"{way.question.question_id}.png", png.tobytes())
    question = way.question
    views = []
    if question.reference is not None and question.mark is not None:
        marked = reference_picture(scene.color(question.reference), question.mark)
        views.append({"picture": embedded(marked, _VIEW_WIDTH), "text": "marked"})
    for n, (stop, error) in enumerate(zip(stops, way.figures["answer_error"], strict=True)):
        mask = scene.ids(stop.position) == question.object_id
        views.append(
            {
                "picture": embedded(
                    query_picture(scene.color(stop.position), None, stop.answer.pixel, mask), _VIEW_WIDTH
                ),
                "text": f"{n}: " + ("no place" if error is None else f"{100 * error:.1f} cm off"),
            }
        )
    story = {"object": question.label, **way.figures}
    return {
        "id": question.question_id,
        "success": way.figures["success"],
        "story": _story(story),
        "plan": embedded(picture, min(_PLAN_WIDTH, picture.shape[1])),
        "views": views,
    }
