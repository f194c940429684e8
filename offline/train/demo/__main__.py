"""``python -m offline.train.demo``, and ``... ablations``.

Light at its top: the data engine's worker processes import it too.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import tyro

from offline.train.demo.config import AblationConfig, DemoConfig


def main(argv: Sequence[str] | None = None) -> int:
    """Command line. Returns 0; 1 with a message if something failed; 75 (EX_TEMPFAIL) if it was asked to stop."""
    argv = sys.argv[1:] if argv is None else list(argv)
    ablations = argv[:1] == ["ablations"]
    kind = AblationConfig if ablations else DemoConfig
    config = tyro.cli(kind, args=argv[ablations:], prog="python -m offline.train.demo", description=kind.__doc__)
    from offline.train.demo.chain import Preempted

    try:
        if isinstance(config, AblationConfig):
            from offline.train.demo.ablations import ablate

            ablate(config)
        else:
            from offline.train.demo.demo import demo

            demo(config)
    except Preempted as stopped:
        print(stopped, file=sys.stderr)
        return 75
    except (RuntimeError, TimeoutError, OSError, ValueError) as error:
        print(f"train-demo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
