"""The panel of a simulated room: its floor plan, things to move, bring in and take away, a person, light and noise."""

from __future__ import annotations

import html
from typing import Any

import cv2
import numpy as np
from nicegui import events, ui
from roboref_core.approach import OccupancyMap

from page.pictures import FOUND, MARK, data_url, jpeg
from page.robot import Robot
from page.space import ROBOT

# Edge of a cell in the plan [pixel].
_CELL = 6
_WATCH = 0.5
_FACTORS = {
    "light": ("light of the lamp", 0.0, 3.0),
    "exposure": ("exposure", 0.1, 3.0),
    "depth_noise": ("depth noise", 0.0, 10.0),
    "odometry_noise": ("odometry errors", 0.0, 20.0),
}


class RoomPanel:
    """Shown as soon as a simulation tells of a room; not in a read-only page."""

    def __init__(self, robot: Robot):
        self._robot = robot
        self._place: tuple[float, float] | None = None
        self._walks = 0
        self._drawn: object = None
        self._listed: object = None
        with ui.expansion("simulated room").classes("w-full").props("data-testid=room") as self._panel:
            with ui.element("div").classes("grid grid-cols-1 md:grid-cols-3 gap-4 w-full"):
                with ui.column().classes("w-full gap-1"):
                    ui.label("floor: click a place").classes("text-xs text-gray-400")
                    self._plan = ui.interactive_image(on_mouse=self._on_click, events=["click"], cross="#ffffff55")
                    self._plan.classes("w-full max-w-md").props("data-testid=plan")
                with ui.column().classes("w-full gap-2"):
                    self._build_things()
                with ui.column().classes("w-full gap-0"):
                    self._build_factors()
            self._said = ui.label().classes("text-sm").props("data-testid=said")
        self._panel.set_visibility(False)
        ui.timer(_WATCH, self._refresh)

    def _build_things(self) -> None:
        self._thing = ui.select({}, label="thing").classes("w-full").props("dark dense outlined data-testid=thing")
        with ui.row().classes("gap-2"):
            ui.button("Move to the place", on_click=self._move).props("dense size=sm data-testid=move")
            ui.button("Take away", on_click=self._remove).props("dense size=sm data-testid=remove")
        self._kind = ui.select([], label="kind").classes("w-full").props("dark dense outlined data-testid=kind")
        with ui.row().classes("gap-2"):
            ui.button("Bring to the place", on_click=self._bring).props("dense size=sm data-testid=bring")
            ui.button("Somebody walks through", on_click=self._walk).props("dense size=sm data-testid=walk")

    def _build_factors(self) -> None:
        for kind, (name, low, high) in _FACTORS.items():
            ui.label(name).classes("text-xs text-gray-400")
            slider = ui.slider(min=low, max=high, step=0.1, value=1.0).props(f"label data-testid={kind}")
            # Once, when it is let go; not all the way.
            slider.on("change", lambda event, kind=kind: self._change({kind: float(event.args)}))

    def _refresh(self) -> None:
        room = self._robot.room
        self._panel.set_visibility(room.objects is not None)
        if room.objects is None:
            return
        if self._listed is not room.objects:
            self._listed = room.objects
            things = {thing["id"]: f"{thing['color']} {thing['label']} ({thing['id']})" for thing in room.objects}
            chosen = self._thing.value if self._thing.value in things else next(iter(things), None)
            self._thing.set_options(things, value=chosen)
        if self._kind.options != room.kinds:
            self._kind.set_options(room.kinds, value="box" if "box" in room.kinds else None)
        grid = self._robot.map
        if grid is not None:
            if self._drawn is not grid:
                self._drawn = grid
                self._plan.set_source(data_url(jpeg(plan_picture(grid))))
            self._plan.set_content(self._overlay(grid, room.objects))

    def _overlay(self, grid: OccupancyMap, objects: list[dict[str, Any]]) -> str:
        drawn = []
        for thing in objects:
            u, v = plan_pixel(grid, thing["position"])
            drawn.append(
                f'<circle cx="{u:.1f}" cy="{v:.1f}" r="3" fill="{FOUND}"/><text x="{u + 5:.1f}" y="{v + 4:.1f}" '
                f'font-size="12" fill="white" stroke="black" stroke-width="2" paint-order="stroke" '
                f'font-family="sans-serif">{html.escape(str(thing["label"]))}</text>'
            )
        base = self._robot.base
        if base is not None:
            T = base[0]
            (u, v), (nose_u, nose_v) = (plan_pixel(grid, place) for place in (T[:2, 3], T[:2, 3] + 0.3 * T[:2, 0]))
            drawn.append(
                f'<circle cx="{u:.1f}" cy="{v:.1f}" r="{0.18 / grid.resolution * _CELL:.1f}" fill="{ROBOT}"/>'
                f'<line x1="{u:.1f}" y1="{v:.1f}" x2="{nose_u:.1f}" y2="{nose_v:.1f}" stroke="{ROBOT}" '
                f'stroke-width="4"/>'
            )
        if self._place is not None:
            u, v = plan_pixel(grid, self._place)
            drawn.append(
                f'<path d="M {u - 8:.1f} {v:.1f} H {u + 8:.1f} M {u:.1f} {v - 8:.1f} V {v + 8:.1f}" stroke="{MARK}" '
                f'stroke-width="3"/>'
            )
        return "".join(drawn)

    def _on_click(self, event: events.MouseEventArguments) -> None:
        grid = self._robot.map
        if grid is not None:
            self._place = plan_place(grid, (event.image_x, event.image_y))

    async def _move(self) -> None:
        await self._change({"move": self._thing.value, **self._at()}, of=self._thing.value)

    async def _remove(self) -> None:
        await self._change({"remove": self._thing.value}, of=self._thing.value)

    async def _bring(self) -> None:
        await self._change({"bring": self._kind.value, **self._at()}, of=self._kind.value)

    async def _walk(self) -> None:
        self._walks += 1
        await self._change({"walk": self._walks})

    def _at(self) -> dict[str, float]:
        x, y = self._place or (np.nan, np.nan)
        return {"x": round(x, 3), "y": round(y, 3)}

    async def _change(self, change: dict[str, Any], of: object = "") -> None:
        if of is None or not all(value == value for value in change.values()):
            ui.notify("pick a thing, and click a place on the floor", type="info")
            return
        try:
            await self._robot.change_room(change)
        except (ValueError, TimeoutError) as error:
            self._said.set_text(str(error))
        else:
            self._said.set_text(f"done: {', '.join(f'{name} {value}' for name, value in change.items())}")


def plan_picture(grid: OccupancyMap) -> np.ndarray:
    """(H, W, 3) uint8 of a map seen from above, x to the right and y up: free cells bright, unknown ones grey."""
    shade = np.where(grid.free, 235, 60).astype(np.uint8)
    shade[grid.occupancy < 0] = 128
    size = (shade.shape[1] * _CELL, shade.shape[0] * _CELL)
    return cv2.cvtColor(cv2.resize(shade[::-1], size, interpolation=cv2.INTER_NEAREST), cv2.COLOR_GRAY2RGB)


def plan_pixel(grid: OccupancyMap, place: Any) -> tuple[float, float]:
    """Where a place (x, y) [m] is in the plan, counted from the picture's corner [pixel]."""
    x, y = ((place[k] - grid.origin[k]) / grid.resolution for k in range(2))
    return float(x * _CELL), float((grid.occupancy.shape[0] - y) * _CELL)


def plan_place(grid: OccupancyMap, pixel: tuple[float, float]) -> tuple[float, float]:
    """The place (x, y) [m] at a pixel of the plan."""
    u, v = pixel[0] / _CELL, grid.occupancy.shape[0] - pixel[1] / _CELL
    return grid.origin[0] + u * grid.resolution, grid.origin[1] + v * grid.resolution
