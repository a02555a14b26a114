"""Recurrent networks behind the Transformer's interface: vanilla RNN, GRU and LSTM as language models.

A block is norm → recurrence → residual, around torch's own cells. A recurrence must not run from one document of a
row into the next, nor over padding: `Pieces` names the stretches of tokens that it runs over, and no other token is
read or computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from headwater.models.backbone import Backbone
from headwater.models.initialisation import initialise
from headwater.models.norm import RMSNorm
from headwater.models.rival_config import RivalConfig

Cell = Literal["rnn", "gru", "lstm"]
CELLS: dict[Cell, type[nn.RNN] | type[nn.GRU] | type[nn.LSTM]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


@dataclass(frozen=True)
class RecurrentConfig(RivalConfig):
    """The sizes of a recurrent network. cell: "rnn" is the vanilla one (Elman, 1990; tanh), "gru" that of Cho et al.
    (2014), "lstm" that of Hochreiter & Schmidhuber (1997) with forget gates."""

    vocabulary: int
    layers: int
    d_model: int
    context: int
    cell: Cell = "lstm"
    d_hidden: int = 0
    """Width of a cell's state; 0 or absent: d_model. The encoder has one of this width in each direction."""
    dropout: float = 0.0
    tied_embeddings: bool = True
    form: Literal["decoder", "encoder-decoder"] = "decoder"
    decoder_layers: int = 0
    """Blocks of an encoder-decoder's decoder; 0 or absent: as many as the encoder's, `layers`."""
    decoder_start: int | None = None
    """Token with which an encoder-decoder's answer begins."""

    def __post_init__(self) -> None:
        self.check()
        object.__setattr__(self, "d_hidden", self.d_hidden or self.d_model)
        if self.form == "encoder-decoder":
            object.__setattr__(self, "decoder_layers", self.decoder_layers or self.layers)

    @property
    def depth(self) -> int:
        """Blocks that a gradient passes through at most."""
        return self.layers + self.decoder_layers

    @property
    def head_dim(self) -> int:
        """Width of the attention to a source, which has one head."""
        return self.d_model


class Pieces:
    """The stretches of tokens that a recurrence runs over, each from a state of its own.

    piece: [batch, time], the number of each token's piece, growing along the flattened rows from 0; −1: not read.
    """

    def __init__(self, piece: Tensor) -> None:
        flat = piece.flatten()
        (read,) = (flat >= 0).nonzero(as_tuple=True)
        flat = flat[read]
        counts = flat.bincount()
        place = torch.arange(len(flat)) - (counts.cumsum(0) - counts)[flat]
        self.longest_first = counts.argsort(descending=True, stable=True)
        self.rank = self.longest_first.argsort()
        self.sizes = place.bincount()
        """Pieces that are still running at each step."""
        self.order = read[(place * len(counts) + self.rank[flat]).argsort()]
        """Flat indices of tokens in the order in which they are read: the first of each piece, the second of each …"""

    @classmethod
    def of_documents(cls, documents: Tensor) -> Pieces:
        """Every stretch of equal numbers in a row of documents [batch, time] is a piece."""
        begins = torch.ones_like(documents, dtype=torch.bool)
        begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
        return cls(begins.flatten().cumsum(0).view_as(documents) - 1)

    @classmethod
    def of_lengths(cls, lengths: Tensor, time: int) -> Pieces:
        """The first `lengths` [batch] tokens of every row are a piece; the padding behind them is not read."""
        return cls(torch.where(torch.arange(time) < lengths[:, None], torch.arange(len(lengths))[:, None], -1))

    def pack(self, hidden: Tensor) -> PackedSequence:
        """[batch, time, width] → the tokens of the pieces as torch's recurrences take them."""
        return PackedSequence(hidden.flatten(0, 1)[self.order], self.sizes, self.longest_first, self.rank)

    def unpack(self, packed: PackedSequence, batch: int, time: int) -> Tensor:
        """→ [batch, time, width], 0 at tokens that were not read."""
        flat = packed.data.new_zeros(batch * time, packed.data.shape[1])
        return flat.index_copy(0, self.order, packed.data).view(batch, time, -1)


class RecurrentCache:
    """The recurrences' states of slots: [layers, parts, slots, d_hidden]; an LSTM's has two parts, output and cell."""

    def __init__(self, config: RecurrentConfig, slots: int, dtype: torch.dtype) -> None:
        layers = config.layers if config.form == "decoder" else config.decoder_layers
        self.states = torch.zeros(layers, 2 if config.cell == "lstm" else 1, slots, config.d_hidden, dtype=dtype)
        self.rows = self.lengths = torch.zeros(0, dtype=torch.long)

    def begin(self, rows: Tensor, starts: Tensor, lengths: Tensor) -> None:
        """The next pass reads `lengths` tokens into the slots `rows`; a row that starts at 0 begins with an empty
        state. A state cannot go back: any other start continues from where the slot is."""
        self.rows, self.lengths = rows, lengths
        self.states[:, :, rows[starts == 0]] = 0

    def remember(self, rows: Tensor, memory: Tensor, documents: Tensor | None) -> None:
        raise NotImplementedError("a decoder without an encoder has no source to remember")

    def move(self, source: int, target: int) -> None:
        """Copies a slot onto another one."""
        self.states[:, :, target] = self.states[:, :, source]

    def select(self, order: Tensor) -> None:
        """Makes slot i what slot order[i] was."""
        self.states[:, :, : len(order)] = self.states[:, :, order]


@dataclass
class RecurrentView:
    """What a pass has in common for all blocks. pieces absent: whole rows. cache absent: all states begin at 0."""

    pieces: Pieces | None = None
    cache: RecurrentCache | None = None

    @classmethod
    def of(cls, time: int, documents: Tensor | None, cache: RecurrentCache | None) -> RecurrentView:
        """The view of a pass over rows of `time` tokens."""
        if cache is not None:
            whole = bool((cache.lengths == time).all())
            return cls(None if whole else Pieces.of_lengths(cache.lengths, time), cache)
        return cls(None if documents is None else Pieces.of_documents(documents))


class RecurrentBlock(nn.Module):
    """hidden + dropout(W cell(norm(hidden))): pre-norm residual around one recurrence; no W where widths agree.

    Dropout is only on what goes up, never on what goes on in time (Zaremba et al., 2014).
    """

    def __init__(self, config: RecurrentConfig, layer: int, bidirectional: bool = False) -> None:
        super().__init__()
        self.layer = layer
        width = config.d_hidden * (2 if bidirectional else 1)
        self.norm = RMSNorm(config.d_model, config.norm_epsilon)
        self.recurrence = CELLS[config.cell](
            config.d_model, config.d_hidden, batch_first=True, bidirectional=bidirectional
        )
        self.output = nn.Identity() if width == config.d_model else nn.Linear(width, config.d_model, bias=False)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden: Tensor, view: RecurrentView) -> Tensor:
        """[batch, time, d_model] → [batch, time, d_model]."""
        return hidden + self.dropout(self.output(self._recur(self.norm(hidden), view)))  # type: ignore[no-any-return]

    def _recur(self, hidden: Tensor, view: RecurrentView) -> Tensor:
        state = None
        if view.cache is not None:
            parts = view.cache.states[self.layer][:, view.cache.rows][:, None]  # [parts, 1, batch, d_hidden]
            state = tuple(parts) if len(parts) == 2 else parts[0]
        given = hidden if view.pieces is None else view.pieces.pack(hidden)
        outputs, state = self.recurrence(given, state)
        if view.cache is not None:
            kept = torch.cat(state if isinstance(state, tuple) else (state,))
            view.cache.states[self.layer][:, view.cache.rows] = kept
        if view.pieces is None:
            return cast(Tensor, outputs)
        return view.pieces.unpack(outputs, *hidden.shape[:2])


class RecurrentDecoder(Backbone):
    """Token ids [batch, time] → hidden states [batch, time, d_model], each of the tokens up to its own."""

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(RecurrentBlock(config, layer) for layer in range(config.layers))
        self.norm = RMSNorm(config.d_model, config.norm_epsilon)

    def forward(
        self,
        ids: Tensor,
        positions: Tensor | None = None,  # noqa: ARG002 (a recurrence has its order in itself)
        documents: Tensor | None = None,
        cache: RecurrentCache | None = None,
    ) -> Tensor:
        """Right padding changes nothing for the tokens before it.

        ids: [batch, time]. documents: [batch, time], packed documents, between which no state is handed on; absent:
        one per row. cache: decoding continues the slots that it names.
        """
        view = RecurrentView.of(ids.shape[1], documents, cache)
        hidden = self.dropout(self.embedding(ids))
        for block in self.blocks:
            hidden = block(hidden, view)
        return self.norm(hidden)  # type: ignore[no-any-return]

    def new_cache(self, slots: int, capacity: int, dtype: torch.dtype) -> RecurrentCache:  # noqa: ARG002
        """An empty cache; a state is of one size whatever the capacity."""
        return RecurrentCache(self.config, slots, dtype)

    def initialise(self, generator: torch.Generator, scheme: str = "scaled") -> None:
        """Fresh weights, see `initialise_recurrent`."""
        initialise_recurrent(self, self.config, scheme, generator)


def initialise_recurrent(backbone: nn.Module, config: RecurrentConfig, scheme: str, generator: torch.Generator) -> None:
    """Embeddings and matrices by the scheme; the recurrent matrix of each gate orthogonal, which keeps the size of
    gradients over time (Saxe et al., 2014; Le et al., 2015); biases 0, but 1 at an LSTM's forget gate, so that it
    remembers at first (Gers et al., 2000; Jozefowicz et al., 2015)."""
    initialise(backbone, cast(Any, config), scheme, generator)
    for recurrence in backbone.modules():
        if not isinstance(recurrence, nn.RNNBase):
            continue
        for name, parameter in recurrence.named_parameters():
            if name.startswith("weight_hh"):
                for gate in torch.split(parameter.detach(), recurrence.hidden_size):
                    nn.init.orthogonal_(gate, generator=generator)
            elif name.startswith("bias"):
                nn.init.zeros_(parameter)
            if name.startswith("bias_ih") and isinstance(recurrence, nn.LSTM):
                _, forget, _, _ = parameter.detach().chunk(4)  # torch's order: input, forget, cell, output
                nn.init.ones_(forget)
