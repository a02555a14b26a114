import json

from measuring import medians, take_turns, write_json


def test_ways_take_turns_and_the_warm_up_is_not_timed():
    done = []
    seconds = take_turns({"a": lambda: done.append("a"), "b": lambda: done.append("b")}, rounds=3, warm_up=1)
    assert done == ["a", "b"] * 4
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3}


def test_medians_ignore_an_outlier():
    assert medians({"a": [1.0, 99.0, 2.0]}) == {"a": 2.0}


def test_the_file_tells_the_machine(tmp_path):
    write_json(tmp_path / "new" / "result.json", {"ratio": float("nan"), "x": 1})
    found = json.loads((tmp_path / "new" / "result.json").read_text(encoding="utf-8"))
    assert found["ratio"] is None
    assert found["x"] == 1
    assert found["machine"]["cores"]
