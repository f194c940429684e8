"""The rows of ScanNet's label table that simulated scenes use.

Ids, spellings and NYU40 classes are those of scannetv2-labels.combined.tsv (ScanNet, MIT licence); that table spells
raw_category as annotators typed it, so several spellings may share an id.
"""

from __future__ import annotations

from dataclasses import dataclass

COLUMNS = (
    "id", "raw_category", "category", "count", "nyu40id", "eigen13id", "nyuClass", "nyu40class", "eigen13class",
    "ModelNet40", "ModelNet10", "ShapeNetCore55", "synsetoffset", "wnsynsetid", "wnsynsetkey", "mpcat40",
    "mpcat40index",
)  # fmt: skip


@dataclass(frozen=True)
class Label:
    """One row of the table: id, category it is counted under, NYU40 id and name."""

    id: int
    category: str
    nyu40id: int
    nyu40class: str


LABELS = {
    "alarm clock": Label(572, "alarm clock", 40, "otherprop"),
    "armchair": Label(23, "armchair", 5, "chair"),
    "backpack": Label(48, "backpack", 40, "otherprop"),
    "ball": Label(168, "ball", 40, "otherprop"),
    "basket": Label(73, "basket", 40, "otherprop"),
    "bed": Label(11, "bed", 4, "bed"),
    "bench": Label(68, "bench", 39, "otherfurniture"),
    "book": Label(22, "book", 23, "books"),
    "books": Label(22, "book", 23, "books"),
    "bookshelf": Label(18, "bookshelf", 10, "bookshelf"),
    "bottle": Label(65, "bottle", 40, "otherprop"),
    "bowl": Label(562, "bowl", 40, "otherprop"),
    "box": Label(26, "box", 29, "box"),
    "cabinet": Label(7, "cabinet", 3, "cabinet"),
    "ceiling": Label(41, "ceiling", 22, "ceiling"),
    "chair": Label(2, "chair", 5, "chair"),
    "clock": Label(103, "clock", 40, "otherprop"),
    "coffee table": Label(24, "coffee table", 7, "table"),
    "couch": Label(6, "couch", 6, "sofa"),
    "cup": Label(130, "cup", 40, "otherprop"),
    "curtain": Label(21, "curtain", 16, "curtain"),
    "desk": Label(9, "desk", 14, "desk"),
    "dining table": Label(45, "dining table", 7, "table"),
    "door": Label(5, "door", 8, "door"),
    "doorframe": Label(161, "doorframe", 8, "door"),
    "dresser": Label(36, "dresser", 17, "dresser"),
    "end table": Label(44, "end table", 7, "table"),
    "file cabinet": Label(75, "file cabinet", 3, "cabinet"),
    "floor": Label(3, "floor", 2, "floor"),
    "globe": Label(269, "globe", 40, "otherprop"),
    "kettle": Label(621, "kettle", 40, "otherprop"),
    "keyboard": Label(46, "keyboard", 40, "otherprop"),
    "lamp": Label(28, "lamp", 35, "lamp"),
    "laptop": Label(77, "laptop", 40, "otherprop"),
    "microwave": Label(59, "microwave", 40, "otherprop"),
    "monitor": Label(19, "monitor", 40, "otherprop"),
    "mug": Label(1269, "mug", 40, "otherprop"),
    "nightstand": Label(34, "nightstand", 32, "night stand"),
    "office chair": Label(10, "office chair", 5, "chair"),
    "ottoman": Label(67, "ottoman", 39, "otherfurniture"),
    "picture": Label(15, "picture", 11, "picture"),
    "pillow": Label(13, "pillow", 18, "pillow"),
    "plant": Label(40, "plant", 40, "otherprop"),
    "potted plant": Label(1189, "potted plant", 40, "otherprop"),
    "printer": Label(50, "printer", 40, "otherprop"),
    "radiator": Label(96, "radiator", 39, "otherfurniture"),
    "refrigerator": Label(27, "refrigerator", 24, "refridgerator"),
    "round table": Label(108, "round table", 7, "table"),
    "rug": Label(61, "rug", 40, "otherprop"),
    "shelf": Label(8, "shelf", 15, "shelves"),
    "sofa": Label(1313, "sofa", 6, "sofa"),
    "stool": Label(38, "stool", 40, "otherprop"),
    "suitcase": Label(93, "suitcase", 40, "otherprop"),
    "table": Label(4, "table", 7, "table"),
    "table lamp": Label(28, "lamp", 35, "lamp"),
    "teddy bear": Label(1203, "teddy bear", 40, "otherprop"),
    "telephone": Label(101, "telephone", 40, "otherprop"),
    "tissue box": Label(230, "tissue box", 40, "otherprop"),
    "trash can": Label(56, "trash can", 39, "otherfurniture"),
    "tv": Label(33, "tv", 25, "television"),
    "tv stand": Label(51, "tv stand", 39, "otherfurniture"),
    "vase": Label(194, "vase", 40, "otherprop"),
    "wall": Label(1, "wall", 1, "wall"),
    "wardrobe": Label(99, "wardrobe", 39, "otherfurniture"),
    "whiteboard": Label(52, "whiteboard", 30, "whiteboard"),
    "window": Label(16, "window", 9, "window"),
}


def label_table() -> str:
    """The rows as a tab-separated table with ScanNet's 17 columns; what simulated scenes do not use stays empty."""
    lines = ["\t".join(COLUMNS)]
    for raw, label in sorted(LABELS.items(), key=lambda item: (item[1].id, item[0])):
        cells = dict.fromkeys(COLUMNS, "")
        cells |= {"id": str(label.id), "raw_category": raw, "category": label.category}
        cells |= {"nyu40id": str(label.nyu40id), "nyu40class": label.nyu40class}
        lines.append("\t".join(cells[c] for c in COLUMNS))
    return "\n".join(lines) + "\n"
