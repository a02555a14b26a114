"""The report of a study: one HTML page with everything inside, in the style of a run's report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from headwater import __version__
from headwater.manifest import Manifest
from headwater.report import wording
from headwater.report.drawing import FIRST, FOURTH, INK, SECOND, THIRD, draw
from headwater.report.plots import number, short
from headwater.studies.findings import Findings, Plot
from headwater.studies.study import StudySettings

_STYLES = (
    {"color": FIRST, "marker": "o"},
    {"color": SECOND, "linestyle": "--", "marker": "s"},
    {"color": THIRD, "linestyle": "-.", "marker": "^"},
    {"color": FOURTH, "linestyle": ":", "marker": "D"},
    {"color": INK, "linestyle": (0, (6, 2)), "marker": "v"},
)
"""Colour, dash and mark of each line; a line keeps its own on every plot that shows the same names in the same order."""


def render(name: str, settings: StudySettings, findings: Findings, trials: Sequence[Manifest]) -> str:
    """The page as one string of HTML."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=ChoiceLoader([PackageLoader("headwater.studies", "."), PackageLoader("headwater.report", ".")]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=wording.printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"duration": wording.duration, "count": wording.count, "figure": figure}
    return environment.get_template("study.html").render(
        version=__version__,
        name=name,
        study=settings.study,
        seed=settings.seed,
        findings=findings,
        plots=[(plot, lines(plot, f"plot-{index}")) for index, plot in enumerate(findings.plots)],
        trials=trials,
        settings=json.dumps(settings.model_dump(mode="json"), indent=2, ensure_ascii=False),
    )


def figure(value: Any) -> str:
    """A cell: texts as they are, whole numbers with separators, others with four significant digits."""
    if isinstance(value, str):
        return value
    found = number(value)
    if found is None:
        return wording.NOTHING
    return (f"{found:,.0f}" if found == int(found) or abs(found) >= 10_000 else f"{found:.4g}").replace("-", "−")


def lines(plot: Plot, name: str) -> Markup | None:
    """A plot as inline SVG; None where there is nothing to draw."""
    drawn = {label: [pair for pair in points if _fits(plot, *pair)] for label, points in plot.lines.items()}
    if not any(drawn.values()):
        return None

    def paint(axes: Any) -> None:
        for index, (label, pairs) in enumerate(drawn.items()):
            style = _STYLES[index % len(_STYLES)] | ({"marker": ""} if len(pairs) > 24 else {})
            axes.plot([x for x, _ in pairs], [y for _, y in pairs], label=label, **style)
        if plot.mark is not None:
            axes.axvline(plot.mark, color=INK, linestyle=":", linewidth=1.0)
        axes.set_xscale("log" if plot.log_x else "linear")
        axes.set_yscale("log" if plot.log_y else "linear")
        axes.set_xlabel(plot.x)
        axes.set_ylabel(plot.y)
        for axis, logarithmic in ((axes.xaxis, plot.log_x), (axes.yaxis, plot.log_y)):
            axis.set_major_formatter(lambda value, _: short(value))
            if logarithmic:
                axis.set_minor_formatter(lambda *_: "")
        if len(drawn) > 1:
            axes.legend()

    return draw(name, plot.title, paint, height=2.9)


def _fits(plot: Plot, x: float, y: float) -> bool:
    """Whether a point is finite, and positive where its axis is logarithmic."""
    finite = number(x) is not None and number(y) is not None
    return finite and (x > 0 or not plot.log_x) and (y > 0 or not plot.log_y)
