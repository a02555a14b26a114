"""The sft stage: what it learns from demonstrations, and what it does where there are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from dialogues import comparisons, lines, requests, spoken
from headwater.errors import UserError
from headwater.feedback.recipe_dialogues import read_own, write_own
from headwater.feedback.settings import DialogueSettings
from headwater.models.layout import load_model, save_model
from headwater.recipe import validate
from headwater.runs import Stage
from headwater.stages import sft
from headwater.training.engine import Engine
from headwater.training.packing import PackedExamples
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


def of_unlike_lengths(folder: Path) -> DialogueSettings:
    """Dialogues of one to three turns that begin in many ways."""
    records = [
        spoken(*(f"{place} {place}", "Yes?") * (place % 3), f"{place} {request}", "It is good.")
        for place, request in enumerate(requests())
    ]
    pairs = [{"chosen": record, "rejected": f"{record} No."} for record in records]
    return DialogueSettings(comparisons=[str(lines(folder / "hh.jsonl", pairs))])


@pytest.mark.parametrize("lora", [None, LORA])
def test_packed_dialogues_teach_what_they_teach_side_by_side(
    tmp_path: Path, lora: dict[str, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed: dict[bool, int] = {}
    figures, weights = [], []
    for packing in (True, False):
        laid_out = PackedExamples.batches

        def counted(self: Any, groups: Any, packing: bool = packing, laid_out: Any = laid_out) -> Any:
            batches = laid_out(self, groups)
            packed[packing] = packed.get(packing, 0) + sum(batch.documents is not None for batch in batches)
            return batches

        folder = tmp_path / str(packing)
        folder.mkdir()
        with monkeypatch.context() as patched:
            patched.setattr(PackedExamples, "batches", counted)
            stage = stage_of(folder, of_unlike_lengths(folder), epochs=3, lora=lora, packing=packing)
            figures.append(sft.run(stage))
        weights.append(weights_of(load_model(stage.folder / "model")))
    assert packed[True] > 4
    assert packed[False] == 0
    assert figures[0] == pytest.approx(figures[1], rel=1e-3)
    for name, weight in weights[0].items():
        torch.testing.assert_close(weight, weights[1][name], atol=2e-3, rtol=1e-2)


@pytest.mark.parametrize("lora", [None, LORA])
def test_a_stage_that_goes_on_with_packed_dialogues_ends_bit_for_bit_as_one_undisturbed(
    tmp_path: Path, lora: dict[str, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for disturbed in (False, True):
        folder = tmp_path / str(disturbed)
        folder.mkdir()
        stage = stage_of(folder, of_unlike_lengths(folder), epochs=3, lora=lora, checkpoint_every=2)
        if disturbed:
            train_step = Engine.train_step

            def fail_at_5(self: Engine, batches: Any, train_step: Any = train_step) -> Any:
                if self.step == 5:
                    raise KeyboardInterrupt
                return train_step(self, batches)

            with monkeypatch.context() as patched:
                patched.setattr(Engine, "train_step", fail_at_5)
                with pytest.raises(KeyboardInterrupt):
                    sft.run(stage)
            torch.manual_seed(99)
        found.append((sft.run(stage), weights_of(load_model(stage.folder / "model"))))
    assert found[0][0] == found[1][0]
    assert same_weights(found[0][1], found[1][1])
