"""``python -m offline.train.demo``: the training demo; with ``ablations`` in front, the ablations."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from roboref_core.command_line import run

from offline.train.demo.config import AblationConfig, DemoConfig

_PROGRAM = "python -m offline.train.demo"


@dataclass(frozen=True)
class RunDemo(DemoConfig):
    __doc__ = DemoConfig.__doc__

    def __call__(self) -> None:
        from offline.train.demo.demo import demo

        demo(self)


@dataclass(frozen=True)
class RunAblations(AblationConfig):
    __doc__ = AblationConfig.__doc__

    def __call__(self) -> None:
        from offline.train.demo.ablations import ablate

        ablate(self)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the demo or the ablations; returns an exit status."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if argv[:1] == ["ablations"]:
        return run(RunAblations, f"{_PROGRAM} ablations", argv[1:])
    return run(RunDemo, _PROGRAM, argv)


if __name__ == "__main__":
    sys.exit(main())
