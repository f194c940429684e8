"""The tasks, their forms, how many pictures a form shows, and the names of their files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

TASKS: Mapping[str, Mapping[str, int]] = {
    "t1": {"multi": 2, "concat": 1},
    "t2a": {"multi": 2},
    "t2b": {"multi": 2},
    "referring": {"single": 1},
    "reasoning": {"single": 1, "steps": 1},
}
"""Task -> form -> pictures. In "reasoning", phrases of several steps are asked twice: for the answer alone, and for the
steps that lead to it."""

_SPLITS = {"train": "train", "validation": "val"}


def refuse_unknown(tasks: Iterable[str]) -> None:
    """Raise ValueError naming those that are not in ``TASKS``."""
    unknown = sorted(set(tasks) - set(TASKS))
    if unknown:
        raise ValueError(f"no task {', '.join(unknown)}; there are {', '.join(TASKS)}")


def task_name(sample: Mapping) -> str:
    """Which file a sample belongs to, split aside: ``t1_multi``, ``t1_concat_grid``, ``referring``."""
    form = "" if sample["form"] == "single" else f"_{sample['form']}"
    return f"{sample['task']}{form}{'_grid' if sample['grid'] else ''}"


def file_name(name: str, split: str) -> str:
    """``t1_train_multi.json`` of ``t1_multi``: the split stands behind the task, as trainers expect."""
    task, _, form = name.partition("_")
    return "_".join(part for part in (task, _SPLITS.get(split, split), form) if part) + ".json"


def first_file(task: str, split: str) -> str:
    """The file of a task's first form, without a grid; its other forms show the same pairs again."""
    return file_name(task_name({"task": task, "form": next(iter(TASKS[task])), "grid": False}), split)
