from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markupsafe import Markup
from synthetic_run import HOSTILE, METRICS, write_run

from headwater.report import plots
from headwater.report.material import Material, gather
from headwater.report.page import gate, render, verdict
from headwater.report.summary import summarise

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """Checks that every element is closed in order; collects elements, attributes and text."""

    def __init__(self, content: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(content)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(material: Material) -> tuple[str, Page]:
    content = render(material, summarise(material.manifests))
    return content, Page(content)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Page]:
    """The page of a whole run, and what is on it."""
    folder = tmp_path_factory.mktemp("drawn") / "quickstart"
    return page_of(gather("quickstart", write_run(folder), folder / "expected.json"))


def test_the_page_tells_the_run(drawn: tuple[str, Page]) -> None:
    content, page = drawn
    assert content.startswith("<!doctype html>")
    for fact in (
        "91.2%",
        "88.9% to 93.4%",
        "13.7%",
        "4.21 million",
        "15,876",
        "1.731",
        "214,680",
        "85.3%",
        "11 min 0 s",
        "0.67",
        "CC BY-SA 4.0",
    ):
        assert fact in page.text, fact
    assert page.elements.count("svg") == 16
    assert len(re.findall('class="pair"', content)) == 12
    assert "<b>I was</b> a bit of a mess" in content
    assert "not shown: the fourth" not in page.text, "three examples per reason"


def test_nothing_comes_from_outside(drawn: tuple[str, Page]) -> None:
    _, page = drawn
    assert not {"script", "link", "iframe", "object", "embed", "img", "base", "form"} & set(page.elements)
    for name, value in page.attributes:
        assert not name.startswith("on")
        if name in ("src", "href", "xlink:href", "action"):
            assert (value or "").startswith("#"), (name, value)
        if name == "style":
            assert "url(" not in (value or "")


def test_links_on_the_page_lead_somewhere(drawn: tuple[str, Page]) -> None:
    _, page = drawn
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {value[1:] for name, value in page.attributes if name == "href" and value} <= set(ids)


def test_hostile_text_is_shown_as_text(drawn: tuple[str, Page]) -> None:
    content, page = drawn
    assert "<script" not in content
    assert "<img" not in content
    assert content.count("</style>") == 1
    assert "\x07" not in content
    assert page.text.count("<script>alert('x')</script> & \"quoted\"") >= 5


def test_warnings_of_ppo_and_the_spread_of_an_ensemble_are_shown(tmp_path: Path) -> None:
    folders = write_run(tmp_path / "r")
    plain = render(gather("r", folders), summarise(gather("r", folders).manifests))
    assert "spread of the members" not in plain
    for stage, more in {
        "ppo": {"warnings": ["Iteration 20: the entropy fell < far: do something."]},
        "reward": {"spread_heldout": 0.251, "spread_sft": 0.377},
    }.items():
        path = folders[stage] / "manifest.json"
        manifest = json.loads(path.read_text())
        manifest["metrics"] |= more
        path.write_text(json.dumps(manifest))
    material = gather("r", folders)
    text = Page(render(material, summarise(material.manifests))).text
    assert "Iteration 20: the entropy fell < far: do something." in text
    assert "0.251" in text
    assert "0.377" in text


def test_where_several_people_judged_the_same_their_agreement_is_the_ceiling(tmp_path: Path) -> None:
    folders = write_run(tmp_path / "r")
    more = {
        "feedback": {
            "annotators": {"Ada": 9, "Bo": 9}, "tasks_of_several": 9, "same_order": 0.731, "same_order_ci": [0.65, 0.81],
            "kendall_tau": 0.46, "cohen_kappa": 0.44, "krippendorff_alpha": 0.43, "krippendorff_alpha_ci": [0.3, 0.55],
        },
        "reward": {"gate": "pairs", "rater_ceiling": 0.731},
    }  # fmt: skip
    for stage, metrics in more.items():
        path = folders[stage] / "manifest.json"
        manifest = json.loads(path.read_text())
        manifest["metrics"] |= metrics
        path.write_text(json.dumps(manifest))
    material = gather("r", folders)
    text = Page(render(material, summarise(material.manifests))).text
    assert "in 73.1% of the cases (95% interval 65.0% to 81.0%)" in text
    assert "Kendall's τ 0.46, Cohen's κ 0.44, Krippendorff's α 0.43 (95% interval 0.30 to 0.55)" in text
    assert "one person foretelling another" in text
    assert "the raters' ceiling73.1%" in text
    assert "always naming one side of a pair50.0%" in text


def test_rounds_are_ranked_where_there_are_several(tmp_path: Path) -> None:
    folders = write_run(tmp_path / "r")
    plain = render(gather("r", folders), summarise(gather("r", folders).manifests))
    assert "All rounds" not in plain
    rows = [
        {"policy": "r/sft", "strength": 0.0, "strength_ci": [0.0, 0.0], "chance": 0.5, "chance_ci": [0.5, 0.5]},
        {"policy": "r/ppo", "strength": 1.25, "strength_ci": [0.9, None], "chance": 0.777, "chance_ci": [0.711, 1.0]},
    ]
    path = folders["evaluate"] / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["metrics"]["ranking"] = {"reward_model": rows, "oracle": rows}
    path.write_text(json.dumps(manifest))
    material = gather("r", folders)
    text = Page(render(material, summarise(material.manifests))).text
    assert "All rounds beside each other" in text
    assert "Judges' reward modelr/ppo1.25–77.7%71.1% to 100.0%" in text
    assert "oracler/sft0.000.00 to 0.0050.0%" in text


def test_hostile_name_of_a_run(tmp_path: Path) -> None:
    folders = write_run(tmp_path / "run", ["samples"])
    _, page = page_of(gather(HOSTILE, folders))
    assert "script" not in page.elements


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the drawing out, which is slow and has tests of its own."""
    monkeypatch.setattr(plots, "draw", lambda *_, **__: Markup("<svg></svg>"))


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("absent", list(METRICS))
def test_one_stage_may_be_missing(tmp_path: Path, absent: str) -> None:
    stages = [stage for stage in METRICS if stage != absent]
    _, page = page_of(gather("run", write_run(tmp_path / "run", stages, expected=False)))
    assert "Where it comes from" in page.text


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("number", [0, 1, 4])
def test_a_run_on_its_way(tmp_path: Path, number: int) -> None:
    stages = list(METRICS)[:number]
    _, page = page_of(gather("run", write_run(tmp_path / "run", stages, expected=False)))
    assert "The stage evaluate has not run." in page.text
    assert ("A Transformer of 4.21 million" in page.text) == (number == 4)


def test_metrics_that_are_missing_or_odd_are_dashes(tmp_path: Path) -> None:
    folders = write_run(tmp_path / "run")
    odd = {
        "evaluate": {"win_rate": None},
        "reward": {"accuracy": "many"},
        "corpus": {"dropped": None, "kept_by_source": None},
    }
    material = gather("run", folders)
    manifests = {stage: {"stage": stage, "metrics": odd.get(stage, {})} for stage in material.manifests}
    _, page = page_of(Material(run="run", manifests=manifests))
    assert "–" in page.text


@pytest.mark.parametrize(
    ("intervals", "begins"),
    [
        ({}, "The answers before and after PPO have not"),
        ({"reward_model": [0.6, 0.7], "lexicon": [0.51, 0.6]}, "PPO helped: all 2"),
        ({"lexicon": [0.6, 0.7]}, "PPO helped: the one judge"),
        ({"reward_model": [0.3, 0.4], "lexicon": [0.41, 0.49]}, "PPO did harm"),
        ({"reward_model": [0.45, 0.55], "lexicon": [0.5, 0.6]}, "No judge sees"),
        ({"reward_model": [0.6, 0.7], "lexicon": [0.4, 0.6]}, "The judges do not agree: 1 of 2"),
    ],
)
def test_verdict_follows_the_intervals(intervals: dict[str, list[float]], begins: str) -> None:
    assert verdict({"win_rate_ci": intervals}).startswith(begins)


@pytest.mark.parametrize(
    ("interval", "length", "ridge", "says"),
    [
        (None, 0.5, 0.8, "has not been measured"),
        ([0.5, 0.6], 0.52, 0.8, "Careful"),
        ([0.48, 0.6], 0.42, 0.8, "not clearly better than always naming one side"),
        ([0.86, 0.9], 0.52, 0.84, "word counts too"),
        ([0.7, 0.8], 0.52, 0.84, "word counts still judge better"),
        ([0.82, 0.86], 0.52, 0.84, "about as good"),
        ([0.82, 0.86], 0.52, None, "length alone"),
    ],
)
def test_gate(interval: list[float] | None, length: float, ridge: float | None, says: str) -> None:
    assert says in gate({"accuracy_ci": interval, "length_baseline": length, "bag_of_words": ridge})


def test_labels_are_not_called_judgements_of_people(material: Material) -> None:
    manifests = {stage: dict(manifest) for stage, manifest in material.manifests.items()}
    for stage, more in (
        ("feedback", {"labelled": True}),
        ("reward", {"accuracy_source": "reviews-zh", "rater_ceiling": None}),
    ):
        manifests[stage]["metrics"] = {**manifests[stage]["metrics"], **more}
    _, page = page_of(replace(material, manifests=manifests))
    assert "labels of published data" in page.text
    assert "agreement between raters cannot be measured" in page.text
    assert "held-out texts with different labels" in page.text
    for said in ("judgements by people", "Krippendorff", "the raters' ceiling"):
        assert said not in page.text
    _, page = page_of(material)
    assert "judgements by people" in page.text
    assert "film-reviews whose mean ratings differ by at least 1" in page.text
