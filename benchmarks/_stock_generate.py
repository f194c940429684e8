"""The baseline of the pointing benchmarks: the same weights, decoded by transformers' `generate`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from roboref_core.models.roborefer.decoding.grammar import END, START, TokenGrammar, walk
from roboref_core.models.roborefer.decoding.prefill import Prefiller
from roboref_core.models.roborefer.network.model import RoboReferModel
from roboref_core.models.roborefer.network.tiling import Kind, cut_tiles, to_picture
from roboref_core.models.vision_language_model import Prompt


class StockGenerate:
    """Nothing cached, all pictures in one batch, one pass for each token.

    `prefix_allowed_tokens_fn` restricts it to the pointing decoder's answers, so that both can be seen to agree.

    Attributes:
        tokens: decoded for the last answer.
    """

    def __init__(self, model: RoboReferModel, aspect: str | None, max_points: int):
        self.model, self.prefiller = model, Prefiller(model, aspect)
        self.grammar = TokenGrammar(model.tokenizer, model.device)
        self.max_points = max_points
        self.tokens = 0

    @torch.inference_mode()
    def answer(self, prompt: Prompt) -> str:
        model, tokenizer = self.model, self.model.tokenizer
        plan = self.prefiller.plan(prompt)
        media: dict[Kind, list[torch.Tensor]] = {}
        shown: tuple[tuple[Kind, Sequence[np.ndarray]], ...] = (("image", prompt.images), ("depth", prompt.depths))
        for kind, arrays in shown:
            if arrays:
                tiles = [
                    cut_tiles(to_picture(array, kind), model.config, kind, self.prefiller.aspect) for array in arrays
                ]
                media[kind] = [tokens for picture in model.encode(tiles, kind) for tokens in picture]
        embeddings, _ = model.insert_media(plan.ids, media)
        ids = model.llm.generate(
            inputs_embeds=embeddings[None],
            attention_mask=torch.ones(1, len(embeddings), dtype=torch.long, device=model.device),
            max_new_tokens=32 * self.max_points,
            do_sample=False,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            prefix_allowed_tokens_fn=self._allowed,
        )[0]
        self.tokens = len(ids)
        return str(tokenizer.decode(ids, skip_special_tokens=True))

    def _allowed(self, _: int, ids: torch.Tensor) -> list[int]:
        text = str(self.model.tokenizer.decode(ids))
        state = walk(START, text)
        assert state is not None, text
        if state == END:
            end = self.model.tokenizer.eos_token_id
            assert isinstance(end, int)
            return [end]
        left = self.max_points - text.count("(0.")
        return [t.token for t in self.grammar.transitions(state) if t.opens <= left]
