"""The tokenizer of a small model: Qwen2's kind, with the fixed passages of prompts as tokens of their own.

Coordinates are answered as ``[(0.`` ddd ``, 0.`` ddd ``)]`` in which ddd is one of ``BINS`` three-digit tokens, the
middles of equal bins. Everything else is words seen in phrases, or bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from roboref_core.models.roborefer.prompt_text import DEPTH, IMAGE, SENTINEL, SYSTEM_PROMPT, VIDEO
from roboref_core.prompting import prompt
from roboref_core.prompting.answer_text import NOT_VISIBLE, format_answer, parse
from roboref_core.prompting.grid import Grid
from roboref_core.prompting.prompt import DrawnMark, Form
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase

from offline.data_engine.tasks.expressions import phrase_text
from sim.rooms.design import PALETTE
from sim.rooms.labels import LABELS

BINS = 128
OPEN, COMMA, CLOSE, NEXT = "[(0.", ", 0.", ")]", "), (0."
_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "[BOS]", "[PAD]", SENTINEL, IMAGE, VIDEO, DEPTH)
_RELATIONS = (
    "unique", "leftmost", "rightmost", "nth", "nearest", "farthest", "left", "right", "front", "behind", "on", "under",
    "near", "far", "between", "all", "absent", "free_on", "free_left", "free_right", "free_between",
)  # fmt: skip
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")
_HOLE = "\x00"
# Qwen2's pre-tokenizer, but that three digits stand together and an answer's punctuation is not cut.
_PATTERN = (
    rf"{NOT_VISIBLE}|\[\(0\.|\), \(0\.|, 0\.|\)\]|"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_WORDS = 1000


def bin_of(value: float) -> int:
    """The bin of a coordinate in [0, 1]."""
    return int(np.clip(value * BINS, 0, BINS - 1))


def digits_of(index: int) -> str:
    """The three digits that stand for a bin: its middle, in thousandths."""
    return f"{round((index + 0.5) / BINS * 1000):03d}"


def spelled_coordinates(tokenizer: PreTrainedTokenizerBase) -> tuple[float, ...]:
    """The coordinates in [0, 1) whose three decimals are one token, ascending; none where numbers are spelled by digit.

    A model that was taught coordinates as such tokens does not know the others: they would be spelled in pieces.
    """
    digits = [f"{number:03d}" for number in range(1000)]
    ids = tokenizer(digits, add_special_tokens=False).input_ids
    return tuple(float(f"0.{text}") for text, one in zip(digits, ids, strict=True) if len(one) == 1)


def respelled(answer: str, coordinates: Sequence[float]) -> str:
    """An answer with each coordinate put to the nearest of ``coordinates``; without any, the answer as it is.

    Raises ValueError for a text that is not an answer.
    """
    read = parse(answer)
    if not coordinates or answer == NOT_VISIBLE:
        return answer
    if not read.points:
        raise ValueError(f"expected an answer to respell, found {answer[:80]!r}")
    known, points = np.asarray(coordinates), np.array(read.points)
    return format_answer(known[np.abs(points[..., None] - known).argmin(axis=-1)])


def passages() -> list[str]:
    """Everything that prompts and the chat template say besides labels, phrases and places."""
    asked = []
    for grid in (None, Grid()):
        for form, xy in ((Form.MULTI, None), (Form.CONCAT, (0.0, 0.0))):
            for label in ("", _HOLE):
                mark = DrawnMark(label=label, xy=xy)
                asked += [prompt.correspondence(form, mark, grid), prompt.missing(form, mark, grid)]
            mark = DrawnMark(xy=xy)
            asked += [prompt.pointing(f"{_HOLE}.", [mark], 2, form, grid=grid).replace(f"{_HOLE}.", _HOLE)]
        asked += [prompt.difference(grid)]
        asked += [prompt.referring(f"{_HOLE}.", absent, grid).replace(f"{_HOLE}.", _HOLE) for absent in (True, False)]
    found = {piece for text in asked for piece in re.split(f"{_HOLE}|0\\.000, 0\\.000", text)}
    found |= {f"system\n{SYSTEM_PROMPT}", "user\n", "assistant\n"}
    return sorted(found - {""}, key=lambda piece: (-len(piece), piece))


def build_tokenizer() -> Tokenizer:
    """The tokenizer; the same on every machine.

    Raises:
        ValueError: if what an answer consists of is not a single token each.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_WORDS, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in _SPECIAL])
    tokenizer.add_tokens([AddedToken(piece, normalized=False, special=False) for piece in passages()])
    for piece in (NOT_VISIBLE, OPEN, COMMA, CLOSE, NEXT, *(digits_of(k) for k in range(BINS))):
        if len(tokenizer.encode(piece).ids) != 1:
            raise ValueError(f"{piece!r} is not one token but {tokenizer.encode(piece).tokens}")
    return tokenizer


def write_tokenizer(folder: Path, max_length: int) -> int:
    """Writes it in Hugging Face's layout; returns the number of tokens."""
    tokenizer = build_tokenizer()
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "[BOS]",
        "eos_token": "<|im_end|>",
        "pad_token": "[PAD]",
        "clean_up_tokenization_spaces": False,
        "model_max_length": max_length,
        "padding_side": "right",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    return tokenizer.get_vocab_size()


def _corpus() -> list[str]:
    """Phrases over all labels and colours, prompts' own words, and the answers."""
    rng = np.random.default_rng(0)
    labels, colors = sorted(LABELS), sorted(PALETTE)

    def name() -> str:
        label = labels[int(rng.integers(len(labels)))]
        return f"{colors[int(rng.integers(len(colors)))]} {label}" if rng.random() < 0.5 else label

    phrases = [
        phrase_text(relation, rng, a=name(), b=name(), c=name(), d=name(), n=_ORDINALS[int(rng.integers(6))])
        for relation in _RELATIONS
        for _ in range(200)
    ]
    numbers = [digits_of(k) for k in range(BINS)] * 400
    answers = [NOT_VISIBLE, OPEN, COMMA, CLOSE, NEXT] * 400
    # A label may follow a quotation mark rather than a space.
    names = [text for word in (*labels, *colors) for text in (word, f"the {word}")] * 50
    return phrases + names + numbers + answers
