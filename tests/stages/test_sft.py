"""The sft stage: what it learns from demonstrations, and what it does where there are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dialogues import comparisons, lines, requests
from headwater.errors import UserError
from headwater.feedback.recipe_dialogues import read_own, write_own
from headwater.feedback.settings import DialogueSettings
from headwater.models.layout import load_model, save_model
from headwater.recipe import validate
from headwater.runs import Stage
from headwater.stages import sft
from tiny import same_weights, tiny_model, weights_of
from words import small_tokenizer

LORA = {"rank": 8, "alpha": 32}


def stage_of(folder: Path, dialogues: DialogueSettings, base: str | None = None, **settings: Any) -> Stage:
    """After finished stages `samples` and `pretrain` with a tiny model."""
    samples, pretrained, work = (folder / name for name in ("samples", "pretrain", "work"))
    for made in (samples, pretrained, work):
        made.mkdir()
    tokenizer = small_tokenizer()
    write_own(read_own(dialogues, system_turns=False), samples)
    model = tiny_model(vocabulary=tokenizer.vocabulary, context=96)
    save_model(model, pretrained / "model", pad=tokenizer.pad, eos=tokenizer.end_of_turn)
    tokenizer.save(pretrained / "model", 96)
    recipe = validate(
        {
            "run": "r",
            "base": base,
            "threads": 1,
            "dialogues": dialogues.model_dump(),
            "corpus": {"sources": [{"samples": "reviews"}]},
            "tokenizer": {} if base else {"vocabulary": tokenizer.vocabulary},
            "pretrain": {"model": {"context": 96}},
            "sft": {"precision": "fp32", "optimiser": {"learning_rate": 1e-2}, "batch_examples": 8, **settings},
            "ppo": {"max_new_tokens": 8},
        },
        "test",
    )
    return Stage("sft", recipe, work, {"samples": samples, "pretrain": pretrained})


def prompts_alone(folder: Path) -> DialogueSettings:
    (folder / "prompts.txt").write_text("\n".join(requests()), encoding="utf-8")
    return DialogueSettings(prompts=str(folder / "prompts.txt"))


@pytest.mark.parametrize(
    ("lora", "at_most"), [(None, 0.9), (LORA, 0.97)]
)  # adapters leave embeddings as they were made
def test_demonstrations_make_their_answers_likelier(
    tmp_path: Path, lora: dict[str, int] | None, at_most: float
) -> None:
    dialogues = DialogueSettings(comparisons=[str(lines(tmp_path / "hh.jsonl", comparisons()))])
    stage = stage_of(tmp_path, dialogues, epochs=6, lora=lora)
    metrics = sft.run(stage)
    assert metrics["examples"] > 10
    assert metrics["heldout_bits_per_byte"] < at_most * metrics["heldout_bits_per_byte_before"]
    trained, before = (load_model(folder / "model") for folder in (stage.folder, stage.parent("pretrain")))
    assert weights_of(trained).keys() == weights_of(before).keys()
    assert not same_weights(weights_of(trained), weights_of(before))


@pytest.mark.parametrize("lora", [None, LORA])
def test_a_base_model_without_demonstrations_stays_as_it_is(tmp_path: Path, lora: dict[str, int] | None) -> None:
    base = tmp_path / "pretrain" / "model"
    stage = stage_of(tmp_path, prompts_alone(tmp_path), base=str(base), lora=lora)
    assert sft.run(stage)["examples"] == 0
    assert same_weights(*(weights_of(load_model(folder)) for folder in (stage.folder / "model", base)))


def test_a_fresh_model_without_demonstrations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give some as"):
        sft.run(stage_of(tmp_path, prompts_alone(tmp_path)))
