"""Draw pictures of tensors as one figure, with matplotlib."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from reinit_cli.cli.render.panels import Panel, joined, ticks
from reinit_cli.text import number, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS = 48
"""The most pictures in a figure."""

_BEFORE, _AFTER, _EXPECTED, _INK, _SOFT = "#b4bac4", "#3f74d8", "#c8500f", "#1c1f24", "#68707c"

_STYLE: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 8.0,
    "svg.fonttype": "path",
    "svg.hashsalt": "reinit",  # or the names of parts would be other ones each time
    "path.simplify": False,
    "text.usetex": False,  # keys are no programs of TeX
}

_LONGEST_KEY = 44


def figure_of(title: str, panels: Sequence[Panel], kind: str, total: int = 0) -> bytes:
    """Return a figure of small multiples, the same bytes every time.

    Args:
        title: what is shown.
        panels: the pictures; those of the `PANELS` largest tensors are drawn, in their order.
        kind: "svg" or "png".
        total: how many tensors there are, where that is more than the pictures.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    shown = _largest(panels)
    total = max(total, len(panels))
    columns = min(4, max(1, math.ceil(math.sqrt(len(shown)))))
    rows = max(1, math.ceil(len(shown) / columns))
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # A letter that the font lacks is drawn as a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        height = 1.9 * rows + 0.55
        figure = Figure(figsize=(3.1 * columns, height), dpi=150, facecolor="white")
        grid = figure.subplots(rows, columns, squeeze=False)
        axes = list(grid.flat)
        for place, panel in zip(axes, shown, strict=False):
            _draw(place, panel)
        for place in axes[len(shown) :]:
            place.set_visible(False)
        figure.suptitle(
            printable(_shortened(title, 80 * columns)),
            x=0.12 / (3.1 * columns),
            y=1 - 0.12 / height,
            ha="left",
            va="top",
            fontsize=11,
            weight="bold",
            color=_INK,
            parse_math=False,
        )
        if len(shown) < total:
            figure.text(
                *(1 - 0.12 / (3.1 * columns), 0.08 / height),
                f"The {len(shown):,} largest of {total:,}",
                ha="right",
                color=_SOFT,
            )
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(
            handles,
            labels,
            loc="upper right",
            ncols=3,
            frameon=False,
            bbox_to_anchor=(1.0, 1 - 0.32 / height if columns == 1 else 1.0),
            labelcolor=_SOFT,
        )
        figure.subplots_adjust(
            left=0.04 / columns,
            right=1 - 0.04 / columns,
            bottom=0.5 / height,
            top=1 - 0.95 / height,
            wspace=0.1,
            hspace=1.0,
        )
        buffer = io.BytesIO()
        nothing = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
        figure.savefig(buffer, format=kind, metadata=nothing)
    return buffer.getvalue()


def _largest(panels: Sequence[Panel]) -> list[Panel]:
    """Return the panels of the largest tensors, in their order."""
    ranked = sorted(range(len(panels)), key=lambda at: -panels[at].numel)
    return [panels[at] for at in sorted(ranked[:PANELS])]


def _draw_cut(axes: Axes, panel: Panel) -> None:
    """Mark bars that go on above, and values that lie to the left or to the right."""
    cut = panel.cut
    (low, high), top = panel.window, panel.height
    for bar in joined(cut.bars):
        left, right = max(low, bar[0]), min(high, bar[1])
        count = 2 * max(1, round((right - left) / (high - low) * 40))
        x = [left + (right - left) * at / count for at in range(count + 1)]
        y = [top * (0.92 if at % 2 == 0 else 0.96) for at in range(count + 1)]
        axes.plot(x, y, color="white", linewidth=2)
    if cut.times:
        axes.text(
            *(0.99, 0.99, f"before: {cut.times:.2g}× as high"),
            transform=axes.transAxes,
            color=_SOFT,
            fontsize=6.5,
            ha="right",
            va="top",
        )
    for goes, x_of_mark, mark in ((cut.goes_lower, 0.01, "◂"), (cut.goes_higher, 0.99, "▸")):
        if goes:
            axes.text(
                *(x_of_mark, 0.03, mark),
                transform=axes.transAxes,
                color=_SOFT,
                fontsize=7,
                ha="left" if mark == "◂" else "right",
            )


def _draw(axes: Axes, panel: Panel) -> None:
    low, high = panel.window
    for histogram, colour, label in (
        (panel.before, _BEFORE, "before"),
        (panel.after, _AFTER, "after" if panel.before is not None else "values"),
    ):
        if histogram is not None:
            x, y = zip(*panel.outline(histogram), strict=True)
            axes.fill(x, y, color=colour, alpha=0.55, linewidth=0, label=label)
    if panel.expected:
        x, y = zip(*panel.expected, strict=True)
        axes.plot(x, y, color=_EXPECTED, linewidth=1.2, label="expected")
    _draw_cut(axes, panel)
    axes.set_xlim(low, high)
    axes.set_ylim(0, panel.height)
    places = ticks(low, high)
    axes.set_xticks(places, [number(place) for place in places], color=_SOFT, fontsize=7)
    axes.set_yticks([])
    axes.tick_params(axis="x", length=2.5, color="#c9ccd1")
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#c9ccd1")
    # Two lines above: a title, and what is softer below it.
    for text, at, colour, weight in (
        (_shortened(printable(panel.key), _LONGEST_KEY), 1.17, _INK, "bold"),
        (printable(panel.about), 1.04, _SOFT, "normal"),
    ):
        axes.text(
            0,
            at,
            text,
            transform=axes.transAxes,
            color=colour,
            weight=weight,
            fontsize=7.5 if weight == "bold" else 6.5,
            parse_math=False,
        )
    axes.set_xlabel(panel.numbers, color=_SOFT, fontsize=6.5, loc="left", labelpad=3)


def _shortened(text: str, longest: int) -> str:
    """Shorten a text at its start, since the end distinguishes tensors."""
    return text if len(text) <= longest else f"…{text[1 - longest :]}"
