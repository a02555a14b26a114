"""Masking: how much, whole words in English and Chinese, nothing lost, the loss of the literature."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from headwater.corpus.segmentation import chinese_words, word_groups
from headwater.models.heads import IGNORED
from headwater.objectives.masked import MaskedLM
from headwater.objectives.pretraining import MASK_SHARE
from headwater.training.batch import collate
from tiny import tiny_model
from words import CHINESE, ENGLISH, small_tokenizer

TOKENIZER = small_tokenizer()
MASK = TOKENIZER.mask
CONTROL = [token for token in range(TOKENIZER.vocabulary) if not TOKENIZER.bytes_of(token)]


def words(ids):
    return word_groups(ids, TOKENIZER.bytes_of, chinese_words())


def objective(seed=0):
    return MaskedLM(MASK, TOKENIZER.vocabulary, words, seed, CONTROL, share=MASK_SHARE)


def document(text):
    return [TOKENIZER.end_of_text, *TOKENIZER.encode(text), TOKENIZER.end_of_text]


LONG = document((ENGLISH + CHINESE) * 4)


def rows(count=40, tokens=LONG):
    return [objective().prepare(tokens, index) for index in range(count)]


def test_fifteen_percent_are_chosen_of_which_eight_in_ten_are_masked_and_one_is_another():
    learnt = torch.cat([row.per_token["targets"] for row in rows()])
    seen = torch.cat([row.ids for row in rows()])
    chosen = learnt != IGNORED
    assert float(chosen.float().mean()) == pytest.approx(0.15, abs=0.005)
    masked, same = seen[chosen] == MASK, seen[chosen] == learnt[chosen]
    assert float(masked.float().mean()) == pytest.approx(0.8, abs=0.02)
    assert float((~masked & ~same).float().mean()) == pytest.approx(0.1, abs=0.02)
    assert float(same.float().mean()) == pytest.approx(0.1, abs=0.02)
    assert not set(seen[chosen & (seen != MASK)].tolist()) & set(CONTROL)


def test_another_share_is_followed():
    one = MaskedLM(MASK, TOKENIZER.vocabulary, words, 0, CONTROL, share=0.4)
    learnt = torch.cat([one.prepare(LONG, index).per_token["targets"] for index in range(10)])
    assert float((learnt != IGNORED).float().mean()) == pytest.approx(0.4, abs=0.01)


def test_all_places_are_chosen_alike():
    chosen = torch.stack([row.per_token["targets"] != IGNORED for row in rows(300)]).float().mean(dim=0)
    inner = chosen[1:-1]
    assert float(inner.min()) > 0.05
    assert float(inner[: len(inner) // 2].mean()) == pytest.approx(float(inner[len(inner) // 2 :].mean()), abs=0.01)
    assert float(chosen[0]) == float(chosen[-1]) == 0


@pytest.mark.parametrize("text", [ENGLISH * 3, CHINESE * 3])
def test_words_are_chosen_whole_or_not_at_all(text):
    tokens = document(text)
    groups = words(tokens)
    several = 0
    for row in rows(tokens=tokens):
        chosen = row.per_token["targets"] != IGNORED
        for group in groups:
            share = float(chosen[list(group)].float().mean())
            assert share in (0, 1)
            several += share == 1 and len(group) > 1
    assert several > 40


@given(st.text(min_size=1, max_size=80) | st.text("ab 我们大家。\n", min_size=1, max_size=80), st.integers(0, 2**40))
def test_inputs_and_targets_are_the_text(text, index):
    tokens = document(text)
    row = objective().prepare(tokens, index)
    targets = row.per_token["targets"]
    assert torch.where(targets != IGNORED, targets, row.ids).tolist() == tokens
    assert int((targets != IGNORED).sum()) >= 1
    assert TOKENIZER.decode(torch.where(targets != IGNORED, targets, row.ids).tolist()) == text


def test_the_choice_is_a_function_of_seed_and_index_and_changes_with_both():
    def chosen(seed, index):
        row = objective(seed).prepare(LONG, index)
        return row.ids.tolist(), row.per_token["targets"].tolist()

    assert chosen(1, 5) == chosen(1, 5)
    assert chosen(1, 5) != chosen(1, 6)
    assert chosen(1, 5) != chosen(2, 5)


def test_a_text_without_words_has_nothing_to_learn():
    assert objective().counts(collate([objective().prepare([1, 1], 0)])) == {"loss": 0}


def encoder(**changes):
    return tiny_model("masked", vocabulary=TOKENIZER.vocabulary, form="encoder", **changes)


def test_the_loss_is_torch_s_on_the_same_masks():
    model, batch = encoder(), collate([objective().prepare(LONG[:30], 0), objective().prepare(LONG[20:64], 1)])
    found = objective().loss({"model": model}, batch)["loss"]
    logits = model(batch.ids, documents=batch.documents_or_padding())
    expected = functional.cross_entropy(
        logits.flatten(0, 1), batch.per_token["targets"].flatten(), ignore_index=IGNORED, reduction="sum"
    )
    assert float(found.sum.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert objective().counts(batch)["loss"] == int((batch.per_token["targets"] != IGNORED).sum())


def test_the_loss_is_that_of_transformers_bert(tmp_path):
    from transformers import BertConfig, BertForMaskedLM

    from headwater.models.layout import load_model

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    theirs = BertForMaskedLM(BertConfig(vocab_size=TOKENIZER.vocabulary, max_position_embeddings=64, **sizes)).eval()
    theirs.save_pretrained(tmp_path)
    ours = load_model(tmp_path)
    batch = collate([objective().prepare(LONG[:30], 0), objective().prepare(LONG[20:64], 1)])
    labels = batch.per_token["targets"].masked_fill(batch.per_token["targets"] == IGNORED, -100)
    with torch.no_grad():
        expected = theirs(batch.ids, attention_mask=batch.documents_or_padding(), labels=labels).loss
        found = objective().loss({"model": ours}, batch)["loss"].sum / objective().counts(batch)["loss"]
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_padding_and_what_fills_it_have_no_part():
    model = encoder()
    short, long = objective().prepare(LONG[:20], 0), objective().prepare(LONG[:60], 1)
    alone = float(objective().loss({"model": model}, collate([short]))["loss"].sum.detach())
    rest = float(objective().loss({"model": model}, collate([long]))["loss"].sum.detach())
    batch = collate([short, long])
    batch.ids[0, 20:] = 77
    assert float(objective().loss({"model": model}, batch)["loss"].sum.detach()) == pytest.approx(
        alone + rest, rel=1e-5
    )


def test_the_encoder_reads_both_sides():
    """What comes after a masked token changes its loss; a causal model would not see it."""
    model = encoder()
    row = objective().prepare(LONG[:40], 3)
    other = replace(row, ids=row.ids.clone())
    last = int((row.per_token["targets"] == IGNORED).nonzero()[-1])
    other.ids[last] = (other.ids[last] + 7) % 300
    hidden = [objective().hidden({"model": model}, collate([one]))[0, 0] for one in (row, other)]
    assert not torch.allclose(*hidden, atol=1e-6)
