"""What became of the surface around a mark."""

from __future__ import annotations

from roboref_core.models.pointing_model import BoxMark, Mark, PositionMark
from roboref_core.views.registration import ChangeEvidence, what_changed
from roboref_core.views.view import View


def surface_of_mark(marks: tuple[Mark, ...], searched: View) -> ChangeEvidence:
    """The surface around the one mark that was made in another view, in ``searched``; NOT_CHECKED otherwise.

    Args:
        marks: in the world of ``searched``, their views registered to it where stated poses do not stand.
    Raises:
        ImageError: a picture cannot be decoded.
    """
    mark = marks[0] if len(marks) == 1 else None
    if mark is None or isinstance(mark, PositionMark) or mark.view.images is searched.images:
        return ChangeEvidence()
    return what_changed(mark.view, searched, mark.pixel, mark.box if isinstance(mark, BoxMark) else None)
