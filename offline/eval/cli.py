"""`roboref eval`: a name -> a module, imported only when it is called."""

from __future__ import annotations

import importlib
import sys

from offline.cli import remedy

# Name -> (module with main(argv), one line of help).
COMMANDS = {
    "predict": ("offline.eval.predict", "put a file of samples to a model, once; resumes where it was stopped"),
    "score": ("offline.eval.score", "figures from predictions and data; no model, seconds"),
    "compare": ("offline.eval.compare", "two models on the same samples: what differs, and what is noise"),
    "report": ("offline.eval.report", "one HTML file with tables, plots and every kind of case to look at"),
    "zeroshot": ("offline.eval.zeroshot", "the four validation files, one model, one table"),
    "ablation": ("offline.eval.ablation", "grid on and off, two pictures or one, depth on and off"),
    "bench": ("offline.eval.benches.cli", "RefSpatial-Bench, Where2Place, CrossPoint-Bench"),
    "replay": ("offline.eval.replay.cli", "bags through the node, questions asked and scored"),
}


def usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(["usage: roboref eval COMMAND ...", "", *lines, "", "roboref eval COMMAND --help says more."])


def main(argv: list[str]) -> int | None:
    """Run one command. Returns its exit status (None: success); --help leaves with status 0, as every command's."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        raise SystemExit(0)
    name, *rest = argv
    if name not in COMMANDS:
        print(f"roboref eval: no command {name!r}\n\n{usage()}", file=sys.stderr)
        return 2
    try:
        module = importlib.import_module(COMMANDS[name][0])
    except ModuleNotFoundError as error:
        print(f"roboref eval {name}: {remedy(error)}", file=sys.stderr)
        return 1
    return module.main(rest)
