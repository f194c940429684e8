"""A page to browse training samples: what the model sees, the mask, and the answer it should learn."""

from __future__ import annotations

import base64
import html
import random
from pathlib import Path

import cv2
import numpy as np
from roboref_core.geometry.camera import normalised_to_pixel

from offline.data_engine.task_files import (
    answer_points,
    form_of,
    mask_path,
    picture_path,
    pictures_of,
    read_samples,
    turns,
)
from offline.files import read_mask, read_picture, write_bytes

_HEIGHT = 300
STYLE = """
body{font:14px system-ui,sans-serif;margin:16px;background:#f4f4f2;color:#222}
article{background:#fff;border:1px solid #ddd;border-radius:6px;margin:12px 0;padding:10px}
img{height:300px;margin-right:6px;border:1px solid #ccc}
h2{font-size:14px;margin:0 0 6px} p{margin:4px 0;max-width:110em}
.no{color:#a40000;font-weight:600} .yes{color:#1a5d00;font-weight:600} .facts{color:#666;font-size:12px}
"""


def write_page(json_file: Path, page: Path, count: int, seed: int = 0, image_root: Path = Path("/")) -> str:
    """Draw ``count`` samples of a file and write them as one HTML file; returns a line that says what was written."""
    samples = list(read_samples(json_file))
    chosen = sorted(random.Random(seed).sample(range(len(samples)), min(count, len(samples))))
    parts = [
        "<!doctype html><meta charset='utf-8'>",
        f"<title>{html.escape(json_file.name)}</title><style>{STYLE}</style>",
        f"<h1>{html.escape(json_file.name)}: {len(chosen)} of {len(samples)} samples</h1>",
        "<p>Green outline: where a point counts as right. Cross: the answer.</p>",
    ]
    parts += [article(where, sample, image_root) for where, sample in (samples[k] for k in chosen)]
    write_bytes(page, "\n".join(parts).encode())
    return f"{len(chosen)} samples on {page}"


def annotated(sample: dict, image_root: Path = Path("/")) -> list[np.ndarray]:
    """The sample's pictures, the last one with mask outline and answer: (H, W, 3) uint8 RGB each."""
    images = [read_picture(picture_path(name, image_root)) for name in pictures_of(sample)]
    if not images:
        return images
    query = images[-1]
    answers = [point for text in turns(sample, "gpt") for point in answer_points(text)]
    path = mask_path(sample, image_root)
    if path is not None and answers:
        mask = read_mask(path)
        h, w = mask.shape
        if query.shape[1] > w and query.shape[0] >= h and form_of(sample) == "concat":
            # A | B: the mask is of B, which stands at the right end.
            whole = np.zeros(query.shape[:2], dtype=bool)
            whole[:h, query.shape[1] - w :] = mask
            mask = whole
        if mask.shape == query.shape[:2]:
            outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            query = cv2.drawContours(query.copy(), outlines, -1, (0, 255, 0), max(1, query.shape[0] // 300))
    for point in answers:
        u, v = normalised_to_pixel(np.array(point), query.shape[1], query.shape[0])
        size = max(8, query.shape[0] // 25)
        for color, width in (((255, 255, 255), 4), ((220, 0, 220), 2)):
            cv2.drawMarker(query, (round(u), round(v)), color, cv2.MARKER_CROSS, size, width)
    return [*images[:-1], query]


def article(where: str, sample: object, image_root: Path = Path("/")) -> str:
    """HTML of one sample: its pictures with mask and answer, its dialogue, its facts."""
    if not isinstance(sample, dict):
        return f"<article><h2>{html.escape(where)}</h2><p>not a sample: {html.escape(repr(sample)[:200])}</p></article>"
    title = html.escape(str(sample.get("id", where)))
    try:
        pictures = "".join(_image(image) for image in annotated(sample, image_root))
    except ValueError as error:
        pictures = f"<p class='no'>{html.escape(str(error))}</p>"
    talk = []
    for turn in sample["conversations"]:
        kind = "yes" if turn["from"] == "gpt" else ""
        kind = "no" if kind and "NOT_VISIBLE" in turn["value"] else kind
        talk.append(f"<p class='{kind}'>{html.escape(turn['value'])}</p>")
    keys = ("task", "label", "relation", "visibility", "ref_frame", "query_frame")
    facts = "; ".join(f"{key} {sample[key]}" for key in keys if sample.get(key))
    return f"<article><h2>{title}</h2>{pictures}{''.join(talk)}<p class='facts'>{html.escape(facts)}</p></article>"


def _image(image: np.ndarray) -> str:
    scale = min(1.0, 1.5 * _HEIGHT / image.shape[0])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    data = cv2.imencode(".jpg", np.ascontiguousarray(small[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    return f"<img src='data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}'>"
