"""Progress functions (done, total) that move a progress bar."""

from __future__ import annotations

from collections.abc import Callable

from roboref_core.progress import Progress


def follow(bar: Progress) -> Callable[[int, int], None]:
    """A progress function that moves ``bar``."""

    def progress(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    return progress
