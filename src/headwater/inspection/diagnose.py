"""`headwater diagnose`: the size of activations and gradients in each layer of a model, fresh or trained."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from headwater.errors import UserError
from headwater.models.diagnosis import Diagnosis, diagnose
from headwater.models.layout import load_model
from headwater.models.model import Model

ROWS, TIME = 4, 128
"""Made-up rows and their tokens, where no text is given."""


def diagnose_folder(folder: Path, text: str | None) -> Diagnosis:
    """A model on disk, on `text` or on made-up tokens. Raises UserError where the text cannot be read by it."""
    from headwater import load

    if text is None:
        return diagnose_model(load_model(folder), None)
    model, tokenizer = load(folder)
    if tokenizer is None:
        raise UserError(f"{folder} has no tokenizer, so it cannot read a text: leave --text out.")
    ids = tokenizer.encode(text)[: model.config.context]
    if len(ids) < 2:
        raise UserError("The text is shorter than two tokens: give a longer one.")
    return diagnose_model(model, torch.tensor([ids]))


def diagnose_fresh(recipe: Path, overrides: list[str]) -> Diagnosis:
    """The model with which a recipe's pretraining would begin."""
    from headwater.manifest import seed_of
    from headwater.objectives.pretraining import build_model
    from headwater.recipe import load_recipe

    settings = load_recipe(recipe, overrides)
    return diagnose_model(
        build_model(settings.pretrain, settings.tokenizer.vocabulary, seed_of(settings, "pretrain")), None
    )


def diagnose_model(model: Model, ids: Tensor | None) -> Diagnosis:
    """Runs the loss that fits the model's head: the next token's, the token's own where masked ones are predicted, and
    the mean square of the output where there is no vocabulary."""
    if model.config.patches is not None:
        side = model.config.patches
        pixels = torch.randn(ROWS, side.channels, side.image, side.image, generator=torch.Generator().manual_seed(0))
        return diagnose(model, lambda one: one(pixels).square().mean())
    if ids is None:
        shape = (ROWS, min(TIME, model.config.context))
        ids = torch.randint(0, model.config.vocabulary, shape, generator=torch.Generator().manual_seed(0))
    inputs = (ids, ids[:, :-1]) if model.config.form == "encoder-decoder" else (ids,)

    def loss(one: Model) -> Tensor:
        output: Tensor = one(*inputs)
        if one.kind == "masked":
            return functional.cross_entropy(output.flatten(0, 1), ids.flatten())
        if one.kind == "language-model":
            return functional.cross_entropy(output[:, : ids.shape[1] - 1].flatten(0, 1), ids[:, 1:].flatten())
        return output.square().mean()

    return diagnose(model, loss)
