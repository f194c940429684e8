"""JSON over HTTP to a model server, with everything bounded: total time, attempts, size of the answer."""

from __future__ import annotations

import asyncio
import json
import math
import os
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import CancelledError
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, TypeVar

import httpx

from roboref_core.errors import ErrorCode, ReferError
from roboref_core.models.cancellation import Cancellation
from roboref_core.models.http.credentials import ApiKey, checked_url

_RETRIED = frozenset({429, 500, 502, 503, 504})
_BUSY = frozenset({429, 503})
_ASKERS_FAULT = frozenset({400, 413, 415, 422})
_MAX_RESPONSE_BYTES = 16 * 1024 * 1024
_FIRST_WAIT, _LONGEST_WAIT = 0.25, 8.0
Result = TypeVar("Result")


@dataclass(frozen=True)
class RetryPolicy:
    """How long to try.

    Attributes:
        timeout: for one question, all attempts and waits together [s].
        attempts: most attempts; only connection failures and the statuses 429 and 5xx are tried again.
    """

    timeout: float = 60.0
    attempts: int = 4

    def __post_init__(self) -> None:
        if not (self.timeout > 0 and math.isfinite(self.timeout)) or self.attempts < 1:
            raise ValueError(f"expected timeout > 0 and attempts >= 1, found {self.timeout} and {self.attempts}")


class RemoteServer:
    """One HTTP server. Thread-safe; connections are kept and reused.

    Requests run in one thread of all servers, where a deadline cancels them in any state: while a name is resolved,
    a connection is made, or a server sends its answer byte by byte.

    Args:
        url: base URL, "http://host:port".
        policy: bounds on time and attempts.
        key: sent with every request.
    """

    def __init__(self, url: str, policy: RetryPolicy | None = None, key: ApiKey | None = None):
        self.url = checked_url(url)
        self.policy = policy or RetryPolicy()
        self._key = key or ApiKey()
        self._client = httpx.AsyncClient(headers=self._key.headers, follow_redirects=False, timeout=None)
        self._loop = _event_loop()

    def close(self) -> None:
        """Close the connections; what is under way fails."""
        asyncio.run_coroutine_threadsafe(self._client.aclose(), self._loop).result(5.0)

    def get(self, path: str, deadline: float | None = None, cancellation: Cancellation | None = None) -> bytes:
        """The body at ``path``. Arguments and errors as ``post``."""
        return self._run(self._ask("GET", path, None, self._end(deadline)), cancellation)

    def post(
        self,
        path: str,
        payload: dict[str, Any],
        deadline: float | None = None,
        cancellation: Cancellation | None = None,
    ) -> dict[str, Any]:
        """Send JSON and return the JSON object that comes back.

        Args:
            path: below the base URL, or a whole URL.
            deadline: time.monotonic() at which the asker stops waiting [s]; the policy's timeout holds as well.
            cancellation: ends the request in any state.

        Raises ReferError with the server's own words: BUSY (429, 503), INVALID_QUERY (400, 413, 415, 422),
        TIMEOUT (time is used up), CANCELED, INFERENCE_FAILED (the rest: no connection, other statuses, not JSON).
        """
        content = json.dumps(payload, allow_nan=False).encode()
        body = self._run(self._ask("POST", path, content, self._end(deadline)), cancellation)
        try:
            reply = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise self._failed(f"answered with something that is not JSON: {body[:200]!r}") from error
        if not isinstance(reply, dict):
            raise self._failed(f"answered with JSON that is not an object: {body[:200]!r}")
        return reply

    def _end(self, deadline: float | None) -> float:
        own = time.monotonic() + self.policy.timeout
        return own if deadline is None else min(own, deadline)

    def _run(self, work: Coroutine[Any, Any, Result], cancellation: Cancellation | None) -> Result:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            with nullcontext() if cancellation is None else cancellation.calling(future.cancel):
                return future.result()
        except CancelledError as error:
            raise ReferError(ErrorCode.CANCELED, f"the question to server {self.url} was cancelled") from error
        except BaseException:
            future.cancel()  # an interrupted asker leaves nothing running
            raise

    async def _ask(self, method: str, path: str, content: bytes | None, end: float) -> bytes:
        started = time.monotonic()
        wait = _FIRST_WAIT
        for attempt in range(1, self.policy.attempts + 1):
            retry_after = None
            try:
                async with asyncio.timeout(max(0.0, end - time.monotonic())):
                    status, body, retry_after = await self._once(method, path, content)
            except TimeoutError as error:
                given = max(0.0, round(end - started, 1))
                raise ReferError(ErrorCode.TIMEOUT, f"server {self.url} did not answer within {given:g} s") from error
            except (httpx.HTTPError, RuntimeError) as error:  # RuntimeError: this client was closed meanwhile
                failure = self._failed(f"closed the connection or cannot be reached ({_root_cause(error)})")
            else:
                if status < 300:
                    return body
                failure = self._refused(status, body)
                if status not in _RETRIED:
                    raise failure
            pause = min(_LONGEST_WAIT, wait) if retry_after is None else retry_after
            if attempt == self.policy.attempts or time.monotonic() + pause >= end:
                raise failure
            await asyncio.sleep(pause)
            wait *= 2
        raise AssertionError("the last attempt returns or raises")

    async def _once(self, method: str, path: str, content: bytes | None) -> tuple[int, bytes, float | None]:
        headers = {"Content-Type": "application/json"} if content is not None else None
        url = path if path.startswith(self.url) else self.url + path
        async with self._client.stream(method, url, content=content, headers=headers) as response:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > _MAX_RESPONSE_BYTES:
                    raise self._failed(f"answered with more than {_MAX_RESPONSE_BYTES} bytes")
            return response.status_code, bytes(body), seconds_of(response.headers.get("Retry-After"))

    def _refused(self, status: int, body: bytes) -> ReferError:
        code = ErrorCode.INFERENCE_FAILED
        if status in _BUSY:
            code = ErrorCode.BUSY
        elif status in _ASKERS_FAULT:
            code = ErrorCode.INVALID_QUERY
        text = body[:500].decode("utf-8", "replace")
        return ReferError(code, self._key.redact(f"server {self.url} answered with status {status}: {text}"))

    def _failed(self, what: str) -> ReferError:
        return ReferError(ErrorCode.INFERENCE_FAILED, self._key.redact(f"server {self.url} {what}"))


@cache
def _event_loop() -> asyncio.AbstractEventLoop:
    """The loop of all requests, running in a thread that ends with the process."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="model servers", daemon=True).start()
    return loop


def _root_cause(error: BaseException) -> str:
    """The words of the operating system, where there are any: "Connection refused"."""
    while (cause := error.__cause__ or error.__context__) is not None and cause is not error:
        error = cause
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__


def seconds_of(retry_after: str | None) -> float | None:
    """The wait of a Retry-After header [s]: a number, fractions included, or a date; None for anything else."""
    if retry_after is None:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            date = parsedate_to_datetime(retry_after)
        except (ValueError, TypeError, IndexError):
            return None
        seconds = (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None
