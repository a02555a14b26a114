"""From rankings in the store to rows: what is learnt, what is left out, what is refused."""

from __future__ import annotations

import json

import pytest
import torch

from headwater.errors import UserError
from headwater.feedback.annotator_names import ANONYMOUS
from headwater.feedback.judgements import Judgement
from headwater.feedback.store.reader import Ranking
from headwater.feedback.store.store import Store
from headwater.models.layout import load_model, save_model
from headwater.models.settings import LoraSettings
from headwater.objectives.preference import Preference
from headwater.rlhf.reward_training import RATERS, grades, ranking_rows, rankings_by_rater, train_reward_model
from headwater.rlhf.scoring import raw_scores
from headwater.rlhf.settings import RewardSettings
from headwater.training.settings import OptimiserSettings
from tiny import same_weights, tiny_model, weights_of
from words import small_tokenizer

TEXTS = {1: "We carry the water.", 2: "It disappointed everybody.", 3: "", 4: "今天天气很好"}


def ranking(groups, annotator=None, strength=None, means=None, number=1):
    ids = [response for group in groups for response in group]
    return Ranking(
        id=number,
        prompt=1,
        conversation=[{"role": "user", "content": "Write."}],
        responses={response: TEXTS[response] for response in ids},
        groups=groups,
        means=means or {},
        derived=annotator is None,
        annotator=annotator,
        strength=strength,
    )


def rows(*rankings, raters=()):
    return ranking_rows(rankings, Preference(), small_tokenizer(), 64, raters)


def test_an_empty_answer_is_an_answer():
    (group,) = rows(ranking([[1], [3], [2]]))
    tokenizer = small_tokenizer()
    assert len(group) == 3
    assert group[1].ids.tolist()[-2:] == [tokenizer.assistant, tokenizer.end_of_turn]
    assert [row.per_row["place"] for row in group] == [0, 1, 2]


def test_rankings_that_contradict_each_other_are_all_learnt():
    assert len(rows(ranking([[1], [2]], "Ada"), ranking([[2], [1]], "Bob"))) == 2


def test_a_ranking_without_any_order_is_left_out():
    assert len(rows(ranking([[1, 2]]), ranking([[1], [2]]))) == 1


@pytest.mark.parametrize("useless", [[], [ranking([[1, 2, 4]])], [ranking([[1]])]])
def test_no_order_at_all_is_one_sentence(useless):
    with pytest.raises(UserError, match="no ranking with two different places"):
        rows(*useless)


def test_a_long_dialogue_loses_its_beginning_and_is_learnt():
    (whole,) = rows(ranking([[1], [2]]))
    (cut,) = ranking_rows([ranking([[1], [2]])], Preference(), small_tokenizer(), 5)
    assert [row.ids.tolist() for row in cut] == [row.ids[-5:].tolist() for row in whole]


def test_grades_are_mean_ratings_or_the_strength_of_a_pair():
    assert grades(ranking([[1], [2]], means={1: 2.5, 2: 1.0})) == {1: 2.5, 2: 1.0}
    assert grades(ranking([[2], [1]], "Ada", strength=2.0)) == {2: 2.0, 1: 0.0}
    assert grades(ranking([[2, 1]], "Ada", strength=2.0)) == {}
    (group,) = rows(ranking([[2], [1]], "Ada", strength=2.0))
    assert [row.per_row["grade"] for row in group] == [2.0, 0.0]


def test_raters_are_people_who_ranked():
    said = [ranking([[1], [2]], name) for name in (None, "Bob", "Ada", "Bob", ANONYMOUS, "simulated:one")]
    assert rankings_by_rater(said) == {"Ada": 1, "Bob": 2, "simulated:one": 1}
    groups = rows(*said, raters=["Ada", "Bob"])
    assert [group[0].per_row["rater"] for group in groups] == [-1, 1, 0, 1, -1, -1]


def test_the_store_tells_the_strength_of_a_pair_and_who_said_it(tmp_path):
    with Store(tmp_path / "feedback.db") as store:
        prompt = store.add_prompt([{"role": "user", "content": "Write."}], source="films", split="train")
        one, other = (store.add_response(prompt, text) for text in ("good", "bad"))
        ada = store.add_annotator("Ada")
        said = {"client_id": "a", "annotator": ada, "prompt": prompt}
        store.judge(Judgement(kind="pair", ranking=[[one], [other]], strength=3.0, **said))
        (found,) = store.rankings("train")
        assert (found.annotator, found.strength) == ("Ada", 3.0)
        for client, groups, word in (
            ("b", [[one], [99]], "not among the answers"),
            ("c", [[one], [other, one]], "names response 1 twice"),
            ("d", [], "must be a list of groups"),
        ):
            bad = {**said, "client_id": client}
            with pytest.raises(UserError, match=word):
                store.judge(Judgement(kind="ranking", ranking=groups, **bad))


QUICK = {"epochs": 4, "batch_rankings": 2, "optimiser": OptimiserSettings(learning_rate=3e-3)}


def trained(folder, rankings, backbone=None, **changes):
    settings = RewardSettings(**(QUICK | changes))
    backbone = backbone or tiny_model(vocabulary=394)
    return train_reward_model(
        backbone, rankings, small_tokenizer(), settings, seed=1, folder=folder, label="reward", longest=60
    )


def test_with_raters_their_reliability_is_written_down_and_the_model_has_no_part_of_it(tmp_path):
    said = [ranking([[1], [2]], "Ada", number=index) for index in range(6)]
    said += [ranking([[2], [1]], "Bob", number=9)]
    model = trained(tmp_path, said, raters=True, epochs=20)
    found = json.loads((tmp_path / RATERS).read_text())
    assert {name: one["rankings"] for name, one in found.items()} == {"Ada": 6, "Bob": 1}
    assert found["Ada"]["reliability"] > found["Bob"]["reliability"]
    assert weights_of(model).keys() == weights_of(trained(tmp_path / "plain", said)).keys()


def test_derived_rankings_have_no_raters_and_are_learnt_as_without(tmp_path, capsys):
    derived = [ranking([[1], [4], [2]])] * 3
    plain = trained(tmp_path / "plain", derived)
    aware = trained(tmp_path / "aware", derived, raters=True)
    assert "no ranking tells which person made it" in capsys.readouterr().err
    assert same_weights(weights_of(plain), weights_of(aware))
    assert not (tmp_path / "aware" / RATERS).exists()


@pytest.mark.parametrize("changes", [{"loss": "plackett-luce"}, {"margin": 0.5}])
def test_other_losses_teach_something_else(tmp_path, changes):
    graded = [ranking([[1], [4], [2]], means={1: 3.0, 4: 1.0, 2: -2.0})] * 3
    plain, other = trained(tmp_path / "plain", graded), trained(tmp_path / "other", graded, **changes)
    assert not same_weights(weights_of(plain), weights_of(other))


ENCODERS = [{"form": "encoder"}, {"form": "encoder", "pooler": True, "positions": "learned"}]
PAIR = {"form": "encoder-decoder", "decoder_layers": 1, "decoder_start": 0}


@pytest.mark.parametrize("encoder", [*ENCODERS, PAIR], ids=["mean", "first token", "encoder-decoder"])
@pytest.mark.parametrize("lora", [None, LoraSettings(rank=4)], ids=["all weights", "lora"])
def test_an_encoder_becomes_a_reward_model(tmp_path, encoder, lora):
    said = [ranking([[1], [4], [2]])] * 3
    model = trained(tmp_path / "training", said, tiny_model("hidden", vocabulary=394, **encoder), epochs=20, lora=lora)
    save_model(model, tmp_path / "model", pad=0, eos=4)
    loaded = load_model(tmp_path / "model")
    dialogues = [row.ids.tolist() for row in rows(said[0])[0]]
    best, second, worst = raw_scores(loaded, dialogues).tolist()
    assert best > second > worst
    assert raw_scores(model.eval(), dialogues).tolist() == [best, second, worst]


@pytest.mark.parametrize("encoder", [*ENCODERS, PAIR], ids=["mean", "first token", "encoder-decoder"])
def test_padding_is_no_part_of_what_an_encoder_reads(encoder):
    model = tiny_model("reward", **encoder).eval()
    with torch.no_grad():
        model.backbone.embedding.weight.mul_(20)
    dialogues = [[5, 6, 7], list(range(5, 40)), [8]]
    alone = torch.cat([raw_scores(model, [one]) for one in dialogues])
    torch.testing.assert_close(raw_scores(model, dialogues), alone)


def test_an_encoder_decoder_must_name_the_token_that_answers_begin_with(tmp_path):
    pair = tiny_model(vocabulary=394, form="encoder-decoder", decoder_layers=1)
    with pytest.raises(UserError, match="set decoder_start"):
        trained(tmp_path, [ranking([[1], [2]])], pair)
