"""The command `roboref`: a name -> a module, imported only when it is called."""

from __future__ import annotations

import roboref_core
from roboref_core.command_line import CommandTable

COMMANDS = {
    "demo": ("offline.eval.demo:Demo", "scene, bag, node, questions and report, end to end"),
    "sim": ("offline.commands.sim", "make indoor scenes, record them as bags, play bags"),
    "data": ("offline.data_engine.cli", "turn posed RGB-D scenes into training examples"),
    "train": ("offline.train.cli", "fine-tune RoboRefer or LLaVA-OneVision on it, locally or on Slurm"),
    "eval": ("offline.eval.cli", "predict, score, compare and report; benchmarks; replay through the node"),
    "record": ("sim.bags.topic_recorder_cli:RecordTopics", "the node's traffic, images and poses of a run, as MCAP"),
    "page": ("page.command:ServePage", "a page in the browser to look, mark and ask"),
    "serve": ("roboref_core.serve.cli:Serve", "put a model behind HTTP"),
}

main = CommandTable("roboref", COMMANDS, f"roboref {roboref_core.__version__}", "roboref sim live")

if __name__ == "__main__":
    raise SystemExit(main())
