"""Keys of model servers: read from the environment or a file, and shown to nobody.

A key is never an option's value: options are node parameters and command lines, which other users of the machine can
read, and are kept in predictions and reports. Options name where the key is.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

_MAX_BYTES = 16_384


class ApiKey:
    """A bearer token that no text form shows.

    Args:
        value: the key; empty: there is none.
    """

    def __init__(self, value: str = ""):
        self._value = value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return f"ApiKey({'***' if self._value else 'none'})"

    def __reduce__(self) -> str:
        raise TypeError("an API key is not copied or written: read it again where it is needed")

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._value}"} if self._value else {}

    def redact(self, text: str) -> str:
        """``text`` without the key: servers repeat keys in their errors."""
        return text.replace(self._value, "***") if self._value else text


def read_api_key(environment_variable: str = "", file: str = "") -> ApiKey:
    """The key in an environment variable or a file; without either, none.

    Raises:
        ValueError: both are named, the one named holds no key, or what it holds cannot be a key. The text never
            repeats what was found.
    """
    if environment_variable and file:
        raise ValueError("name one place of the API key, api_key_env or api_key_file, not both")
    if environment_variable:
        where, value = f"environment variable {environment_variable}", os.environ.get(environment_variable, "")
    elif file:
        where = f"file {file}"
        try:
            with open(Path(file).expanduser(), "rb") as handle:
                value = handle.read(_MAX_BYTES).decode("ascii", "replace")
        except OSError as error:
            raise ValueError(f"API key: {where} cannot be read ({error.strerror})") from None
    else:
        return ApiKey()
    value = value.strip()
    if not value:
        raise ValueError(f"API key: {where} is not set or empty")
    if not all(" " < character <= "~" for character in value):
        raise ValueError(f"API key: {where} holds more than one line or characters that no key has")
    return ApiKey(value)


def checked_url(url: str) -> str:
    """A base URL without a trailing slash.

    Raises ValueError for another scheme, and for user names, passwords and queries, which would be shown wherever the
    server is named. The text does not repeat them.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError as error:
        raise ValueError(f"a model server needs an http:// or https:// URL ({error})") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError(f"a model server needs an http:// or https:// URL, found {url.rpartition('@')[2][:80]!r}")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(
            f"the URL of model server {host} must hold no user, password, query or fragment: give keys by "
            "api_key_env or api_key_file"
        )
    return url.rstrip("/")
