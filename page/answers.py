"""The column of answers: in the searched picture, in words, the candidates to choose from, and the history."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from nicegui import ui
from roboref_msgs.msg import ReferAnswer

from page.pictures import data_url, jpeg, targets_svg
from page.robot import ViewPictures
from page.words import covariance_of, describe, position_of

_HISTORY = 50


@dataclass(frozen=True, eq=False)
class Place:
    """A place that an answer names.

    Attributes:
        position, covariance: (3,) [m] and (3, 3) [m^2] or None, in ``frame``.
        remembered: not seen now, but before.
    """

    position: np.ndarray
    covariance: np.ndarray | None
    frame: str
    remembered: bool


def places_of(answer: ReferAnswer) -> list[Place]:
    """The places of an answer's targets, then of those that were seen last, without those that have no position."""
    named = [
        *((target, False) for target in answer.targets),
        *((known.target, True) for known in answer.last_known),
    ]
    return [
        Place(position, covariance_of(target), target.header.frame_id, remembered)
        for target, remembered in named
        if (position := position_of(target)) is not None
    ]


class AnswerColumn:
    """What the newest answer says.

    Attributes:
        places: places of the newest answer.
    """

    def __init__(self) -> None:
        self.places: list[Place] = []
        self._title = ui.label("answer").classes("text-xs text-gray-400")
        self._picture = ui.interactive_image().classes("w-full rounded").props("data-testid=answer")
        self._candidates = ui.toggle({}).props("dense size=sm data-testid=candidates")
        self._candidates.set_visibility(False)
        self._words = ui.column().classes("gap-0 text-sm").props("data-testid=words")

    @property
    def chosen(self) -> Place | None:
        """The candidate that is meant, the best one unless another was picked."""
        return self.places[int(self._candidates.value or 0)] if self.places else None

    def show(self, text: str, answer: ReferAnswer) -> None:
        """Args: text: of the question."""
        self.places = places_of(answer)
        lines = describe(answer)
        self._title.set_text(f"answer to “{text}”")
        self._words.clear()
        with self._words:
            for k, line in enumerate(lines):
                ui.label(line).classes("font-bold" if k == 0 else "")
        names = {k: f"{k + 1}{' (seen before)' if place.remembered else ''}" for k, place in enumerate(self.places)}
        self._candidates.set_options(names, value=0 if names else None)
        self._candidates.set_visibility(len(names) > 1)

    def draw(self, answer: ReferAnswer, searched: ViewPictures) -> None:
        """Draw the targets over the picture that was searched, with the numbers of the candidates."""
        camera, frame = searched.summary.camera, searched.summary.frame
        drawn, number = [], 0
        for target in answer.targets:
            position, label = position_of(target), ""
            if position is not None:
                number += 1
                label = f"{f'{number}: ' if len(self.places) > 1 else ''}{target.depth:.2f} m"
            here = position if target.header.frame_id == frame else None
            drawn.append(((target.pixel.u, target.pixel.v), here, covariance_of(target), label))
        self._picture.set_source(data_url(jpeg(searched.color, camera.width)))
        self._picture.set_content(targets_svg(drawn, camera, searched.summary.T_world_camera))


class History:
    """Questions and the first words of their answers, newest first."""

    def __init__(self) -> None:
        ui.label("history").classes("text-xs text-gray-400")
        self._lines = ui.column().classes("w-full gap-0 text-xs text-gray-300").props("data-testid=history")

    def add(self, text: str, answer: ReferAnswer) -> None:
        with self._lines:
            ui.label(f"{time.strftime('%H:%M:%S')}  {text}: {'; '.join(describe(answer)[:2])}").move(target_index=0)
        children = self._lines.default_slot.children
        if len(children) > _HISTORY:
            children[-1].delete()
