"""The Transformer in its forms, small, and how each is fed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from headwater.models.config import Patches, TransformerConfig
from headwater.models.model import Kind, Model

SIZES: dict[str, Any] = {
    "vocabulary": 60,
    "layers": 2,
    "d_model": 32,
    "heads": 4,
    "key_value_heads": 4,
    "head_dim": 8,
    "d_feedforward": 48,
    "context": 64,
    "qk_norm": False,
}
BIASES: dict[str, Any] = {"query_bias": True, "output_bias": True, "feedforward_bias": True, "gated": False}
PAIR: dict[str, Any] = {"form": "encoder-decoder", "decoder_layers": 2, "decoder_start": 1}


@dataclass(frozen=True)
class Form:
    config: TransformerConfig
    kind: Kind = "language-model"

    @property
    def decodes(self) -> bool:
        return self.config.form == "decoder"

    @property
    def pairs(self) -> bool:
        return self.config.form == "encoder-decoder"

    def model(self, seed: int = 1, dtype: torch.dtype = torch.float32, **changes: Any) -> Model:
        """In evaluation mode, with noisy norms and biases, and predictions far from uniform."""
        from dataclasses import replace

        model = Model(replace(self.config, **changes), self.kind).initialise(seed).eval()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if weight.dim() == 1:
                    weight.add_(0.2 * torch.randn(weight.shape, generator=generator))
                elif name.startswith(("backbone.embedding", "backbone.inputs")):
                    weight.mul_(20)
                elif "relative" in name:
                    weight.mul_(5)
        return model.to(dtype)

    def inputs(self, rows: int = 2, time: int = 9, seed: int = 0) -> tuple[Tensor, ...]:
        """What the model is given: ids, source and target, or pixels."""
        if self.config.patches is not None:
            return (torch.randn(rows, 3, 12, 12, generator=torch.Generator().manual_seed(seed)),)
        return (
            (ids_of(rows, time + 3, seed + 100), ids_of(rows, time, seed))
            if self.pairs
            else (ids_of(rows, time, seed),)
        )


def form(kind: Kind = "language-model", **changes: Any) -> Form:
    return Form(TransformerConfig(**(SIZES | changes)), kind)


DECODERS = {
    "gpt2": form(norm="layer", positions="learned", activation="gelu-tanh", **BIASES),
    "llama, grouped": form(key_value_heads=2, tied_embeddings=False),
    "qwen3": form(key_value_heads=2, qk_norm=True),
    "alibi": form(positions="alibi"),
    "learned": form(positions="learned"),
    "sinusoidal": form(positions="sinusoidal", scaled_embeddings=True),
    "relative": form(positions="relative", scaled_attention=False, relative_buckets=8, relative_distance=12),
    "no positions": form(positions="none"),
    "sliding window": form(window=4),
    "sliding window, alibi": form(window=4, positions="alibi"),
    "post-norm": form(norm_place="post", norm="layer", embedding_norm=True),
}
ENCODERS = {
    "bert": form(
        "masked",
        form="encoder",
        norm="layer",
        norm_place="post",
        embedding_norm=True,
        positions="learned",
        segments=2,
        activation="gelu",
        pooler=True,
        **BIASES,
    ),
    "modern encoder": form("masked", form="encoder"),
    "encoder with a window": form("masked", form="encoder", window=4),
    "encoder, relative": form("masked", form="encoder", positions="relative", relative_buckets=8, relative_distance=12),
    "encoder, alibi": form("masked", form="encoder", positions="alibi"),
}
PAIRS = {
    "paper": form(
        norm="layer",
        norm_place="post",
        norm_epsilon=1e-5,
        positions="sinusoidal",
        scaled_embeddings=True,
        activation="relu",
        head_bias=True,
        **PAIR,
        **BIASES,
    ),
    "t5": form(
        positions="relative",
        scaled_attention=False,
        relative_buckets=8,
        relative_distance=12,
        activation="relu",
        gated=False,
        scaled_head=True,
        **PAIR,
    ),
    "modern pair": form(qk_norm=True, key_value_heads=2, **PAIR),
}
IMAGES = {
    "vit": Form(
        TransformerConfig(
            **SIZES
            | {"vocabulary": 0, "context": 10}
            | BIASES
            | {
                "form": "encoder",
                "norm": "layer",
                "positions": "learned",
                "activation": "gelu",
                "patches": Patches(12, 4),
            }
        ),
        "class",
    )
}
FORMS = DECODERS | ENCODERS | PAIRS | IMAGES


def ids_of(rows: int, time: int, seed: int = 0) -> Tensor:
    return torch.randint(5, 60, (rows, time), generator=torch.Generator().manual_seed(seed))


def close(found: Tensor, expected: Tensor) -> None:
    """Equal up to what the order of sums makes of it in this number format."""
    tolerance = 5e-2 if found.dtype == torch.bfloat16 else 1e-4
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(found.float(), expected.float(), atol=tolerance * scale, rtol=0)


def embedded_by(model: Model) -> list[Tensor]:
    """The embedded tokens of each look-up from now on, as leaves of the gradient."""
    found: list[Tensor] = []

    def keep(_module: Any, _inputs: Any, output: Tensor) -> Tensor:
        found.append(output.detach().requires_grad_(True))
        return found[-1]

    model.backbone.embedding.register_forward_hook(keep)
    return found
