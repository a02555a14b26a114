"""Causal and supervised learning: what is a target, and that packing changes nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from headwater.models.heads import IGNORED
from headwater.objectives.causal import CausalLM
from headwater.objectives.supervised import Span, Supervised
from headwater.training.batch import Packer, collate, split_by_tokens, stack_packed
from headwater.training.engine import Engine
from tiny import GivenUpdates, learner, lively_model, tiny_model


def documents(count, seed=0, low=2, high=12):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(low, high, (count,), generator=generator).tolist()
    return [torch.randint(5, 60, (length,), generator=generator).tolist() for length in lengths]


spans_of_a_dialogue = st.lists(
    st.builds(Span, st.lists(st.integers(0, 59), min_size=0, max_size=5).map(tuple), st.booleans()),
    min_size=1,
    max_size=6,
).filter(lambda spans: sum(len(span.tokens) for span in spans) > 1)


@given(spans_of_a_dialogue)
def test_exactly_the_learnt_tokens_are_targets(spans):
    row = Supervised().prepare_dialogue(spans)
    tokens = [token for span in spans for token in span.tokens]
    learnt = [span.learnt for span in spans for _ in span.tokens]
    assert row.ids.tolist() == tokens[:-1]
    expected = [t if wanted else IGNORED for t, wanted in zip(tokens[1:], learnt[1:], strict=True)]
    assert row.per_token["targets"].tolist() == expected


def test_what_is_given_has_no_influence_on_the_loss_s_count_and_the_end_of_the_turn_is_learnt():
    row = Supervised().prepare_dialogue([Span((2, 9, 9, 3), learnt=False), Span((7, 8, 4), learnt=True)])
    batch = collate([row])
    assert Supervised().counts(batch) == {"loss": 3}
    assert batch.per_token["targets"][0].tolist() == [IGNORED, IGNORED, IGNORED, 7, 8, 4]


def test_a_given_token_that_equals_the_pad_or_end_token_is_learnt_where_the_assistant_says_it():
    row = Supervised().prepare_dialogue([Span((4, 0), learnt=False), Span((0, 4, 0), learnt=True)])
    assert row.per_token["targets"].tolist() == [IGNORED, 0, 4, 0]


def test_the_loss_is_that_of_the_learnt_tokens_alone():
    model = lively_model()
    batch = collate([Supervised().prepare_dialogue([Span((5, 6), False), Span((8, 9), True)])])
    found = float(Supervised().loss({"model": model}, batch)["loss"].sum.detach())
    logits = model(torch.tensor([[5, 6, 8]]))[0].log_softmax(-1)
    assert found == pytest.approx(-float((logits[1, 8] + logits[2, 9]).detach()), rel=1e-5)


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(4, 24), st.integers(3, 30))
def test_packing_gives_every_token_the_same_target_once(seed, width, count):
    """Between pieces of a cut document the token before the cut still learns the one after it."""
    packer = Packer(width)
    wanted: list[int] = []
    given_ids: list[int] = []
    for document in documents(count, seed):
        packer.add(document)
        given_ids += document
        wanted += [*document[1:], IGNORED]
    ids, targets = [], []
    while packer.ready():
        row = packer.row()
        ids += row[0].tolist()
        targets += row[1].tolist()
    assert ids == given_ids[: len(ids)]
    assert targets == wanted[: len(targets)]
    assert len(given_ids) - len(ids) <= width


def test_packed_documents_have_the_loss_and_the_gradient_of_separate_ones():
    whole = [[5, 6, 7, 4], [8, 9, 4], [10, 11, 12, 13, 14, 15, 4], [16, 4], [20, 21, 22, 23, 4]]  # 7 + 7 + 7
    packer = Packer(7)
    for document in whole:
        packer.add(document)
    packer.add([1])
    packed = stack_packed([packer.row() for _ in range(3)])
    separate = collate([CausalLM().prepare(document) for document in whole])
    found = []
    for batch in (packed, separate):
        model = lively_model()
        loss = CausalLM().loss({"model": model}, batch)["loss"].sum
        loss.backward()
        found.append((loss.detach(), CausalLM().counts(batch), {n: p.grad for n, p in model.named_parameters()}))
    assert found[0][1] == found[1][1]
    torch.testing.assert_close(found[0][0], found[1][0], atol=1e-4, rtol=1e-5)
    for name, gradient in found[0][2].items():
        torch.testing.assert_close(gradient, found[1][2][name], atol=1e-3, rtol=1e-3)


def test_a_packed_document_cannot_see_its_neighbour():
    model = lively_model()
    outcomes = []
    for neighbour in ([5, 6, 4], [40, 41, 4]):
        packer = Packer(7)
        for document in (neighbour, [8, 9, 10, 4], [1]):
            packer.add(document)
        batch = stack_packed([packer.row()])
        with torch.no_grad():
            outcomes.append(model(batch.ids, batch.positions, documents=batch.documents)[0, 3:])
    assert torch.equal(*outcomes)


def test_a_resumed_packer_yields_the_same_rows():
    packer, later = Packer(5), Packer(5)
    for document in documents(6):
        packer.add(document)
    packer.row()
    later.load_state_dict(packer.state_dict())
    more = documents(3, seed=1)
    for each in (packer, later):
        for document in more:
            each.add(document)
    while packer.ready():
        assert all(torch.equal(a, b) for a, b in zip(packer.row(), later.row(), strict=True))
    assert not later.ready()


@pytest.mark.parametrize("vocabulary", [60, 3000])
def test_the_fused_cross_entropy_is_torch_s_with_its_gradients(vocabulary, monkeypatch):
    monkeypatch.setattr("headwater.models.heads._CHUNK_ELEMENTS", 4 * vocabulary)  # several chunks
    head = lively_model(vocabulary=vocabulary).language_model
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(3, 5, 32, generator=generator)
    targets = torch.randint(0, vocabulary, (3, 5), generator=generator)
    targets[0, 2] = targets[2, 4] = IGNORED
    found = []
    for fused in (True, False):
        states = hidden.clone().requires_grad_(True)
        head.weight.grad = None
        if fused:
            loss = head.loss(states, targets)
        else:
            logits = states @ head.weight.T
            loss = functional.cross_entropy(
                logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
            )
        (loss * 0.37).backward()  # the engine scales the sum
        found.append((loss.detach(), states.grad, head.weight.grad.clone()))
    for fused, plain in zip(*found, strict=True):
        torch.testing.assert_close(fused, plain, atol=2e-5, rtol=2e-5)


def test_without_gradient_the_loss_is_the_same():
    head = lively_model().language_model
    hidden, targets = torch.randn(2, 4, 32), torch.tensor([[3, IGNORED, 5, 9], [IGNORED] * 4])
    with torch.no_grad():
        quiet = head.loss(hidden, targets)
    torch.testing.assert_close(quiet, head.loss(hidden.requires_grad_(True), targets).detach())


def test_a_batch_without_any_target_has_loss_0():
    model = tiny_model()
    batch = collate([Supervised().prepare_dialogue([Span((5, 6, 7), False)])])
    loss = Supervised().loss({"model": model}, batch)["loss"].sum
    assert float(loss.detach()) == 0
    assert Supervised().counts(batch) == {"loss": 0}


def test_the_loss_falls_on_a_tiny_corpus():
    rows = [CausalLM().prepare(document) for document in documents(6, high=16)]
    model = tiny_model()
    losses = []
    engine = Engine(
        {"model": learner(model, learning_rate=1e-2)},
        GivenUpdates([split_by_tokens(rows, 64)] * 60),
        CausalLM(),
        after_step=lambda _, metrics: losses.append(metrics["loss"]) or {},
    )
    engine.fit()
    assert losses[0] == pytest.approx(4.09, abs=0.3), "a fresh model knows nothing: ln 60"
    assert losses[-1] < 0.6
