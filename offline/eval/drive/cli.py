"""`roboref eval drive`: a robot in simulated rooms asks, drives and arrives, or says that the thing is gone."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from roboref_core.atomic import sole_writer
from roboref_core.models.options import ModelOptions
from roboref_core.models.pointing_model import PointingModel
from roboref_core.models.registry import load_model, parse_options
from roboref_core.progress import Progress

from offline.eval.drive.agents import MODELS, NAMES
from offline.eval.drive.driving import drive
from offline.eval.drive.episodes import Episode, NoEpisode, make_episode
from offline.eval.drive.figures import render, scored
from offline.eval.drive.judge import Driven, judged, stop_to_json
from offline.eval.drive.pictures import picture_of, plan_of
from offline.eval.drive.report import picture_name, write_report
from offline.eval.drive.results import Results, digest, key_of
from offline.eval.drive.settings import Condition, DriveSettings
from offline.eval.drive.tour import Tour, make_tour
from offline.eval.replay.closed_loop.floor_plan import FloorPlan
from offline.files import write_json, write_picture
from sim.rooms.scene import SimScene

if TYPE_CHECKING:
    AgentName = str
    ConditionName = str
else:
    AgentName = Literal[NAMES]
    ConditionName = Literal[tuple(str(condition) for condition in Condition)]
# Places of the path that are kept for pictures, of ten a second.
_EVERY = 3


@dataclass(frozen=True)
class DriveCommand:
    """Drive a robot through simulated rooms to things that it is asked for, and score whether it gets there.

    In each room the robot first makes a tour and keeps views of it. Then, episode by episode: a thing is marked in one
    of these views, the robot stands somewhere else, asks where the thing is now, drives there, asks again every
    second, and says that it arrived, or that the thing is lost or gone. It decides as `go_to` does, and the answers
    come from the code that the node runs, stepped and without DDS, so that one seed gives one digest.

    Agents: oracle (perfect eyes and memory: what it misses is the navigator's fault), reprojection (geometry with the
    poses as stated), registration (geometry that registers views), nano (the bundled vision-language model), fused
    (both), never-moves and random-walk (what success costs nothing).

    Conditions: exact; drifting (camera poses from odometry); moved and removed (after the tour); occluded (it starts
    where something hides the thing); duplicates (another thing of the kind is there).

    Stopped (Ctrl-C), it goes on where it was when the same command runs again; more rooms, episodes, conditions and
    agents may be added to a folder.

    A first try, and the whole table:

        roboref eval drive --rooms 2 --episodes 3 --agents oracle reprojection
        roboref eval drive --rooms 12 --episodes 10 --agents oracle reprojection nano fused --conditions exact drifting
    """

    out: Path = Path("out/drive")
    """Folder for report.html, figures.json and one JSON line per episode."""
    rooms: int = 12
    """How many procedural rooms."""
    first_room: int = 100
    """Seed of the first; the others follow."""
    episodes: int = 10
    """Of each room and condition."""
    agents: tuple[AgentName, ...] = ("oracle", "reprojection", "registration", "fused", "never-moves")
    """Who drives."""
    conditions: tuple[ConditionName, ...] = ("exact", "drifting", "moved", "removed")
    """What is made difficult."""
    model: Annotated[ModelOptions, tyro.conf.arg(name="")] = field(default_factory=lambda: ModelOptions(backend="nano"))
    """The vision-language model of the agents nano and fused; nano is another one then."""
    settings: Annotated[DriveSettings, tyro.conf.arg(name="")] = field(default_factory=DriveSettings)
    pictures: Literal["none", "some", "all"] = "some"
    """Of which episodes a picture is kept for the report: some are each room's first ones and those that failed."""
    json: bool = False
    """Print the figures as JSON instead of tables."""

    def __post_init__(self) -> None:
        for name in ("rooms", "episodes"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1, found {getattr(self, name)}")
        if not self.agents or not self.conditions:
            raise ValueError("--agents and --conditions need at least one name each")

    def __call__(self) -> None:
        with sole_writer(self.out, "roboref eval drive"):
            found = run_drive(self)
        if self.json:
            print(json.dumps(found, indent=1))
            return
        print(render(found))
        for line in found["left_out"]:
            print(f"left out: {line}")
        print(f"\nreport   {self.out / 'report.html'}\nfigures  {self.out / 'figures.json'}")
        print(f"digest   {found['digest']} (equal for equal episodes)")


def run_drive(config: DriveCommand) -> dict:
    """Drive what is not driven yet, and write the figures of all that was asked for."""
    models = {name: _name_of(name, config.model) for name in config.agents if name in MODELS}
    results = Results(config.out, config.settings, models)
    rooms = range(config.first_room, config.first_room + config.rooms)
    total = config.rooms * config.episodes * len(config.conditions) * len(config.agents)
    loaded = _Models(config.model)
    left_out: list[str] = []
    wanted: list[str] = []
    with Progress(desc="driving", unit="episode", total=total) as bar:
        for room in rooms:
            driver = _Room(config, room)
            for condition, number in driver.tasks():
                todo = [name for name in config.agents if driver.key(condition, number, name) not in results.lines]
                wanted += [driver.key(condition, number, name) for name in config.agents]
                try:
                    for name in todo:
                        results.add(driver.drive(condition, number, name, loaded.of(name)))
                        bar.update()
                except NoEpisode as error:
                    left_out.append(str(error))
                bar.update(len(config.agents) - len(todo))
    lines = [results.lines[key] for key in wanted if key in results.lines]
    found = {
        "settings": config.settings.digest,
        "models": models,
        "rooms": config.rooms,
        **scored(lines),
        "left_out": sorted(set(left_out)),
        "digest": digest(lines),
    }
    write_json(config.out / "figures.json", found)
    write_report(found, lines, config.out)
    return found


class _Models:
    """Loaded when first needed."""

    def __init__(self, options: ModelOptions):
        self._options = options
        self._loaded: dict[str, PointingModel] = {}

    def of(self, agent: str) -> PointingModel | None:
        if agent not in MODELS:
            return None
        if agent not in self._loaded:
            self._loaded[agent] = self._load(agent)
        return self._loaded[agent]

    def _load(self, agent: str) -> PointingModel:
        if agent in ("reprojection", "registration"):
            return load_model("reprojection")
        if agent == "fused":
            from roboref_core.models.fused import FusedModel

            inner = self.of("nano")
            assert inner is not None
            return FusedModel(inner)
        o = self._options
        return load_model(o.backend, o.path, o.one_url, o.device, o.dtype, **parse_options(o.options))


def _name_of(agent: str, model: ModelOptions) -> str:
    """What a results folder remembers of the model."""
    if agent in ("reprojection", "registration"):
        return agent
    return " ".join([model.backend, model.path, model.one_url, model.dtype, *model.options]).strip()


class _Room:
    """Drives episodes of one room; its tour and each episode are made when they are first needed."""

    def __init__(self, config: DriveCommand, room: int):
        self._config, self._room = config, room
        self._tour: Tour | None = None
        self._episode: tuple[tuple[str, int], Episode] | None = None
        self._plan: tuple[SimScene, FloorPlan] | None = None

    def tasks(self) -> Iterator[tuple[str, int]]:
        for condition in self._config.conditions:
            for number in range(self._config.episodes):
                yield condition, number

    def key(self, condition: str, number: int, agent: str) -> str:
        return key_of(f"room{self._room}-{condition}-{number:02d}", agent)

    def drive(self, condition: str, number: int, agent: str, model: PointingModel | None) -> dict:
        settings = self._config.settings
        if self._tour is None:
            self._tour = make_tour(self._room, settings)
        if self._episode is None or self._episode[0] != (condition, number):
            episode = make_episode(self._tour, self._room, Condition(condition), number, settings)
            self._episode = (condition, number), episode
        episode = self._episode[1]
        started = time.perf_counter()
        driven = drive(episode, self._tour, agent, settings, model)
        seconds = time.perf_counter() - started
        figures = judged(episode, driven, settings)
        some = number == 0 or not (figures["success"] or agent in ("never-moves", "random-walk"))
        if self._config.pictures == "all" or (self._config.pictures == "some" and some):
            self._keep_picture(key_of(episode.key, agent), episode, driven)
        return {
            "key": key_of(episode.key, agent),
            "episode": episode.key,
            "room": episode.room,
            "condition": str(episode.condition),
            "number": episode.number,
            "agent": agent,
            "goal": {"id": episode.goal_id, "label": episode.label},
            "mark": {"view": episode.marked_view, "pixel": list(episode.mark)},
            "figures": figures,
            "stops": [stop_to_json(stop) for stop in driven.stops],
            "path": [[round(state.x, 3), round(state.y, 3)] for state in [*driven.path[::_EVERY], driven.path[-1]]],
            "wall_seconds": round(seconds, 3),
        }

    def _keep_picture(self, key: str, episode: Episode, driven: Driven) -> None:
        assert self._tour is not None
        if self._plan is None or self._plan[0] is not episode.scene:
            self._plan = episode.scene, plan_of(episode.scene)
        picture = picture_of(episode, self._tour, driven, self._plan[1])
        write_picture(self._config.out / picture_name(key), picture)


def main(argv: Sequence[str] | None = None) -> int:
    from roboref_core.command_line import run

    return run(DriveCommand, "roboref eval drive", argv)
