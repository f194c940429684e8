"""Progress of long work: a bar in a terminal, plain lines now and then in a pipe or a log."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

# Shortest time between two plain lines [s].
_LINES_EVERY = 10.0


class Progress(tqdm):
    """A tqdm bar that writes whole lines, at most every 10 s and one at the end, where nobody watches.

    Takes tqdm's arguments. With ``leave=False`` there is no line at the end.
    """

    disable: bool
    last_print_t: float

    def __init__(self, *args: Any, **options: Any):
        self._plain = not (options.get("file") or sys.stderr).isatty()
        if self._plain:
            options |= {"mininterval": _LINES_EVERY, "maxinterval": _LINES_EVERY, "delay": _LINES_EVERY}
            if "bar_format" in options:
                options["bar_format"] = options["bar_format"].replace("|{bar}|", "")
            else:
                options["ncols"] = 0  # figures without a bar
        super().__init__(*args, **options)
        self._closed = bool(self.disable)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        if not self._plain:
            return bool(super().display(msg, pos))
        print(msg if msg is not None else str(self), file=self.fp, flush=True)
        return True

    def refresh(self, *args: Any, **options: Any) -> None:
        if self._plain and self._time() - self.last_print_t < _LINES_EVERY:
            return
        super().refresh(*args, **options)
        self.last_print_t = self._time()

    def clear(self, *args: Any, **options: Any) -> None:
        if not self._plain:
            super().clear(*args, **options)

    def close(self) -> None:
        if not self._plain or self._closed:
            return super().close()
        if self.leave:
            self.display()
        self._closed = self.disable = True
        self._decr_instances(self)
