"""Image-text-to-text models that transformers itself knows: LLaVA-OneVision, Qwen-VL and their like."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    BatchFeature,
    PretrainedConfig,
    ProcessorMixin,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

from roboref_core.errors import ErrorCode, ReferError
from roboref_core.models.checkpoint_name import checkpoint_name
from roboref_core.models.device import resolve_device, resolve_dtype
from roboref_core.models.vision_language_model import Generation, Prompt, check_waiting
from roboref_core.prompting.conventions import Convention, Family, family_of, restate
from roboref_core.prompting.coordinates import AnswerForm
from roboref_core.prompting.read_answer import read_answer, unread

_TOKENS, _THINKING_TOKENS = 256, 4096
# A point in JSON.
_SHORTEST_ROOM = 32
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")


class HuggingFaceModel:
    """A VisionLanguageModel from a Hugging Face checkpoint folder. Greedy decoding.

    Args:
        path: folder with config.json, safetensors, tokenizer and preprocessor_config.json.
        convention: family of the model, or scale of the coordinates that it writes (see conventions.FAMILIES).
            Pixels, those of the picture after the processor's own resizing, work for processors that report their
            patch grid (the Qwen-VL family).
        device, dtype: see ``device.resolve_device`` and ``resolve_dtype``.
        max_new_tokens: longest answer; one that reaches it is unparsable. None: 4096 for models whose chat template
            knows thoughts, else 256.
    """

    uses_depth = False

    def __init__(
        self,
        path: str | Path,
        convention: Family | Convention | str,
        device: str = "auto",
        dtype: str = "auto",
        max_new_tokens: int | None = None,
    ):
        self.path = Path(path)
        if not (self.path / "config.json").is_file():
            raise ValueError(f"{path}: expected a checkpoint folder with config.json")
        if max_new_tokens is not None and max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, found {max_new_tokens}")
        self.name = checkpoint_name(self.path)
        self.family = family_of(convention)
        config = AutoConfig.from_pretrained(self.path, local_files_only=True)
        self.processor = load_processor(self.path, config)
        if self.family.convention is Convention.PIXELS and not hasattr(self.processor.image_processor, "merge_size"):
            raise ValueError(
                f"{path}: the processor of {config.model_type} does not report the size that it resizes to, so answers "
                "in its pixels cannot be read: state another convention"
            )
        thinks = "think" in str(self.processor.chat_template)
        self.max_new_tokens = max_new_tokens or (_THINKING_TOKENS if thinks else _TOKENS)
        self._device = resolve_device(device)
        self._model = _untyped(AutoModelForImageTextToText).from_pretrained(
            self.path,
            config=config,
            dtype=resolve_dtype(dtype, self._device),
            local_files_only=True,
            use_safetensors=True,
        )
        self._model.to(self._device).eval()
        self._context = getattr(config.get_text_config(), "max_position_embeddings", None)

    def generate(self, prompt: Prompt) -> Generation:
        """Raises ReferError: INVALID_QUERY (longer than the context), OUT_OF_MEMORY, INFERENCE_FAILED, and what
        ``Prompt.check`` raises, between two tokens.
        """
        return self.generate_batch([prompt])[0]

    def generate_batch(self, prompts: Sequence[Prompt]) -> list[Generation]:
        """As ``generate``; prompts of unlike length are padded on the left."""
        if not prompts:
            return []
        start = time.perf_counter()
        sizes = [self._answered_size(prompt) for prompt in prompts]
        inputs = self._inputs(prompts, sizes)
        length = inputs["input_ids"].shape[1]
        room = self.max_new_tokens if self._context is None else min(self.max_new_tokens, self._context - length)
        if room < min(self.max_new_tokens, _SHORTEST_ROOM):
            raise ReferError(
                ErrorCode.INVALID_QUERY,
                f"the prompt has {length} tokens, but {self.name} takes {self._context} together with the answer",
            )
        prepared = time.perf_counter()
        answers = self._decode(inputs, length, room, prompts)
        timings = {"preprocess": prepared - start, "generate": time.perf_counter() - prepared}
        return [
            read_answer(text, self.family, size, dict(timings), prompt.text)
            if complete
            else unread(text, f"the answer was cut off after {room} tokens (option max_new_tokens)", dict(timings))
            for (text, complete), size, prompt in zip(answers, sizes, prompts, strict=True)
        ]

    def _answered_size(self, prompt: Prompt) -> tuple[int, int]:
        """(width, height) of the last picture as the model sees it, in pixels."""
        if self.family.convention is not Convention.PIXELS or not prompt.images:
            return (1, 1)
        processor = self.processor.image_processor
        _, rows, columns = processor(images=[prompt.images[-1]], return_tensors="pt")["image_grid_thw"][0].tolist()
        return columns * processor.patch_size, rows * processor.patch_size

    def _inputs(self, prompts: Sequence[Prompt], sizes: Sequence[tuple[int, int]]) -> BatchFeature:
        texts = []
        for prompt, size in zip(prompts, sizes, strict=True):
            message = turn("user", restate(prompt.text, self.family, size), len(prompt.images))
            texts.append(self.processor.apply_chat_template([message], add_generation_prompt=True))
        images = [list(prompt.images) for prompt in prompts]
        try:
            inputs = self.processor(
                images=images if any(images) else None,
                text=texts,
                return_tensors="pt",
                padding=True,
                padding_side="left",
            )
        except ValueError as error:
            raise ReferError(ErrorCode.INVALID_QUERY, f"{self.name}: {error}") from error
        return inputs.to(self._device, dtype=self._model.dtype)

    @torch.inference_mode()
    def _decode(
        self, inputs: BatchFeature, length: int, room: int, prompts: Sequence[Prompt]
    ) -> list[tuple[str, bool]]:
        """Text of each answer of at most ``room`` tokens, and whether the model ended it by itself."""
        try:
            tokens = self._model.generate(
                **inputs,
                do_sample=False,
                num_beams=1,
                max_new_tokens=room,
                stopping_criteria=StoppingCriteriaList([_NobodyWaits(prompts)]),
                pad_token_id=self.processor.tokenizer.pad_token_id,
            )
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise ReferError(ErrorCode.OUT_OF_MEMORY, f"{self.name}: {error}") from error
        except (RuntimeError, ValueError) as error:
            raise ReferError(ErrorCode.INFERENCE_FAILED, f"{self.name}: {error}") from error
        check_waiting(prompts)
        written = tokens[:, length:]
        ends = self._model.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        complete = [len(row) < room or any(end in row for end in ends) for row in written.tolist()]
        # Tokens for places count as special in some tokenizers.
        plain = self.family.form is AnswerForm.LIST
        texts = self.processor.tokenizer.batch_decode(written, skip_special_tokens=plain)
        return list(zip(texts, complete, strict=True))


class _NobodyWaits(StoppingCriteria):
    """Ends a generation between two tokens once nobody waits for any of its answers."""

    def __init__(self, prompts: Sequence[Prompt]):
        self._prompts = prompts

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs: Any) -> torch.BoolTensor:
        over = False
        try:
            check_waiting(self._prompts)
        except ReferError:
            over = True
        return cast(torch.BoolTensor, torch.full((len(input_ids),), over, dtype=torch.bool, device=input_ids.device))


def _untyped(model_class: type) -> Any:
    """transformers' types refuse what its models take: devices by position, generate of what an Auto class makes."""
    return model_class


def turn(role: str, text: str, images: int = 0) -> dict[str, Any]:
    """One turn of a dialogue as chat templates take it: its pictures first, then its text."""
    return {"role": role, "content": [*({"type": "image"} for _ in range(images)), {"type": "text", "text": text}]}


def load_processor(path: Path, config: PretrainedConfig) -> ProcessorMixin:
    """The model's own processor without its video part, which needs torchvision.

    AutoProcessor would silently return a bare tokenizer where the video part cannot be made.

    Raises:
        ValueError: no image processor, chat template or padding token in the checkpoint.
    """
    if type(config) not in PROCESSOR_MAPPING:
        raise ValueError(f"{path}: transformers has no image-and-text processor for model type {config.model_type}")
    _check_files(path)
    processor_class: Any = PROCESSOR_MAPPING[type(config)]

    class ImagesOnly(processor_class):
        @classmethod
        def get_attributes(cls) -> list[str]:
            return [name for name in processor_class.get_attributes() if name != "video_processor"]

    processor = ImagesOnly.from_pretrained(path, local_files_only=True)
    if not getattr(processor, "image_processor", None):
        raise ValueError(f"{path}: the checkpoint has no image processor (preprocessor_config.json)")
    if not processor.chat_template:
        raise ValueError(f"{path}: the checkpoint has no chat template (chat_template.json or tokenizer_config.json)")
    if processor.tokenizer.pad_token_id is None:
        raise ValueError(f"{path}: the tokenizer has no padding token")
    return processor


def load_llava_onevision(
    path: str | Path,
    device: str = "auto",
    dtype: str = "auto",
    max_new_tokens: int | None = None,
    convention: str = "normalised",
) -> HuggingFaceModel:
    """LLaVA-OneVision models for robots answer in [0, 1] of the original image unless ``convention`` says otherwise."""
    return HuggingFaceModel(path, convention, device, dtype, max_new_tokens)


def _check_files(folder: Path) -> None:
    """Raises ValueError naming what a checkpoint lacks, before anything heavy is read."""
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise ValueError(f"{folder}: no tokenizer: expected {' or '.join(_TOKENIZER_FILES)}")
    if not any(folder.glob("*.safetensors")):
        legacy = sorted(file.name for file in folder.glob("*.bin"))
        found = f"found {', '.join(legacy[:3])}: convert them first" if legacy else "found none"
        raise ValueError(f"{folder}: expected weights as safetensors files, {found}")
