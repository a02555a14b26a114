"""Stage 5: supervised fine-tuning on people's own sentences: instruction and opening given, the rest learnt."""

from __future__ import annotations

import shutil
from typing import Any

import torch

from headwater.corpus.tokenizer import Tokenizer
from headwater.errors import UserError
from headwater.evaluation.perplexity import Text, bits_per_byte
from headwater.models.layout import load_model, save_model
from headwater.models.lora import adapt, merge
from headwater.objectives.supervised import Supervised
from headwater.runs import Stage
from headwater.tasks.continuation import learnt_texts, read_lines, some
from headwater.training.engine import Engine
from headwater.training.learner import Learner
from headwater.training.machine import prepare
from headwater.training.precision import DTYPES
from headwater.training.source import Examples


def run(stage: Stage) -> dict[str, Any]:
    """Fine-tunes the pretrained model on the training share; writes the model and metrics.jsonl."""
    settings = stage.recipe.sft
    precision = prepare(stage.folder, stage.recipe.threads, settings.precision)
    model, _ = load_model(stage.parent("pretrain") / "model")
    if settings.lora:
        adapt(model, settings.lora, stage.seed)
    tokenizer = Tokenizer.load(stage.parent("pretrain") / "model")
    train, heldout = (texts_of(stage, tokenizer, share) for share in ("train", "select"))
    train = some(train, settings.examples, stage.seed) if settings.examples else train
    before = bits_per_byte(model.frozen(DTYPES[precision]), heldout)["all"]
    engine = Engine(
        {"model": Learner(model, settings.optimiser, settings.schedule, precision)},
        Examples(
            [[text.row] for text in train],
            seed=stage.seed,
            epochs=settings.epochs,
            groups_per_update=settings.batch_examples,
            budget=1024,
        ),
        Supervised(),
        folder=stage.folder,
        checkpoint_every=settings.checkpoint_every,
        label="sft",
        tensorboard=stage.recipe.tensorboard,
    )
    torch.manual_seed(stage.seed)  # dropout
    model.train()
    engine.resume()
    engine.fit()
    model.eval()
    merge(engine.learners["model"].release())
    save_model(model, stage.folder / "model", pad=tokenizer.pad, eos=tokenizer.end_of_turn)
    tokenizer.save(stage.folder / "model", model.config.context)
    after = bits_per_byte(model.frozen(DTYPES[precision]), heldout)["all"]
    shutil.rmtree(stage.folder / "checkpoints", ignore_errors=True)
    return {"examples": len(train), "heldout_bits_per_byte_before": before, "heldout_bits_per_byte": after}


def texts_of(stage: Stage, tokenizer: Tokenizer, share: str) -> list[Text]:
    """The dialogues of a share that fit the context, with the UTF-8 bytes of what is learnt."""
    settings = stage.recipe.sft
    lines = read_lines(stage.parent("samples") / "reviews.jsonl", share)
    for line in lines:
        if line.source not in settings.instructions:
            raise UserError(f"sft.instructions has no instruction for the source `{line.source}`: add one.")
    found = learnt_texts(lines, settings.instructions, settings.opening_words, tokenizer)
    return [text for text in found if len(text.row) <= stage.recipe.pretrain.model.context]
