"""The Transformer: a decoder, an encoder, or both with attention from one to the other."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from headwater.models.attention import AttentionView, additive, by_products, local_mask
from headwater.models.backbone import Backbone
from headwater.models.block import Block, CrossBlock
from headwater.models.cache import KeysAndValues, KeyValueCache
from headwater.models.config import TransformerConfig
from headwater.models.initialisation import initialise
from headwater.models.inputs import InputLayer, PatchEmbedding
from headwater.models.norm import norm_of
from headwater.models.positions import linear_biases, relative_buckets, rotary_angles


class Stack(Backbone):
    """Blocks one after another, with the view that they share, and the last norm where norms come before."""

    def __init__(self, config: TransformerConfig, causal: bool, cross: bool = False) -> None:
        super().__init__()
        self.config, self.causal = config, causal
        kind = CrossBlock if cross else Block
        self.blocks = nn.ModuleList(
            kind(config, layer) for layer in range(config.decoder_layers if cross else config.layers)
        )
        self.norm = norm_of(config) if config.norm_place == "pre" else nn.Identity()
        self.relative = nn.Embedding(config.relative_buckets, config.heads) if config.positions == "relative" else None
        self.dropout = nn.Dropout(
            config.dropout if config.positions == "relative" else 0.0
        )  # T5 drops after its last norm
        self.checkpointing = False
        """Recompute each block in the backward pass: memory for one block's activations in place of all (Chen et al., 2016)."""

    def forward(
        self, hidden: Tensor, view: AttentionView, *across: list[tuple[Tensor, Tensor]] | Tensor | None
    ) -> Tensor:
        """[batch, time, d_model] → the same. across: each layer's keys and values of a memory, and the memory's mask."""
        for layer, block in enumerate(self.blocks):
            others: tuple[Any, ...] = ()
            if across:
                others = (*cast(Any, across[0])[layer], across[1])
            if self.checkpointing and torch.is_grad_enabled():
                hidden = checkpoint(block, hidden, view, *others, use_reentrant=False)
            else:
                hidden = block(hidden, view, *others)
        return self.dropout(self.norm(hidden))  # type: ignore[no-any-return]

    def view(
        self,
        time: int,
        dtype: torch.dtype,
        positions: Tensor | None = None,
        documents: Tensor | None = None,
        cache: KeysAndValues | None = None,
        prefix: Tensor | None = None,
    ) -> tuple[AttentionView, Tensor]:
        """What attention may look at, and the positions [batch or 1, time] that follow where none are given."""
        config = self.config
        index = torch.arange(time)[None] if cache is None else cache.starts[:, None] + torch.arange(time)
        positions = index if positions is None else positions
        view = AttentionView(causal=self.causal, cache=cache)
        if config.positions == "rotary":
            view.cosine, view.sine = rotary_angles(positions, config, dtype)
        biased = config.positions in ("alibi", "relative")
        if config.window is not None and cache is None and prefix is None and not biased and time > config.window:
            # Made once here, not in every block, each of which would keep its own until the backward pass.
            view.window, view.mask = config.window, local_mask(time, config.window, self.causal, documents, dtype)
            return view, positions
        seen = self._seen(index, time if cache is None else cache.span, documents, prefix)
        if seen is None and self.causal and by_products(dtype, time):
            seen = index[..., None] >= index[:, None, :]  # made once here, not in every block
        if seen is not None:
            view.mask = additive(seen[:, None], dtype)
        if biased:
            keys = positions if cache is None else torch.arange(cache.span)[None]
            bias = self._bias(positions, keys).to(dtype)
            if view.mask is None and self.causal:
                view.mask = additive((index[..., None] >= index[:, None, :])[:, None], dtype)
            view.mask = bias if view.mask is None else view.mask + bias
        return view, positions

    def _seen(self, index: Tensor, keys: int, documents: Tensor | None, prefix: Tensor | None) -> Tensor | None:
        """Which keys a token sees, [batch or 1, time, keys]; None: all, or all before it where causal."""
        window = self.config.window
        cached = keys != index.shape[1] or len(index) > 1 or int(index[0, 0]) > 0
        if documents is None and prefix is None and not cached and window is None:
            return None
        away = index[..., None] - torch.arange(keys)
        seen = away >= 0 if self.causal else torch.ones_like(away, dtype=torch.bool)
        if prefix is not None:
            seen = seen | prefix[:, None, :]
        if window is not None:
            seen = seen & (away < window) & (away > -window)
        if documents is not None:
            seen = seen & (documents[:, :, None] == documents[:, None, :])
        return seen

    def _bias(self, queries: Tensor, keys: Tensor) -> Tensor:
        """[batch or 1, heads, time, keys], added to the scores: by distance."""
        config = self.config
        if self.relative is None:
            return linear_biases(queries, keys, config.heads)
        distances = keys[:, None, :] - queries[:, :, None]
        buckets = relative_buckets(distances, config.relative_buckets, config.relative_distance, self.causal)
        return self.relative(buckets).permute(0, 3, 1, 2)  # type: ignore[no-any-return]


class Transformer(Stack):
    """A decoder (causal) or an encoder of token ids, or an encoder of images."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config, causal=config.form == "decoder")
        self.embedding = (
            PatchEmbedding(config.patches, config.d_model)
            if config.patches
            else nn.Embedding(config.vocabulary, config.d_model)
        )
        self.inputs = InputLayer(config)

    def forward(  # type: ignore[override]
        self,
        ids: Tensor,
        positions: Tensor | None = None,
        documents: Tensor | None = None,
        cache: KeysAndValues | None = None,
        prefix: Tensor | None = None,
        segments: Tensor | None = None,
    ) -> Tensor:
        """Token ids [batch, time], or pixels [batch, channels, height, width] → hidden states [batch, time, d_model].

        positions: [batch, time], absent: 0, 1, 2 …. documents: [batch, time], tokens see only those of their own
        document, so padding is a document of its own (an attention mask of 1 and 0 will do); absent: one per row. A
        decoder needs none for padding on the right. cache: decoding continues the rows that it names; positions then follow from their
        lengths. prefix: bool [batch, time], tokens that all others of a decoder may see (prefix LM; Raffel et al., 2020).
        segments: [batch, time], BERT's token types.
        """
        embedded = self.embedding(ids)
        view, positions = self.view(embedded.shape[1], embedded.dtype, positions, documents, cache, prefix)
        return super().forward(self.inputs(embedded, positions, segments), view)

    def new_cache(self, slots: int, capacity: int, dtype: torch.dtype) -> KeyValueCache:
        """An empty memory for decoding."""
        config = self.config
        return KeyValueCache(config.layers, slots, config.key_value_heads, capacity, config.head_dim, dtype)

    def initialise(self, generator: torch.Generator, scheme: str = "scaled") -> None:
        initialise(self, self.config, scheme, generator)


class MemoryCache(KeyValueCache):
    """A decoder's cache that also keeps the keys and values of each slot's source, and which of them are real."""

    def __init__(self, decoder: Stack, slots: int, capacity: int, dtype: torch.dtype) -> None:
        config = decoder.config
        super().__init__(config.decoder_layers, slots, config.key_value_heads, capacity, config.head_dim, dtype)
        self.decoder = decoder
        self.source: list[tuple[Tensor, Tensor]] = []
        """Per layer: keys and values [slots, heads, source_time, head_dim]."""
        self.seen = torch.zeros(slots, 0, dtype=torch.bool)

    def remember(self, rows: Tensor, memory: Tensor, documents: Tensor | None) -> None:
        real = torch.ones(memory.shape[:2], dtype=torch.bool) if documents is None else documents > 0
        wider = memory.shape[1] - self.seen.shape[1]
        new = [cast(CrossBlock, block).cross.remembered(memory) for block in self.decoder.blocks]
        if not self.source:
            shape = (len(self.seen), new[0][0].shape[1], 0, new[0][0].shape[3])
            self.source = [(memory.new_zeros(shape), memory.new_zeros(shape)) for _ in new]
        if wider > 0:
            self.seen = nn.functional.pad(self.seen, (0, wider))
            self.source = [
                (nn.functional.pad(keys, (0, 0, 0, wider)), nn.functional.pad(values, (0, 0, 0, wider)))
                for keys, values in self.source
            ]
        length = memory.shape[1]
        self.seen[rows] = nn.functional.pad(real, (0, self.seen.shape[1] - length))
        for (keys, values), (new_keys, new_values) in zip(self.source, new, strict=True):
            keys[rows, :, :length], values[rows, :, :length] = new_keys, new_values

    def across(self) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        """What this pass's rows see of their sources."""
        rows = self.rows
        mask = additive(self.seen[rows][:, None, None], self.keys.dtype)
        return [(keys[rows], values[rows]) for keys, values in self.source], mask

    def move(self, source: int, target: int) -> None:
        super().move(source, target)
        for states in (self.seen, *(states for pair in self.source for states in pair)):
            states[target] = states[source]

    def select(self, order: Tensor) -> None:
        super().select(order)
        for states in (self.seen, *(states for pair in self.source for states in pair)):
            states[: len(order)] = states[order]


class EncoderDecoder(Backbone):
    """An encoder of the source, and a decoder that sees all of it; both share one embedding."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.d_model)
        self.inputs = InputLayer(config)
        self.encoder = Stack(config, causal=False)
        self.decoder = Stack(config, causal=True, cross=True)

    def forward(
        self,
        source: Tensor,
        target: Tensor,
        source_documents: Tensor | None = None,
        positions: Tensor | None = None,
        documents: Tensor | None = None,
    ) -> Tensor:
        """source [batch, source_time], target [batch, time] token ids → the decoder's hidden states [batch, time, d_model].

        source_documents: [batch, source_time], 0 is padding, which the decoder does not see; absent: all is real.
        """
        memory = self.encode(source, source_documents)
        blocks = self.decoder.blocks
        across = [cast(CrossBlock, block).cross.remembered(memory) for block in blocks]
        mask = None
        if source_documents is not None:
            mask = additive((source_documents > 0)[:, None, None], memory.dtype)
        embedded = self.embedding(target)
        view, positions = self.decoder.view(target.shape[1], embedded.dtype, positions, documents)
        return self.decoder(self.inputs(embedded, positions), view, across, mask)  # type: ignore[no-any-return]

    def encode(self, source: Tensor, documents: Tensor | None = None) -> Tensor:
        """Token ids [batch, source_time] → memory [batch, source_time, d_model]."""
        embedded = self.embedding(source)
        view, positions = self.encoder.view(source.shape[1], embedded.dtype, None, documents)
        return self.encoder(self.inputs(embedded, positions), view)  # type: ignore[no-any-return]

    def decode(self, target: Tensor, cache: MemoryCache) -> Tensor:  # type: ignore[override]
        """The next tokens [batch, time] of the rows that the cache names → hidden states [batch, time, d_model]."""
        embedded = self.embedding(target)
        view, positions = self.decoder.view(target.shape[1], embedded.dtype, cache=cache)
        return self.decoder(self.inputs(embedded, positions), view, *cache.across())  # type: ignore[no-any-return]

    def new_cache(self, slots: int, capacity: int, dtype: torch.dtype) -> MemoryCache:
        """An empty memory for decoding."""
        return MemoryCache(self.decoder, slots, capacity, dtype)

    def initialise(self, generator: torch.Generator, scheme: str = "scaled") -> None:
        initialise(self, self.config, scheme, generator)
