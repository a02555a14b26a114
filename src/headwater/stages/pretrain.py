"""Stage 4: a Transformer, or one of its rivals, from scratch or from a base model, on the corpus's tokens."""

from __future__ import annotations

from typing import Any

import torch

from headwater.corpus.shards import Shards
from headwater.corpus.tokenizer import Tokenizer
from headwater.errors import UserError
from headwater.evaluation.heldout import HeldOut, HeldOutEvaluation, HeldOutTargets, HeldOutText
from headwater.models.layout import load_model, save_with_tokenizer
from headwater.models.model import Model
from headwater.models.presets import with_checkpointing
from headwater.objectives.causal import CausalLM
from headwater.objectives.pretraining import MASK_SHARE, PRETRAINING, build_model
from headwater.runs import Stage
from headwater.stages.base import base_folder
from headwater.stages.settings import PretrainSettings
from headwater.training import checkpoint
from headwater.training.averaging import average_of
from headwater.training.early_stopping import EarlyStopping
from headwater.training.engine import Engine, Objective
from headwater.training.learner import Learner
from headwater.training.log import read_metrics
from headwater.training.machine import prepare
from headwater.training.source import DocumentRows, DocumentStream, Source

ROWS_PER_BATCH = 8
"""Rows per micro-batch: activations of about two thousand tokens stay in the processor's cache."""


def run(stage: Stage) -> dict[str, Any]:
    """Trains on a fixed number of tokens; writes the model and metrics.jsonl."""
    settings = stage.recipe.pretrain
    precision = prepare(stage.folder, stage.recipe.threads, settings.precision)
    torch.manual_seed(stage.seed)  # of dropout
    tokenizer = Tokenizer.load(stage.parent("tokenizer"))
    model = fresh_or_base(stage, tokenizer)
    steps = settings.tokens // tokens_per_step(settings) or min(settings.tokens, 1)
    objective, source, heldout = parts_of(stage, tokenizer, steps)
    learner = Learner(model, settings.optimiser, settings.schedule, precision, average_of(settings.averaging, steps))
    stopping = EarlyStopping(heldout.metric, settings.patience, learner) if settings.patience else None
    engine = Engine(
        {"model": learner},
        source,
        objective,
        folder=stage.folder,
        checkpoint_every=settings.checkpoint_every,
        label="pretrain",
        after_step=HeldOutEvaluation(
            model,
            learner,
            tokenizer,
            heldout,
            every=settings.evaluate_every,
            steps=steps,
            tokens_per_step=tokens_per_step(settings),
        ),
        early_stopping=stopping,
        tensorboard=stage.recipe.tensorboard,
    )
    engine.resume()
    engine.fit()
    learner.release(stopping.best_weights if stopping else None).eval()
    context = settings.model.context
    save_with_tokenizer(model, tokenizer, stage.folder / "model", end=tokenizer.end_of_text, context=context)
    metrics = _metrics(stage, model, heldout, engine.step * tokens_per_step(settings)) | {"precision": precision}
    if stopping:
        metrics["best_step"] = stopping.best_step
    checkpoint.drop(stage.folder)
    return metrics


def fresh_or_base(stage: Stage, tokenizer: Tokenizer) -> Model:
    """The model with which training begins. Raises UserError where a base is no decoder or its context is too short."""
    settings = stage.recipe.pretrain
    if stage.recipe.base is None:
        return build_model(settings, tokenizer.vocabulary, stage.seed)
    with base_folder(stage) as folder:
        model = load_model(folder)
    if model.kind != "language-model" or model.config.form != "decoder":
        raise UserError(
            f"`base` is {stage.recipe.base}, which is no model that writes: choose a decoder of `headwater models`."
        )
    if settings.model.context > model.config.context:
        raise UserError(
            f"pretrain.model.context = {settings.model.context} is more than the {model.config.context} tokens of the base "
            f"{stage.recipe.base}: make it shorter."
        )
    return with_checkpointing(model, settings.model.gradient_checkpointing)


def tokens_per_step(settings: PretrainSettings) -> int:
    """Tokens of an update: whole rows of the context."""
    return max(1, settings.batch_tokens // settings.model.context) * settings.model.context


def parts_of(stage: Stage, tokenizer: Tokenizer, steps: int) -> tuple[Objective, Source, HeldOut]:
    """What is learnt, on which batches, and how it is measured."""
    settings, context = stage.recipe.pretrain, stage.recipe.pretrain.model.context
    train, heldout = (Shards(stage.parent("tokenizer") / "tokens" / split) for split in ("train", "heldout"))
    objective, source = texts_to_learn(
        settings, train, tokenizer, seed=stage.seed, tokens=tokens_per_step(settings), steps=steps
    )
    make = PRETRAINING[settings.objective].make
    if make is None:
        return objective, source, HeldOutText(train, heldout, tokenizer, context)
    return (
        objective,
        source,
        HeldOutTargets(make(tokenizer, stage.seed, MASK_SHARE), train, heldout, tokenizer, context),
    )


def texts_to_learn(
    settings: PretrainSettings, shards: Shards, tokenizer: Tokenizer, *, seed: int, tokens: int, steps: int
) -> tuple[Objective, Source]:
    """Pretraining's objective and `steps` updates of the shards' texts, of about `tokens` tokens each."""
    make, context = PRETRAINING[settings.objective].make, settings.model.context
    if make is None:
        rows = max(1, tokens // context)
        return CausalLM(), DocumentStream(
            shards, seed=seed, width=context, rows=rows, steps=steps, rows_per_batch=ROWS_PER_BATCH
        )
    objective = make(tokenizer, seed, settings.mask_share)
    return objective, DocumentRows(
        shards,
        objective.prepare,
        seed=seed,
        width=context,
        tokens=tokens,
        steps=steps,
        budget=ROWS_PER_BATCH * context,
    )


def _metrics(stage: Stage, model: Model, heldout: HeldOut, tokens: int) -> dict[str, Any]:
    lines = read_metrics(stage.folder / "metrics.jsonl")
    speeds = sorted(line["tokens_per_second"] for line in lines)
    return {
        "objective": stage.recipe.pretrain.objective,
        "parameters": model.parameter_count(),
        "tokens": tokens,
        "tokens_per_second": speeds[len(speeds) // 2] if speeds else 0.0,
        **heldout.whole(model),
        "samples": [line["sample"] for line in lines if "sample" in line],
    }
