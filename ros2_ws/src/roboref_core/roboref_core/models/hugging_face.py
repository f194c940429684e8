"""Image-text-to-text models that transformers itself knows: LLaVA-OneVision, Qwen-VL and their like."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, PretrainedConfig, ProcessorMixin
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

from roboref_core.errors import ErrorCode, ReferError
from roboref_core.models.device import resolve_device, resolve_dtype
from roboref_core.models.vision_language_model import Generation, Prompt
from roboref_core.prompting.prompt import Convention, restate
from roboref_core.prompting.read_answer import read_answer


class HuggingFaceModel:
    """A VisionLanguageModel from a Hugging Face checkpoint folder. Greedy decoding.

    Args:
        path: folder with config.json, safetensors, tokenizer and preprocessor_config.json.
        convention: scale of the coordinates that this model writes (see Convention). PIXELS, the pixels of
            the picture after the processor's own resizing, works for processors that report their patch
            grid (the Qwen-VL family).
        device, dtype: see ``device.resolve_device`` and ``resolve_dtype``.
        max_new_tokens: longest answer.
    """

    uses_depth = False

    def __init__(
        self,
        path: str | Path,
        convention: Convention | str,
        device: str = "auto",
        dtype: str = "auto",
        max_new_tokens: int = 128,
    ):
        self.path = Path(path)
        if not (self.path / "config.json").is_file():
            raise ValueError(f"{path}: expected a checkpoint folder with config.json")
        self.name = self.path.resolve().name
        self.convention = Convention(convention)
        self.max_new_tokens = max_new_tokens
        config = AutoConfig.from_pretrained(self.path, local_files_only=True)
        self.processor = load_processor(self.path, config)
        if self.convention is Convention.PIXELS and not hasattr(self.processor.image_processor, "merge_size"):
            raise ValueError(
                f"{path}: the processor of {config.model_type} does not report the size that it resizes to, so answers "
                "in its pixels cannot be read: state another convention"
            )
        self._device = resolve_device(device)
        self._model = AutoModelForImageTextToText.from_pretrained(
            self.path,
            config=config,
            dtype=resolve_dtype(dtype, self._device),
            local_files_only=True,
            use_safetensors=True,
        )
        self._model.to(self._device).eval()
        self._context = getattr(config.get_text_config(), "max_position_embeddings", None)

    def generate(self, prompt: Prompt) -> Generation:
        """Raises ReferError: INVALID_QUERY (longer than the context), OUT_OF_MEMORY, INFERENCE_FAILED."""
        return self.generate_batch([prompt])[0]

    def generate_batch(self, prompts: Sequence[Prompt]) -> list[Generation]:
        """As ``generate``; prompts of unlike length are padded on the left."""
        if not prompts:
            return []
        start = time.perf_counter()
        sizes = [self._answered_size(prompt) for prompt in prompts]
        inputs = self._inputs(prompts, sizes)
        length = inputs["input_ids"].shape[1]
        if self._context is not None and length + self.max_new_tokens > self._context:
            raise ReferError(
                ErrorCode.INVALID_QUERY,
                f"the prompt has {length} tokens and the answer may have {self.max_new_tokens}, but {self.name} "
                f"takes {self._context} together",
            )
        prepared = time.perf_counter()
        texts = self._decode(inputs, length)
        timings = {"preprocess": prepared - start, "generate": time.perf_counter() - prepared}
        return [
            read_answer(text, self.convention, size, dict(timings)) for text, size in zip(texts, sizes, strict=True)
        ]

    def _answered_size(self, prompt: Prompt) -> tuple[int, int]:
        """(width, height) of the last picture as the model sees it, in pixels."""
        if self.convention is not Convention.PIXELS or not prompt.images:
            return (1, 1)
        processor = self.processor.image_processor
        _, rows, columns = processor(images=[prompt.images[-1]], return_tensors="pt")["image_grid_thw"][0].tolist()
        return columns * processor.patch_size, rows * processor.patch_size

    def _inputs(self, prompts: Sequence[Prompt], sizes: Sequence[tuple[int, int]]):
        texts = []
        for prompt, size in zip(prompts, sizes, strict=True):
            message = turn("user", restate(prompt.text, self.convention, size), len(prompt.images))
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
    def _decode(self, inputs, length: int) -> list[str]:
        try:
            tokens = self._model.generate(
                **inputs,
                do_sample=False,
                num_beams=1,
                max_new_tokens=self.max_new_tokens,
                pad_token_id=self.processor.tokenizer.pad_token_id,
            )
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise ReferError(ErrorCode.OUT_OF_MEMORY, f"{self.name}: {error}") from error
        except (RuntimeError, ValueError) as error:
            raise ReferError(ErrorCode.INFERENCE_FAILED, f"{self.name}: {error}") from error
        return self.processor.tokenizer.batch_decode(tokens[:, length:], skip_special_tokens=True)


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
    processor_class = PROCESSOR_MAPPING[type(config)]

    class ImagesOnly(processor_class):
        @classmethod
        def get_attributes(cls):
            return [name for name in processor_class.get_attributes() if name != "video_processor"]

    processor = ImagesOnly.from_pretrained(path, local_files_only=True)
    if not getattr(processor, "image_processor", None):
        raise ValueError(f"{path}: the checkpoint has no image processor (preprocessor_config.json)")
    if not processor.chat_template:
        raise ValueError(f"{path}: the checkpoint has no chat template (chat_template.json or tokenizer_config.json)")
    if processor.tokenizer.pad_token_id is None:
        raise ValueError(f"{path}: the tokenizer has no padding token")
    return processor
