"""Out of the store, into a file, into another store: the same rankings, and what a reward model's training reads of them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from trl.data_utils import is_conversational, maybe_apply_chat_template

from headwater.errors import UserError
from headwater.feedback.formats.exports import LAYOUTS, export
from headwater.feedback.importing import import_file
from headwater.feedback.judgements import Groups, Judgement, Verdict
from headwater.feedback.queue.queue import Queue
from headwater.feedback.store.reader import Ranking
from headwater.feedback.store.store import Store


def weak_orders(items: list[int]) -> list[Groups]:
    """Every ranking with ties of all the items: 75 of 4."""
    if not items:
        return [[]]
    return [
        [list(top), *below]
        for size in range(1, len(items) + 1)
        for top in itertools.combinations(items, size)
        for below in weak_orders([item for item in items if item not in top])
    ]


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Store]:
    """All 75 rankings of four answers, each by somebody else, and some that leave answers out."""
    with Store(tmp_path / "full.db", clock=lambda: 1_700_000_000) as store:
        prompt = store.add_prompt(
            [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "写一行影评。\n\"<b>\" 'x'"}],
            source="films",
            split="train",
        )
        answers = [
            store.add_response(prompt, text, model="m1" if place else None)
            for place, text in enumerate(("好", "two\nlines", "</script>", "4"))
        ]
        orders = weak_orders(answers)
        assert len(orders) == 75
        orders += [[[one] for one in order] for order in itertools.permutations(answers, 2)]
        for number, groups in enumerate(orders):
            person = store.add_annotator(f"person {number}")
            shuffled = [group[::-1] for group in groups]
            store.judge(
                Judgement(kind="ranking", client_id=str(number), annotator=person, prompt=prompt, ranking=shuffled)
            )
        yield store


def meaning(ranking: Ranking) -> tuple[object, ...]:
    """What a reward model learns from a ranking, whatever its ids."""
    texts = [sorted(ranking.responses[id_] for id_ in group) for group in ranking.groups]
    return ranking.annotator, ranking.conversation, texts, ranking.strength, sorted(ranking.responses.values())


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_every_weak_order_comes_back(full: Store, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"rankings.{ending}"
    assert export(full, path, "rankings", "train") == 75 + 12
    with Store(tmp_path / "again.db") as again:
        assert import_file(again, path).startswith("87 rankings and pairs into")
        expected = sorted(map(meaning, full.rankings("train")), key=repr)
        assert sorted(map(meaning, again.rankings("train")), key=repr) == expected
        assert {row.source for row in again_prompts(again)} == {"films"}
        with again.reading() as connection:
            models = {row.text: row.model for row in connection.exec_driver_sql("SELECT text, model FROM response")}
        assert models == {"好": None, "two\nlines": "m1", "</script>": "m1", "4": "m1"}
        # Known already: nothing comes in twice.
        assert "0 rankings and pairs (87 stood twice or were known already)" in import_file(again, path)
        assert again.problems() == []


def again_prompts(store: Store) -> list:  # type: ignore[type-arg]
    with store.reading() as connection:
        return list(connection.exec_driver_sql("SELECT source, split FROM prompt"))


def test_pairs_are_all_that_the_rankings_imply_and_come_back(full: Store, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    count = export(full, path, "pairs", "train")
    implied = {
        (ranking.annotator, ranking.responses[better], ranking.responses[worse])
        for ranking in full.rankings("train")
        for above, below in itertools.combinations(ranking.groups, 2)
        for better in above
        for worse in below
    }
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == count == len(implied)
    said = {(line["annotator"], line["chosen"][0]["content"], line["rejected"][0]["content"]) for line in lines}
    assert said == implied
    with Store(tmp_path / "again.db") as again:
        import_file(again, path)
        back = {
            (ranking.annotator, *(ranking.responses[group[0]] for group in ranking.groups))
            for ranking in again.rankings("train")
        }
    assert back == implied


def test_trl_takes_the_pairs_as_they_are(full: Store, tmp_path: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    path = tmp_path / "pairs.jsonl"
    export(full, path, "pairs", "train")
    line = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"x": 0}, "x")))
    tokenizer.chat_template = (
        "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    example = {name: line[name] for name in ("prompt", "chosen", "rejected")}
    assert is_conversational(example)
    told = maybe_apply_chat_template(example, tokenizer)
    assert told["prompt"].endswith("<assistant>")
    assert told["chosen"] == line["chosen"][0]["content"]
    assert told["rejected"] == line["rejected"][0]["content"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_parquet_holds_the_lines_of_json(full: Store, tmp_path: Path, layout: str) -> None:
    full.judge(
        Judgement(kind="demonstration", client_id="own", annotator=1, prompt=1, edit="一部好电影。", note="short")
    )
    export(full, tmp_path / "a.jsonl", layout, "train")
    export(full, tmp_path / "a.parquet", layout, "train")
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()]
    assert pq.read_table(tmp_path / "a.parquet").to_pylist() == lines


def test_edits_and_demonstrations_come_back_as_demonstrations(store: Store, tmp_path: Path) -> None:
    prompt = store.add_prompt([{"role": "user", "content": "Hi"}], source="mine", split="select")
    answers = [store.add_response(prompt, text) for text in ("no", "yes")]
    ada = store.add_annotator("Ada")
    queue = Queue(store)
    ranked = store.add_task("ranking", prompt, answers, shown=answers)
    own = store.add_task("demonstration", prompt, [], shown=[])
    queue.judge(ada, ranked, "1", Verdict(ranking=[answers], edit="Yes!", edit_of=answers[1]))
    first = queue.judge(ada, own, "2", Verdict(edit="Hello"))
    queue.judge(ada, own, "3", Verdict(edit="Hello."), supersedes=first)
    assert export(store, tmp_path / "sft.jsonl", "sft", "select") == 2
    lines = [json.loads(line) for line in (tmp_path / "sft.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["messages"][-1] for line in lines] == [
        {"role": "assistant", "content": "Yes!"},
        {"role": "assistant", "content": "Hello."},
    ]
    with Store(tmp_path / "again.db") as again:
        assert import_file(again, tmp_path / "sft.jsonl").startswith("2 demonstrations into")
        assert {(row["kind"], row["edit"]) for row in again.judgements()} == {
            ("demonstration", "Yes!"), ("demonstration", "Hello."),
        }  # fmt: skip
        assert export(again, tmp_path / "back.jsonl", "sft", "select") == 2
        back = [json.loads(line) for line in (tmp_path / "back.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(line["messages"], line["annotator"], line["split"]) for line in back] == [
        (line["messages"], line["annotator"], line["split"]) for line in lines
    ]


def test_an_export_is_of_one_split_and_of_what_is_learnt(store: Store, tmp_path: Path) -> None:
    people = [store.add_annotator(name) for name in ("Ada", "Bo")]
    eve = store.add_annotator("Eve", "adjudicator")
    queue = Queue(store)
    for split in ("train", "judge"):
        prompt = store.add_prompt([{"role": "user", "content": split}], source="s", split=split)
        answers = [store.add_response(prompt, f"{split} {i}") for i in range(2)]
        task = store.add_task("pair", prompt, answers, shown=answers, wanted=2)
        gold = store.add_task("pair", prompt, answers, shown=answers, gold=[[answers[0]], [answers[1]]])
        for place, person in enumerate(people):
            order = [[answers[place]], [answers[1 - place]]]
            queue.judge(person, task, f"{split} {person}", Verdict(ranking=order, strength=1.0))
            queue.judge(person, gold, f"{split} {person} gold", Verdict(ranking=order, edit="better"))
        if split == "train":
            queue.judge(eve, task, "eve", Verdict(ranking=[[answers[1]], [answers[0]]], strength=3.0))
    export(store, tmp_path / "train.jsonl", "pairs", "train")
    (line,) = (tmp_path / "train.jsonl").read_text(encoding="utf-8").splitlines()
    found = json.loads(line)
    assert (found["annotator"], found["chosen"][0]["content"], found["strength"]) == ("Eve", "train 1", 3.0)
    assert export(store, tmp_path / "judge.jsonl", "pairs", "judge") == 2
    assert "train" not in (tmp_path / "judge.jsonl").read_text(encoding="utf-8")
    for layout, split, path, message in (
        ("sft", "train", "a.jsonl", "Nobody said anything of the split `train`"),
        ("pairs", "prompt", "a.jsonl", "no split `prompt`: it has judge, train"),
        ("all", "train", "a.jsonl", "no layout"),
        ("pairs", "train", "a.csv", "neither .jsonl nor .parquet"),
        ("pairs", "train", "gone/a.jsonl", "no folder"),
    ):
        with pytest.raises(UserError, match=message):
            export(store, tmp_path / path, layout, split)


def test_what_begins_alike_stays_on_one_side(full: Store, tmp_path: Path) -> None:
    path = tmp_path / "rankings.jsonl"
    export(full, path, "rankings", "train")
    lines = path.read_text(encoding="utf-8").splitlines()
    moved = json.loads(lines[1]) | {"split": "judge"}
    mixed = tmp_path / "mixed.jsonl"
    mixed.write_text(f"{lines[0]}\n{json.dumps(moved)}\n", encoding="utf-8")
    with Store(tmp_path / "again.db") as again:
        with pytest.raises(UserError, match=r"mixed.jsonl, line 2 is of the split `judge`, but .* of `train`"):
            import_file(again, mixed)
        assert again.counts()["judgement"] == 0
        import_file(again, path)
        moved["annotator"] = "Zoe"
        mixed.write_text(json.dumps(moved), encoding="utf-8")
        with pytest.raises(UserError, match="is of the split `judge`"):
            import_file(again, mixed)
        # Without a split of its own, it goes where what begins alike is.
        moved.pop("split")
        mixed.write_text(json.dumps(moved), encoding="utf-8")
        import_file(again, mixed)
        assert {row.split for row in again_prompts(again)} == {"train"}
        mixed.write_text(json.dumps(moved | {"split": "training"}), encoding="utf-8")
        with pytest.raises(UserError, match="split `training`: use one of train, select, judge, prompt"):
            import_file(again, mixed)
