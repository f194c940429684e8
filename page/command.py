"""`roboref page`: the page in a browser."""

from __future__ import annotations

import hmac
import ipaddress
import os
from dataclasses import dataclass
from typing import Any

_COOKIE = "roboref_page_token"


@dataclass(frozen=True)
class ServePage:
    """A page to look, mark and ask, in any browser; it needs a running node.

    It is an ordinary client: what it does, any planner can do. On an address other than this machine's own it wants a
    token, from the environment variable ROBOREF_PAGE_TOKEN: http://HOST:PORT/?token=...

      roboref page --node /roboref --color /camera/color/image_raw
    """

    node: str = "/roboref"
    """Name of the node that is asked."""
    color: str = "/color/image_raw"
    """Topic of colour images to be seen live, raw or `.../compressed`."""
    depth: str = "/depth/image_raw"
    """Topic of depth images to be seen live, raw or `.../compressedDepth`."""
    host: str = "127.0.0.1"
    """Address to listen at."""
    port: int = 8090
    """Port of the page."""
    rate: float = 10.0
    """Most live pictures a second."""
    read_only: bool = False
    """Show, but do not ask, capture, go, stop or change a simulated room."""

    def __call__(self) -> int:
        # Only here: the help needs neither ROS nor a web framework.
        from nicegui import app, ui
        from starlette.responses import Response

        from page.app import Page
        from page.robot import Robot

        token = os.environ.get("ROBOREF_PAGE_TOKEN", "")
        if not (is_loopback(self.host) or token):
            raise ValueError(f"--host {self.host} is reached by others: set ROBOREF_PAGE_TOKEN to a secret of your own")
        robot = Robot(self.node, self.color, self.depth, self.rate, self.read_only)
        app.on_shutdown(robot.close)

        if token:
            app.add_middleware(TokenGate, token=token)

        # Not in the page's socket: a browser loads pictures beside its work, and drops those that come too late.
        @app.get("/live/{name}/{number}")
        def live(name: str, number: int) -> Response:
            picture = robot.live.get(name)
            if picture is None:
                return Response(status_code=404)
            return Response(picture.data, media_type="image/jpeg", headers={"Cache-Control": "no-store"})

        @ui.page("/")
        def index() -> None:
            Page(robot, self.rate)

        print(f"http://{self.host}:{self.port}/", flush=True)
        try:
            ui.run(
                host=self.host,
                port=self.port,
                title="RoboRef",
                reload=False,
                show=False,
                dark=True,
                reconnect_timeout=60,
            )
        except KeyboardInterrupt:
            pass  # how a server is ended
        return 0


class TokenGate:
    """ASGI middleware: pages and sockets only with the token, given once in the address and then kept as a cookie."""

    def __init__(self, app: Any, token: str):
        self._app, self._token = app, token

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        from starlette.requests import HTTPConnection
        from starlette.responses import PlainTextResponse

        connection = HTTPConnection(scope)
        given = connection.query_params.get("token", "") or connection.cookies.get(_COOKIE, "")
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            if scope["type"] == "websocket":
                return await send({"type": "websocket.close", "code": 4401})
            return await PlainTextResponse("this page wants its token: ?token=...", 401)(scope, receive, send)

        async def with_cookie(message: Any) -> None:
            if message["type"] == "http.response.start":
                cookie = f"{_COOKIE}={self._token}; HttpOnly; SameSite=Strict; Path=/"
                message = {**message, "headers": [*message["headers"], (b"set-cookie", cookie.encode())]}
            await send(message)

        await self._app(scope, receive, with_cookie)


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
