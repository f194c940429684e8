"""The part of a model's text that is its answer: without its thoughts, out of the wrappers that models put around it.

Every step reads the text a bounded number of times, so that a text costs no more than its length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# Openings and closings of thoughts: Qwen, DeepSeek, Gemini exports, Kimi, Magistral, Seed and their like.
_NAMES = r"(?:seed:)?(?:think|thinking|thoughts?|reasoning|reflection|analysis)"
_THOUGHT = re.compile(
    rf"<\s?(?P<close>/)?\s?{_NAMES}\s?>|◁(?P<kimi>/)?think▷|\[(?P<mistral>/)?THINK\]"
    r"|<\|(?:begin|(?P<end>end))_of_thought\|>",
    re.IGNORECASE,
)
# gpt-oss writes its channels one after the other; the last one named "final" is the answer.
_FINAL_CHANNEL = "<|channel|>final<|message|>"
_CHANNEL = re.compile(r"<\|channel\|>(?:analysis|commentary)")
_ANSWER_TAGS = (("<answer>", "</answer>"), ("<|begin_of_box|>", "<|end_of_box|>"), ("<|begin_of_solution|>", "<|"))
_BOXED = re.compile(r"\\boxed\s?\{")
_FENCE = "```"


def without_thoughts(text: str) -> str | None:
    """The text outside the model's thoughts; None if the last thought was not finished.

    A closing tag without its opening ends a thought that began with the text: chat templates may write the opening.
    """
    if _FINAL_CHANNEL in text:
        text = text.rpartition(_FINAL_CHANNEL)[2]
    elif _CHANNEL.search(text):
        return None
    kept: list[str] = []
    end, depth = 0, 0
    for tag in _THOUGHT.finditer(text):
        closing = any(tag.group(name) for name in ("close", "kimi", "mistral", "end"))
        if not closing:
            if depth == 0:
                kept.append(text[end : tag.start()])
            depth += 1
        elif depth:
            depth -= 1
        else:
            kept.clear()
        end = tag.end()
    if depth:
        return None
    return text if end == 0 else "".join([*kept, text[end:]])


def unwrapped(text: str) -> str:
    """What stands in the last ``<answer>`` or ``\\boxed{}``; the text itself where there is neither."""
    for opening, closing in _ANSWER_TAGS:
        if opening in text:
            text = text.rpartition(opening)[2].partition(closing)[0]
    boxes = list(_BOXED.finditer(text))
    return _braced(text, boxes[-1].end()) if boxes else text


def _braced(text: str, start: int) -> str:
    """From just behind an opening brace to the one that closes it, or to the end."""
    depth = 1
    for brace in re.compile(r"[{}]").finditer(text, start):
        depth += 1 if brace.group() == "{" else -1
        if depth == 0:
            return text[start : brace.start()]
    return text[start:]


def fenced_blocks(text: str) -> Iterator[str]:
    """Contents of ``` blocks, the last one first. A block that is cut off ends with the text."""
    parts = text.split(_FENCE)
    for content in parts[len(parts) - 1 - len(parts) % 2 :: -2] if len(parts) > 1 else ():
        language, newline, code = content.partition("\n")
        yield code if newline and language.strip().isalnum() else content
