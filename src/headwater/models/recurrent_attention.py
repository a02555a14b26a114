"""The recurrent encoder-decoder with attention: what translated before the Transformer.

A bidirectional encoder (Bahdanau et al., 2015) and a decoder that looks at all its states through the attention of
Luong et al. (2015). Unlike theirs, the decoder is not fed the last step's context as input, but has attention after
every recurrence, so that the next one sees the contexts so far: a whole target is then computed at once in training.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from headwater.models.backbone import Backbone
from headwater.models.norm import RMSNorm
from headwater.models.recurrent import (
    RecurrentBlock,
    RecurrentCache,
    RecurrentConfig,
    RecurrentView,
    initialise_recurrent,
)


class SourceCache(RecurrentCache):
    """The states of slots, and what the encoder made of each slot's source.

    memory: [slots, source_time, d_model]; documents: [slots, source_time], 0 where there is nothing to see.
    """

    def __init__(self, config: RecurrentConfig, slots: int, dtype: torch.dtype) -> None:
        super().__init__(config, slots, dtype)
        self.memory = torch.zeros(slots, 0, config.d_model, dtype=dtype)
        self.documents = torch.zeros(slots, 0, dtype=torch.long)

    def remember(self, rows: Tensor, memory: Tensor, documents: Tensor | None) -> None:
        """Gives the slots `rows` [batch] their sources: memory [batch, source_time, d_model], documents [batch,
        source_time] (0 = padding; absent: all is real)."""
        longer = memory.shape[1] - self.memory.shape[1]
        if longer > 0:
            self.memory = functional.pad(self.memory, (0, 0, 0, longer))
            self.documents = functional.pad(self.documents, (0, longer))
        time = memory.shape[1]
        self.documents[rows] = 0
        self.memory[rows, :time] = memory.to(self.memory.dtype)
        self.documents[rows, :time] = 1 if documents is None else documents

    def move(self, source: int, target: int) -> None:
        super().move(source, target)
        self.memory[target], self.documents[target] = self.memory[source], self.documents[source]

    def select(self, order: Tensor) -> None:
        super().select(order)
        self.memory[: len(order)] = self.memory[order]
        self.documents[: len(order)] = self.documents[order]


class SourceAttention(nn.Module):
    """hidden + dropout(tanh(W_c [context; h])), context = softmax(h W m / √d_model) m, h = norm(hidden): the "general"
    score of Luong et al. (2015), divided as in Vaswani et al. (2017) because h and m are normalised."""

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        self.norm = RMSNorm(config.d_model, config.norm_epsilon)
        self.query = nn.Linear(config.d_model, config.d_model, bias=False)
        self.output = nn.Linear(2 * config.d_model, config.d_model, bias=False)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """hidden: [batch, time, d_model]; memory: [batch, source_time, d_model]; mask: [batch, time or 1, source_time],
        added to the scores."""
        read = self.norm(hidden)
        context = functional.scaled_dot_product_attention(self.query(read), memory, memory, mask)
        return hidden + self.dropout(self.output(torch.cat((context, read), dim=-1)).tanh())  # type: ignore[no-any-return]


class RecurrentEncoder(nn.Module):
    """Blocks that read a source in both directions, and a norm."""

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(RecurrentBlock(config, layer, bidirectional=True) for layer in range(config.layers))
        self.norm = RMSNorm(config.d_model, config.norm_epsilon)

    def forward(self, hidden: Tensor, view: RecurrentView) -> Tensor:
        """Embedded tokens [batch, source_time, d_model] → memory [batch, source_time, d_model]."""
        for block in self.blocks:
            hidden = block(hidden, view)
        return cast(Tensor, self.norm(hidden))


class AttendingBlock(nn.Module):
    """A recurrence over the target, then attention to the source."""

    def __init__(self, config: RecurrentConfig, layer: int) -> None:
        super().__init__()
        self.recurrent = RecurrentBlock(config, layer)
        self.attention = SourceAttention(config)

    def forward(self, hidden: Tensor, view: RecurrentView, memory: Tensor, mask: Tensor) -> Tensor:
        """[batch, time, d_model] → [batch, time, d_model]; memory and mask as in `SourceAttention`."""
        return cast(Tensor, self.attention(self.recurrent(hidden, view), memory, mask))


class RecurrentEncoderDecoder(Backbone):
    """Source and target ids → hidden states of the target [batch, time, d_model]; one embedding serves both."""

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = RecurrentEncoder(config)
        self.blocks = nn.ModuleList(AttendingBlock(config, layer) for layer in range(config.decoder_layers))
        self.norm = RMSNorm(config.d_model, config.norm_epsilon)

    def forward(
        self,
        source: Tensor,
        target: Tensor,
        source_documents: Tensor | None = None,
        positions: Tensor | None = None,  # noqa: ARG002 (a recurrence has its order in itself)
        documents: Tensor | None = None,
    ) -> Tensor:
        """source: [batch, source_time]; target: [batch, time].

        source_documents: [batch, source_time], 0 = padding; absent: all is one document. documents: [batch, time],
        where several targets are packed in a row: each sees the source of the same number, and states are not handed
        on between them; absent: one target per row, which sees all of its source.
        """
        memory = self.encode(source, source_documents)
        sources = torch.ones_like(source) if source_documents is None else source_documents
        seen = (sources != 0)[:, None] if documents is None else documents[:, :, None] == sources[:, None]
        return self._decode(target, memory, seen, RecurrentView.of(target.shape[1], documents, None))

    def encode(self, source: Tensor, documents: Tensor | None = None) -> Tensor:
        """[batch, source_time] → memory [batch, source_time, d_model]: each state knows its whole document."""
        view = RecurrentView.of(source.shape[1], documents, None)
        return cast(Tensor, self.encoder(self.dropout(self.embedding(source)), view))

    def decode(self, target: Tensor, cache: SourceCache) -> Tensor:  # type: ignore[override]
        """New target tokens [batch, time] of the slots that the cache names → their hidden states."""
        view = RecurrentView.of(target.shape[1], None, cache)
        return self._decode(target, cache.memory[cache.rows], (cache.documents[cache.rows] != 0)[:, None], view)

    def _decode(self, target: Tensor, memory: Tensor, seen: Tensor, view: RecurrentView) -> Tensor:
        """seen: [batch, time or 1, source_time], whether a target token may look at a source token."""
        # The least number instead of −∞: padding that sees nothing gets an average, not a division by 0.
        mask = torch.zeros(seen.shape, dtype=memory.dtype).masked_fill(~seen, torch.finfo(memory.dtype).min)
        hidden = self.dropout(self.embedding(target))
        for block in self.blocks:
            hidden = block(hidden, view, memory, mask)
        return cast(Tensor, self.norm(hidden))

    def new_cache(self, slots: int, capacity: int, dtype: torch.dtype) -> SourceCache:  # noqa: ARG002
        """An empty cache; `remember` gives slots their sources. A state is of one size whatever the capacity."""
        return SourceCache(self.config, slots, dtype)

    def initialise(self, generator: torch.Generator, scheme: str = "scaled") -> None:
        """Fresh weights, see `initialise_recurrent`."""
        initialise_recurrent(self, self.config, scheme, generator)
