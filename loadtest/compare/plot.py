"""Draw the ratios: a bar for each scenario and contender, the spread of the rounds as a line on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from loadtest.compare.ratios import Ratio
from loadtest.compare.rounds import Results
from loadtest.compare.scenarios import COSTS, Comparison
from loadtest.compare.servers import BASELINE, Contender

BAR_HEIGHT = 0.8
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
COLOURS = ("#1b6ca8", "#7fb7e3", "#c8dff1")


def gain(ratio: Ratio, metric: str) -> Ratio:
    """Turn the ratio of a cost over, so that to the right is better in every line of the plot."""
    if metric not in COSTS:
        return ratio
    return Ratio(1 / ratio.median, 1 / ratio.most, 1 / ratio.least, ratio.rounds)


def write_plot(
    path: Path, results: Results, contenders: Sequence[Contender], comparisons: Sequence[Comparison]
) -> None:
    """Write a PNG with the headline figure of each comparison.

    Raises:
        OSError: the path cannot be written.
    """
    # Imported here: comparing without a plot needs no matplotlib.
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    others = [contender.name for contender in contenders if contender.name != BASELINE]
    shown = [
        item
        for item in comparisons
        if any(results.ratio(item.name, name, item.metrics[0]) for name in others)
    ]
    figure, axes = pyplot.subplots(figsize=(9, 1.6 + 0.42 * len(shown)))
    height = BAR_HEIGHT / max(1, len(others))
    for place, name in enumerate(others):
        for line, comparison in enumerate(shown):
            ratio = results.ratio(comparison.name, name, comparison.metrics[0])
            if ratio is None:
                continue
            better = gain(ratio, comparison.metrics[0])
            y = line + (place - (len(others) - 1) / 2) * height
            label = name if line == 0 else None
            axes.barh(
                y, better.median - 1, height * 0.9, left=1, color=COLOURS[place % len(COLOURS)], label=label
            )
            axes.plot([better.least, better.most], [y, y], color="black", linewidth=1)
            axes.annotate(
                f"{better.median:.1f}", (better.most, y), (4, 0), textcoords="offset points", va="center"
            )
    axes.axvline(1, color="#aa3333", linewidth=1)
    axes.set_yticks(range(len(shown)), [f"{item.name} ({item.metrics[0]})" for item in shown])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xticks([tick for tick in TICKS if axes.get_xlim()[0] <= tick <= axes.get_xlim()[1]])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.set_xlabel(f"times as good as {BASELINE}: median and range of the rounds' own ratios")
    axes.legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
