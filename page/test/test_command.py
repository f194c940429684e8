"""The page is for this machine alone, unless there is a token."""

from __future__ import annotations

import asyncio

import pytest

from page.command import ServePage, TokenGate, is_loopback


@pytest.mark.parametrize(("host", "own"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False)])
def test_loopback(host, own):
    assert is_loopback(host) == own


def test_other_addresses_want_a_token(monkeypatch):
    monkeypatch.delenv("ROBOREF_PAGE_TOKEN", raising=False)
    with pytest.raises(ValueError, match="ROBOREF_PAGE_TOKEN"):
        ServePage(host="0.0.0.0")()


def request(kind: str, query: bytes = b"", cookie: bytes = b"") -> list[dict]:
    """What a gated application sends."""
    sent: list[dict] = []

    async def application(scope, receive, send):
        if kind == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
        else:
            await send({"type": "websocket.accept"})

    async def send(message):
        sent.append(message)

    scope = {"type": kind, "method": "GET", "path": "/", "query_string": query, "headers": [(b"cookie", cookie)]}
    asyncio.run(TokenGate(application, "secret")(scope, None, send))
    return sent


def test_the_token_opens_pages_and_is_kept_as_a_cookie():
    (start,) = request("http", b"token=secret")
    (cookie,) = [value for name, value in start["headers"] if name == b"set-cookie"]
    assert start["status"] == 200 and b"HttpOnly" in cookie
    assert request("http", cookie=b"roboref_page_token=secret")[0]["status"] == 200
    assert request("websocket", cookie=b"roboref_page_token=secret")[0]["type"] == "websocket.accept"


@pytest.mark.parametrize("query", [b"", b"token=", b"token=wrong", "token=gänzlich".encode()])
def test_without_it_nothing_is_served(query):
    assert request("http", query)[0]["status"] == 401
    assert request("websocket", query)[0]["type"] == "websocket.close"
