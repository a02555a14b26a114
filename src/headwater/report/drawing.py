"""From a matplotlib figure to an SVG that lives inside a page and takes the page's colours, light or dark."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from typing import Any

from markupsafe import Markup, escape

INK = "#010101"
"""Axes and text: becomes the page's text colour."""

FIRST, SECOND, THIRD, FOURTH = "#010102", "#010103", "#010104", "#010105"
"""Series: become the page's `--first` … `--fourth` (blue, orange, green, purple; distinct without colour vision, and
each series has a dash or a mark of its own besides)."""

_PAGE_COLOURS = {
    INK: "currentColor",
    FIRST: "var(--first)",
    SECOND: "var(--second)",
    THIRD: "var(--third)",
    FOURTH: "var(--fourth)",
}

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 9.0,
    "figure.constrained_layout.use": True,
    "savefig.transparent": True,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.linewidth": 0.6,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.0,
}


def draw(name: str, label: str, paint: Callable[[Any], None], width: float = 4.6, height: float = 2.6) -> Markup:
    """Draws one pair of axes with `paint(axes)` and returns it as inline SVG. `width`, `height` in inches.

    `name` (letters, digits, hyphens) keeps the ids of several drawings on one page apart; `label` is read out to those
    who cannot see it. The same input gives the same text.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = Figure(figsize=(width, height))
        paint(figure.subplots())
        content = io.StringIO()
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _inline(content.getvalue(), name, label)


def _inline(document: str, name: str, label: str) -> Markup:
    """A standalone SVG file made fit for a page: no prologue, no addresses, ids and colours of this page."""
    body = document[document.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, count=1, flags=re.DOTALL)
    size = re.search(r'viewBox="[^"]*"', body)
    inner = body[body.index(">") + 1 :]
    inner = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", inner, count=1, flags=re.DOTALL)
    inner = re.sub(r'<g id="[^"<>]*"', "<g", inner)
    inner = re.sub(r'\bid="', f'id="{name}-', inner)
    inner = inner.replace("url(#", f"url(#{name}-").replace('xlink:href="#', f'href="#{name}-')
    inner = re.sub(r'style="font-size: ([0-9.]+px); font-family: [^;"<]*', r'style="font-size: \1', inner)
    for colour, replacement in _PAGE_COLOURS.items():
        inner = inner.replace(colour, replacement)
    opening = f'<svg role="img" aria-label="{escape(label)}" {size.group() if size else ""}>'
    return Markup(opening + inner)
