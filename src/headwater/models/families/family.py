"""What a family of checkpoints is: its configuration and its weights' names, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from headwater.models.model import Config, Kind


class Family:
    """Translates between our configuration and parameters and those of one `model_type`."""

    name: str
    """`model_type` in config.json."""
    architectures: Mapping[Kind, str]
    """The class that `architectures` in config.json names, by head."""
    prefixes: ClassVar[Mapping[str, str]] = {}
    """Beginning of our parameters' names → theirs."""
    parts: ClassVar[Mapping[str, str]] = {}
    """A part inside our parameters' names → theirs; the longer ones first where one begins another."""
    passed_over: ClassVar[tuple[str, ...]] = ()
    """Weights that a file may hold although they follow from others, such as fixed sinusoids; they are not read."""
    repeated: ClassVar[Mapping[str, str]] = {}
    """Name of a tied matrix that some writers repeat → the name under which it is read."""

    def write(self, config: Config) -> dict[str, Any]:
        """Our configuration → the keys of config.json. Raises UserError or AttributeError where it cannot be said."""
        raise NotImplementedError

    def read(self, config: Mapping[str, Any], place: str) -> Config:
        """The keys of config.json → our configuration. Raises UserError for what we do not have, naming the `place`."""
        raise NotImplementedError

    def rename(self, name: str) -> str:
        """Our parameter's name → theirs."""
        for ours, theirs in self.prefixes.items():
            if name.startswith(ours):
                name = theirs + name[len(ours) :]
                break
        for ours, theirs in self.parts.items():
            if f".{ours}." in name:
                return name.replace(f".{ours}.", f".{theirs}.")
        return name

    def export(self, weights: Mapping[str, Tensor], config: Config, kind: Kind) -> dict[str, Tensor]:  # noqa: ARG002
        """Weights by our names → by theirs, in their shapes."""
        return {self.rename(name): tensor for name, tensor in weights.items()}

    def absorb(
        self,
        weights: Mapping[str, Tensor],
        ours: Mapping[str, Tensor],
        config: Config,  # noqa: ARG002
        kind: Kind,  # noqa: ARG002
    ) -> dict[str, Tensor]:
        """Weights by their names → by ours. `ours`: our parameters' names, in order, with tensors of the right shapes."""
        return {name: weights[self.rename(name)] for name in ours}
