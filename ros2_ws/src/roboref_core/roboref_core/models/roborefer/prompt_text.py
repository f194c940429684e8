"""The words of a prompt: media placeholders, chat template, special tokens."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.models.auto.tokenization_auto import get_tokenizer_config

from roboref_core.models.roborefer.checkpoint.config_schema import LanguageConfig
from roboref_core.models.roborefer.errors import CheckpointError
from roboref_core.models.roborefer.network.tiling import Kind

IMAGE, VIDEO, DEPTH, SENTINEL = "<image>", "<vila/video>", "<depth>", "<vila/sentinel>"
PLACEHOLDERS: dict[Kind, str] = {"image": IMAGE, "depth": DEPTH}
SYSTEM_PROMPT = "You are a helpful assistant"
_PLACEHOLDER_LINE = re.compile(f"(?:{IMAGE}|{DEPTH})\n?")
_TOKENIZER_FILES = ("tokenizer.json", "vocab.json")
# A tokenizer without a limit of its own carries a huge sentinel value.
_NO_LIMIT = 10**9


def read_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The checkpoint's tokenizer as it is stored, padding on the right.

    Raises:
        CheckpointError: if there is no usable tokenizer in the folder.
    """
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise CheckpointError(f"llm: no tokenizer in {folder}: expected {' or '.join(_TOKENIZER_FILES)}")
    try:
        config = get_tokenizer_config(folder, local_files_only=True)
        # AutoTokenizer would give every qwen2 folder Qwen2's own pre-tokenizer, whatever tokenizer.json says.
        stated = config.get("tokenizer_class") in ("PreTrainedTokenizerFast", "TokenizersBackend")
        tokenizer = (PreTrainedTokenizerFast if stated else AutoTokenizer).from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, padding_side="right"
        )
    # Third-party parsers of hostile files raise nearly anything; the cause stays attached.
    except Exception as error:
        raise CheckpointError(f"llm: tokenizer in {folder} cannot be read: {error}") from error
    if tokenizer.eos_token is None:
        raise CheckpointError(f"llm: tokenizer in {folder} has no eos_token")
    return tokenizer


def load_tokenizer(folder: Path, use_depth: bool) -> PreTrainedTokenizerBase:
    """The checkpoint's tokenizer with the media tokens that it lacks appended, in the reference's order."""
    tokenizer = read_tokenizer(folder)
    known = tokenizer.get_vocab()
    wanted = [SENTINEL, IMAGE, VIDEO, *([DEPTH] if use_depth else [])]
    tokenizer.add_tokens([token for token in wanted if token not in known], special_tokens=True)
    return tokenizer


def placeholder_ids(tokenizer: PreTrainedTokenizerBase) -> dict[Kind, int]:
    """Ids of the placeholders that the tokenizer has; without depth it has none for it."""
    ids: dict[Kind, Any] = {kind: tokenizer.convert_tokens_to_ids(token) for kind, token in PLACEHOLDERS.items()}
    # Some tokenizers have an id for what they do not know, others None.
    return {
        kind: token
        for kind, token in ids.items()
        if token is not None and tokenizer.convert_ids_to_tokens(token) == PLACEHOLDERS[kind]
    }


def add_training_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    """Gives the tokenizer the padding and beginning tokens that training needs, if it has none."""
    if tokenizer.pad_token is None:
        if tokenizer.unk_token is not None:
            tokenizer.pad_token = tokenizer.unk_token
        else:
            tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    if tokenizer.bos_token is None:
        tokenizer.add_special_tokens({"bos_token": "[BOS]"})


def context_length(tokenizer: PreTrainedTokenizerBase, config: LanguageConfig) -> int:
    """Positions that prompt and answer may take together."""
    if tokenizer.model_max_length < _NO_LIMIT:
        return int(tokenizer.model_max_length)
    return config.model_max_length or config.max_position_embeddings


def join_parts(parts: Iterable[str | tuple[Kind, object]]) -> str:
    """User content of a list of texts and ("image" | "depth", picture) pairs, in their order.

    Placeholders inside a text are not media: they are removed, and that text is stripped.
    """
    content = ""
    for part in parts:
        if not isinstance(part, str):
            content += PLACEHOLDERS[part[0]]
            continue
        # Until none is left: a removal may join the halves of another.
        while found := [token for token in (IMAGE, VIDEO, DEPTH) if token in part]:
            part = part.replace(found[0], "").strip()
        content += part
    return content


def pair_media(content: str, count: int) -> str:
    """All placeholders removed, and ``count`` "<image> <depth>" lines put before the text."""
    return f"{IMAGE} {DEPTH}\n" * count + _PLACEHOLDER_LINE.sub("", content).strip("\n")


def expand_tiles(content: str, tiles: Mapping[Kind, Sequence[int]]) -> str:
    """Replaces the i-th placeholder of each kind by ``tiles[kind][i]`` lines of it."""
    for kind, placeholder in PLACEHOLDERS.items():
        head, *rest = content.split(placeholder)
        if len(rest) != len(tiles[kind]):
            raise ValueError(f"{len(rest)} {placeholder} placeholders for {len(tiles[kind])} {kind} pictures")
        content = head + "".join(
            f"{placeholder}\n" * count + text for count, text in zip(tiles[kind], rest, strict=True)
        )
    return content


def inference_content(
    parts: Sequence[str | tuple[Kind, object]],
    aspect: str | None,
    tiles: Mapping[Kind, Sequence[int]],
    training_form: bool = False,
) -> str:
    """User content as the reference builds it at inference.

    Args:
        parts: texts and media in order (the published API: all images, all depths, text).
        aspect: image_aspect_ratio in force.
        tiles: tiles per picture, {"image": [...], "depth": [...]}; used by "dynamic" only.
        training_form: put media in front as training does. Colour-only prompts then gain the newline
            before the text that the reference's inference lacks.
    """
    content = join_parts(parts)
    images, depths = len(tiles["image"]), len(tiles["depth"])
    if training_form:
        content = training_content(content, images, depths > 0)
    elif aspect in ("dynamic", "dynamic_s2") and depths and images == depths:
        content = pair_media(content, images)
    return expand_tiles(content, tiles) if aspect == "dynamic" else content


def training_content(content: str, images: int, use_depth: bool) -> str:
    """A turn as training writes it: cleaned, with the placeholders of all pictures in front of the first turn's text.

    ``images`` is 0 for later turns.
    """
    line = f"{IMAGE} {DEPTH}\n" if use_depth else f"{IMAGE}\n"
    return line * images + _PLACEHOLDER_LINE.sub("", content).strip()


def render_chat(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[tuple[str, str | None]],
    chat_template: str | None,
    add_generation_prompt: bool,
) -> str:
    """The dialogue as one string.

    Args:
        messages: (role, content); contents are stripped, None is left out.
        chat_template: chat template of the root config; None is the tokenizer's own.
    """
    messages = [(role, None if content is None else content.strip()) for role, content in messages]
    if chat_template is None:
        dialogue: Any = [{"role": role, "content": content} for role, content in messages]
        return str(tokenizer.apply_chat_template(dialogue, add_generation_prompt=add_generation_prompt, tokenize=False))
    if not messages or messages[0][0] != "system":
        messages.insert(0, ("system", SYSTEM_PROMPT))
    turns = [f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in messages if content is not None]
    return "".join(turns) + ("<|im_start|>assistant\n" if add_generation_prompt else "")


def stop_ids(tokenizer: PreTrainedTokenizerBase, chat_template: str | None) -> tuple[int, ...]:
    """Ids that end an answer: eos, and what the template puts after an assistant's turn."""
    probe = render_chat(tokenizer, [("user", "."), ("assistant", SENTINEL)], chat_template, False)
    ids = tokenizer(probe).input_ids
    after = ids.index(tokenizer.convert_tokens_to_ids(SENTINEL)) + 1
    return tuple(sorted({tokenizer.eos_token_id, *ids[after : after + 1]}))
