"""`roboref eval`: a name -> a module, imported only when it is called."""

from __future__ import annotations

from roboref_core.command_line import CommandTable

COMMANDS = {
    "predict": (
        "offline.eval.asking.predict:Predict",
        "put a file of samples to a model, once; resumes where it was stopped",
    ),
    "merge": ("offline.eval.asking.shards:Merge", "one predictions file from the shards of `predict --shard`"),
    "score": ("offline.eval.scoring.score:Score", "figures from predictions and data; no model, seconds"),
    "compare": (
        "offline.eval.scoring.compare:Compare",
        "two models on the same samples: what differs, and what is noise",
    ),
    "report": (
        "offline.eval.reporting.report:Report",
        "one HTML file with tables, plots and every kind of case to look at",
    ),
    "calibrate": (
        "offline.eval.scoring.calibrate:Calibrate",
        "make p_visible a probability, from predictions on a validation file",
    ),
    "zeroshot": ("offline.eval.zeroshot:ZeroShot", "the four validation files, one model, one table"),
    "ablation": ("offline.eval.ablation:Ablation", "grid on and off, two pictures or one, depth on and off"),
    "lmms-tasks": (
        "offline.eval.adapters.lmms_eval:LmmsTasks",
        "the spatial tasks for lmms-eval, with the same scorer",
    ),
    "bench": ("offline.eval.benches.cli:Bench", "public benchmarks with their published scorers"),
    "drive": ("offline.eval.drive.cli:DriveCommand", "a robot in simulated rooms that asks, drives and arrives"),
    "replay": ("offline.eval.replay.cli", "bags through the node, questions asked and scored"),
}

main = CommandTable("roboref eval", COMMANDS, example="roboref eval score answers.jsonl --data t1_val_multi.json")
