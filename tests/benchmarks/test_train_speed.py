import pytest
import torch

import train_speed
from headwater.models.layout import save_model
from headwater.models.model import Model
from headwater.models.presets import config_of
from headwater.models.settings import ModelSettings


def test_ratios_are_headwater_over_its_peers():
    seconds = {"headwater": 1.0, "transformers-autocast": 2.0, "transformers-fp32": 1.5}
    found = train_speed.result_of(seconds, tokens=100, flops_per_token=3.0, peak=600.0)
    assert found == {
        "ratio_to_transformers": pytest.approx(2.0),
        "ratio_to_transformers_fp32": pytest.approx(1.5),
        "ratio_to_transformers_best": pytest.approx(1.5),
        "share_of_peak": pytest.approx(0.5),
    }


def test_another_function_is_refused():
    losses = {"headwater": 6.0, "transformers-fp32": 6.01, "transformers-autocast": 6.02}
    train_speed.compare_losses(losses)
    with pytest.raises(SystemExit, match="headwater starts at the loss"):
        train_speed.compare_losses({**losses, "headwater": 5.0})
    with pytest.raises(SystemExit):
        train_speed.compare_losses({**losses, "headwater": float("nan")})


@pytest.mark.parametrize("peer_rows", [4, 2])
def test_both_sides_take_the_same_steps(tmp_path, peer_rows):
    pytest.importorskip("transformers")
    model = Model(config_of(ModelSettings(layers=1, d_model=16, heads=2, context=8), 300)).initialise(1)
    save_model(model, tmp_path, pad=0, eos=1)
    ids = torch.randint(0, 300, (4, 9), generator=torch.Generator().manual_seed(1))
    own = train_speed.headwater_way(model, ids, "fp32", rows_per_batch=2)
    theirs = train_speed.transformers_way(tmp_path, ids, autocast=False, rows=peer_rows)
    first, second = [own() for _ in range(3)], [theirs() for _ in range(3)]
    assert first == pytest.approx(second, abs=1e-4)
    assert first[2] < first[0]
