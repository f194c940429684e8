"""One replay from scene to scores: bag, questions, node, records, pictures."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from offline.eval.records.replays import Question, Record, write_records
from offline.eval.replay.playing.live import LiveConfig, ask_live
from offline.eval.replay.playing.perturbation import Perturbation
from offline.eval.replay.playing.session import NodeConfig, ReplaySession
from offline.eval.replay.playing.stepped import ask_stepped
from offline.eval.replay.scoring.score import score
from offline.eval.replay.scoring.space import Cloud
from offline.eval.replay.scoring.table import Run
from offline.eval.replay.truth.recorded import MARKED_POINT
from offline.eval.replay.truth.truth import GroundTruthScene
from offline.files import write_json
from sim.bags.player_bag import Bag
from sim.bags.recorder import bag_stamps

_JPEG_QUALITY = 92


def replay(
    name: str,
    description: str,
    scene: GroundTruthScene,
    bag: Path,
    questions: Sequence[Question],
    folder: Path,
    config: NodeConfig | None = None,
    live: LiveConfig | None = None,
    perturbation: Perturbation | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Run:
    """Play ``bag`` (a recording of ``scene``) through the node, stepped or live, and ask ``questions``.

    Writes into ``folder``: questions.jsonl (one record per question), frames/ and masks/ (pictures that the
    records name), node.log, and last run.json: which bag this was, what ``perturbation`` had been done to it, and
    how it went if it was live.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").unlink(missing_ok=True)
    # Pictures of an earlier replay into this folder may be of another scene.
    for pictures in ("frames", "masks"):
        shutil.rmtree(folder / pictures, ignore_errors=True)
    with ReplaySession(bag, folder / "node.log", config) as session:
        stats = None
        if live is None:
            asked, pairs = ask_stepped(session, questions, bag_stamps(scene), progress)
        else:
            asked, pairs, stats = ask_live(session, scene, questions, live, progress)
    records = [Record(a.question, a.answer, a.latency, _pictures(scene, a.question, folder), folder) for a in asked]
    write_records(records, folder / "questions.jsonl")
    facts = {
        "bag": bag_digest(bag),
        "perturbation": perturbation.to_json() if perturbation else {},
        "live": asdict(stats) if stats else None,
    }
    write_json(folder / "run.json", facts)
    return Run(name, description, records, score(records) | {"pairs": asdict(pairs)}, folder, stats)


def bag_digest(path: Path) -> str:
    """A hash over the messages of a bag, their topics and times: equal for equal recordings."""
    hashed = hashlib.sha256()
    with Bag(path) as bag:
        for message in bag.messages(bag.topics):
            hashed.update(f"{message.topic} {message.time_ns} {len(message.data)}\n".encode())
            hashed.update(message.data)
    return hashed.hexdigest()[:16]


def _pictures(scene: GroundTruthScene, question: Question, folder: Path) -> dict[str, str]:
    """Write what the report shows of a question, unless another question wrote it; names relative to ``folder``."""
    files = {}
    for key, position in (("reference", question.reference), ("query", question.query)):
        if position is not None:
            files[key] = f"frames/{scene.frame_ids[position]:06d}.jpg"
            _write(folder / files[key], partial(_bgr, scene, position))
            points = f"frames/{scene.frame_ids[position]:06d}.npz"
            if (folder / points).exists() or _write_points(scene, position, folder / points):
                files[f"{key}_points"] = points
    if question.label not in ("", MARKED_POINT) and question.fate != "removed":
        files["mask"] = f"masks/{scene.frame_ids[question.query]:06d}_{question.object_id}.png"
        mask = scene.ids(question.query) == question.object_id
        _write(folder / files["mask"], lambda: mask.astype(np.uint8) * 255)
    return files


def _write_points(scene: GroundTruthScene, position: int, path: Path) -> bool:
    """Write what a frame measured; False where it has no pose."""
    cloud = Cloud.of(scene, position)
    if cloud is not None:
        cloud.write(path)
    return cloud is not None


def _bgr(scene: GroundTruthScene, position: int) -> np.ndarray:
    return scene.color(position)[..., ::-1]


def _write(path: Path, image: Callable[[], np.ndarray]) -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if path.suffix == ".jpg" else []
        if not cv2.imwrite(str(path), np.ascontiguousarray(image()), quality):
            raise OSError(f"{path}: picture cannot be written")
