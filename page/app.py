"""What the page shows and does; its state is one browser tab's own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from nicegui import events, run, ui
from roboref_core.referring.query import MarkedBox, MarkedPoint, MarkedRegion, Query
from roboref_msgs.msg import ReferAnswer

from page.answers import AnswerColumn, History
from page.pictures import MARK, box_svg, data_url, jpeg, point_svg
from page.robot import ReadOnly, Robot, ViewPictures, ViewSummary
from page.room_panel import RoomPanel
from page.space import IDLE_FPS, Space
from page.strip import Strip, distinct

# A press and a release further apart than this share of the picture's width are a box [1].
_BOX_SHARE = 0.015
_PICTURE = 960
_POLL, _WATCH = 2.0, 0.5


class Page:
    """One open tab.

    Args:
        rate: most live pictures a second.
    """

    def __init__(self, robot: Robot, rate: float):
        self._robot, self._read_only = robot, robot.read_only
        self._view: ViewPictures | None = None
        self._mark: MarkedRegion | None = None
        self._pressed: tuple[float, float] | None = None
        self._shown: dict[str, int] = {}
        self._refreshing = False
        self._build()
        ui.timer(1.0 / rate, self._show_live)
        ui.timer(_WATCH, self._show_way)
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
                self._build_live()
            with ui.column().classes("w-full gap-1"):
                self._build_reference()
            with ui.column().classes("w-full gap-1"):
                self._answers = AnswerColumn()
                self._build_driving()
        self._strip = Strip(self._robot, self._choose)
        with ui.scene(height=420, background_color="#111827", grid=(20, 20), fps=IDLE_FPS).classes("w-full") as scene:
            self._space = Space(scene)
        if not self._read_only:
            RoomPanel(self._robot)
        self._history = History()

    def _build_live(self) -> None:
        ui.label("now").classes("text-xs text-gray-400")
        self._color = ui.image().classes("w-full rounded").props("no-spinner no-transition data-testid=live")
        self._depth = ui.image().classes("w-1/2 rounded").props("no-spinner no-transition data-testid=depth")

    def _build_reference(self) -> None:
        self._title = ui.label("reference view: click a point, or drag a box").classes("text-xs text-gray-400")
        self._canvas = ui.interactive_image(
            on_mouse=self._on_mouse, events=["mousedown", "mouseup"], cross="#ffffff55"
        ).classes("w-full rounded")
        self._canvas.props("data-testid=reference")
        with ui.row().classes("gap-2"):
            ui.button("Clear the mark", on_click=self._clear_mark).props("flat dense size=sm")
            if not self._read_only:
                ui.button("Pin the next view", on_click=self._capture).props("flat dense size=sm data-testid=pin")

    def _build_driving(self) -> None:
        with ui.row().classes("gap-2 items-center"):
            self._go = ui.button("Go there", on_click=self._go_there).props("dense data-testid=go")
            stop = ui.button("Stop", on_click=self._stop_robot).props("dense color=red data-testid=stop")
            self._way = ui.label().classes("text-sm").props("data-testid=way")
        self._go.disable()
        for button in (self._go, stop):
            button.set_visibility(not self._read_only)

    def _show_live(self) -> None:
        for name, image in (("color", self._color), ("depth", self._depth)):
            picture = self._robot.live.get(name)
            if picture is not None and self._shown.get(name) != picture.number:
                self._shown[name] = picture.number
                image.set_source(f"/live/{name}/{picture.number}")

    def _show_way(self) -> None:
        self._way.set_text(self._robot.progress())
        base = self._robot.base
        if base is not None:
            self._space.show_robot(base[0], self._robot.way)

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
        chosen = distinct(views, self._strip.shown)
        self._space.keep_only(chosen)
        if self._view is None and views:
            await self._choose(views[-1].view_id)
        for picture in await self._strip.show(chosen):
            self._space.add_view(picture)

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
        if not (text or self._mark):
            ui.notify("type what you look for, or mark it in a reference view", type="info")
            return
        self._button.disable()
        try:
            regions = (self._mark,) if self._mark else ()
            query = Query(text or "this", regions=regions, max_targets=3, search_memory=bool(self._memory.value))
            answer = await self._robot.ask(query)
        except (ReadOnly, TimeoutError) as error:
            ui.notify(str(error), type="negative")
            return
        finally:
            self._button.enable()
        await self._show_answer(text or "the mark", answer)

    async def _show_answer(self, text: str, answer: ReferAnswer) -> None:
        self._answers.show(text, answer)
        self._history.add(text, answer)
        places = self._answers.places
        self._space.show_targets([(place.position, place.covariance, place.remembered) for place in places])
        self._go.set_enabled(bool(places) and not self._read_only)
        if places:
            base = self._robot.base
            self._space.look_at(places[0].position, None if base is None else base[0][:2, 3])
        if not answer.view.view_id:
            return
        try:
            searched = await self._robot.pictures(answer.view.view_id)
        except (ValueError, TimeoutError) as error:
            ui.notify(str(error), type="warning")
            return
        self._answers.draw(answer, searched)

    async def _go_there(self) -> None:
        place = self._answers.chosen
        if place is not None:
            await self._tell(lambda: self._robot.go(place.position, place.covariance, place.frame), "on its way")

    async def _stop_robot(self) -> None:
        await self._tell(self._robot.stop, "stopped")

    async def _tell(self, command: Callable[[], None], done: str) -> None:
        try:
            await run.io_bound(command)
        except ValueError as error:
            ui.notify(str(error), type="warning")
        else:
            ui.notify(done, type="positive")
        self._show_way()
