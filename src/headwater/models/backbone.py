"""What a model's heads sit on: the interface that Transformers, recurrent and convolutional networks share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from headwater.models.cache import Cache


class Backbone(nn.Module):
    """`backbone(ids, positions=None, documents=None, cache=None)` → hidden states [batch, time, d_model].

    An encoder-decoder takes `backbone(source, target, source_documents=None, positions=None, documents=None)`.
    """

    embedding: nn.Module

    def initialise(self, generator: torch.Generator, scheme: str) -> None:
        """Fresh weights that depend on the generator alone. `scheme`: a name of `initialisation.SCHEMES`."""
        raise NotImplementedError

    def new_cache(self, slots: int, capacity: int, dtype: torch.dtype) -> Cache:  # noqa: ARG002
        """An empty memory for decoding `slots` rows of up to `capacity` tokens."""
        raise TypeError("this backbone does not decode: it has no cache")

    def encode(self, source: Tensor, documents: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Encoder-decoders: token ids [batch, source_time] → memory; documents: 0 is padding."""
        raise TypeError("this backbone has no encoder beside its decoder")

    def decode(self, target: Tensor, cache: Cache) -> Tensor:  # noqa: ARG002
        """Encoder-decoders: the next tokens [batch, time] of the rows that the cache names → hidden states."""
        raise TypeError("this backbone has no encoder beside its decoder")
