"""What every training must satisfy: accumulated = full batch, resumed = undisturbed, bf16 learns with fp32 masters."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from headwater.corpus.shards import Shards, TokenisedDocument, write_shards
from headwater.objectives.causal import CausalLM
from headwater.objectives.preference import Preference
from headwater.training.batch import collate, split_by_tokens
from headwater.training.engine import Engine
from headwater.training.settings import OptimiserSettings, ScheduleSettings
from headwater.training.source import DocumentStream, Examples, GroupedExamples
from tiny import GivenUpdates, learner, lively_model, same_weights, tiny_model, weights_of


def rows(count=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, 20, (count,), generator=generator).tolist()
    return [CausalLM().prepare(torch.randint(5, 60, (n,), generator=generator).tolist()) for n in lengths]


def gradients(batches, objective=None, model=None):
    """The update's gradients before the optimiser sees them."""
    model = model or lively_model()
    name = "model" if model.kind == "language-model" else model.kind
    engine = Engine({name: learner(model)}, GivenUpdates([]), objective or CausalLM())
    found = {}
    engine.update = lambda: found.update({n: p.grad.clone() for n, p in model.named_parameters()}) or {}
    return found, engine.train_step(batches)


@pytest.mark.parametrize("split", [1, 2, 4, 9])
def test_accumulated_is_the_full_batch_whichever_way_it_is_split(split):
    every = rows()
    whole, metrics = gradients([collate(every)])
    parts, others = gradients([collate(every[start::split]) for start in range(split)])
    assert others["loss"] == pytest.approx(metrics["loss"], rel=1e-5)
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, atol=2e-5, rtol=1e-4)


def test_the_mean_is_over_tokens_not_over_micro_batches():
    """A short and a long row: the long one counts by its tokens."""
    short, long = CausalLM().prepare([5, 6]), CausalLM().prepare(list(range(5, 25)))
    _, metrics = gradients([collate([short]), collate([long])])
    model = lively_model()
    total = sum(float(CausalLM().loss({"model": model}, collate([row]))["loss"].sum.detach()) for row in (short, long))
    assert metrics["loss"] == pytest.approx(total / 20, rel=1e-5)


def test_rankings_accumulate_exactly_too():
    objective = Preference()
    groups = [objective.prepare([[5, 6], [7, 8, 9], [10]], [0, 1, 1], index) for index in range(3)]
    groups += [objective.prepare([[11, 5], [6]], [1, 0], 9)]
    found = [
        gradients(
            GroupedExamples(groups, seed=0, epochs=1, groups_per_update=4, budget=budget).take(),
            objective,
            tiny_model("reward"),
        )
        for budget in (1, 1000)
    ]
    for name, gradient in found[0][0].items():
        torch.testing.assert_close(found[1][0][name], gradient, atol=1e-6, rtol=1e-4)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    generator = torch.Generator().manual_seed(3)
    documents = []
    for _ in range(20):
        size = int(torch.randint(3, 40, (), generator=generator))
        documents.append(
            TokenisedDocument([*torch.randint(5, 60, (size,), generator=generator).tolist(), 1], size, "x")
        )
    write_shards(folder, documents, 60)
    return folder


OPTIMISERS = get_args(OptimiserSettings.model_fields["name"].annotation)


def pretraining(shards, folder, precision="fp32", optimiser="muon", steps=8):
    folder.mkdir(exist_ok=True)
    source = DocumentStream(Shards(shards), seed=4, width=16, rows=6, steps=steps, rows_per_batch=4)
    schedule = ScheduleSettings(name="cosine", warmup=0.2)
    model = tiny_model()
    return model, Engine(
        {"model": learner(model, precision, schedule, name=optimiser, weight_decay=0.01)},
        source,
        CausalLM(),
        folder=folder,
        checkpoint_every=3,
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_resuming_a_pretraining_gives_the_weights_of_an_undisturbed_one(shards, tmp_path, precision, optimiser):
    _model, engine = pretraining(shards, tmp_path / "whole", precision, optimiser)
    engine.fit()
    expected = weights_of(engine.learners["model"].release())

    _, engine = pretraining(shards, tmp_path / "parts", precision, optimiser)
    for _ in range(5):  # 3 are saved, 2 are lost
        engine.progress = engine.source.progress()
        engine.train_step(engine.source.take())
        if engine.step == 3:
            engine.save()
    torch.manual_seed(12345)
    _, engine = pretraining(shards, tmp_path / "parts", precision, optimiser)
    assert engine.resume()
    assert engine.step == 3
    engine.fit()
    assert same_weights(weights_of(engine.learners["model"].release()), expected)
    lines = [(folder / "metrics.jsonl").read_text().splitlines() for folder in (tmp_path / "whole", tmp_path / "parts")]
    assert len(lines[0]) == len(lines[1]) == 8


def test_the_order_of_documents_is_a_function_of_the_seed(shards):
    def batches(seed):
        source = DocumentStream(Shards(shards), seed=seed, width=16, rows=2, steps=20, rows_per_batch=2)
        return torch.cat([batch.ids for _ in range(20) for batch in source.take()])

    assert torch.equal(batches(1), batches(1))
    assert not torch.equal(batches(1), batches(2))


def test_every_document_is_seen_once_per_epoch(shards):
    source = DocumentStream(Shards(shards), seed=1, width=8, rows=1, steps=1, rows_per_batch=1)
    for _ in range(2):
        seen = sorted(source._next_document() for _ in range(20))
        assert seen == sorted(Shards(shards).document(index).tolist() for index in range(20))


def test_every_example_is_seen_once_per_epoch_in_another_order():
    each = rows(10)
    for index, row in enumerate(each):
        row.per_row["index"] = index
    source = Examples([[row] for row in each], seed=0, epochs=2, groups_per_update=4, budget=40)
    orders = []
    for _ in range(2):
        order = [int(i) for _ in range(3) for batch in source.take() for i in batch.per_row["index"]]
        assert sorted(order) == list(range(10))
        orders.append(order)
    assert source.take() is None
    assert orders[0] != orders[1]


def test_micro_batches_keep_to_their_budget_and_lose_no_row():
    each = rows(12)
    batches = split_by_tokens(each, 40)
    assert sum(batch.tokens for batch in batches) == sum(len(row) for row in each)
    assert all(batch.ids.numel() <= 40 or len(batch) == 1 for batch in batches)


def test_in_bf16_the_masters_stay_fp32_and_small_steps_add_up():
    """Steps far below bf16's resolution would be lost without masters: this one's 1e-4 of weights near 1 is."""
    model = tiny_model()
    one = learner(model, "bf16", learning_rate=1e-4)
    engine = Engine({"model": one}, GivenUpdates([split_by_tokens(rows(), 64)] * 40), CausalLM())
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in one.masters.values()} == {torch.float32}
    engine.fit()
    moved = (one.masters["backbone.norm.weight"].detach() - 1).abs()
    assert float(moved.max()) > 1e-3
    assert {p.dtype for p in one.release().parameters()} == {torch.float32}
    assert same_weights(weights_of(model), {name: master.detach() for name, master in one.masters.items()})


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_every_optimiser_learns(optimiser, precision):
    rate = {"sgd": 0.3, "adafactor": 3e-2}.get(optimiser, 5e-3)
    losses = []
    engine = Engine(
        {"model": learner(tiny_model(), precision, name=optimiser, learning_rate=rate)},
        GivenUpdates([split_by_tokens(rows(6), 64)] * 40),
        CausalLM(),
        after_step=lambda _, metrics: losses.append(metrics["loss"]) or {},
    )
    engine.fit()
    assert losses[-1] < losses[0] / 2


def test_bf16_follows_the_fp32_curve():
    ends = {}
    for precision in ("fp32", "bf16"):
        losses = []
        engine = Engine(
            {"model": learner(tiny_model(), precision, learning_rate=5e-3)},
            GivenUpdates([split_by_tokens(rows(6), 64)] * 25),
            CausalLM(),
            after_step=lambda _, metrics, losses=losses: losses.append(metrics["loss"]) or {},
        )
        engine.fit()
        assert losses[-1] < losses[0] / 2
        ends[precision] = losses[-1]
    assert ends["bf16"] == pytest.approx(ends["fp32"], rel=0.15)
