"""Muon against torch's own and against the singular value decomposition; who moves which parameter; the rates."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from pydantic import ValidationError

from headwater.training.optimisers import Muon, build, orthogonalise, role
from headwater.training.schedule import rate
from headwater.training.settings import OptimiserSettings, ScheduleSettings
from tiny import lively_model, tiny_model

SHAPES = [(24, 24), (16, 40), (40, 16)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_orthogonalising_keeps_the_singular_vectors_and_brings_the_values_near_1(shape):
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    found = orthogonalise(matrices, torch.float32)
    for matrix, result in zip(matrices, found, strict=True):
        left, _, right = torch.linalg.svd(matrix, full_matrices=False)
        inner = left.T @ result @ right.T
        diagonal = inner.diagonal()
        # A singular value near nothing takes more rounds than the five to come up.
        assert torch.all((diagonal > 0.1) & (diagonal < 1.3))
        assert diagonal.median() > 0.65
        assert float((inner - diagonal.diag()).abs().max()) < 1e-3, "same singular vectors"
        # The nearest orthogonal matrix points the same way.
        cosine = (result * (left @ right)).sum() / result.norm() / (left @ right).norm()
        assert float(cosine) > 0.97


def test_orthogonalising_does_not_depend_on_scale_and_stands_zero():
    matrix = torch.randn(1, 8, 8)
    torch.testing.assert_close(
        orthogonalise(matrix, torch.float32), orthogonalise(matrix * 1e4, torch.float32), atol=1e-3, rtol=1e-3
    )
    assert torch.isfinite(orthogonalise(torch.zeros(1, 4, 6), torch.float32)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_muon_moves_as_torch_s_muon_does(dtype):
    """torch computes in bf16; several steps, so that the momentum counts."""
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=generator) for shape in [*SHAPES, (16, 40)]]
    ours, theirs = ([torch.nn.Parameter(tensor.clone()) for tensor in start] for _ in range(2))
    optimisers = [
        Muon(ours, 0.02, weight_decay=0.1, dtype=dtype),
        torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, momentum=0.95, nesterov=True, adjust_lr_fn="original"),
    ]
    for _ in range(4):
        for one, two in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=generator)
            two.grad = one.grad.clone()
        for optimiser in optimisers:
            optimiser.step()
    for one, two, before in zip(ours, theirs, start, strict=True):
        moved, expected = (one - before).detach().flatten(), (two - before).detach().flatten()
        assert float(torch.cosine_similarity(moved, expected, dim=0)) > 0.999
        assert float(moved.norm() / expected.norm()) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("kind", ["language-model", "reward", "critic"])
@pytest.mark.parametrize("name", get_args(OptimiserSettings.model_fields["name"].annotation))
@pytest.mark.parametrize("tied", [True, False])
def test_each_parameter_belongs_to_exactly_one_optimiser(kind, name, tied):
    model = tiny_model(kind, tied_embeddings=tied)
    masters = dict(model.named_parameters())
    optimisers = build(model, masters, OptimiserSettings(name=name, weight_decay=0.1), torch.float32)
    moved = [id(p) for optimiser in optimisers for group in optimiser.param_groups for p in group["params"]]
    assert sorted(moved) == sorted(id(parameter) for parameter in masters.values())
    assert all(group["peak"] == group["lr"] for optimiser in optimisers for group in optimiser.param_groups)


def test_roles():
    muon, adamw = OptimiserSettings(name="muon"), OptimiserSettings()
    matrix, vector = torch.zeros(4, 4), torch.zeros(4)
    block = "backbone.blocks.0.attention.query.weight"
    assert role(block, matrix, muon) == "muon"
    assert role(block, matrix, adamw) == "decayed"
    assert role("backbone.blocks.0.mixer.weight", torch.zeros(4, 4, 3), muon) == "decayed", "Muon takes 2-D matrices"
    assert role("backbone.encoder_blocks.0.attention.query.weight", matrix, muon) == "muon"
    assert role("backbone.inputs.whole", torch.zeros(1, 1, 4), muon) == "plain", "a vector in the shape of a matrix"
    assert role("heads.reward.score.weight", matrix, muon) == "plain"
    assert role("backbone.blocks.0.attention_norm.weight", vector, muon) == "plain"


class WithTables(torch.nn.Module):
    """As an encoder with learned positions has them: tables whose names say nothing."""

    def __init__(self):
        super().__init__()
        self.blocks = torch.nn.ModuleList([torch.nn.Linear(4, 4)])
        self.positions = torch.nn.Embedding(8, 4)
        self.project = torch.nn.Linear(4, 4)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_every_table_is_an_embedding_whatever_its_name(name):
    module = WithTables()
    masters = dict(module.named_parameters())
    *_, rest = build(module, masters, OptimiserSettings(name=name, weight_decay=0.1), torch.float32)
    plain = {id(p) for group in rest.param_groups if not group["weight_decay"] for p in group["params"]}
    assert plain == {id(masters[n]) for n in ("positions.weight", "blocks.0.bias", "project.bias")}


def test_weight_decay_shrinks_matrices_and_leaves_gains_and_embeddings():
    model = lively_model()
    masters = dict(model.named_parameters())
    before = {name: parameter.detach().clone() for name, parameter in masters.items()}
    for parameter in masters.values():
        parameter.grad = torch.zeros_like(parameter)
    for optimiser in build(model, masters, OptimiserSettings(weight_decay=0.5, learning_rate=0.1), torch.float32):
        optimiser.step()
    for name, parameter in masters.items():
        decayed = ".blocks." in name and parameter.dim() == 2
        factor = 0.95 if decayed else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * factor)


def one_step(name, **settings):
    """(matrix before, its gradient, matrix after) of one step at rate 0.1; the gradient of all else is 0."""
    model = lively_model()
    masters = dict(model.named_parameters())
    matrix = masters["backbone.blocks.0.attention.query.weight"]
    for parameter in masters.values():
        parameter.grad = torch.zeros_like(parameter)
    matrix.grad = torch.randn(matrix.shape, generator=torch.Generator().manual_seed(0))
    before, gradient = matrix.detach().clone(), matrix.grad.clone()
    (optimiser,) = build(model, masters, OptimiserSettings(name=name, learning_rate=0.1, **settings), torch.float32)
    optimiser.step()
    return before, gradient, matrix.detach()


def test_sgd_moves_by_rate_times_gradient_and_its_decay_is_part_of_the_gradient():
    before, gradient, after = one_step("sgd", weight_decay=0.5)
    torch.testing.assert_close(after, before - 0.1 * (gradient + 0.5 * before))
    before, gradient, after = one_step("sgd", nesterov=True)
    torch.testing.assert_close(after, before - 0.1 * 1.9 * gradient)


def test_adam_s_first_step_is_the_sign_of_the_gradient_and_only_adamw_s_decay_is_apart():
    before, gradient, after = one_step("adamw", weight_decay=0.5)
    torch.testing.assert_close(after, before * 0.95 - 0.1 * gradient.sign(), atol=1e-5, rtol=1e-5)
    before, gradient, after = one_step("adam", weight_decay=0.5)
    torch.testing.assert_close(after, before - 0.1 * (gradient + 0.5 * before).sign(), atol=1e-5, rtol=1e-5)


def test_adafactor_holds_rows_and_columns_only():
    model = tiny_model()
    masters = dict(model.named_parameters())
    for parameter in masters.values():
        parameter.grad = torch.ones_like(parameter)
    (optimiser,) = build(model, masters, OptimiserSettings(name="adafactor"), torch.float32)
    optimiser.step()
    held = sum(value.numel() for state in optimiser.state.values() for value in state.values())
    assert held < 0.2 * sum(master.numel() for master in masters.values())


@pytest.mark.parametrize(
    "settings", [{"name": "sgd", "nesterov": True, "momentum": 0.0}, {"betas": (0.9, 1.0)}, {"name": "sdg"}], ids=str
)
def test_settings_that_no_optimiser_takes_are_refused(settings):
    with pytest.raises(ValidationError):
        OptimiserSettings(**settings)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"name": "constant"}, [1, 1, 1, 1, 1]),
        ({"name": "linear"}, [1, 0.75, 0.5, 0.25, 0]),
        ({"name": "linear", "final": 0.2}, [1, 0.8, 0.6, 0.4, 0.2]),
        ({"name": "cosine"}, [1, 0.853553, 0.5, 0.146447, 0]),
        ({"name": "cosine", "final": 0.1}, [1, 0.868198, 0.55, 0.231802, 0.1]),
        ({"name": "wsd", "decay": 0.5}, [1, 1, 1, 0.5, 0]),
        ({"name": "wsd", "decay": 0.0}, [1, 1, 1, 1, 1]),
        ({"name": "inverse-sqrt", "warmup": 0.25}, [0, 1, 0.5**0.5, 3**-0.5, 0.5]),
        ({"name": "inverse-sqrt", "warmup": 0.5}, [0, 0.5, 1, 0.816497, 0.707107]),
        ({"name": "linear", "warmup": 0.5}, [0, 0.5, 1, 0.5, 0]),
        ({"name": "wsd", "warmup": 0.25, "decay": 0.25}, [0, 1, 1, 1, 0]),
    ],
    ids=str,
)
def test_the_rate_at_quarters_of_the_work(settings, expected):
    found = [rate(ScheduleSettings(**settings), quarter / 4) for quarter in range(5)]
    assert found == pytest.approx(expected, abs=1e-5)


def test_inverse_sqrt_is_the_paper_s_formula():
    """d_model^-½ · min(step^-½, step · warmup_steps^-1½), over its peak at step = warmup_steps."""
    steps, warmup, d_model = 1000, 40, 512
    settings = ScheduleSettings(name="inverse-sqrt", warmup=warmup / steps)
    peak = d_model**-0.5 * warmup**-0.5
    for step in (1, 7, 39, 40, 41, 200, 1000):
        paper = d_model**-0.5 * min(step**-0.5, step * warmup**-1.5)
        assert rate(settings, step / steps) == pytest.approx(paper / peak)


def test_inverse_sqrt_without_a_warmup_is_refused():
    with pytest.raises(ValidationError, match="warmup"):
        ScheduleSettings(name="inverse-sqrt")


@pytest.mark.parametrize("name", get_args(ScheduleSettings.model_fields["name"].annotation))
@pytest.mark.parametrize("warmup", [0.001, 0.1, 1.0])
def test_a_rate_never_leaves_0_to_1(name, warmup):
    settings = ScheduleSettings(name=name, warmup=warmup, decay=0.3)
    assert all(0 <= rate(settings, step / 100) <= 1 for step in range(101))
