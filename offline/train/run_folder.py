"""The output folder of a run. Its ledger ``run.json`` names what the run put there; nothing else is touched."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from roboref_core.atomic import write_json

from offline.files import read_json
from offline.train import checkpoints
from offline.train.plan import Plan, differences, plan_of

LEDGER = "run.json"
MODEL, PREEMPTED = "model", "preempted"
LOG, QUARANTINE, CURVE, SUMMARY = "log.jsonl", "quarantine.jsonl", "loss.png", "summary.html"
EVALUATIONS, BEST, TENSORBOARD = "eval", "best.json", "tensorboard"
# Everything that a run writes beside its checkpoints. `slurm/` belongs to the batch script.
_FIXED = (
    MODEL,
    PREEMPTED,
    LOG,
    QUARANTINE,
    CURVE,
    SUMMARY,
    EVALUATIONS,
    BEST,
    TENSORBOARD,
    checkpoints.PARTIAL,
)
_CHECKPOINT = re.compile(r"checkpoint-\d+")


class RunFolder:
    """The output folder of a run and its ledger.

    Only the first rank changes it. A folder that does not exist yet has an empty ledger.

    Attributes:
        path: the folder.
    Raises:
        ValueError: the ledger is damaged.
    """

    def __init__(self, path: Path):
        self.path = path
        raw = read_json(path / LEDGER) if (path / LEDGER).is_file() else {}
        if not (isinstance(raw, dict) and isinstance(raw.get("names", []), list)):
            raise ValueError(f"{path / LEDGER}: expected a list of names, found {raw!r:.80}")
        self._names: set[str] = set(raw.get("names", []))
        self._plan = plan_of(raw["plan"], path / LEDGER, path) if raw.get("plan") else None
        self._model: list[str] = raw.get("model", [])

    def foreign(self) -> list[str]:
        """Names that the run would use and that something else has taken.

        A whole checkpoint of this trainer that was copied here is not among them: it is read, and never removed.
        """
        if not self.path.is_dir():
            return []
        return [
            path.name
            for path in sorted(self.path.iterdir())
            if path.name not in self._names
            and _occupied(path)
            and (
                path.name in _FIXED
                or (_CHECKPOINT.fullmatch(path.name) and not (path.is_dir() and checkpoints.defect(path) is None))
            )
        ]

    def refuse_foreign(self) -> None:
        """Raises ValueError naming foreign content."""
        if found := self.foreign():
            raise ValueError(
                f"{self.path} holds {', '.join(found)}, which this run did not write ({LEDGER} does not name "
                f"{'it' if len(found) == 1 else 'them'}): use another output folder"
            )

    def check(self, plan: Plan) -> None:
        """Raises ValueError naming foreign content, or what differs from the plan of the run that is here."""
        self.refuse_foreign()
        if self._plan is not None and (other := differences(self._plan, plan)):
            raise ValueError(f"{self.path} was made by another plan: {'; '.join(other)}. Use another output folder")

    def take(self, plan: Plan) -> None:
        """Names everything that the run will write, see ``check``. The folder is made."""
        self.check(plan)
        self._names |= set(_FIXED)
        self._plan = plan
        self._write()

    def claim(self, name: str) -> Path:
        """The path of an entry that is about to be made.

        Raises ValueError if something else has that name.
        """
        path = self.path / name
        if name not in self._names:
            if _occupied(path):
                raise ValueError(f"{path} exists and is not of this run: {LEDGER} does not name it")
            self._names.add(name)
            self._write()
        return path

    def remove(self, name: str) -> None:
        """Removes an entry of the run; anything else stays."""
        path = self.path / name
        if name not in self._names:
            return
        if path.is_dir():
            # Without its manifest first, a removal that is interrupted leaves nothing to resume from.
            (path / checkpoints.MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def clean(self) -> None:
        """Removes what an interrupted run left half-written."""
        self.remove(checkpoints.PARTIAL)
        for folder in checkpoints.found(self.path):
            if checkpoints.defect(folder) is not None:
                self.remove(folder.name)

    def rotate(self, keep: int, best: int | None = None) -> None:
        """Removes all but the last ``keep`` checkpoints and that of step ``best``."""
        for folder in checkpoints.find(self.path)[:-keep]:
            if folder.name != f"checkpoint-{best}":
                self.remove(folder.name)

    def finish(self) -> None:
        """Notes the files of the published model: the run is done."""
        model = self.path / MODEL
        self._model = sorted(str(file.relative_to(model)) for file in model.rglob("*") if file.is_file())
        self._write()

    @property
    def finished(self) -> bool:
        """Whether the model was published and all of its files are there."""
        return bool(self._model) and all((self.path / MODEL / name).is_file() for name in self._model)

    def _write(self) -> None:
        plan = None if self._plan is None else self._plan.model_dump(mode="json")
        write_json(self.path / LEDGER, {"names": _ordered(self._names), "model": self._model, "plan": plan})


def _occupied(path: Path) -> bool:
    """Whether a path is a file, or a folder with anything in it."""
    return path.is_symlink() or path.is_file() or (path.is_dir() and any(path.iterdir()))


def _ordered(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: (len(name), name))
