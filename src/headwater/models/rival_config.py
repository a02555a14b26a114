"""What recurrent and convolutional configurations have in common."""

from __future__ import annotations

from typing import ClassVar, Literal

from headwater.errors import UserError


class RivalConfig:
    """Answers what heads, norms and the generator ask of any configuration, where these networks leave no choice."""

    norm: ClassVar[Literal["rms"]] = "rms"
    norm_epsilon: ClassVar[float] = 1e-6
    activation: ClassVar[Literal["gelu"]] = "gelu"
    """Of the head for masked tokens."""
    pooler: ClassVar[bool] = False
    patches: ClassVar[None] = None
    scaled_head: ClassVar[bool] = False
    head_bias: ClassVar[bool] = False

    def check(self) -> None:
        """Raises UserError, naming the size, for one that no network can have."""
        for name in ("vocabulary", "layers", "d_model", "context"):
            size = getattr(self, name)
            if size < 1:
                raise UserError(f"{name} = {size}, but must be at least 1: correct the model's configuration.")
        dropout = getattr(self, "dropout", 0.0)
        if not 0 <= dropout < 1:
            raise UserError(f"dropout = {dropout}, but must be at least 0 and below 1: correct the configuration.")
