"""What a small model is trained on besides its answers: seeing objects, and looking at the right place.

A next-token loss alone hardly starts from random weights. The heads here exist in training only.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from roboref_core.models.roborefer.network.media import normalise, tower_features
from roboref_core.models.roborefer.network.model import RoboReferModel
from torch import nn
from torch.nn import functional as F
from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb

from offline.train.nano.batches import IGNORE, TOKENS, NanoBatch, Rows
from offline.train.nano.vocabulary import BINS

# The layer whose first head is told where to look, for the three predictions that need a place.
_LOOKING_LAYER = 2
_CELL_SHARE = 0.2
_SPREAD = 1.5
"""Standard deviation of a coordinate's target distribution [bin]."""


def fast_arithmetic(device: torch.device) -> torch.autocast:
    """Products in bfloat16 where the processor has instructions for them; elsewhere that is many times slower."""
    fast = device.type != "cpu" or torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(device.type, torch.bfloat16, enabled=fast)


@dataclass(frozen=True)
class Weights:
    """Of the parts of the loss."""

    decision: float = 1.0
    number: float = 1.0
    rest: float = 0.1
    look: float = 1.0
    mark: float = 0.5
    match: float = 0.5
    seen: float = 0.3


class TrainingHeads(nn.Module):
    """Linear readouts: what a patch shows, whether a cell shows what is marked, and whether it is the answer."""

    def __init__(self, tower_hidden: int, hidden: int, kinds: int, colors: int):
        super().__init__()
        self.kind = nn.Linear(tower_hidden, kinds)
        self.color = nn.Linear(tower_hidden, colors)
        self.mark = nn.Linear(hidden, 1)
        self.match = nn.Linear(hidden, 1)


class Network:
    """Forward passes of a RoboRefer model on NanoBatches."""

    def __init__(self, model: RoboReferModel, heads: TrainingHeads, bin_ids: torch.Tensor):
        self.model = model
        self.heads = heads
        self.bin_ids = bin_ids.to(model.device)
        self._looking: dict[str, torch.Tensor] = {}
        attention = model.llm.model.layers[_LOOKING_LAYER].self_attn
        attention.register_forward_pre_hook(self._note, with_kwargs=True)

    def _note(self, _module, args, kwargs) -> None:
        self._looking = {
            "hidden": kwargs.get("hidden_states", args[0] if args else None),
            "rope": kwargs["position_embeddings"],
        }

    def patches(self, tiles: torch.Tensor, kind: str) -> torch.Tensor:
        """(N, 400, C) features of the tower."""
        root, config = self.model.config.root, self.model.config
        tower = self.model.part("vision_tower" if kind == "image" else "depth_tower").vision_model
        pixels = normalise(tiles, config.processor("image"), torch.float32)
        return tower_features(tower, pixels, root.mm_vision_select_layer, root.mm_vision_select_feature)

    def table(self, batch: NanoBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings of all tokens, then of all tiles; and the patches of the colour tiles."""
        patches = self.patches(batch.tiles, "image")
        parts = [self.model.llm.model.embed_tokens.weight, self.model.mm_projector(patches).float().flatten(0, 1)]
        if len(batch.depths):
            projector = self.model.depth_projector
            assert projector is not None
            parts.append(projector(self.patches(batch.depths, "depth")).float().flatten(0, 1))
        return torch.cat(parts), patches

    def hidden(self, table: torch.Tensor, rows: Rows) -> torch.Tensor:
        """(B, T, H) after the last layer. Padding is at the end, where nothing looks back at it."""
        return self.model.llm.model(inputs_embeds=F.embedding(rows.index, table), use_cache=False).last_hidden_state

    def losses(self, batch: NanoBatch, weights: Weights) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss, and its parts for the record; on the model's device, as the batch is."""
        table, patches = self.table(batch)
        sums: dict[str, torch.Tensor] = {}
        counts: dict[str, int] = {}

        def add(name: str, loss: torch.Tensor, count: int) -> None:
            sums[name] = sums[name] + loss if name in sums else loss
            counts[name] = counts.get(name, 0) + count

        for rows in batch.rows:
            hidden = self.hidden(table, rows)
            self._answers(hidden, rows, add)
            self._look(rows, add)
            self._cells(hidden, rows, add)
        self._seen(patches, batch, add)
        means = {name: sums[name] / max(1, counts[name]) for name in sums}
        total = sum(getattr(weights, name) * mean for name, mean in means.items())
        return total, {name: mean.detach() for name, mean in means.items()}

    def seen_loss(self, batch: NanoBatch) -> torch.Tensor:
        """The patch readouts alone."""
        found: list[torch.Tensor] = []
        self._seen(self.patches(batch.tiles, "image"), batch, lambda _, loss, count: found.append(loss / max(1, count)))
        return torch.stack(found).sum()

    def _answers(self, hidden: torch.Tensor, rows: Rows, add) -> None:
        take = torch.arange(len(rows.index), device=hidden.device)
        decisions = self.model.llm.lm_head(hidden[take, rows.decisions]).float()
        add("decision", F.cross_entropy(decisions, rows.labels[take, rows.decisions], reduction="sum"), len(take))
        rest = rows.labels.clone()
        rest[take, rows.decisions] = IGNORE
        asked = rest != IGNORE
        add(
            "rest",
            F.cross_entropy(self.model.llm.lm_head(hidden[asked]).float(), rest[asked], reduction="sum"),
            int(asked.sum()),
        )
        if len(rows.numbers):
            logits = self.model.llm.lm_head(hidden[rows.numbers[:, 0], rows.numbers[:, 1]]).float()
            target = soft_bins(rows.numbers[:, 2] / 1e6)
            log_p = logits.log_softmax(-1)[:, self.bin_ids]
            add("number", -(target * log_p).sum(), len(rows.numbers))

    def _look(self, rows: Rows, add) -> None:
        """-log of the attention that the first head pays to cells that would be right, where a place is decided."""
        places = rows.numbers[:, :2]
        visible = (rows.cells > 0).any(1)
        device = rows.index.device
        first = torch.stack([torch.arange(len(rows.index), device=device), rows.decisions], 1)[visible]
        places = torch.cat([first, places[visible[places[:, 0]]]])
        # One answer of several points has one set of cells: not told where to look.
        several = torch.bincount(rows.numbers[:, 0], minlength=len(rows.index)) > 2
        places = places[~several[places[:, 0]]]
        if not len(places):
            return
        attention = self.model.llm.model.layers[_LOOKING_LAYER].self_attn
        hidden, (cos, sin) = self._looking["hidden"], self._looking["rope"]
        size = attention.head_dim
        queries = F.linear(hidden, attention.q_proj.weight[:size], attention.q_proj.bias[:size])[:, None]
        keys = F.linear(hidden, attention.k_proj.weight[:size], attention.k_proj.bias[:size])[:, None]
        queries, keys = apply_rotary_pos_emb(queries, keys, cos, sin)
        row, position = places.T
        scores = torch.einsum("kd,ktd->kt", queries[row, 0, position].float(), keys[row, 0].float()) * size**-0.5
        scores = scores.masked_fill(torch.arange(scores.shape[1], device=device)[None] > position[:, None], -torch.inf)
        cells = rows.answered[row, None] + torch.arange(TOKENS, device=device)
        inside = rows.cells[row] >= 0.5 * rows.cells[row].amax(1, keepdim=True)
        chosen = scores.gather(1, cells).masked_fill(~inside, -torch.inf)
        add("look", (scores.logsumexp(1) - chosen.logsumexp(1)).sum(), len(places))

    def _cells(self, hidden: torch.Tensor, rows: Rows, add) -> None:
        """Which cells of the first tile show what is marked, and which of the answered tile match it."""
        asked = (
            ("mark", self.heads.mark, rows.has_mark, rows.first, rows.marked),
            ("match", self.heads.match, rows.matching, rows.answered, rows.cells),
        )
        for name, head, chosen, first, shares in asked:
            if not chosen.any():
                continue
            own = chosen.nonzero()[:, 0]
            cells = first[own, None] + torch.arange(TOKENS, device=hidden.device)
            logits = head(hidden[own[:, None], cells])[..., 0].float()
            target = (shares[own] > _CELL_SHARE).float()
            loss = F.binary_cross_entropy_with_logits(logits, target, 1 + 4 * target, reduction="sum")
            add(name, loss / TOKENS * 5, len(own))

    def _seen(self, patches: torch.Tensor, batch: NanoBatch, add) -> None:
        known = batch.kinds >= 0
        if known.any():
            shown = patches[known]
            readouts = ((self.heads.kind, batch.kinds), (self.heads.color, batch.colors))
            wrong = [
                F.cross_entropy(head(shown).float(), labels[known], reduction="sum", ignore_index=-1)
                for head, labels in readouts
            ]
            add("seen", sum(wrong), int(known.sum()))

    @torch.no_grad()
    def answer(self, batch: NanoBatch, answers: tuple[int, int]) -> tuple[torch.Tensor, ...]:
        """Greedy answers of one point to a batch made blank.

        Args:
            answers: token of a point's beginning and of NOT_VISIBLE.
        Returns:
            (Q,) log-odds of pointing, (Q, 2) points, in the order of the questions; on the CPU.
        """
        table, _ = self.table(batch)
        count = sum(len(rows.index) for rows in batch.rows)
        odds, points = torch.zeros(count, device=table.device), torch.zeros(count, 2, device=table.device)
        for rows in batch.rows:
            take = torch.arange(len(rows.index), device=table.device)
            for axis in (0, 1):
                hidden = self.hidden(table, rows)
                mine = rows.numbers[rows.numbers[:, 3] == axis]
                bins = self.model.llm.lm_head(hidden[mine[:, 0], mine[:, 1]]).float()[:, self.bin_ids].argmax(-1)
                points[rows.questions, axis] = (bins + 0.5) / BINS
                rows.index[mine[:, 0], mine[:, 1] + 1] = self.bin_ids[bins]
                if axis == 0:
                    logits = self.model.llm.lm_head(hidden[take, rows.decisions]).float()
                    odds[rows.questions] = logits[:, answers[0]] - logits[:, answers[1]]
        return odds.cpu(), points.cpu()


def soft_bins(values: torch.Tensor) -> torch.Tensor:
    """(K,) coordinates -> (K, BINS) distributions around them."""
    middles = (torch.arange(BINS, device=values.device) + 0.5) / BINS
    return torch.softmax(-0.5 * ((values[:, None] - middles) * BINS / _SPREAD) ** 2, dim=1)
