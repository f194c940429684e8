"""Training questions drawn from a pool: pictures to make, words, answer, and which pixels would be right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from roboref_core.geometry.camera import pixel_to_normalised
from roboref_core.prompting import prompt
from roboref_core.prompting.grid import Grid
from roboref_core.prompting.prompt import DrawnMark, Form

from offline.data_engine.five_frames import mask_box
from offline.data_engine.tasks.expressions import could_be_meant
from offline.data_engine.tasks.ground_truth import innermost_pixel
from offline.train.nano.pool import SIDE, VIEW_CAMERA, Chunk

_TEMPLATE_HEADS = ("Point to ", "Locate ")
_MAX_POINTS = 4
_PLAIN = ("unique", "color")


@dataclass(frozen=True)
class Picture:
    """A picture by its recipe; equal recipes are made once.

    Attributes:
        chunk, view: which view of the pool.
        source: "color", "removed" (one object taken away), or the same object painted out: "painted" (smeared over)
            or "patched" (filled with what is behind it).
        mark: (u, v) in ``VIEW_CAMERA`` where a ring is drawn.
        grid: with a Visual Grid Coordinate over it.
        right: (chunk, view, source) of the view that stands to the right in a side-by-side picture.
    """

    chunk: int
    view: int
    source: str = "color"
    mark: tuple[float, float] | None = None
    grid: bool = False
    right: tuple[int, int, str] | None = None


@dataclass(frozen=True, eq=False)
class Question:
    """One question.

    Attributes:
        task: "t1", "t2a", "t2b" or "referring".
        kind: the relation, or why there is nothing to see; for tables.
        room: index of the room over all chunks, for intervals by scene.
        text: the prompt.
        pictures: in order.
        points: normalised (x, y) of the last picture; none means NOT_VISIBLE.
        target: (160, 160) bool, the pixels of the queried view that would be right; None if there are none.
        unique: no other object of the queried view could be taken for the target.
        marked: (160, 160) bool, the pixels of the marked object in the first view; None without a mark.
    """

    task: str
    kind: str
    room: int
    text: str
    pictures: tuple[Picture, ...]
    points: tuple[tuple[float, float], ...]
    target: np.ndarray | None
    unique: bool = True
    marked: np.ndarray | None = None


@dataclass(frozen=True)
class Mix:
    """How many questions of each kind one view gets, and how often they take another form.

    Attributes:
        pairs: T1 questions; another half as many are put as T2A.
        phrases: referring expressions.
        difference: chance of a T2B question.
        negatives: share of T1 and T2A questions whose answer is NOT_VISIBLE.
        absent: share of phrases that name what is not there.
        absent_related: share of those that say where it would be ("the lamp left of the desk"), so that a
            relation does not tell that something is there.
        plain: share of the other phrases that name a kind, or a kind and a colour, and no more: about as many as name
            an absent thing so, so that the words do not tell that nothing is there.
        concat: share of T1 asked with both views in one picture.
        grid: share of views that are asked with a grid.
        labelled: share of marks whose label is told, some of them in a phrase of its own.
    """

    pairs: int = 2
    missing: int = 1
    phrases: int = 6
    difference: float = 0.8
    negatives: float = 0.45
    absent: float = 0.46
    absent_related: float = 0.5
    plain: float = 0.45
    concat: float = 0.12
    grid: float = 0.1
    labelled: float = 0.7


class Sampler:
    """Draws groups of questions that share the view they ask about.

    Args:
        chunks: of the pool.
        mix: what is drawn.
    """

    def __init__(self, chunks: Sequence[Chunk], mix: Mix):
        self.chunks = list(chunks)
        self.mix = mix
        self._by_room = [_by_room(chunk) for chunk in chunks]

    def views(self, count: int, rng: np.random.Generator) -> list[Question]:
        """Pictures without a question, to learn what they show."""
        found = []
        for _ in range(count):
            c = int(rng.integers(len(self.chunks)))
            v = int(rng.integers(len(self.chunks[c].views)))
            found.append(Question("seen", "", self._room(c, v), "", (Picture(c, v),), (), None))
        return found

    def draw(self, count: int, rng: np.random.Generator) -> list[Question]:
        """Questions about ``count`` views."""
        found: list[Question] = []
        for _ in range(count):
            found += self._about(int(rng.integers(len(self.chunks))), rng)
        return found

    def _about(self, c: int, rng: np.random.Generator) -> list[Question]:
        chunk, mix = self.chunks[c], self.mix
        while True:
            v = int(rng.integers(len(chunk.views)))
            if any(clear for _, _, clear in chunk.views[v]["seen"].values()):
                break
        grid = rng.random() < mix.grid
        found = [self._pair("t1", c, v, grid, rng) for _ in range(mix.pairs)]
        found += [self._pair("t2a", c, v, grid, rng) for _ in range(mix.missing)]
        found += [self._phrase(c, v, grid, rng) for _ in range(mix.phrases)]
        if rng.random() < mix.difference:
            found.append(self._difference(c, v, grid, rng))
        return [question for question in found if question is not None]

    # Marks -------------------------------------------------------------------------------------------------------

    def _pair(self, task: str, c: int, v: int, grid: bool, rng: np.random.Generator) -> Question | None:
        chunk, mix = self.chunks[c], self.mix
        view, source, reason = chunk.views[v], "color", ""
        if rng.random() < mix.negatives:
            chosen = self._negative(c, v, rng)
            if chosen is None:
                return None
            rc, rv, uid, reason, source = chosen
        else:
            uids = [uid for uid, (_, _, clear) in view["seen"].items() if clear]
            uid = uids[int(rng.integers(len(uids)))]
            found = self._reference(c, view["room"], uid, rng, but=v)
            if found is None:
                return None
            rc, rv = c, found
        label = self._label(rc, rv, uid)
        marked = self.chunks[rc].ids[rv] == int(uid)
        mark = _point_in(marked, rng)
        told = float(rng.random())
        named = mix.labelled * (1.0 if task == "t2a" else 0.65)
        shown = label if told < named else ""
        target, points = (None, ()) if reason else self._answer(c, v, [uid])
        pictures: tuple[Picture, ...]
        form = Form.CONCAT if task == "t1" and rng.random() < mix.concat else Form.MULTI
        drawn = DrawnMark(label=shown)
        if form is Form.CONCAT:
            xy = _normalised(mark)
            drawn = DrawnMark(label=shown, xy=(xy[0] / 2, xy[1]))
            points = tuple((0.5 + x / 2, y) for x, y in points)
            pictures = (Picture(rc, rv, "color", mark, grid, (c, v, source)),)
        else:
            pictures = (Picture(rc, rv, "color", mark), Picture(c, v, source, None, grid))
        overlay = Grid() if grid else None
        if task == "t2a":
            text = prompt.missing(form, drawn, overlay)
        elif named <= told < mix.labelled:
            # As the robot asks who marks a thing and names it.
            text = prompt.pointing(f"the {label}", [drawn], 2, form, grid=overlay)
        else:
            text = prompt.correspondence(form, drawn, overlay)
        unique = not any(other != uid and could_be_meant(label, self._label(c, v, other)) for other in view["seen"])
        return Question(task, reason or "visible", self._room(c, v), text, pictures, points, target, unique, marked)

    def _negative(self, c: int, v: int, rng: np.random.Generator) -> tuple[int, int, str, str, str] | None:
        """(chunk, view) of a reference, object, reason and source of the query: the object cannot be seen in it."""
        view, draw = self.chunks[c].views[v], rng.random()
        if draw < 0.25 and view["removed"]:
            uid = str(view["removed"])
            found = self._reference(c, view["room"], uid, rng, but=v)
            return None if found is None else (c, found, uid, "inpainted", _removed_source(rng))
        if draw < 0.45:
            # From another room: nothing here may be taken for it.
            here = [self._label(c, v, uid) for uid in view["seen"]]
            for _ in range(8):
                other = int(rng.integers(len(self.chunks[c].views)))
                if self.chunks[c].views[other]["room"] == view["room"]:
                    continue
                uids = [uid for uid, (_, _, clear) in self.chunks[c].views[other]["seen"].items() if clear]
                uids = [uid for uid in uids if not any(could_be_meant(self._label(c, other, uid), l) for l in here)]
                if uids:
                    return c, other, uids[int(rng.integers(len(uids)))], "absent", "color"
            return None
        hidden = [uid for uid in self.chunks[c].rooms[view["room"]]["labels"] if uid not in view["seen"]]
        for k in rng.permutation(len(hidden)):
            found = self._reference(c, view["room"], hidden[k], rng, but=v)
            if found is not None:
                return c, found, hidden[k], "hidden", "color"
        return None

    def _reference(self, c: int, room: int, uid: str, rng: np.random.Generator, but: int) -> int | None:
        """Another view of a room that shows an object clearly."""
        views = self._by_room[c][room]
        for k in rng.permutation(len(views)):
            seen = self.chunks[c].views[views[k]]["seen"].get(uid)
            if views[k] != but and seen is not None and seen[2]:
                return views[k]
        return None

    # Words -------------------------------------------------------------------------------------------------------

    def _phrase(self, c: int, v: int, grid: bool, rng: np.random.Generator) -> Question | None:
        view = self.chunks[c].views[v]
        target: np.ndarray | None = None
        points: tuple[tuple[float, float], ...] = ()
        if rng.random() < self.mix.absent:
            related = rng.random() < self.mix.absent_related
            options = [phrase for phrase in view["absent"] if phrase[0].endswith("_related") is related]
            if not options:
                return None
            relation, words = options[int(rng.integers(len(options)))]
        else:
            chosen = self._named(view, rng)
            if chosen is None:
                return None
            relation, words = chosen[:2]
            if relation.startswith("free"):
                points = (_normalised(chosen[2:]),)
            else:
                if len(chosen[2]) > _MAX_POINTS:
                    return None
                target, points = self._answer(c, v, [str(uid) for uid in chosen[2]])
        if relation != "all" and rng.random() < 0.3:
            words = _bare(words)
        text = prompt.referring(words, True, Grid() if grid else None)
        picture = Picture(c, v, "color", None, grid)
        return Question("referring", relation, self._room(c, v), text, (picture,), points, target)

    def _named(self, view: dict, rng: np.random.Generator) -> list | None:
        """A phrase that holds. Relations evenly, then phrases: common relations must not crowd out rare ones."""
        phrases = view["phrases"] + view["free"]
        plain = rng.random() < self.mix.plain
        relations = sorted({phrase[0] for phrase in phrases if (phrase[0] in _PLAIN) is plain})
        if not relations:
            return None
        relation = relations[int(rng.integers(len(relations)))]
        options = [phrase for phrase in phrases if phrase[0] == relation]
        return options[int(rng.integers(len(options)))]

    def _difference(self, c: int, v: int, grid: bool, rng: np.random.Generator) -> Question | None:
        uid = str(self.chunks[c].views[v]["removed"])
        if uid == "0":
            return None
        target, points = self._answer(c, v, [uid])
        pictures = (Picture(c, v), Picture(c, v, _removed_source(rng), None, grid))
        text = prompt.difference(Grid() if grid else None)
        return Question("t2b", "removed", self._room(c, v), text, pictures, points, target)

    # Facts -------------------------------------------------------------------------------------------------------

    def _label(self, c: int, v: int, uid: str) -> str:
        return self.chunks[c].rooms[self.chunks[c].views[v]["room"]]["labels"][uid]

    def _room(self, c: int, v: int) -> int:
        return self.chunks[c].rooms[self.chunks[c].views[v]["room"]]["seed"]

    def _answer(self, c: int, v: int, uids: Sequence[str]) -> tuple[np.ndarray, tuple[tuple[float, float], ...]]:
        ids = self.chunks[c].ids[v]
        masks = [ids == int(uid) for uid in uids]
        masks = [mask for mask in masks if mask.any()]
        if not masks:
            return np.zeros(ids.shape, dtype=bool), ()
        points = tuple(_to_xy(_middle(mask)) for mask in masks)
        return np.any(masks, axis=0), points


def _by_room(chunk: Chunk) -> dict[int, list[int]]:
    """Room -> its views."""
    rooms: dict[int, list[int]] = {}
    for index, view in enumerate(chunk.views):
        rooms.setdefault(view["room"], []).append(index)
    return rooms


def _middle(mask: np.ndarray) -> tuple[int, int]:
    """(u, v): the middle of the mask's box if it is in the mask, else the pixel farthest from its rim."""
    u0, v0, u1, v1 = mask_box(mask)
    u, v = (u0 + u1) // 2, (v0 + v1) // 2
    return (u, v) if mask[v, u] else innermost_pixel(mask)


def _to_xy(pixel: tuple[int, int]) -> tuple[float, float]:
    return (pixel[0] + 0.5) / SIDE, (pixel[1] + 0.5) / SIDE


def _point_in(mask: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """A place to mark, in pixels of ``VIEW_CAMERA``: mostly the middle, or any pixel of the object."""
    if rng.random() < 0.6:
        u, v = _middle(mask)
    else:
        rows, columns = np.nonzero(mask)
        k = int(rng.integers(len(rows)))
        u, v = columns[k], rows[k]
    x, y = _to_xy((u, v))
    return x * VIEW_CAMERA.width - 0.5, y * VIEW_CAMERA.height - 0.5


def _normalised(pixel: Sequence[float]) -> tuple[float, float]:
    x, y = pixel_to_normalised(np.array(pixel), VIEW_CAMERA.width, VIEW_CAMERA.height)
    return float(x), float(y)


def _removed_source(rng: np.random.Generator) -> str:
    return str(rng.choice(("removed", "painted", "patched"), p=(0.3, 0.2, 0.5)))


def _bare(words: str) -> str:
    """ "Point to the red chair." -> "the red chair"; other sentences as they are."""
    for head in _TEMPLATE_HEADS:
        if words.startswith(head):
            return words.removeprefix(head).removesuffix(".")
    return words
