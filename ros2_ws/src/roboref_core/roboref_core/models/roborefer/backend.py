"""A RoboRefer checkpoint as a VisionLanguageModel: prompts in, answers with points and probabilities out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from roboref_core.models.checkpoint_name import checkpoint_name
from roboref_core.models.device import resolve_device, resolve_dtype
from roboref_core.models.model_answer import Outcome
from roboref_core.models.roborefer import asking, calibration
from roboref_core.models.roborefer.checkpoint.config import checkpoint_root
from roboref_core.models.roborefer.checkpoint.files import materialise, open_checkpoint
from roboref_core.models.roborefer.decoding.generate import greedy
from roboref_core.models.roborefer.decoding.grammar import TokenGrammar
from roboref_core.models.roborefer.decoding.pointing import PointingAnswer, PointingDecoder
from roboref_core.models.roborefer.decoding.prefill import PlannedPrompt, Prefiller
from roboref_core.models.roborefer.decoding.tree import Decoder, Node, TokenTree, decode
from roboref_core.models.roborefer.errors import DeviceOutOfMemoryError, PromptTooLongError, report_out_of_memory
from roboref_core.models.roborefer.network.cpu_linear import can_pack, pack_linears
from roboref_core.models.roborefer.network.model import RoboReferModel
from roboref_core.models.roborefer.prompt_text import stop_ids
from roboref_core.models.vision_language_model import Generation, Prompt, check_waiting
from roboref_core.prompting.read_answer import read_answer

# No tuple takes more tokens than it has characters, nor does NOT_VISIBLE.
_TUPLE_LENGTH = len("(0.123, 0.456), ")
_SHORTEST_ROOM = 2 * _TUPLE_LENGTH


class RoboReferBackend:
    """Answers prompts with a RoboRefer checkpoint.

    Args:
        model: in eval mode.
        name: with a revision; goes into every answer.
        decoding: "pointing" constrains answers to points or NOT_VISIBLE; "free" is the reference's
            greedy text, for questions of any kind.
        max_points, candidates: see ``PointingDecoder``.
        max_new_tokens: longest free answer [token]; None leaves it to the context, as the reference does.
        aspect, training_form: see ``Prefiller``.
        cache_bytes: bound of each of the two caches (picture features, prompt prefixes).
        fitted: calibration of p_visible.
        use_depth: ask for depth pictures, if the checkpoint takes them.
        calibrated: False leaves ``fitted`` aside, and a calibration beside the checkpoint unread, to fit another one.

    Attributes:
        passes: forward passes of the LLM after the pictures, since loading; a batch shares them.
    """

    def __init__(
        self,
        model: RoboReferModel,
        name: str,
        decoding: Literal["pointing", "free"] = "pointing",
        max_points: int = 16,
        candidates: int = 1,
        max_new_tokens: int | None = None,
        aspect: str | None = None,
        training_form: bool = False,
        cache_bytes: int = 2**30,
        fitted: calibration.Calibration | None = None,
        use_depth: bool = True,
        calibrated: bool = True,
    ):
        if decoding not in ("pointing", "free"):
            raise ValueError(f"decoding must be pointing or free, found {decoding!r}")
        if max_new_tokens is not None and max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, found {max_new_tokens}")
        self.name = name
        self.model = model
        self.uses_depth = use_depth and model.config.uses_depth
        self.passes = 0
        self.prefiller = Prefiller(model, aspect, training_form, cache_bytes, cache_bytes)
        self._decoding = decoding
        self._max_points = max_points
        self._candidates = candidates
        self._max_new_tokens = max_new_tokens
        self._calibration = fitted if calibrated else None
        self._grammar = TokenGrammar(model.tokenizer, model.device)
        # Refuses bad options here rather than at the first question.
        PointingDecoder(self._grammar, max_points, candidates)
        self._stop_ids = stop_ids(model.tokenizer, model.config.root.chat_template)

    @classmethod
    def load(
        cls,
        path: str | Path,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> RoboReferBackend:
        """Loads a checkpoint for inference, and the calibration beside it if there is one. It is asked with depth
        pictures if it takes them, unless what travels with it says that it was trained without.

        Args:
            path: the checkpoint directory, or one that holds it as ``model/``.
            dtype: dtype of all weights; None keeps the stored one.
            options: arguments of the constructor.
        Raises:
            CheckpointError: naming part and file.
        """
        checkpoint = open_checkpoint(path)
        root = checkpoint_root(path).resolve()
        folder = root.parent if root.name == "model" else root
        name = f"{checkpoint_name(folder).partition('@')[0]}@{checkpoint.revision}"
        fitted = calibration.load(path, name) if options.get("calibrated", True) else None
        options.setdefault("use_depth", asking.load(path).depth)
        model = materialise(checkpoint, torch.device(device), dtype)
        if can_pack(model.device, model.dtype):
            pack_linears(model, keep=model.llm.lm_head)
        return cls(model, name, fitted=fitted, **options)

    def free_text(self, max_new_tokens: int | None = None) -> RoboReferBackend:
        """The same loaded model, answering with free text."""
        return RoboReferBackend(
            self.model,
            self.name,
            decoding="free",
            max_new_tokens=max_new_tokens,
            aspect=self.prefiller.aspect,
            training_form=self.prefiller.training_form,
            use_depth=self.uses_depth,
        )

    def generate(self, prompt: Prompt) -> Generation:
        return self.generate_batch([prompt])[0]

    def generate_batch(self, prompts: Sequence[Prompt]) -> list[Generation]:
        """Answers prompts of any lengths and numbers of pictures together; what they have in common is computed once.

        Raises:
            ValueError: for pictures that are no pictures, or depth for a model without it.
            PromptTooLongError, NonFiniteLogitsError, DeviceOutOfMemoryError: the model stays usable.
            ReferError: TIMEOUT or CANCELED, between two passes, once nobody waits for any of the answers.
        """
        if not prompts:
            return []
        try:
            with torch.inference_mode(), report_out_of_memory():
                return self._generate(prompts)
        except DeviceOutOfMemoryError:
            self.prefiller.features.clear()
            self.prefiller.prefixes.clear()
            raise

    def _generate(self, prompts: Sequence[Prompt]) -> list[Generation]:
        start = time.perf_counter()
        plans = [self.prefiller.plan(prompt) for prompt in prompts]
        tails = [self.prefiller.tail_nodes(plan, index) for index, plan in enumerate(plans)]
        decoders = [self._decoder(plan, tail) for plan, tail in zip(plans, tails, strict=True)]
        planned = time.perf_counter()
        check = partial(check_waiting, prompts)
        check()
        prefixes = self.prefiller.compute(plans)
        if self.model.device.type == "cuda":
            torch.cuda.synchronize(self.model.device)
        filled = time.perf_counter()
        tree = TokenTree(self.model, prefixes)
        answers = decode(tree, decoders, before_pass=check)
        self.passes += tree.passes
        done = time.perf_counter()
        timings = {"prepare": planned - start, "encode": filled - planned, "decode": done - filled}
        return [self._generation(answer, timings) for answer in answers]

    def _decoder(self, plan: PlannedPrompt, tail: list[Node]) -> Decoder[PointingAnswer | list[int]]:
        room = self.prefiller.limit - plan.length
        if self._decoding == "free":
            return greedy(tail, self._stop_ids, min(room, self._max_new_tokens or room))
        if room < _SHORTEST_ROOM:
            raise PromptTooLongError(plan.length, self.prefiller.limit)
        points = min(self._max_points, (room - _TUPLE_LENGTH) // _TUPLE_LENGTH)
        return PointingDecoder(self._grammar, points, self._candidates).decode(tail)

    def _generation(self, answer: PointingAnswer | list[int], timings: dict[str, float]) -> Generation:
        if not isinstance(answer, PointingAnswer):
            text = str(self.model.tokenizer.decode(answer, skip_special_tokens=True)).strip()
            return read_answer(text, "roborefer", (1, 1), timings)
        fitted = self._calibration
        return Generation(
            text=answer.text,
            points=answer.points,
            outcome=Outcome.VISIBLE if answer.visible else Outcome.NOT_VISIBLE,
            point_covariance=answer.covariances,
            scores=answer.scores,
            p_visible=fitted.p_visible(answer.log_odds) if fitted else calibration.sigmoid(answer.log_odds),
            p_visible_calibrated=fitted is not None,
            timings=timings,
        )


def load(path: str | Path, device: str = "auto", dtype: str = "auto", **options: Any) -> RoboReferBackend:
    """``RoboReferBackend.load`` with device and number type by name, as parameters and command lines give them."""
    place = resolve_device(device)
    return RoboReferBackend.load(path, place, resolve_dtype(dtype, place), **options)
