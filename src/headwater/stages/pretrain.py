"""Stage 4: a decoder-only Transformer from scratch, on the corpus's tokens."""

from __future__ import annotations

import shutil
from typing import Any

from headwater.corpus.shards import Shards
from headwater.corpus.tokenizer import Tokenizer
from headwater.evaluation.perplexity import Text, bits_per_byte
from headwater.models.config import TransformerConfig
from headwater.models.generate import Sampling, generate
from headwater.models.layout import save_model
from headwater.models.model import Model
from headwater.objectives.causal import CausalLM
from headwater.recipe import PretrainSettings
from headwater.runs import Stage
from headwater.training.averaging import average_of
from headwater.training.early_stopping import EarlyStopping
from headwater.training.engine import Engine
from headwater.training.learner import Learner
from headwater.training.log import read_metrics
from headwater.training.machine import prepare
from headwater.training.source import DocumentStream

ROWS_PER_BATCH = 8
"""Rows per micro-batch: activations of about two thousand tokens stay in the processor's cache."""

QUICK_TEXTS = 100
"""Held-out documents measured on the way, of all sources alike; all of them at the end."""


def run(stage: Stage) -> dict[str, Any]:
    """Trains on a fixed number of tokens; writes the model and metrics.jsonl."""
    settings = stage.recipe.pretrain
    precision = prepare(stage.folder, stage.recipe.threads, settings.precision)
    tokenizer = Tokenizer.load(stage.parent("tokenizer"))
    shards = Shards(stage.parent("tokenizer") / "tokens" / "train")
    model = Model(TransformerConfig.from_settings(settings.model, tokenizer.vocabulary)).initialise(stage.seed)
    rows = max(1, settings.batch_tokens // settings.model.context)
    steps = max(1, settings.tokens // (rows * settings.model.context))
    source = DocumentStream(
        shards, seed=stage.seed, width=settings.model.context, rows=rows, steps=steps, rows_per_batch=ROWS_PER_BATCH
    )
    texts = heldout_texts(Shards(stage.parent("tokenizer") / "tokens" / "heldout"), tokenizer, settings.model.context)
    learner = Learner(model, settings.optimiser, settings.schedule, precision, average_of(settings.averaging, steps))
    stopping = EarlyStopping("bits_per_byte", settings.patience, learner) if settings.patience else None
    on_the_way = OnTheWay(learner, tokenizer, texts[:: -(-len(texts) // QUICK_TEXTS)], settings, steps)
    engine = Engine(
        {"model": learner},
        source,
        CausalLM(),
        folder=stage.folder,
        checkpoint_every=settings.checkpoint_every,
        label="pretrain",
        after_step=on_the_way,
        early_stopping=stopping,
        tensorboard=stage.recipe.tensorboard,
    )
    engine.resume()
    engine.fit()
    learner.release(stopping.best_weights if stopping else None)
    save_model(model, stage.folder / "model", pad=tokenizer.pad, eos=tokenizer.end_of_text)
    tokenizer.save(stage.folder / "model", settings.model.context)
    metrics = _metrics(stage, model, texts, engine.step * rows * settings.model.context) | {"precision": precision}
    if stopping:
        metrics["best_step"] = stopping.best_step
    shutil.rmtree(stage.folder / "checkpoints", ignore_errors=True)
    return metrics


def _metrics(stage: Stage, model: Model, texts: list[Text], tokens: int) -> dict[str, Any]:
    measured = bits_per_byte(model, texts)
    lines = read_metrics(stage.folder / "metrics.jsonl")
    speeds = sorted(line["tokens_per_second"] for line in lines)
    return {
        "parameters": model.parameter_count(),
        "tokens": tokens,
        "tokens_per_second": speeds[len(speeds) // 2],
        "bits_per_byte": measured.pop("all"),
        "bits_per_byte_by_source": measured,
        "samples": [line["sample"] for line in lines if "sample" in line],
    }


def heldout_texts(shards: Shards, tokenizer: Tokenizer, context: int) -> list[Text]:
    """Held-out documents as rows; cut at the context, with the bytes that are left."""
    texts = []
    for index in range(len(shards)):
        ids = shards.document(index).tolist()
        size = shards.bytes_of(index)
        if len(ids) > context + 1:
            ids = ids[: context + 1]
            size = len(tokenizer.decode_bytes(ids[1:]))
        texts.append(Text(CausalLM().prepare(ids), size, shards.source_of(index)))
    return texts


class OnTheWay:
    """Held-out bits per byte and a sample, every so many steps: the hook of the engine."""

    def __init__(
        self, learner: Learner, tokenizer: Tokenizer, texts: list[Text], settings: PretrainSettings, steps: int
    ) -> None:
        self.learner, self.tokenizer, self.texts, self.steps = learner, tokenizer, texts, steps
        self.settings = settings
        self.tokens_per_step = max(1, settings.batch_tokens // settings.model.context) * settings.model.context

    def __call__(self, step: int, metrics: dict[str, float]) -> dict[str, Any]:  # noqa: ARG002
        line: dict[str, Any] = {"tokens": step * self.tokens_per_step}
        if step % self.settings.evaluate_every == 0 or step == self.steps:
            sampling = Sampling(40, temperature=0.7, stop_tokens=(self.tokenizer.end_of_text,))
            with self.learner.as_released():
                line["bits_per_byte"] = bits_per_byte(self.learner.module, self.texts)["all"]
                (answer,) = generate(self.learner.module, [[self.tokenizer.end_of_text]], sampling, seeds=[step])
            line["sample"] = self.tokenizer.decode(answer.tokens)
        return line
