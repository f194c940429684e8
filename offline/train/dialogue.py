"""LLaVA's dialogues as they are published: which forms are trained on, how, and which are refused, by name.

The table of forms is in docs/training_data.md; a test goes through it row by row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from roboref_core.models.roborefer.prompt_text import DEPTH, IMAGE, SENTINEL, VIDEO, training_content

SPEAKERS = ("human", "gpt", "system")
_ELSEWHERE = {"messages": "messages with role and content", "text": "a plain text", "conversation": "conversation"}
_NOT_SHOWN = ("video", "videos", "audio")

Turns = list[dict[str, str]]


def read_dialogue(sample: Mapping[str, Any], pictures: int) -> Turns:
    """The turns of a sample.

    Args:
        pictures: colour pictures of the sample.
    Raises:
        ValueError: saying what is wrong; such a sample is not trained on.
    """
    if unseen := [key for key in _NOT_SHOWN if sample.get(key)]:
        raise ValueError(f"it has {unseen[0]!r}, which no model here is shown")
    turns = sample.get("conversations")
    if not (isinstance(turns, list) and turns and all(isinstance(turn, dict) for turn in turns)):
        other = next((f"; it has {what}" for key, what in _ELSEWHERE.items() if key in sample), "")
        raise ValueError(f"expected conversations, found {turns!r:.80}{other}")
    before = ""
    for index, turn in enumerate(turns):
        if turn.get("from") not in SPEAKERS or not isinstance(turn.get("value"), str):
            raise ValueError(f"turn {index}: expected from {sorted(SPEAKERS)} and a text value, found {turn!r:.200}")
        _check_turn(index, turn, before)
        before = turn["from"]
    if not any(turn["from"] == "gpt" for turn in turns):
        raise ValueError("no answer: there is no turn by gpt")
    _check_placeholders(turns, pictures)
    return turns


def _check_turn(index: int, turn: Mapping[str, str], before: str) -> None:
    speaker, text = turn["from"], turn["value"]
    if speaker == "system" and index:
        raise ValueError(f"turn {index}: a system turn after others")
    if speaker == "gpt" and before != "human":
        what = "the first turn is the assistant's (gpt)" if before in ("", "system") else "two answers in a row"
        raise ValueError(f"turn {index}: {what}: expected a question by human before it")
    if speaker == "human" and before == "human":
        raise ValueError(f"turn {index}: two questions in a row: expected an answer by gpt between them")
    if speaker == "gpt" and not text.strip():
        raise ValueError(f"turn {index}: the answer is empty: it would teach to say nothing")
    wrong = (VIDEO, SENTINEL) if speaker == "human" else (IMAGE, DEPTH, VIDEO, SENTINEL)
    if held := [token for token in wrong if token in text]:
        raise ValueError(f"turn {index}: {held[0]} in a turn by {speaker}")
    if any(token in training_content(text, 0, False) for token in (IMAGE, DEPTH)):
        raise ValueError(f"turn {index}: a placeholder within a placeholder: {text!r:.80}")


def _check_placeholders(turns: Sequence[Mapping[str, str]], pictures: int) -> None:
    text = "".join(turn["value"] for turn in turns if turn["from"] == "human")
    for token in (IMAGE, DEPTH):
        if (stated := text.count(token)) not in (0, pictures):
            raise ValueError(f"the text has {stated} {token} for {pictures} pictures: it would train on the wrong ones")


def remarks(turns: Sequence[Mapping[str, str]]) -> list[str]:
    """What is unusual about a dialogue that is trained on, and what happens with it."""
    found = []
    questions = [turn["value"] for turn in turns if turn["from"] == "human"]
    if turns[0]["from"] == "system":
        found.append("a system turn: kept, in place of the template's own; nothing of it is learned")
    if sum(turn["from"] == "gpt" for turn in turns) > 1:
        found.append("several questions: every answer is learned")
    if turns[-1]["from"] == "human":
        found.append("a question at the end without an answer: nothing of it is learned")
    first = questions[0].lstrip()
    behind = sum(question.count(IMAGE) for question in questions) - _leading(first)
    if behind > 0:
        found.append("<image> elsewhere than before the first question: moved there")
    return found


def _leading(text: str) -> int:
    """How many <image> a text begins with."""
    count = 0
    while text.startswith((IMAGE, DEPTH)):
        count += text.startswith(IMAGE)
        text = text.removeprefix(IMAGE).removeprefix(DEPTH).lstrip()
    return count
