"""The command `roboref`: a name -> a module, imported only when it is called."""

from __future__ import annotations

import importlib
import sys

# Name -> (module with main(argv), one line of help).
COMMANDS = {
    "demo": ("offline.eval.demo", "scene, bag, node, questions and report, end to end"),
    "sim": ("sim.cli", "make indoor scenes, record them as bags, play bags"),
    "data": ("offline.data_engine.cli", "turn posed RGB-D scenes into training examples"),
    "train": ("offline.train.cli", "fine-tune RoboRefer or LLaVA-OneVision on it, locally or on Slurm"),
    "eval": ("offline.eval.cli", "predict, score, compare and report; benchmarks; replay through the node"),
    "serve": ("roboref_core.serve.cli", "put a model behind HTTP"),
}


def usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(["usage: roboref COMMAND ...", "", *lines, "", "roboref COMMAND --help says more."])


def main(argv: list[str] | None = None) -> int | None:
    """Run one command. Returns its exit status (None: success)."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    name, *rest = argv
    if name not in COMMANDS:
        print(f"roboref: no command {name!r}\n\n{usage()}", file=sys.stderr)
        return 2
    try:
        module = importlib.import_module(COMMANDS[name][0])
    except ModuleNotFoundError as error:
        print(f"roboref {name}: {remedy(error)}", file=sys.stderr)
        return 1
    return module.main(rest)


def remedy(error: ModuleNotFoundError) -> str:
    """What to do about a package that is missing; raises the error again if it is one of ours."""
    package = (error.name or "").partition(".")[0]
    if package in ("offline", "sim", "roboref_core"):
        raise error
    if package in ("rclpy", "roboref_msgs", "roboref_ros"):
        return f"{package} is not on the path: run `make setup`, then `source setup/env.sh`"
    return f"{package} is not installed: run `make setup-full`, or pip install -r setup/requirements-full.txt"


if __name__ == "__main__":
    raise SystemExit(main())
