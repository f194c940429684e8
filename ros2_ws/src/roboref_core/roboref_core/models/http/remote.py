"""JSON over HTTP to a model server, with everything bounded: total time, attempts, size of the answer."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import httpx

from roboref_core.errors import ErrorCode, ReferError

_RETRIED = frozenset({429, 500, 502, 503, 504})
_BUSY = frozenset({429, 503})
_ASKERS_FAULT = frozenset({400, 413, 415, 422})
_MAX_RESPONSE_BYTES = 16 * 1024 * 1024
_FIRST_WAIT, _LONGEST_WAIT = 0.25, 8.0


@dataclass(frozen=True)
class Patience:
    """How long to try.

    Attributes:
        timeout: for one question, all attempts and waits together [s].
        attempts: most attempts; only connection failures and the statuses 429 and 5xx are tried again.
    """

    timeout: float = 60.0
    attempts: int = 4

    def __post_init__(self):
        if self.timeout <= 0 or self.attempts < 1:
            raise ValueError(f"expected timeout > 0 and attempts >= 1, found {self.timeout} and {self.attempts}")


class RemoteServer:
    """One HTTP server. Thread-safe; connections are kept and reused.

    Args:
        url: base URL, "http://host:port".
        patience: bounds on time and attempts.
        headers: sent with every request (authorisation).
    """

    def __init__(self, url: str, patience: Patience | None = None, headers: dict[str, str] | None = None):
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"a model server needs an http:// or https:// URL, found {url!r}")
        self.url = url.rstrip("/")
        self.patience = patience or Patience()
        self._client = httpx.Client(headers=headers, follow_redirects=False)

    def close(self) -> None:
        self._client.close()

    def get(self, path: str) -> bytes:
        return self._ask("GET", path, None)

    def post(self, path: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Send JSON and return the JSON object that comes back.

        Raises ReferError with the server's own words: BUSY (429, 503), INVALID_QUERY (400, 413, 415, 422),
        TIMEOUT (patience is used up), INFERENCE_FAILED (the rest: no connection, other statuses, not JSON).
        """
        body = self._ask("POST", path, json.dumps(payload).encode())
        try:
            reply = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise self._failed(f"answered with something that is not JSON: {body[:200]!r}") from error
        if not isinstance(reply, dict):
            raise self._failed(f"answered with JSON that is not an object: {body[:200]!r}")
        return reply

    def _ask(self, method: str, path: str, content: bytes | None) -> bytes:
        deadline = time.monotonic() + self.patience.timeout
        wait = _FIRST_WAIT
        for attempt in range(1, self.patience.attempts + 1):
            try:
                status, body, retry_after = self._once(method, path, content, deadline)
            except httpx.TimeoutException as error:
                raise self._timed_out() from error
            except httpx.HTTPError as error:
                failure = self._failed(f"closed the connection or cannot be reached ({error or type(error).__name__})")
                retry_after = None
            else:
                if status < 300:
                    return body
                failure = self._refused(status, body)
                if status not in _RETRIED:
                    raise failure
            pause = min(_LONGEST_WAIT, wait if retry_after is None else retry_after)
            if attempt == self.patience.attempts or time.monotonic() + pause >= deadline:
                raise failure
            time.sleep(pause)
            wait *= 2
        raise AssertionError("the last attempt returns or raises")

    def _once(self, method: str, path: str, content: bytes | None, deadline: float) -> tuple[int, bytes, float | None]:
        request = self._client.build_request(
            method,
            self.url + path,
            content=content,
            headers={"Content-Type": "application/json"} if content is not None else None,
            timeout=max(0.001, deadline - time.monotonic()),
        )
        response = self._client.send(request, stream=True)
        try:
            body = bytearray()
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > _MAX_RESPONSE_BYTES:
                    raise self._failed(f"answered with more than {_MAX_RESPONSE_BYTES} bytes")
                # httpx bounds the wait for each piece; a server that trickles is bounded here.
                if time.monotonic() > deadline:
                    raise self._timed_out()
            return response.status_code, bytes(body), _seconds(response.headers.get("Retry-After"))
        finally:
            response.close()

    def _timed_out(self) -> ReferError:
        return ReferError(ErrorCode.TIMEOUT, f"server {self.url} did not answer within {self.patience.timeout:g} s")

    def _refused(self, status: int, body: bytes) -> ReferError:
        code = ErrorCode.INFERENCE_FAILED
        if status in _BUSY:
            code = ErrorCode.BUSY
        elif status in _ASKERS_FAULT:
            code = ErrorCode.INVALID_QUERY
        text = body[:500].decode("utf-8", "replace")
        return ReferError(code, f"server {self.url} answered with status {status}: {text}")

    def _failed(self, what: str) -> ReferError:
        return ReferError(ErrorCode.INFERENCE_FAILED, f"server {self.url} {what}")


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After in seconds; its other form, a date, is left to the backoff."""
    return float(retry_after) if retry_after is not None and retry_after.isascii() and retry_after.isdigit() else None
