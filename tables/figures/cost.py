"""Accuracy against what a step costs, for every optimizer, with the Pareto front."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from paper_repro.experiment.profiles import Profile
from paper_repro.experiment.records import Records
from paper_repro.registry import Spec
from tables import TABLES
from tables.base import Cell, last_accuracy
from tables.figures import FIGURES
from tables.figures.style import COLOURS, GREY, WIDTH, described, figure
from tables.stats import by_seed

__all__ = ["draw", "front"]

_INK = "#222222"
#: The table's column. Gradients are counted during the run; images/s are of processes that shared
#: a machine, so what they would add is noise.
_COST = "gradients/step"
_KEY = 0.145  # inches a line


@dataclass(frozen=True)
class _Point:
    """An optimizer: its runs' accuracies, their mean, and its mean cost."""

    label: str
    seeds: Sequence[float]
    accuracy: float
    cost: float


@FIGURES.register("cost")
def draw(profile: Profile, records: Records) -> Iterator[tuple[str, Any]]:
    """All optimizers with MEST(EM) at 90 %; none where fewer than two have both numbers."""
    table = TABLES.build(Spec("ablation-sam"), profile=profile)
    column = table.headers.index(_COST) - 1
    points = []
    for row in table.rows:
        own, cost = row.entries[0], row.entries[column]
        assert isinstance(own, Cell) and isinstance(cost, Cell)
        reached = by_seed(own, records, last_accuracy)
        took = by_seed(cost, records, last_accuracy)
        both = [seed for seed in reached if seed in took]
        if both:
            values = [reached[seed] for seed in both]
            mean_cost = sum(took[seed] for seed in both) / len(both)
            points.append(_Point(row.labels[0], values, sum(values) / len(both), mean_cost))
    if len(points) > 1:
        yield "cost", _cost(points)


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Which (cost, accuracy) points no other one beats, by cost.

    A point is beaten by one that costs no more and is no less accurate, and better in one of both.
    """

    def beaten(i: int) -> bool:
        cost, accuracy = points[i]
        return any(c <= cost and a >= accuracy and (c, a) != (cost, accuracy) for c, a in points)

    return sorted((i for i in range(len(points)) if not beaten(i)), key=lambda i: points[i][0])


def _cost(points: list[_Point]) -> Any:
    best = front([(p.cost, p.accuracy) for p in points])
    counts = {len(p.seeds) for p in points}
    n = f"n = {min(counts)}" + (f" to {max(counts)}" if len(counts) > 1 else "")
    half = -(-len(points) // 2)
    key = _KEY * half + 0.1
    drawn = figure(WIDTH, 4.0 + key)
    drawn.suptitle("Optimizers with MEST(EM) at 90 %: accuracy and cost")
    axes, below = drawn.subplots(2, 1, height_ratios=(3.2, key))
    _panel(axes, points, best)
    axes.set_title(f"large: mean ({n}); filled: on the Pareto front of the means", fontsize=8)
    axes.set_xlabel("gradients a step, counted (a forward pass alone is a third)", fontsize=8)
    axes.set_ylabel("test accuracy (%)")
    below.set_axis_off()
    names = [f"{i} {p.label}" for i, p in enumerate(points, 1)]
    for x, column in ((0.0, names[:half]), (0.5, names[half:])):
        below.text(x, 1, "\n".join(column), va="top", fontsize=7.5, transform=below.transAxes)
    front_words = ", ".join(
        f"{points[i].label} ({points[i].accuracy:.2f} % at {points[i].cost:.2f})" for i in best
    )
    return described(
        drawn,
        f"Test accuracy against gradients a step of {len(points)} optimizers ({n}). On the Pareto "
        f"front of the means: {front_words}.",
    )


def _panel(axes: Any, points: list[_Point], best: list[int]) -> None:
    steps = [(points[i].cost, points[i].accuracy) for i in best]
    axes.plot(*zip(*steps, strict=True), "-", color=GREY, linewidth=1.2, zorder=1)
    order = sorted(range(len(points)), key=lambda i: points[i].accuracy)
    ranks = {i: rank for rank, i in enumerate(order)}
    for i, p in enumerate(points):
        colour = COLOURS.get(p.label, _INK)
        axes.plot([p.cost] * len(p.seeds), p.seeds, ".", color=GREY, markersize=3, zorder=2)
        filled = "full" if i in best else "none"
        axes.plot(p.cost, p.accuracy, "o", color=colour, fillstyle=filled, markersize=6, zorder=3)
        axes.annotate(
            str(i + 1),
            (p.cost, p.accuracy),
            xytext=(5, 3) if ranks[i] % 2 else (-14, -5),  # neighbours to either side
            textcoords="offset points",
            fontsize=7.5,
        )
    axes.margins(x=0.12, y=0.12)
    axes.grid(color="#dddddd", linewidth=0.5)
