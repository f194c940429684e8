"""HTTP connections that give up on clients that do not finish a request's headers."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


def http_protocol(header_timeout: float) -> type[H11Protocol]:
    """uvicorn's HTTP protocol, with a limit on how long a request's headers may take.

    Args:
        header_timeout: from the connection, or a request's first byte, to the end of its headers [s].
    """

    class HeaderTimeoutProtocol(H11Protocol):
        _waiting: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._waiting = self.loop.call_later(header_timeout, self._give_up)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.conn.their_state is not h11.IDLE:
                self._stop_waiting()
            elif self._waiting is None:
                # A further request on this connection has begun; uvicorn's keep-alive time-out has ended with it.
                self._waiting = self.loop.call_later(header_timeout, self._give_up)

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)

        def _give_up(self) -> None:
            self._waiting = None
            if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
                self.transport.close()

        def _stop_waiting(self) -> None:
            if self._waiting is not None:
                self._waiting.cancel()
                self._waiting = None

    return HeaderTimeoutProtocol
