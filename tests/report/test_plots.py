from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

import pytest
from markupsafe import Markup
from synthetic_run import HOSTILE, METRICS

from headwater.report import plots
from headwater.report.drawing import FIRST, INK, draw
from headwater.report.material import Material
from headwater.report.page import JUDGES, charts, panels
from headwater.report.summary import summarise


def texts(svg: Markup | None) -> list[str]:
    assert svg is not None
    return [element.text or "" for element in ET.fromstring(svg).iter("text")]


def test_every_plot_of_a_whole_run_is_well_formed_and_self_contained(material: Material) -> None:
    drawn = {**charts(material, summarise(material.manifests)), **{title: svg for title, svg, _ in panels(material)}}
    assert len(drawn) == 16
    for name, svg in drawn.items():
        assert svg is not None, name
        ET.fromstring(svg)  # raises where it is not well-formed
        assert not re.search(r"https?:|xlink|<script|<style|<metadata|#0101", svg), name
        assert "currentColor" in svg, f"{name} takes the page's colours"


def test_ids_differ_between_drawings(material: Material) -> None:
    drawn = [svg for svg in charts(material, summarise(material.manifests)).values() if svg]
    ids = [found for svg in drawn for found in re.findall(r'id="([^"]*)"', svg)]
    assert len(ids) == len(set(ids))
    for svg in drawn:
        for target in re.findall(r'(?:url\(|href=")#([^)"]*)', svg):
            assert f'id="{target}"' in svg


def test_same_input_same_drawing() -> None:
    first, second = (plots.accuracy_bars(METRICS["reward"]) for _ in range(2))
    assert first == second


def test_hostile_text_in_a_drawing_is_only_text() -> None:
    def paint(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=FIRST, label=HOSTILE.replace("\x07", ""))
        axes.set_title(f'style="font-size: 9px; font-family: {INK} id="x" url(#y) <defs><style>', color=INK)
        axes.legend()

    svg = draw("hostile", HOSTILE, paint)
    root = ET.fromstring(svg.replace("\x07", ""))
    assert {element.tag for element in root.iter()} <= {"svg", "g", "path", "defs", "use", "text", "clipPath", "rect"}
    assert any("<script>alert" in text for text in texts(Markup(svg.replace("\x07", ""))))


@pytest.mark.parametrize(
    "empty",
    [
        lambda: plots.training_loss([]),
        lambda: plots.training_loss(
            [{"step": 1, "tokens": 1, "loss": math.nan}, {"step": 2, "tokens": 2, "loss": None}]
        ),
        lambda: plots.heldout_curve([{"step": 1, "tokens": 10}], []),
        lambda: plots.corpus_funnel(None, {}),
        lambda: plots.corpus_funnel("x", "y"),
        lambda: plots.accuracy_bars({"accuracy": None}),
        lambda: plots.calibration_curve([]),
        lambda: plots.win_rates({"win_rate": None, "win_rate_ci": None}, JUDGES),
        lambda: plots.ppo_panel([{"step": 1}], "x", "x", (("reward", "r"),)),
        lambda: plots.reward_against_kl([{"step": 1, "kl": 2.0}]),
    ],
)
def test_nothing_to_draw_is_none(empty: Callable[[], Markup | None]) -> None:
    assert empty() is None


def test_parts_that_are_missing_leave_the_rest() -> None:
    assert plots.accuracy_bars({"bag_of_words": 0.8, "accuracy_ci": [0.1, 0.2]}) is not None
    assert plots.win_rates({"win_rate": {"lexicon": 0.6}, "win_rate_ci": {"lexicon": None}}, JUDGES) is not None
    assert plots.heldout_curve([{"step": 2, "tokens": 8}], [{"step": 1, "bits_per_byte": 3}]) is not None
    assert plots.reward_against_kl([{"step": 1, "heldout_kl": 1.0, "heldout_reward": 0.5}], chosen=1) is not None
    assert plots.calibration_curve([{"predicted": 0.7, "observed": 0.6}]) is not None


def test_bars_tell_their_numbers() -> None:
    shown = texts(plots.win_rates(METRICS["evaluate"], JUDGES))
    assert "91.2%" in shown
    assert "70.4%" in shown
    assert "Lexicon" in shown


def test_the_expected_curve_is_placed_by_tokens_per_step() -> None:
    rows = [{"step": 10, "tokens": 4000, "bits_per_byte": 2.0}, {"step": 20, "tokens": 8000, "bits_per_byte": 1.9}]
    svg = plots.heldout_curve(rows, [{"step": 10, "bits_per_byte": 2.0}, {"step": 20, "bits_per_byte": 1.9}])
    assert svg is not None
    lines = [
        re.findall(r"[ML] ([0-9.]+) ([0-9.]+)", path)
        for path in re.findall(r'<path d="([^"]*)"[^>]*stroke-width: 1.6', svg)
    ]
    curves = [line for line in lines if len(line) == 2 and line[0][0] != line[1][0] and line[0][1] != line[1][1]]
    assert len(curves) == 2
    assert curves[0] == curves[1], "the same numbers lie on each other"


def test_points_are_finite_and_in_order() -> None:
    rows = [{"x": 2, "y": 1.0}, {"x": 1, "y": True}, {"x": 0, "y": 3}, {"x": 5, "y": math.inf}, {"y": 1}]
    assert plots.points(rows, "x", "y") == [(0, 3), (2, 1)]


def test_running_mean() -> None:
    assert plots.smoothed([(0, 1.0), (1, 3.0), (2, 5.0), (3, 7.0)], 2) == [(0, 1), (1, 2), (2, 4), (3, 6)]
