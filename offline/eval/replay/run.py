"""One replay from scene to scores: bag, questions, node, records, pictures."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np

from offline.eval.replay.questions import Question
from offline.eval.replay.record import make_record, write_jsonl
from offline.eval.replay.recorded import MARKED_POINT
from offline.eval.replay.report import Run
from offline.eval.replay.score import score
from offline.eval.replay.session import NodeConfig, ReplaySession
from offline.eval.replay.truth import GroundTruthScene
from sim.recorder import bag_stamps

_JPEG_QUALITY = 92


def replay(
    name: str,
    description: str,
    scene: GroundTruthScene,
    bag: Path,
    questions: Sequence[Question],
    folder: Path,
    config: NodeConfig | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Run:
    """Play ``bag`` (a recording of ``scene``) through the node and ask ``questions``.

    Writes into ``folder``: questions.jsonl (one record per question), frames/ and masks/ (pictures that the
    records name) and node.log.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Pictures of an earlier replay into this folder may be of another scene.
    for pictures in ("frames", "masks"):
        shutil.rmtree(folder / pictures, ignore_errors=True)
    with ReplaySession(bag, folder / "node.log", config) as session:
        asked = session.ask(questions, bag_stamps(scene), progress)
        pairs = session.pairs()
    records = [make_record(a.question, a.answer, a.latency, _pictures(scene, a.question, folder)) for a in asked]
    write_jsonl(records, folder / "questions.jsonl")
    return Run(name, description, records, score(records, folder) | {"pairs": asdict(pairs)}, folder)


def _pictures(scene: GroundTruthScene, question: Question, folder: Path) -> dict[str, str]:
    """Write what the report shows of a question, unless another question wrote it; names relative to ``folder``."""
    files = {
        "reference": f"frames/{scene.frame_ids[question.reference]:06d}.jpg",
        "query": f"frames/{scene.frame_ids[question.query]:06d}.jpg",
    }
    for key, position in (("reference", question.reference), ("query", question.query)):
        _write(folder / files[key], lambda position=position: scene.color(position)[..., ::-1])
    if question.label != MARKED_POINT:
        files["mask"] = f"masks/{scene.frame_ids[question.query]:06d}_{question.object_id}.png"
        mask = scene.ids(question.query) == question.object_id
        _write(folder / files["mask"], lambda: mask.astype(np.uint8) * 255)
    return files


def _write(path: Path, image: Callable[[], np.ndarray]) -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if path.suffix == ".jpg" else []
        if not cv2.imwrite(str(path), np.ascontiguousarray(image()), quality):
            raise OSError(f"{path}: picture cannot be written")
