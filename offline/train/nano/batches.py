"""Questions to tensors: every distinct picture once, and rows that name what stands at each position.

A row's position holds either a token or a feature of a picture. Both are rows of one table, [token embeddings;
features of all tiles], so a batch of rows is an integer index into it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

import cv2
import numpy as np
import torch
from PIL import Image
from roboref_core.models.roborefer.network.model import RoboReferModel
from roboref_core.models.roborefer.network.tiling import Kind
from roboref_core.models.roborefer.prompt_text import inference_content, render_chat
from roboref_core.prompting.answer_text import NOT_VISIBLE
from roboref_core.prompting.grid import Grid
from roboref_core.prompting.marker import Marker
from transformers import PreTrainedTokenizerBase

from offline.data_engine.building.inpaint import dilate
from offline.data_engine.config import SceneConfig
from offline.data_engine.five_frames import mask_box
from offline.train.nano.base import PATCH
from offline.train.nano.diet import Lenses
from offline.train.nano.pool import DRAWN_SIZE, SIDE, VIEW_CAMERA, Chunk, to_drawn, to_tile
from offline.train.nano.questions import Picture, Question
from offline.train.nano.vocabulary import BINS, CLOSE, COMMA, NEXT, OPEN, bin_of, digits_of

PATCHES = SIDE // PATCH
CELLS = PATCHES // 2
TOKENS = CELLS * CELLS
IGNORE = -100
_STEP = (DRAWN_SIZE[0] // SIDE, DRAWN_SIZE[1] // SIDE)
"""Drawn pixels per pixel of a tile, across and down: whole numbers."""
_RIM = 0.005
_RING = 32
"""The ring around a mark is drawn within so many pixels."""
_REACH = 2
"""How many pixels of a tile depend on a drawn one, to either side: the reach of the bicubic filter."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Questions with the same number of tiles.

    Attributes:
        index: (B, T) row of the table; padding is token 0, after the end.
        labels: (B, T) token to predict at a position, IGNORE where nothing is asked or a number is.
        decisions: (B,) position whose next token decides between a point and NOT_VISIBLE.
        cells: (B, 100) float, share of each cell of the answered tile that would be right.
        answered: (B,) first position of the answered tile's features.
        marked: (B, 100) float, share of each cell of the first tile that the marked object covers.
        first: (B,) first position of the first tile's features.
        has_mark: (B,) bool, whether something is marked in the first tile.
        matching: (B,) bool, whether the answered tile itself tells what is right: something in it matches, or
            differs from, a picture before it.
        questions: place of each row in the list that was given.
    """

    index: torch.Tensor
    labels: torch.Tensor
    numbers: torch.Tensor
    decisions: torch.Tensor
    cells: torch.Tensor
    answered: torch.Tensor
    marked: torch.Tensor
    first: torch.Tensor
    has_mark: torch.Tensor
    matching: torch.Tensor
    questions: torch.Tensor

    def to(self, device: torch.device) -> Rows:
        return Rows(**{f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)})


@dataclass(frozen=True, eq=False)
class NanoBatch:
    """Tiles (N, 3, 160, 160) uint8 of colour and (M, 3, 160, 160) of depth, patch labels, and rows.

    Attributes:
        kinds, colors: (N, 400) index of the label and colour that a patch mostly shows; -1 where there is none.
    """

    tiles: torch.Tensor
    depths: torch.Tensor
    kinds: torch.Tensor
    colors: torch.Tensor
    rows: tuple[Rows, ...]

    def to(self, device: torch.device) -> NanoBatch:
        pictures = (self.tiles, self.depths, self.kinds, self.colors)
        tiles, depths, kinds, colors = (tensor.to(device, non_blocking=True) for tensor in pictures)
        return NanoBatch(tiles, depths, kinds, colors, tuple(rows.to(device) for rows in self.rows))


class BatchMaker:
    """Makes batches from questions.

    Args:
        chunks: of the pool that the questions were drawn from.
        model: which will read them; only its tokenizer is kept.
        kinds, colors: label and colour -> index.
        patch_labels: also say what each patch shows.
    """

    def __init__(
        self,
        chunks: Sequence[Chunk],
        model: RoboReferModel,
        kinds: dict[str, int],
        colors: dict[str, int],
        patch_labels: bool = True,
    ):
        self.chunks = chunks
        self.tokenizer = tokenizer = model.tokenizer
        self.vocabulary = len(tokenizer)
        self._kinds, self._colors = kinds, colors
        self._patch_labels = patch_labels
        self._piece = {
            piece: _token(tokenizer, tokenizer.tokenize(piece)[0]) for piece in (OPEN, COMMA, CLOSE, NEXT, NOT_VISIBLE)
        }
        self._bins = [_token(tokenizer, digits_of(k)) for k in range(BINS)]
        self._end = _token(tokenizer, "<|im_end|>")
        self._image = _token(tokenizer, "<image>")
        self._depth = _token(tokenizer, "<depth>")
        # Part of what a placeholder becomes: without them, the places of two pictures differ by another step.
        self._frame = {self._image: model.frame_ids("image"), self._depth: model.frame_ids("depth")}
        self._prompt_ids = lru_cache(maxsize=50_000)(self._prompt)

    @property
    def bin_ids(self) -> torch.Tensor:
        """(BINS,) token of each coordinate."""
        return torch.tensor(self._bins)

    @property
    def pieces(self) -> dict[str, int]:
        """Token of each fixed piece of an answer."""
        return dict(self._piece)

    def make(
        self,
        questions: Sequence[Question],
        with_depth: Sequence[bool] | None = None,
        blank: bool = False,
        lenses: Lenses | None = None,
    ) -> NanoBatch:
        """A batch.

        Args:
            with_depth: per question, whether it is asked with depth pictures.
            blank: put a point of (0, 0) in place of every answer, to be filled by the model.
            lenses: that the colour pictures are seen through.
        """
        with_depth = with_depth if with_depth is not None else [False] * len(questions)
        place: dict[Picture, list[int]] = {}
        depth_place: dict[Picture, list[int]] = {}
        tiles: list[np.ndarray] = []
        depths: list[np.ndarray] = []
        kinds: list[np.ndarray] = []
        colors: list[np.ndarray] = []
        for question, deep in zip(questions, with_depth, strict=True):
            for picture in question.pictures:
                if picture not in place:
                    made = self._tiles(picture)
                    made = made if lenses is None else lenses((picture.chunk, picture.view), made)
                    place[picture] = list(range(len(tiles), len(tiles) + len(made)))
                    tiles += made
                    for tile in range(len(made)):
                        kind, color = self._shown(picture, tile)
                        kinds.append(kind)
                        colors.append(color)
                if deep and picture not in depth_place:
                    made = self._depth_tiles(picture)
                    depth_place[picture] = list(range(len(depths), len(depths) + len(made)))
                    depths += made
        groups: dict[int, list] = {}
        for number, (question, deep) in enumerate(zip(questions, with_depth, strict=True)):
            row = self._row(question, place, depth_place if deep else None, len(tiles), blank)
            groups.setdefault(row[0], []).append((number, *row))
        pictures = torch.from_numpy(np.stack(tiles)).permute(0, 3, 1, 2).contiguous()
        reliefs = torch.zeros((0, 3, SIDE, SIDE), dtype=torch.uint8)
        if depths:
            reliefs = torch.from_numpy(np.stack(depths))[:, None].expand(-1, 3, -1, -1).contiguous()
        return NanoBatch(
            pictures,
            reliefs,
            torch.from_numpy(np.stack(kinds)),
            torch.from_numpy(np.stack(colors)),
            tuple(self._stack(group) for _, group in sorted(groups.items())),
        )

    # Rows --------------------------------------------------------------------------------------------------------

    def _prompt(self, text: str, tiles: tuple[int, ...], deep: bool) -> tuple[int, ...]:
        """Tokens of a question up to the answer; each tile is one placeholder."""
        media: list[tuple[Kind, object]] = [("image", None)] * len(tiles)
        media += [("depth", None)] * (len(tiles) if deep else 0)
        counts: dict[Kind, tuple[int, ...]] = {"image": tiles, "depth": tiles if deep else ()}
        content = inference_content([*media, text], "dynamic", counts)
        chat = render_chat(self.tokenizer, [("user", content)], "qwen2", True)
        return tuple(self.tokenizer(chat).input_ids)

    def _row(self, question, place, depth_place, tile_count, blank):
        counts = tuple(len(place[picture]) for picture in question.pictures)
        ids = self._prompt_ids(question.text, counts, depth_place is not None)
        queue = [tile for picture in question.pictures for tile in place[picture]]
        deep_queue = [tile for picture in question.pictures for tile in depth_place[picture]] if depth_place else []
        # The right half is the second tile of a side-by-side picture.
        wanted = place[question.pictures[-1]][1 if question.pictures[-1].right else 0]
        index: list[int] = []
        answered, begin = 0, -1
        for token in ids:
            if token not in self._frame:
                index.append(token)
                continue
            before, after = self._frame[token]
            index += before
            if token == self._image:
                tile = queue.pop(0)
                begin = len(index) if begin < 0 else begin
                if tile == wanted:
                    answered = len(index)
            else:
                tile = tile_count + deep_queue.pop(0)
            first = self.vocabulary + tile * TOKENS
            index += [*range(first, first + TOKENS), *after]
        decision = len(index) - 1
        points = [(0.0, 0.0)] if blank else question.points
        answer: list[int] = []
        numbers: list[tuple[int, float, int]] = []
        for k, point in enumerate(points):
            answer.append(self._piece[NEXT if k else OPEN])
            for axis, value in enumerate(point):
                if axis:
                    answer.append(self._piece[COMMA])
                numbers.append((len(index) + len(answer) - 1, value, axis))
                answer.append(self._bins[bin_of(value)])
        answer += [self._piece[CLOSE] if points else self._piece[NOT_VISIBLE], self._end]
        # What follows a number's place is predicted like any token; numbers have a loss of their own.
        asked = {decision + k: token for k, token in enumerate(answer)}
        for position, _, _ in numbers:
            del asked[position]
        bucket = sum(counts) * (2 if depth_place else 1)
        return bucket, index + answer[:-1], asked, numbers, decision, answered, begin, question

    def _stack(self, group: list) -> Rows:
        length = max(len(entry[2]) for entry in group)
        index = np.zeros((len(group), length), dtype=np.int64)
        labels = np.full((len(group), length), IGNORE, dtype=np.int64)
        cells, marked = np.zeros((2, len(group), TOKENS), dtype=np.float32)
        numbers = []
        for k, (_, _, ids, asked, places, _, _, _, question) in enumerate(group):
            index[k, : len(ids)] = ids
            for position, token in asked.items():
                labels[k, position] = token
            numbers += [(k, position, round(value * 1e6), axis) for position, value, axis in places]
            if question.target is not None:
                cells[k] = _shares(question.target)
            if question.marked is not None:
                marked[k] = _shares(question.marked)
        return Rows(
            torch.from_numpy(index),
            torch.from_numpy(labels),
            torch.tensor(numbers, dtype=torch.long).reshape(-1, 4),
            torch.tensor([entry[5] for entry in group]),
            torch.from_numpy(cells),
            torch.tensor([entry[6] for entry in group]),
            torch.from_numpy(marked),
            torch.tensor([entry[7] for entry in group]),
            torch.tensor([entry[8].marked is not None for entry in group]),
            torch.tensor([entry[8].task != "referring" for entry in group]),
            torch.tensor([entry[0] for entry in group]),
        )

    # Pictures ----------------------------------------------------------------------------------------------------

    def _tiles(self, picture: Picture) -> list[np.ndarray]:
        if picture.right is None:
            return [self._tile(picture)]
        c, v, source = picture.right
        left = self.drawn(Picture(picture.chunk, picture.view, picture.source, picture.mark))
        whole = np.concatenate([left, self.drawn(Picture(c, v, source))], axis=1)
        if picture.grid:
            whole = Grid().draw(whole)
        both = np.asarray(Image.fromarray(whole).resize((2 * SIDE, SIDE)))
        return [both[:, :SIDE], both[:, SIDE:], to_tile(whole)]

    def _tile(self, picture: Picture) -> np.ndarray:
        """``to_tile(self.drawn(picture))``, exactly; only what is not as in the pool is resized again."""
        if picture.grid or picture.source == "removed":
            return to_tile(self.drawn(picture))
        plain = np.asarray(self.chunks[picture.chunk].tile[picture.view])
        if picture.source == "color" and picture.mark is None:
            return plain
        spans, wide = [], []
        for (low, high), step in zip(self._changed(picture), _STEP, strict=True):
            first, last = int(low) // step - _REACH, int(high) // step + _REACH + 1
            spans.append((max(0, first), min(SIDE, last)))
            wide.append((max(0, first - _REACH), min(SIDE, last + _REACH)))
        (u0, u1), (v0, v1) = wide
        seen = self.drawn(picture)[v0 * _STEP[1] : v1 * _STEP[1], u0 * _STEP[0] : u1 * _STEP[0]]
        small = np.asarray(Image.fromarray(seen).resize((u1 - u0, v1 - v0)))
        columns, rows = (slice(*span) for span in spans)
        tile = plain.copy()
        tile[rows, columns] = small[rows.start - v0 : rows.stop - v0, columns.start - u0 : columns.stop - u0]
        return tile

    def _changed(self, picture: Picture) -> tuple[tuple[float, float], tuple[float, float]]:
        """First and last drawn pixel, across and down, that mark or paint may have changed."""
        scale = DRAWN_SIZE[0] / VIEW_CAMERA.width
        if picture.mark is not None:
            u, v = (scale * middle for middle in picture.mark)
            return (u - _RING, u + _RING), (v - _RING, v + _RING)
        u0, v0, u1, v1 = mask_box(self._painted(picture.chunk, picture.view))
        return (scale * (u0 - 1), scale * (u1 + 2)), (scale * (v0 - 1), scale * (v1 + 2))

    def drawn(self, picture: Picture) -> np.ndarray:
        """(480, 640, 3) with mark and grid."""
        image = to_drawn(self._source(picture.chunk, picture.view, picture.source))
        if picture.mark is not None:
            scale = DRAWN_SIZE[0] / VIEW_CAMERA.width
            u, v = ((middle + 0.5) * scale - 0.5 for middle in picture.mark)
            image = Marker().draw(image, (u, v))
        return Grid().draw(image) if picture.grid else image

    def _source(self, c: int, v: int, source: str) -> np.ndarray:
        chunk = self.chunks[c]
        if source == "removed":
            return np.asarray(chunk.removed[v])
        image = np.asarray(chunk.color[v])
        if source == "color":
            return image
        mask = self._painted(c, v)
        smeared = cv2.inpaint(image, mask, 3, cv2.INPAINT_TELEA)
        return smeared if source == "painted" else _patched(image, smeared, np.asarray(chunk.removed[v]), mask, (c, v))

    def _painted(self, c: int, v: int) -> np.ndarray:
        """(240, 320) uint8, not 0 where a view's object that is to be gone is painted over, as ``paint_hole`` says."""
        chunk = self.chunks[c]
        ids = cv2.resize(chunk.ids[v], (VIEW_CAMERA.width, VIEW_CAMERA.height), interpolation=cv2.INTER_NEAREST)
        mask = ids == chunk.views[v]["removed"]
        others = np.zeros(256, dtype=bool)
        others[[int(uid) for uid in chunk.rooms[chunk.views[v]["room"]]["labels"]]] = True
        beside = others[ids] & ~mask & ~dilate(mask, _RIM)
        return (dilate(mask, SceneConfig().dilation) & ~beside).astype(np.uint8)

    def _depth_tiles(self, picture: Picture) -> list[np.ndarray]:
        left = np.asarray(self.chunks[picture.chunk].depth[picture.view])
        if picture.right is None:
            return [left]
        right = np.asarray(self.chunks[picture.right[0]].depth[picture.right[1]])
        return [left, right, to_tile(np.concatenate([left, right], axis=1))]

    def _shown(self, picture: Picture, tile: int) -> tuple[np.ndarray, np.ndarray]:
        """Label and colour of each patch: of the object that covers most of it, if it covers half."""
        nothing = np.full(PATCHES * PATCHES, -1, dtype=np.int64)
        c, v, source = (picture.chunk, picture.view, picture.source) if tile == 0 else (picture.right or (0, 0, "none"))
        if not self._patch_labels or source != "color" or tile == 2:
            return nothing, nothing
        chunk = self.chunks[c]
        side = SIDE // PATCHES
        patches = np.asarray(chunk.ids[v]).reshape(PATCHES, side, PATCHES, side).transpose(0, 2, 1, 3)
        flat = patches.reshape(-1, side * side)
        middle = np.sort(flat, axis=1)[:, side * side // 2]
        most = (flat == middle[:, None]).mean(axis=1) > 0.5
        room = chunk.rooms[chunk.views[v]["room"]]
        table = np.full((2, 256), -1, dtype=np.int64)
        for uid, label in room["labels"].items():
            table[0, int(uid)] = self._kinds.get(label, -1)
            table[1, int(uid)] = self._colors.get(room["colors"][uid], -1)
        return np.where(most, table[0][middle], -1), np.where(most, table[1][middle], -1)


def _shares(mask: np.ndarray) -> np.ndarray:
    """(100,) share of each cell that a (160, 160) mask covers."""
    return mask.reshape(CELLS, SIDE // CELLS, CELLS, SIDE // CELLS).mean(axis=(1, 3)).ravel()


def _patched(image: np.ndarray, smeared: np.ndarray, behind: np.ndarray, mask: np.ndarray, seed) -> np.ndarray:
    """A picture whose masked part other views fill, a little displaced and lit otherwise; what they lack is smeared.

    As the data engine paints objects out: shadows stay, for instance.
    """
    rng = np.random.default_rng(seed)
    lit = np.clip(np.roll(behind, rng.integers(-1, 2, 2), (0, 1)) * rng.uniform(0.9, 1.1), 0, 255).astype(np.uint8)
    coarse = rng.random((4, 5)).astype(np.float32)
    lacking = cv2.resize(coarse, image.shape[1::-1], interpolation=cv2.INTER_CUBIC) < rng.uniform(-0.2, 0.6)
    fill = np.where(lacking[..., None], smeared, lit)
    return np.where(mask[..., None] > 0, fill, image)


def _token(tokenizer: PreTrainedTokenizerBase, piece: str) -> int:
    token = tokenizer.convert_tokens_to_ids(piece)
    assert isinstance(token, int)
    return token
