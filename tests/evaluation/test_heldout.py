"""Held-out losses, and the unigram loss that they are compared with."""

from __future__ import annotations

import math

import pytest
import torch

from headwater.corpus.shards import Shards, TokenisedDocument, write_shards
from headwater.evaluation.heldout import HeldOutTargets, HeldOutText, target_counts, target_losses, unigram_losses
from headwater.objectives.causal import CausalLM
from headwater.objectives.pretraining import MASK_SHARE, PRETRAINING
from headwater.training.batch import collate
from tiny import tiny_model
from words import CHINESE, ENGLISH, small_tokenizer

TOKENIZER = small_tokenizer()


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    texts = [ENGLISH, CHINESE, ENGLISH[:40], CHINESE[:9]]
    documents = [TokenisedDocument([1, *TOKENIZER.encode(text), 1], len(text.encode()), "x") for text in texts]
    write_shards(folder, documents, TOKENIZER.vocabulary)
    return Shards(folder)


def test_the_unigram_loss_of_the_training_targets_is_nearly_their_entropy():
    targets = torch.tensor([0] * 500 + [1] * 300 + [2] * 200)
    entropy = -sum(p * math.log(p) for p in (0.5, 0.3, 0.2))
    counts = target_counts([CausalLM().prepare([9, *targets.tolist()])], 10)
    assert counts.tolist() == [500, 300, 200, *[0] * 7]
    assert float(unigram_losses(counts, targets).mean()) == pytest.approx(entropy, rel=0.01)


def test_a_target_never_seen_has_a_finite_loss():
    assert float(unigram_losses(torch.tensor([9, 0]), torch.tensor([1]))) == pytest.approx(math.log(11))


def test_target_losses_are_those_of_the_objective():
    model = tiny_model(vocabulary=TOKENIZER.vocabulary, form="encoder", kind="masked")
    objective = PRETRAINING["masked"].make(TOKENIZER, 3, MASK_SHARE)
    rows = [objective.prepare(TOKENIZER.encode(text), index) for index, text in enumerate((ENGLISH, CHINESE))]
    losses, targets = target_losses(objective, model, rows)
    assert len(losses) == len(targets) == objective.counts(collate(rows))["loss"]
    expected = sum(float(objective.loss({"model": model}, collate([row]))["loss"].sum.detach()) for row in rows)
    assert float(losses.sum()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("name", "form", "kind"), [
    ("masked", "encoder", "masked"), ("denoising", "encoder-decoder", "language-model"), ("prefix", "decoder", "language-model"),
])  # fmt: skip
def test_what_is_said_of_a_model(shards, name, form, kind):
    model = tiny_model(kind, vocabulary=TOKENIZER.vocabulary, form=form, decoder_layers=2 * (form == "encoder-decoder"))
    heldout = HeldOutTargets(PRETRAINING[name].make(TOKENIZER, 3, MASK_SHARE), shards, shards, TOKENIZER, 32)
    assert heldout.quick(model) == heldout.quick(model)
    found = heldout.whole(model)
    assert found["heldout_loss"] == pytest.approx(math.log(TOKENIZER.vocabulary), rel=0.1)
    assert 3 < found["unigram_loss"] < found["heldout_loss"]
    apart = found["heldout_text_loss"] != found["heldout_loss"]
    assert apart == (name != "masked")  # masked tokens are all text


def test_nats_per_token_and_bits_per_byte_of_a_decoder_agree(shards):
    model = tiny_model(vocabulary=TOKENIZER.vocabulary)
    heldout = HeldOutText(shards, shards, TOKENIZER, 300)
    found = heldout.whole(model)
    rows = [CausalLM().prepare(shards.document(index).tolist()) for index in range(len(shards))]
    losses, _ = target_losses(CausalLM(), model, rows)
    assert found["heldout_loss"] == pytest.approx(float(losses.mean()), rel=1e-4)
    assert found["unigram_loss"] < found["heldout_loss"]
    assert heldout.quick(model)["bits_per_byte"] == pytest.approx(found["bits_per_byte"], rel=1e-5)
