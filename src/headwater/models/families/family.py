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
    base: ClassVar[str] = ""
    """What stands before the names of the backbone's weights where there is a head ("bert."), and not in a bare backbone."""
    prefixes: ClassVar[Mapping[str, str]] = {}
    """Beginning of our parameters' names → theirs, without `base`."""
    parts: ClassVar[Mapping[str, str]] = {}
    """A part inside our parameters' names → theirs; the longer ones first where one begins another."""
    passed_over: ClassVar[tuple[str, ...]] = ()
    """Weights that a file may hold although they follow from others, such as fixed sinusoids; they are not read."""
    repeated: ClassVar[Mapping[str, str]] = {}
    """Name of a tied matrix that some writers repeat → the name under which it is read, both with `base`."""
    in_rows_of_one: ClassVar[tuple[str, ...]] = ()
    """Ends of their names of weights that have a first dimension of 1 there and not here."""

    def write(self, config: Config) -> dict[str, Any]:
        """Our configuration → the keys of config.json. Raises UserError where it cannot be said."""
        raise NotImplementedError

    def read(self, config: Mapping[str, Any], place: str) -> Config:
        """The keys of config.json → our configuration. Raises UserError for what we do not have, naming the `place`."""
        raise NotImplementedError

    def holds(self, config: Config, kind: Kind) -> bool:  # noqa: ARG002
        """Whether a model that `write` and `read` can say has this family's head of the kind as well."""
        return True

    def settled(self, weights: Mapping[str, Tensor], kind: Kind) -> dict[str, Tensor]:
        """A file's weights under the names that are usual today: with `base` where there is a head, and only there."""
        based = any(name.startswith(self.base) for name in weights)
        if kind == "hidden":
            return {name.removeprefix(self.base): tensor for name, tensor in weights.items()}
        return dict(weights) if based else {self.base + name: tensor for name, tensor in weights.items()}

    def suited(self, config: Config, kind: Kind, weights: Mapping[str, Tensor]) -> Config:  # noqa: ARG002
        """The configuration, completed from the weights where config.json leaves something open."""
        return config

    def rename(self, name: str, config: Config, kind: Kind) -> str:  # noqa: ARG002
        """Our parameter's name → theirs."""
        base = self.base if name.startswith("backbone.") and kind != "hidden" else ""
        for ours, theirs in self.prefixes.items():
            if name.startswith(ours):
                name = theirs + name[len(ours) :]
                break
        for ours, theirs in self.parts.items():
            if f".{ours}." in name:
                return base + name.replace(f".{ours}.", f".{theirs}.")
        return base + name

    def export(self, weights: Mapping[str, Tensor], config: Config, kind: Kind) -> dict[str, Tensor]:
        """Weights by our names → by theirs, in their shapes."""
        named = {self.rename(name, config, kind): tensor for name, tensor in weights.items()}
        return {
            name: tensor[None] if name.endswith(self.in_rows_of_one or ("\0",)) else tensor
            for name, tensor in named.items()
        }

    def absorb(
        self, weights: Mapping[str, Tensor], ours: Mapping[str, Tensor], config: Config, kind: Kind
    ) -> dict[str, Tensor]:
        """Weights by their names → by ours. `ours`: our parameters' names, in order, with tensors of the right shapes."""
        return {name: weights[self.rename(name, config, kind)].reshape(tensor.shape) for name, tensor in ours.items()}
