from argparse import Namespace

import pytest

pytest.importorskip("fastapi")

import serve_speed
from served import running, write_model


def test_ratios_are_above_1_where_headwater_is_better():
    found = serve_speed.compared({"headwater": 30.0, "transformers": 10.0}, {"headwater": 0.5, "transformers": 2.0})
    assert found["ratio"] == 3.0
    assert found["first_token_ratio"] == 4.0


def test_no_question_is_asked_twice():
    asked = [
        question
        for clients in (1, 4, 16)
        for turn in range(3)
        for own in serve_speed.questions_for(clients, 2, turn)
        for question in own
    ]
    assert len(set(asked)) == len(asked)


def test_clients_ask_at_once_and_read_the_streams(tmp_path):
    with running([write_model(tmp_path / "tiny")]) as found:
        seconds, answered = serve_speed.load(found.port, "tiny", [["The river", "The town"], ["The museum"]], 5)
    assert seconds > 0
    assert len(answered) == 3
    assert all(0 < each.first_token <= seconds for each in answered)


def test_a_model_is_asked_for_by_the_name_that_the_server_gives_it(tmp_path):
    alone, made = write_model(tmp_path / "tiny"), write_model(tmp_path / "own" / "ppo" / "model")
    (tmp_path / "own" / "recipe.yaml").write_text("run: own\n")
    assert (serve_speed.called(alone), serve_speed.called(made)) == ("tiny", "own/ppo")


@pytest.mark.slow
def test_both_servers_are_measured(tmp_path, monkeypatch):
    pytest.importorskip("transformers")
    given = Namespace(
        model=write_model(tmp_path / "tiny"),
        clients=[1, 2],
        requests=1,
        new_tokens=4,
        rounds=1,
        precision="fp32",
        threads=1,
    )
    monkeypatch.setattr(
        serve_speed, "compared", lambda speeds, firsts: {"tokens_per_second": speeds, "first_token": firsts}
    )
    found = serve_speed.measure(given)  # an untrained model's tokens are often no text, so there may be no ratio
    assert set(found["clients"]) == {"1", "2"}
    for result in found["clients"].values():
        assert set(result["tokens_per_second"]) == {"headwater", "transformers"}
        assert all(seconds > 0 for seconds in result["first_token"].values())
