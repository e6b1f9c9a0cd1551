"""S2-SAM's step beside SAM's, drawn from a run of both on a quadratic in the plane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tables.figures.style import COLOURS, CONTOUR, GREY, described, figure

__all__ = ["ETA", "RHO", "Step", "draw", "gradient", "s2sam", "sam"]

Array = np.ndarray

#: Curvatures of F(w) = (h[0] w[0]² + h[1] w[1]²) / 2, step size, radius: chosen to be seen.
_H = np.array([0.4, 1.0])
ETA, RHO = 0.33, 1.3
_START = np.array([-3.4, 2.6])
#: How far the last step is drawn beside where it is.
_BESIDE = 0.11

_ALT = (
    "A step of SAM beside one of S2-SAM on the contours of a loss. SAM computes a gradient at the "
    "weights w, moves up along it by the radius rho to u, computes a second gradient there and "
    "steps from w against it. S2-SAM moves from w along the gradient that the previous step "
    "already has, so its only new gradient is the one at u."
)


@dataclass(frozen=True)
class Step:
    """One step: from ``w`` by way of ``u`` to ``after``; ``up`` is what the perturbation follows.

    ``gradients`` are those that the step computes, each with the point it is taken at.
    """

    w: Array
    up: Array
    u: Array
    after: Array
    gradients: tuple[tuple[Array, Array], ...]


def gradient(w: Array) -> Array:
    """∇F(w)."""
    return _H * w


def sam(w: Array) -> Step:
    """Eq. 2: u = w + ρ ∇F(w) / ‖∇F(w)‖, then w - η ∇F(u)."""
    first = gradient(w)
    u = w + RHO * first / np.linalg.norm(first)
    return Step(w, first, u, w - ETA * gradient(u), ((w, first), (u, gradient(u))))


def s2sam(w: Array, previous: Array) -> Step:
    """Eq. 3: the same with the previous step's gradient in place of ∇F(w)."""
    u = w + RHO * previous / np.linalg.norm(previous)
    return Step(w, previous, u, w - ETA * gradient(u), ((u, gradient(u)),))


def steps() -> tuple[Step, Step, Step]:
    """SAM's and S2-SAM's step from the same weights, and the S2-SAM step before them."""
    first = gradient(_START)  # of the first step, which has no perturbation
    before = s2sam(_START - ETA * first, first)
    return sam(before.after), s2sam(before.after, before.gradients[0][1]), before


def draw() -> Any:
    """Two panels, one above the other at a phone's width."""
    drawn = figure(4.4, 6.0)
    drawn.suptitle("One training step from the weights w")
    theirs, ours, before = steps()
    panels = drawn.subplots(2, 1, sharex=True, sharey=True)
    _panel(panels[0], theirs, "SAM")
    panels[0].set_title("SAM computes two gradients: at w, to find u, and at u")
    _panel(panels[1], ours, "S2-SAM")
    panels[1].set_title("S2-SAM computes one: it finds u by the last step's")
    (old, _), *_ = before.gradients
    panels[1].plot(*old, "*", color=COLOURS["S2-SAM"], markersize=15, fillstyle="none", zorder=5)
    _label(panels[1], old, "last step's u", (9, -3))
    panels[1].plot(*before.w, "o", color=GREY, markersize=4, zorder=6)
    # On the same line as the perturbation, which follows that step's gradient: beside it.
    along = before.after - before.w
    beside = _BESIDE * np.array([along[1], -along[0]]) / np.linalg.norm(along)
    _arrow(panels[1], before.w + beside, before.after + beside, GREY, "solid")
    _label(panels[1], (before.w + before.after) / 2 + beside, "last step", (-47, -6))
    _label(panels[1], before.w, "last step's w", (9, -6))
    points = np.array([p for s in (theirs, ours, before) for p in (s.w, s.u, s.after)])
    low, high = points.min(0), points.max(0)
    for axes in panels:
        axes.title.set_fontsize(8)
        axes.set_xlim(low[0] - 1.0, high[0] + 2.2)
        axes.set_ylim(low[1] - 0.3, high[1] + 0.3)
    _key(drawn)
    return described(drawn, _ALT)


def _key(drawn: Any) -> None:
    from matplotlib.lines import Line2D

    star: dict[str, Any] = {"marker": "*", "linestyle": "", "markersize": 9, "color": "#333333"}
    drawn.legend(
        handles=[
            Line2D([], [], label="gradient computed in this step", **star),
            Line2D([], [], label="kept from the last step", fillstyle="none", **star),
            Line2D([], [], label=r"perturbation, of length $\rho$", color="#333333", ls="--"),
            Line2D([], [], label=r"update, at learning rate $\eta$", color="#000000"),
        ],
        loc="outside lower center",
        ncols=2,
        fontsize=7.5,
        columnspacing=1.2,
    )


def _panel(axes: Any, step: Step, name: str) -> None:
    x, y = np.meshgrid(np.linspace(-5, 2, 50), np.linspace(-2, 4, 50))
    heights = (_H[0] * x**2 + _H[1] * y**2) / 2
    axes.contourf(x, y, heights, levels=16, cmap=CONTOUR, alpha=0.55)
    axes.contour(x, y, heights, levels=16, colors=GREY, linewidths=0.4)
    _arrow(axes, step.w, step.u, "#333333", "dashed")
    _arrow(axes, step.w, step.after, "#000000", "solid")
    for at, _ in step.gradients:
        axes.plot(*at, "*", color=COLOURS[name], markersize=15, markeredgecolor="#ffffff", zorder=5)
    for point in (step.w, step.u, step.after):
        axes.plot(*point, "o", color="#000000", markersize=3.5, zorder=6)
    _label(axes, step.w, "$w$", (-4, -17))
    _label(axes, step.u, r"$u$, at $\rho$ from $w$", (9, 2))
    _label(axes, step.after, r"$w - \eta\,\nabla L(u)$", (6, -4))
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_aspect("equal")
    for spine in axes.spines.values():
        spine.set_visible(False)


def _label(axes: Any, point: Array, text: str, offset: tuple[int, int]) -> None:
    axes.annotate(text, point, xytext=offset, textcoords="offset points", fontsize=8.5, zorder=7)


def _arrow(axes: Any, start: Array, end: Array, colour: str, line: str) -> None:
    axes.annotate(
        "",
        end,
        xytext=start,
        arrowprops={"arrowstyle": "-|>", "color": colour, "linestyle": line, "linewidth": 1.6},
        zorder=4,
    )
