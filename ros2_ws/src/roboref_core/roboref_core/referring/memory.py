"""Which older views are asked for what the present one does not show, and in which order."""

from __future__ import annotations

from collections.abc import Iterator

from roboref_core.models.pointing_model import Mark
from roboref_core.views.view import View
from roboref_core.views.view_buffer import ViewBuffer

_BATCH = 4
"""Views that are put to the model together: a found thing ends the search, so that more may be asked in vain."""


def memory_batches(searched: View, marks: tuple[Mark, ...], buffer: ViewBuffer, count: int) -> Iterator[list[View]]:
    """Posed views older than ``searched``, in the batches in which they are to be asked.

    With one mark whose place is known every view comes by itself, the newest first: who asks passes over those that
    cannot see the place. Otherwise at most ``count`` views that show different space come first (see
    ``ViewBuffer.views_elsewhere``), the newest first, then the others.
    """
    older = [view for view in buffer.views() if view.stamp_ns < searched.stamp_ns and view.T_world_camera is not None]
    if len(marks) == 1 and marks[0].place is not None:
        yield from ([view] for view in older)
        return
    ids = {view.view_id for view in older}
    spread = [view for view in buffer.views_elsewhere(searched, count) if view.view_id in ids]
    chosen = {view.view_id for view in spread}
    for views in (spread, [view for view in older if view.view_id not in chosen]):
        yield from (views[i : i + _BATCH] for i in range(0, len(views), _BATCH))
