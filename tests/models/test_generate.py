"""Sampling: what is drawn, when a row ends, and that rows do not disturb each other."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import UserError
from headwater.models.generate import Generator, Sampling, generate, stream_text
from tiny import lively_model

PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14], [15, 16], [17, 18, 19]]


@pytest.fixture(scope="module")
def model():
    return lively_model()


def next_probabilities(model, prompt, temperature=1.0):
    with torch.no_grad():
        return (model(torch.tensor([prompt]))[0, -1].double() / temperature).softmax(-1)


def test_temperature_0_takes_the_likeliest_token_each_time(model):
    for prompt, answer in zip(PROMPTS, generate(model, PROMPTS, Sampling(8, 0.0), [0] * 5), strict=True):
        ids = list(prompt)
        for _ in range(8):
            ids.append(int(next_probabilities(model, ids).argmax()))
        assert answer.tokens == ids[len(prompt) :]
        assert not answer.ended


def test_an_answer_does_not_depend_on_the_rows_beside_it(model):
    """Alone, all at once, in another order, or waiting for a free slot."""
    sampling = Sampling(12, stop_tokens=(3, 20, 21, 22, 23, 24, 25))
    seeds = [1, 2, 3, 4, 5]
    together = generate(model, PROMPTS, sampling, seeds)
    assert len({len(answer.tokens) for answer in together}) > 1, "rows leave at different times"
    alone = [generate(model, [prompt], sampling, [seed])[0] for prompt, seed in zip(PROMPTS, seeds, strict=True)]
    backwards = generate(model, PROMPTS[::-1], sampling, seeds[::-1])[::-1]
    waiting = generate(model, PROMPTS, sampling, seeds, slots=2)
    for other in (alone, backwards, waiting):
        assert [answer.tokens for answer in other] == [answer.tokens for answer in together]
        for one, two in zip(other, together, strict=True):
            assert one.log_probabilities == pytest.approx(two.log_probabilities, abs=1e-4)


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 50)), min_size=1, max_size=9), st.integers(1, 5))
def test_any_number_of_prompts_through_any_number_of_slots_gives_the_answers_of_each_alone(shapes, slots):
    tiny = lively_model()
    prompts = [[(7 * seed + place) % 55 + 5 for place in range(length)] for length, seed in shapes]
    seeds = [seed for _, seed in shapes]
    sampling = Sampling(5, stop_tokens=tuple(range(0, 60, 6)))
    found = generate(tiny, prompts, sampling, seeds, slots=slots)
    assert [answer.prompt for answer in found] == prompts
    for prompt, seed, answer in zip(prompts, seeds, found, strict=True):
        assert generate(tiny, [prompt], sampling, [seed])[0].tokens == answer.tokens


def test_log_probabilities_are_those_of_the_training_path_at_the_temperature(model):
    from headwater.rlhf.episodes import log_probabilities_of

    for temperature in (1.0, 0.7):
        answers = generate(model, PROMPTS, Sampling(10, temperature, stop_tokens=(3, 30, 31)), [9, 8, 7, 6, 5])
        expected = log_probabilities_of(model, answers, temperature)
        for row, answer in zip(expected, answers, strict=True):
            assert answer.log_probabilities == pytest.approx(row[: len(answer.tokens)].tolist(), abs=1e-4)


@pytest.mark.parametrize(
    ("sampling", "prompt"),
    [
        (Sampling(1), [5]),
        (Sampling(1, 0.6), [6, 7]),
        (Sampling(1, top_k=4), [8, 9]),
        (Sampling(1, 1.3, top_p=0.8), [10]),
        (Sampling(1, 0.9, top_k=6, top_p=0.9), [11]),
    ],
    ids=["plain", "temperature", "top-k", "top-p", "all"],
)
def test_tokens_are_drawn_as_often_as_their_probability_says(sampling, prompt):
    """χ² over the tokens that are expected at least 5 times, 3,000 draws; 99.99% of right samplers pass."""
    model, draws = lively_model(factor=8.0), 3000
    weights = next_probabilities(model, prompt, sampling.temperature)
    ordered, order = weights.sort(descending=True)
    kept = []
    for place, token in enumerate(order.tolist()):
        if sampling.top_k is not None and place >= sampling.top_k:
            break
        left = float(ordered[: sampling.top_k].sum())
        if sampling.top_p is not None and float(ordered[:place].sum()) / left >= sampling.top_p:
            break
        kept.append(token)
    total = float(weights[kept].sum())
    found = Counter(a.tokens[0] for a in generate(model, [prompt] * draws, sampling, list(range(draws)), slots=draws))
    assert set(found) <= set(kept)
    statistic, cells = 0.0, 0
    for token in kept:
        expected = draws * float(weights[token]) / total
        if expected >= 5:
            statistic += (found[token] - expected) ** 2 / expected
            cells += 1
    assert cells > 2
    freedom = cells - 1
    assert statistic < freedom + 4 * (2 * freedom) ** 0.5 + 8


def test_the_stop_token_is_the_last_one_and_nothing_comes_after_it(model):
    stop = tuple(range(20, 40))
    answers = generate(model, PROMPTS * 4, Sampling(15, stop_tokens=stop), list(range(20)))
    assert any(answer.ended for answer in answers)
    for answer in answers:
        assert not set(answer.tokens[:-1]) & set(stop)
        assert answer.ended == (answer.tokens[-1] in stop)
        assert answer.ended or len(answer.tokens) == 15
        assert len(answer.tokens) == len(answer.log_probabilities)


def test_a_longer_limit_only_adds_tokens(model):
    (short,), (long,) = (generate(model, [[5, 6]], Sampling(count), [4]) for count in (5, 20))
    assert long.tokens[:5] == short.tokens


def test_an_answer_ends_where_the_context_does(model):
    (answer,) = generate(model, [list(range(5, 55))], Sampling(100, stop_tokens=()), [0])
    assert len(answer.tokens) == model.config.context - 50
    assert not answer.ended


@pytest.mark.parametrize("prompt", [[], [5] * 64, [5] * 65])
def test_a_prompt_that_leaves_no_room_is_refused(model, prompt):
    with pytest.raises(UserError, match="does not fit"):
        generate(model, [prompt], Sampling(4), [0])
    with pytest.raises(UserError, match="does not fit"):
        list(stream_text(model, prompt, Sampling(4), 0, letters))


def test_rows_may_be_admitted_while_others_are_decoded(model):
    sampling = Sampling(8)
    generator = Generator(model, 3, 32)
    first = generator.admit([[5, 6, 7]], sampling, [1])
    generator.step()
    later = generator.admit([[8, 9], [10]], Sampling(3), [2, 3])
    while generator.rows:
        generator.step()
    expected = generate(model, [[5, 6, 7]], sampling, [1]) + generate(model, [[8, 9], [10]], Sampling(3), [2, 3])
    assert [answer.tokens for answer in first + later] == [answer.tokens for answer in expected]


def test_no_prompts_give_no_answers(model):
    assert generate(model, [], Sampling(4), []) == []


def letters(tokens):
    """A third of the tokens are letters, the others two bytes of a character of three and its last byte."""
    first, last = "钻".encode()[:2], "钻".encode()[2:]
    return b"".join((chr(64 + token).encode(), first, last)[token % 3] for token in tokens).decode("utf-8", "replace")


LIVELY = 3.0
"""A temperature at which the tiny model says many things."""


def test_an_answer_ends_before_a_stop_string_and_says_so(model):
    (plain,) = generate(model, [[5, 6]], Sampling(40, LIVELY), [3], decode=letters)
    assert plain.text == letters(plain.tokens).rstrip("\ufffd")
    assert "钻" in plain.text
    assert (plain.ending, plain.ended) == ("length", False)
    for begin in range(0, len(plain.text) - 3, 2):
        stop = plain.text[begin : begin + 3].strip("\ufffd")
        if not stop:
            continue
        place, sampling = plain.text.find(stop), Sampling(40, LIVELY, stop_strings=("never", stop))
        (answer,) = generate(model, [[5, 6]], sampling, [3], decode=letters)
        assert answer.text == plain.text[:place]
        assert (answer.ending, answer.ended) == ("stop string", True)
        assert answer.tokens == plain.tokens[: len(answer.tokens)]
        assert stop in letters(answer.tokens)
        assert stop not in letters(answer.tokens[:-1])
        pieces = list(stream_text(model, [5, 6], sampling, 3, letters))
        assert "".join(pieces) == answer.text
        assert all(pieces)


def test_the_reason_of_an_ending(model):
    (stopped,) = generate(model, [[5, 6]], Sampling(30, stop_tokens=tuple(range(20, 40))), [3], decode=letters)
    assert (stopped.ending, stopped.ended) == ("stop token", True)
    assert stopped.text == letters(stopped.tokens[:-1]).rstrip("\ufffd"), "the stop token is no part of the text"
    (cut,) = generate(model, [list(range(5, 55))], Sampling(100), [0])
    assert (cut.ending, cut.ended, cut.text) == ("length", False, "")
    generator = Generator(model, 1, 32)
    (going,) = generator.admit([[5]], Sampling(2), [0])
    assert going.ending is None
    with pytest.raises(ValueError, match="decoder"):
        generate(model, [[5]], Sampling(2, stop_strings=("a",)), [0])


def test_rows_with_and_without_stop_strings_side_by_side(model):
    (plain,) = generate(model, [[5, 6]], Sampling(30, LIVELY), [3], decode=letters)
    stop = plain.text[4:6]
    generator = Generator(model, 3, 64, letters)
    answers = []
    for sampling in (Sampling(30, LIVELY, stop_strings=(stop,)), Sampling(30, LIVELY), Sampling(30, 0.0, top_k=3)):
        answers += generator.admit([[5, 6]], sampling, [3])
    while generator.rows:
        generator.step()
    assert [answer.ending for answer in answers] == ["stop string", "length", "length"]
    assert answers[1].tokens == plain.tokens
    assert answers[0].text == plain.text[: plain.text.find(stop)]


def encoder_decoder(**changes):
    sizes = {"form": "encoder-decoder", "decoder_layers": 2, "decoder_start": 1, "tied_embeddings": False}
    model = lively_model(**(sizes | changes))
    with torch.no_grad():
        model.language_model.weight.mul_(20.0)
    return model


@pytest.mark.parametrize("positions", ["rotary", "sinusoidal", "relative"])
def test_an_encoder_decoder_answers_its_sources(positions):
    """Greedy, against the whole target computed anew for each token; sources of many lengths through few slots."""
    model = encoder_decoder(positions=positions, scaled_embeddings=True)
    answers = generate(model, PROMPTS, Sampling(8, 0.0, stop_tokens=(20,)), [0] * 5, slots=2)
    assert len({tuple(answer.tokens) for answer in answers}) > 2, "answers depend on their sources"
    for source, answer in zip(PROMPTS, answers, strict=True):
        assert answer.prompt == source
        target = [1]
        for token, found in zip(answer.tokens, answer.log_probabilities, strict=True):
            with torch.no_grad():
                expected = model(torch.tensor([source]), torch.tensor([target]))[0, -1].log_softmax(-1)
            assert token == int(expected.argmax())
            assert found == pytest.approx(float(expected[token]), abs=1e-4)
            target.append(token)


def test_an_encoder_decoder_s_answers_do_not_depend_on_the_rows_beside():
    model = encoder_decoder()
    seeds, sampling = [1, 2, 3, 4, 5], Sampling(9, stop_tokens=(3, *range(20, 26)))
    together = generate(model, PROMPTS, sampling, seeds)
    alone = [generate(model, [prompt], sampling, [seed])[0] for prompt, seed in zip(PROMPTS, seeds, strict=True)]
    waiting = generate(model, PROMPTS, sampling, seeds, slots=2)
    assert [a.tokens for a in alone] == [a.tokens for a in waiting] == [a.tokens for a in together]
    (read,) = generate(model, [PROMPTS[2]], sampling, [3], decode=letters)
    assert "".join(stream_text(model, PROMPTS[2], sampling, 3, letters)) == read.text


def test_an_encoder_decoder_s_bad_sources_are_refused():
    model = encoder_decoder()
    assert len(generate(model, [[5] * 64], Sampling(100), [0])[0].tokens) == 63
    for source in ([], [5] * 65):
        with pytest.raises(UserError, match="does not fit"):
            generate(model, [source], Sampling(4), [0])
    with pytest.raises(UserError, match="decoder_start"):
        generate(lively_model(form="encoder-decoder", decoder_layers=1), [[5]], Sampling(4), [0])


def test_dropout_is_for_training_alone():
    model = lively_model(dropout=0.5)
    once, again = (generate(model.train(), PROMPTS, Sampling(6, 0.0), [0] * 5) for _ in range(2))
    assert [a.tokens for a in once] == [a.tokens for a in again]
    assert [a.tokens for a in once] == [a.tokens for a in generate(model.eval(), PROMPTS, Sampling(6, 0.0), [0] * 5)]
    assert not model.training
    (read,) = generate(model.eval(), PROMPTS[:1], Sampling(6, 0.0), [0], decode=letters)
    assert "".join(stream_text(model.train(), PROMPTS[0], Sampling(6, 0.0), 0, letters)) == read.text
    assert model.training


def read_all(generator, budget=1000):
    while generator.reading or generator.rows:
        if generator.reading:
            generator.read(budget)
        if generator.rows:
            generator.step()


@pytest.mark.parametrize("budget", [1, 4, 1000])
def test_prompts_that_are_read_piece_by_piece_have_the_answers_of_whole_ones(model, budget):
    sampling = Sampling(8, stop_tokens=(3, 20, 21, 22))
    expected = generate(model, PROMPTS, sampling, [1, 2, 3, 4, 5])
    generator = Generator(model, 5, 32)
    answers = [generator.begin(prompt, sampling, seed) for seed, prompt in enumerate(PROMPTS, 1)]
    assert generator.free == 0
    with pytest.raises(ValueError, match="more rows than slots"):
        generator.begin([5], sampling, 1)
    read_all(generator, budget)
    assert [answer.tokens for answer in answers] == [answer.tokens for answer in expected]
    assert generator.free == 5


def test_a_long_prompt_is_read_between_the_steps_of_the_others(model):
    generator = Generator(model, 2, 64)
    (short,) = generator.admit([[5, 6]], Sampling(20), [1])
    generator.begin(list(range(5, 35)), Sampling(4), 2)
    for tokens in range(2, 7):
        generator.read(6)
        generator.step()
        assert len(short.tokens) == tokens
    assert not generator.reading


def test_what_an_earlier_row_has_read_is_not_read_again(model):
    sampling, turn = Sampling(6, 0.0), list(range(10, 30))
    generator = Generator(model, 2, 64, kept=2)
    first = generator.begin(turn, sampling, 0)
    read_all(generator)
    dialogue = [*turn, *first.tokens, 40, 41]
    second = generator.begin(dialogue, sampling, 0)
    read_all(generator)
    assert (first.reused, second.reused) == (0, len(turn) + 5)  # its last token was never fed
    assert second.tokens == generate(model, [dialogue], sampling, [0])[0].tokens
    again = generator.begin(dialogue, sampling, 0)
    assert again.reused == len(dialogue) - 1, "the last token is read anew: the answer begins with what follows it"
    beside = generator.begin([*turn, 50], sampling, 0)
    assert beside.reused == len(turn)
    read_all(generator)
    assert again.tokens == second.tokens
    assert beside.tokens == generate(model, [[*turn, 50]], sampling, [0])[0].tokens


def test_what_is_read_right_now_is_worth_waiting_for(model):
    generator, prompt = Generator(model, 4, 64, kept=2), list(range(10, 40))
    generator.begin(prompt, Sampling(3), 0)
    assert generator.is_being_read(prompt)
    assert not generator.is_being_read([50, *prompt])
    assert not generator.is_being_read(prompt[:8]), "too short to wait for"
    generator.read(100)
    assert not generator.is_being_read(prompt)
    assert generator.begin(prompt, Sampling(3), 1).reused == len(prompt) - 1


def test_an_answer_nobody_waits_for_leaves_and_the_others_go_on(model):
    sampling, seeds = Sampling(9), [1, 2, 3, 4, 5]
    expected = generate(model, PROMPTS, sampling, seeds)
    for dropped in range(5):
        generator = Generator(model, 5, 32, kept=2)
        answers = [generator.begin(prompt, sampling, seed) for prompt, seed in zip(PROMPTS, seeds, strict=True)]
        generator.read(9)  # some are read, some are not
        assert generator.rows
        assert generator.reading
        generator.drop(answers[dropped])
        generator.drop(answers[dropped])
        assert generator.free == 1
        read_all(generator, 2)
        for index in set(range(5)) - {dropped}:
            assert answers[index].tokens == expected[index].tokens


@settings(max_examples=40)
@given(st.data())
def test_any_schedule_gives_each_prompt_the_answer_that_it_has_alone(data):
    """Prompts that begin alike or not come and go at any time; with and without kept rows, read in pieces of any size."""
    tiny = lively_model()
    kept, slots = data.draw(st.integers(0, 3)), data.draw(st.integers(1, 4))
    generator = Generator(tiny, slots, 40, kept=kept)
    sampling = Sampling(6, stop_tokens=tuple(range(0, 60, 6)))
    stems = [[7 * place % 55 + 3 for place in range(12)], [11 * place % 55 + 4 for place in range(9)]]
    begun, dropped = [], set()
    for _ in range(data.draw(st.integers(1, 25))):
        act = data.draw(st.sampled_from(["begin", "begin", "read", "step", "drop"]))
        if act == "begin" and generator.free:
            stem = data.draw(st.sampled_from(stems))
            prompt = [
                *stem[: data.draw(st.integers(1, len(stem)))],
                *data.draw(st.lists(st.integers(5, 50), max_size=4)),
            ]
            begun.append((prompt, len(begun), generator.begin(prompt, sampling, len(begun))))
        elif act == "read" and generator.reading:
            generator.read(data.draw(st.integers(1, 30)))
        elif act == "step" and generator.rows:
            generator.step()
        elif act == "drop" and begun:
            victim = data.draw(st.integers(0, len(begun) - 1))
            if begun[victim][2].ending is None:
                dropped.add(victim)
            generator.drop(begun[victim][2])
    read_all(generator, 7)
    assert generator.free == slots
    for index, (prompt, seed, answer) in enumerate(begun):
        if index not in dropped:
            assert answer.tokens == generate(tiny, [prompt], sampling, [seed])[0].tokens


def test_the_likeliest_tokens_are_told_where_they_are_asked_for(model):
    asked, plain = Sampling(5, 0.7, alternatives=3), Sampling(5, 0.7)
    generator = Generator(model, 2, 32)
    (told,) = generator.admit([PROMPTS[0]], asked, [1])
    (silent,) = generator.admit([PROMPTS[1]], plain, [2])
    read_all(generator)
    assert silent.alternatives == []
    assert len(told.alternatives) == len(told.tokens)
    ids = list(PROMPTS[0])
    for token, chosen, others in zip(told.tokens, told.log_probabilities, told.alternatives, strict=True):
        expected = next_probabilities(model, ids, 0.7).log().sort(descending=True)
        assert [other for other, _ in others] == expected.indices[:3].tolist()
        assert [value for _, value in others] == pytest.approx(expected.values[:3].tolist(), abs=1e-4)
        if token in dict(others):
            assert dict(others)[token] == pytest.approx(chosen, abs=1e-6)
        ids.append(token)
