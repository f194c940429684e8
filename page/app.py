"""What the page shows and does; its state is one browser tab's own."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable

import numpy as np
from nicegui import events, ui
from roboref_core.referring.query import MarkedBox, MarkedPoint, MarkedRegion, Query
from roboref_msgs.msg import ReferAnswer

from page.pictures import MARK, box_svg, jpeg, point_svg, targets_svg
from page.robot import Robot, ViewPictures, ViewSummary
from page.space import Space
from page.words import covariance_of, describe, position_of

# A press and a release further apart than this share of the picture's width are a box [1].
_BOX_SHARE = 0.015
_THUMBNAIL, _PICTURE = 160, 960
_POLL = 2.0


def data_url(image: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(image).decode()


class Page:
    """One open tab.

    Args:
        read_only: no question, no captured view, no goal.
    """

    def __init__(self, robot: Robot, read_only: bool, rate: float):
        self._robot, self._read_only = robot, read_only
        self._view: ViewPictures | None = None
        self._mark: MarkedRegion | None = None
        self._pressed: tuple[float, float] | None = None
        self._shown: dict[str, int] = {}
        self._known: list[str] = []
        self._refreshing = False
        self._located: tuple[np.ndarray, np.ndarray | None, str] | None = None
        self._build()
        ui.timer(1.0 / rate, self._show_live)
        ui.timer(_POLL, self._refresh_views)
        ui.timer(0.1, self._refresh_views, once=True)

    def _build(self) -> None:
        ui.page_title("RoboRef")
        ui.query("body").classes("bg-gray-900 text-gray-100")
        with ui.row().classes("w-full items-center gap-4"):
            ui.label("RoboRef").classes("text-xl font-bold")
            self._state = ui.label().classes("text-sm text-gray-400").props("data-testid=state")
        with ui.row().classes("w-full items-center sm:flex-nowrap"):
            self._text = ui.input(placeholder="where is ...? (or mark something below)")
            self._text.classes("grow w-full sm:w-auto").props("dark outlined dense data-testid=text")
            self._text.on("keydown.enter", self._ask)
            self._memory = ui.checkbox("also where it was seen last", value=True).classes("text-xs")
            self._button = ui.button("Ask", on_click=self._ask).props("data-testid=ask")
            if self._read_only:
                self._button.disable()
        with ui.element("div").classes("grid grid-cols-1 lg:grid-cols-3 gap-3 w-full"):
            with ui.column().classes("w-full gap-1"):
                ui.label("now").classes("text-xs text-gray-400")
                self._color = ui.image().classes("w-full rounded").props("no-spinner no-transition data-testid=live")
                self._depth = ui.image().classes("w-1/2 rounded").props("no-spinner no-transition")
            with ui.column().classes("w-full gap-1"):
                self._title = ui.label("reference view: click a point, or drag a box").classes("text-xs text-gray-400")
                self._canvas = ui.interactive_image(
                    on_mouse=self._on_mouse, events=["mousedown", "mouseup"], cross="#ffffff55"
                ).classes("w-full rounded")
                self._canvas.props("data-testid=reference")
                with ui.row().classes("gap-2"):
                    ui.button("Clear the mark", on_click=self._clear_mark).props("flat dense size=sm")
                    if not self._read_only:
                        ui.button("Pin the next view", on_click=self._capture).props("flat dense size=sm")
            with ui.column().classes("w-full gap-1"):
                self._answer_title = ui.label("answer").classes("text-xs text-gray-400")
                self._answer_picture = ui.interactive_image().classes("w-full rounded").props("data-testid=answer")
                with ui.row().classes("gap-2"):
                    self._go = ui.button("Go there", on_click=self._go_there).props("dense size=sm data-testid=go")
                    self._stop = ui.button("Stop", on_click=self._stop_robot).props("flat dense size=sm")
                    self._go.disable()
                    self._stop.set_visibility(not self._read_only)
                self._answer = ui.column().classes("gap-0 text-sm").props("data-testid=words")
        self._strip = ui.row().classes("w-full no-wrap overflow-x-auto gap-2 py-2").props("data-testid=strip")
        with ui.scene(width=1200, height=420, background_color="#111827", grid=(20, 20)).classes("w-full") as scene:
            self._space = Space(scene)
        ui.label("history").classes("text-xs text-gray-400")
        self._history = ui.column().classes("w-full gap-0 text-xs text-gray-300")

    def _show_live(self) -> None:
        for name, image in (("color", self._color), ("depth", self._depth)):
            picture = self._robot.live.get(name)
            if picture is not None and self._shown.get(name) != picture.number:
                self._shown[name] = picture.number
                image.set_source(data_url(picture.data))

    async def _refresh_views(self) -> None:
        if self._refreshing:
            return
        self._refreshing = True
        try:
            await self._show_views(await self._robot.views())
        except TimeoutError as error:
            self._state.set_text(str(error))
        finally:
            self._refreshing = False

    async def _show_views(self, views: list[ViewSummary]) -> None:
        self._state.set_text(f"{len(views)} reference views, {sum(view.pinned for view in views)} pinned")
        if [view.view_id for view in views] == self._known:
            return
        self._known = [view.view_id for view in views]
        if self._view is None and views:
            await self._choose(views[-1].view_id)
        await self._draw_strip(views)

    async def _draw_strip(self, views: list[ViewSummary]) -> None:
        self._space.keep_only(views)
        pictures = []
        for view in views:
            try:
                pictures.append(await self._robot.pictures(view.view_id))
            except (ValueError, TimeoutError):
                continue  # evicted between the list and now
        self._strip.clear()
        with self._strip:
            for picture in pictures:
                self._space.add_view(picture)
                thumbnail = ui.image(data_url(jpeg(picture.color, _THUMBNAIL))).classes("rounded cursor-pointer")
                thumbnail.style(f"width: {_THUMBNAIL}px; flex: none").props("no-spinner no-transition")
                thumbnail.on("click", lambda _, view_id=picture.summary.view_id: self._choose(view_id))
                thumbnail.tooltip(f"{picture.summary.view_id}{' (pinned)' if picture.summary.pinned else ''}")

    async def _choose(self, view_id: str) -> None:
        try:
            self._view = await self._robot.pictures(view_id)
        except (ValueError, TimeoutError) as error:
            ui.notify(str(error), type="warning")
            return
        self._title.set_text(f"view {view_id}: click a point, or drag a box")
        self._canvas.set_source(data_url(jpeg(self._view.color, _PICTURE)))
        self._clear_mark()

    async def _capture(self) -> None:
        try:
            view = await self._robot.capture()
        except (ValueError, TimeoutError) as error:
            ui.notify(str(error), type="warning")
            return
        await self._refresh_views()
        await self._choose(view.view_id)

    def _clear_mark(self) -> None:
        self._mark = None
        self._canvas.set_content("")

    def _on_mouse(self, event: events.MouseEventArguments) -> None:
        if self._view is None:
            return
        camera = self._view.summary.camera
        # The browser counts from the corner of the shown picture, which may be smaller than the view's.
        scale = camera.width / min(camera.width, _PICTURE)
        pixel = (
            float(np.clip(event.image_x * scale - 0.5, 0, camera.width - 1)),
            float(np.clip(event.image_y * scale - 0.5, 0, camera.height - 1)),
        )
        if event.type == "mousedown":
            self._pressed = pixel
            return
        if self._pressed is None:
            return
        (u0, v0), (u1, v1) = self._pressed, pixel
        self._pressed = None
        shown = (min(camera.width, _PICTURE), round(camera.height / scale))
        view_id = self._view.summary.view_id
        if max(abs(u1 - u0), abs(v1 - v0)) < _BOX_SHARE * camera.width:
            self._mark = MarkedPoint(pixel, view_id)
            self._canvas.set_content(point_svg((u1 / scale, v1 / scale), MARK, shown))
        else:
            box = (min(u0, u1), min(v0, v1), max(u0, u1), max(v0, v1))
            self._mark = MarkedBox(box, view_id)
            self._canvas.set_content(box_svg(box, MARK, shown, scale))

    async def _ask(self) -> None:
        text = self._text.value.strip()
        if self._read_only or not (text or self._mark):
            ui.notify("type what you look for, or mark it in a reference view", type="info")
            return
        self._button.disable()
        try:
            regions = (self._mark,) if self._mark else ()
            query = Query(text or "this", regions=regions, max_targets=3, search_memory=bool(self._memory.value))
            answer = await self._robot.ask(query)
        except TimeoutError as error:
            ui.notify(str(error), type="negative")
            return
        finally:
            self._button.enable()
        await self._show_answer(text or "the mark", answer)

    def _go_there(self) -> None:
        if self._located is None:
            return
        position, covariance, frame = self._located
        self._tell(lambda: self._robot.go(position, covariance, frame), "on its way")

    def _stop_robot(self) -> None:
        self._tell(lambda: self._robot.stop(self._located[2] if self._located else "map"), "stopped")

    def _tell(self, command: Callable[[], None], done: str) -> None:
        try:
            command()
        except ValueError as error:
            ui.notify(str(error), type="warning")
        else:
            ui.notify(done, type="positive")

    async def _show_answer(self, text: str, answer: ReferAnswer) -> None:
        lines = describe(answer)
        self._answer_title.set_text(f"answer to “{text}”")
        self._answer.clear()
        with self._answer:
            for k, line in enumerate(lines):
                ui.label(line).classes("font-bold" if k == 0 else "")
        with self._history:
            ui.label(f"{time.strftime('%H:%M:%S')}  {text}: {'; '.join(lines[:2])}").move(target_index=0)
        located = [
            (position, covariance_of(target), remembered)
            for target, remembered in (
                *((target, False) for target in answer.targets),
                *((known.target, True) for known in answer.last_known),
            )
            if (position := position_of(target)) is not None
        ]
        self._space.show_targets(located)
        self._located = None
        if located:
            frame = (answer.targets or [known.target for known in answer.last_known])[0].header.frame_id
            self._located = (located[0][0], located[0][1], frame)
        self._go.set_enabled(self._located is not None and not self._read_only)
        if located:
            self._space.look_at(located[0][0])
        if not answer.view.view_id:
            return
        try:
            searched = await self._robot.pictures(answer.view.view_id)
        except (ValueError, TimeoutError) as error:
            ui.notify(str(error), type="warning")
            return
        camera = searched.summary.camera
        targets = [
            (
                (target.pixel.u, target.pixel.v),
                position_of(target) if target.header.frame_id == searched.summary.frame else None,
                covariance_of(target),
                f"{target.depth:.2f} m" if position_of(target) is not None else "",
            )
            for target in answer.targets
        ]
        self._answer_picture.set_source(data_url(jpeg(searched.color, camera.width)))
        self._answer_picture.set_content(targets_svg(targets, camera, searched.summary.T_world_camera))
