"""RoboRefer as a policy: answers drawn from one prefill of each question, and the logits of all of them in one pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from roboref_core.models.roborefer.decoding.grammar import TokenGrammar
from roboref_core.models.roborefer.decoding.tree import Node, TokenTree, decode
from roboref_core.models.roborefer.network.language import KeyValueBuffer, Rows, run_language_model
from roboref_core.models.roborefer.network.model import RoboReferModel
from roboref_core.models.roborefer.prompt_text import stop_ids

from offline.train.families.base import Policy
from offline.train.families.roborefer.examples import IGNORE, Batch
from offline.train.families.roborefer.loss import embed_batch, tokenizer_of
from offline.train.families.roborefer.sampling import Sampling, allowed_tokens, draw_answer
from offline.train.plan import Reinforcement


class RoboReferPolicy(Policy):
    """A RoboRefer model that answers by chance."""

    def __init__(self, model: RoboReferModel, settings: Reinforcement):
        self._model, self._temperature = model, settings.temperature
        self._sampling = Sampling(
            temperature=settings.temperature,
            max_new_tokens=settings.max_new_tokens,
            stop_ids=stop_ids(tokenizer_of(model), model.config.root.chat_template),
            vocabulary=len(model.llm.lm_head.weight),
            grammar=TokenGrammar(tokenizer_of(model), model.device) if settings.constrained else None,
        )

    def draw(self, batch: Batch, rngs: Sequence[Sequence[np.random.Generator]]) -> list[list[tuple[int, ...]]]:
        return draw_answers(self._model, batch, self._sampling, rngs)

    def log_probabilities(
        self, batch: Batch, answers: Sequence[Sequence[Sequence[int]]]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logits, tokens = answer_logits(self._model, batch, answers)
        logits = logits / self._temperature
        if self._sampling.grammar is not None:
            allowed = torch.cat([allowed_tokens(answer, self._sampling) for own in answers for answer in own])
            logits = logits.masked_fill(~allowed.to(logits.device), -torch.inf)
        logs = torch.log_softmax(logits, dim=-1)
        with torch.no_grad():
            shares = logs.exp()
            entropies = -torch.where(shares > 0, shares * logs, 0.0).sum(-1)
        return logs.gather(1, tokens[:, None])[:, 0], entropies

    def text(self, tokens: Sequence[int]) -> str:
        ended = tokens[:-1] if tokens and tokens[-1] in self._sampling.stop_ids else tokens
        return str(tokenizer_of(self._model).decode(list(ended), skip_special_tokens=True)).strip()


@dataclass(frozen=True, eq=False)
class Questions:
    """A batch cut before its first answers.

    Attributes:
        batch: without answers; labels are all -100.
        last: the last token of each question.
    """

    batch: Batch
    last: tuple[int, ...]


def questions_of(batch: Batch) -> Questions:
    """The questions of a training batch: each row up to its first label."""
    rows, last = [], []
    for ids, labels, mask in zip(batch.input_ids, batch.labels, batch.attention_mask, strict=True):
        first = int(torch.nonzero(labels != IGNORE)[0])
        rows.append(ids[mask][:first])
        last.append(int(rows[-1][-1]))
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    lengths = torch.tensor([len(row) for row in rows])
    mask = torch.arange(ids.shape[1]) < lengths[:, None]
    return Questions(
        replace(batch, input_ids=ids, labels=torch.full_like(ids, IGNORE), attention_mask=mask), tuple(last)
    )


@torch.no_grad()
def draw_answers(
    model: RoboReferModel, batch: Batch, sampling: Sampling, rngs: Sequence[Sequence[np.random.Generator]]
) -> list[list[tuple[int, ...]]]:
    """Token ids of answers to each question of a batch, with the token that ends them.

    Args:
        model: in eval mode.
        batch: of training, whose answers are not looked at.
        rngs: by question and answer.
    """
    questions = questions_of(batch)
    prefixes = []
    for row in embed_batch(model, questions.batch):
        count = len(row.embeddings) - 1
        buffer = KeyValueBuffer(model, [], count)
        positions = torch.arange(count, device=model.device)
        nothing = torch.empty(0, dtype=torch.long, device=model.device)
        run_language_model(model, row.embeddings[:-1], positions, [Rows(buffer, count, None, nothing)])
        prefixes.append([buffer.segment(0)])
    tree = TokenTree(model, prefixes)
    roots = [Node(index, None, token) for index, token in enumerate(questions.last)]
    decoders = [draw_answer(root, sampling, rng) for root, own in zip(roots, rngs, strict=True) for rng in own]
    found: Iterator[tuple[int, ...]] = iter(decode(tree, decoders))
    return [[next(found) for _ in own] for own in rngs]


def answer_logits(
    model: RoboReferModel, batch: Batch, answers: Sequence[Sequence[Sequence[int]]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, vocabulary) float32 logits of every answer token, and the (N,) tokens: by question, answer, position.

    Each question is embedded and passed through the language model once, whatever the number of its answers, which
    do not see each other.
    """
    rows = embed_batch(model, questions_of(batch).batch)
    device = model.device
    pieces: list[torch.Tensor] = []
    positions: list[torch.Tensor] = []
    ranges: list[tuple[tuple[int, int], tuple[int, int] | None]] = []
    targets: list[int] = []
    sources: list[int] = []
    start = 0
    for row, own in zip(rows, answers, strict=True):
        length = len(row.embeddings)
        pieces.append(row.embeddings)
        positions.append(torch.arange(length))
        prefix = (start, start + length)
        ranges.append((prefix, None))
        start += length
        for answer in own:
            # The last token of a question predicts the first of each answer; the last of an answer predicts nothing.
            inputs = torch.tensor(answer[:-1], dtype=torch.long, device=device)
            pieces.append(model.embed_ids(inputs))
            positions.append(length + torch.arange(len(inputs)))
            ranges.append(((start, start + len(inputs)), prefix))
            sources += [prefix[1] - 1, *range(start, start + len(inputs))]
            targets += answer
            start += len(inputs)
    seen = torch.zeros(start, start, dtype=torch.bool)
    for (first, end), before in ranges:
        seen[first:end, first:end] = torch.ones(end - first, end - first, dtype=torch.bool).tril()
        if before is not None:
            seen[first:end, before[0] : before[1]] = True
    hidden = model.llm.model(
        inputs_embeds=torch.cat(pieces)[None],
        position_ids=torch.cat(positions)[None].to(device),
        attention_mask=_additive(seen.to(device), pieces[0].dtype),
        use_cache=False,
    ).last_hidden_state[0]
    logits = model.llm.lm_head(hidden[torch.tensor(sources, device=device)]).float()
    return logits, torch.tensor(targets, device=device)


def _additive(seen: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(1, 1, T, T) of a (T, T) bool mask, as transformers takes masks of any form."""
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, torch.finfo(dtype).min)[
        None, None
    ]
