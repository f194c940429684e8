"""What a checkpoint folder is called in answers, tables and file names."""

from __future__ import annotations

import re
from pathlib import Path

# A hub cache keeps owner/name at revision as models--owner--name/snapshots/revision.
_CACHED = re.compile(r"models--(?P<name>.+)/snapshots/(?P<revision>[^/]+)$")


def checkpoint_name(path: str | Path) -> str:
    """The folder's own name; for one in a hub cache "owner/name@revision", not the name of the snapshot alone."""
    absolute = Path(path).absolute()
    for folder in (absolute, absolute.resolve()):
        if found := _CACHED.search(folder.as_posix()):
            return f"{found.group('name').replace('--', '/')}@{found.group('revision')[:12]}"
    return absolute.resolve().name
