"""What every registered objective must satisfy, with a model that fits it."""

from __future__ import annotations

import pytest
import torch

from headwater.corpus.shards import Shards, TokenisedDocument, write_shards
from headwater.models.heads import IGNORED
from headwater.objectives.pretraining import PRETRAINING
from headwater.objectives.registry import OBJECTIVES
from headwater.training.engine import Engine
from headwater.training.source import DocumentRows, Examples
from objectives import CASES, texts
from tiny import GivenUpdates, learner, same_weights, weights_of

TEXTS = sorted(name for name in PRETRAINING if PRETRAINING[name].make)
every = pytest.mark.parametrize("name", CASES)


def test_every_registered_objective_has_a_case():
    assert {name.partition(",")[0] for name in CASES} == set(OBJECTIVES)
    assert set(PRETRAINING) <= set(OBJECTIVES)


def gradients(case, batches, modules=None):
    """The update's gradients before the optimiser sees them, of modules in their first state; and its metrics."""
    modules = modules or case.modules()
    engine = Engine({name: learner(module) for name, module in modules.items()}, GivenUpdates([]), case.objective())
    found = {}

    def update():
        found.update(
            {
                f"{m}/{n}": p.grad.clone()
                for m, module in modules.items()
                for n, p in module.named_parameters()
                if p.grad is not None
            }
        )
        return {}

    engine.update = update
    return found, engine.train_step(batches)


@every
@pytest.mark.parametrize("parts", [2, 3, 8])
def test_accumulated_is_the_full_batch(name, parts):
    case = CASES[name]
    groups = case.groups(case.objective())
    whole, metrics = gradients(case, case.updates(groups))
    parted, others = gradients(case, case.updates(groups, parts))
    assert others[case.measure] == pytest.approx(metrics[case.measure], rel=1e-4)
    assert whole.keys() == parted.keys()
    for key, gradient in whole.items():
        torch.testing.assert_close(parted[key], gradient, atol=3e-5, rtol=1e-3)


@every
def test_padding_is_never_read_nor_learnt(name):
    case = CASES[name]
    expected, _ = gradients(case, case.updates(case.groups(case.objective())))
    (batch,) = case.updates(case.groups(case.objective()))
    padding = torch.arange(batch.ids.shape[1]) >= batch.lengths[:, None]
    assert bool(padding.any())
    batch.ids[padding] = 33
    for key, value in batch.per_token.items():
        assert bool((value[padding] == (IGNORED if key == "targets" else 0)).all())
    if batch.source is not None:
        batch.source[batch.source_padding() == 0] = 33
    found, _ = gradients(case, [batch])
    for key, gradient in expected.items():
        torch.testing.assert_close(found[key], gradient, atol=1e-6, rtol=1e-4)


def training(name, folder, precision):
    case = CASES[name]
    folder.mkdir(exist_ok=True)
    groups = case.groups(case.objective())
    source = Examples(groups, seed=2, epochs=8, groups_per_update=-(-len(groups) // 2), budget=60)
    if case.whole_groups:
        source.batches = lambda groups: case.updates(groups)
    learners = {name: learner(module, precision) for name, module in case.modules().items()}
    return Engine(learners, source, case.objective(), folder=folder)


def released(engine):
    return {name: weights_of(one.release()) for name, one in engine.learners.items()}


@every
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_resumed_training_ends_bit_for_bit_as_an_undisturbed_one(name, precision, tmp_path):
    undisturbed = training(name, tmp_path / "whole", precision)
    undisturbed.fit()
    first = training(name, tmp_path / "parts", precision)
    for _ in range(5):
        first.progress = first.source.progress()
        first.train_step(first.source.take())
        if first.step == 3:
            first.save()
    torch.manual_seed(99)
    second = training(name, tmp_path / "parts", precision)
    assert second.resume()
    assert second.step == 3
    second.fit()
    for one, other in zip(released(undisturbed).values(), released(second).values(), strict=True):
        assert same_weights(one, other)


def losses_of(case, precision="fp32", rate=5e-3, steps=150):
    """The measure over the steps of learning one batch again and again."""
    losses = []
    modules = {name: learner(module, precision, learning_rate=rate) for name, module in case.modules().items()}
    batches = case.updates(case.groups(case.objective()))
    hook = lambda _, metrics: losses.append(metrics[case.measure]) or {}  # noqa: E731
    Engine(modules, GivenUpdates([batches] * steps), case.objective(), after_step=hook).fit()
    return losses


def learnt(losses):
    """Less than a tenth of the first loss: far below what is possible without the batch itself."""
    return min(losses[-5:]) < losses[0] / 10


@every
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_one_batch_is_learnt_by_heart(name, precision):
    assert learnt(losses_of(CASES[name], precision))


@every
def test_a_model_that_cannot_learn_is_found_out(name):
    assert not learnt(losses_of(CASES[name], rate=1e-9, steps=6))


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    write_shards(folder, [TokenisedDocument(text, len(text), "x") for text in texts(20, 3, 60)], 60)
    return Shards(folder)


def rows_of_documents(name, shards, folder, steps=8):
    folder.mkdir(exist_ok=True)
    case = CASES[name]
    objective = case.objective()
    source = DocumentRows(shards, objective.prepare, seed=4, width=24, tokens=90, steps=steps, budget=80)
    learners = {key: learner(module, name="muon") for key, module in case.modules().items()}
    return Engine(learners, source, objective, folder=folder)


@pytest.mark.parametrize("name", TEXTS)
def test_pretraining_on_documents_resumes_with_the_same_masks(name, shards, tmp_path):
    whole = rows_of_documents(name, shards, tmp_path / "whole")
    whole.fit()
    first = rows_of_documents(name, shards, tmp_path / "parts")
    for _ in range(5):
        first.progress = first.source.progress()
        first.train_step(first.source.take())
        if first.step == 3:
            first.save()
    second = rows_of_documents(name, shards, tmp_path / "parts")
    assert second.resume()
    second.fit()
    assert same_weights(released(whole)["model"], released(second)["model"])


def test_documents_are_cut_into_rows_of_like_length_and_none_is_lost(shards):
    """Masks of a later epoch are others: the index of a row goes on."""
    seen = []
    source = DocumentRows(
        shards,
        lambda tokens, index: seen.append((tokens, index)) or CASES["causal"].objective().prepare(tokens),
        seed=1,
        width=24,
        tokens=shards.tokens,
        steps=2,
        budget=80,
    )
    batches = source.take()
    assert [index for _, index in seen] == list(range(len(seen)))
    assert all(2 <= len(tokens) <= 24 for tokens, _ in seen)
    assert sum(len(tokens) for tokens, _ in seen) == shards.tokens == sum(b.tokens + len(b) for b in batches)
    joined = {tuple(shards.document(index).tolist()) for index in range(len(shards))}
    for tokens, _ in seen:
        if len(tokens) < 13:
            assert tuple(tokens) in joined
    source.take()
    assert source.take() is None
    assert len({index for _, index in seen}) == len(seen)
