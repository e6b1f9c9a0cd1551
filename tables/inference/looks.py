"""Looks: at how many seeds the records are judged, and what error each look may spend.

Judging at 3 seeds a cell, again at 5, 10 and 20, and believing whichever look first says something
would err at each look anew. The error is spent instead (Lan and DeMets 1983), along the
Pocock-type function

    a(t) = ALPHA ln(1 + (e - 1) t),    t = n / LOOKS[-1],

ALPHA a side. A bound at look k takes the level p_k at which a Wiener process that has stayed inside
all bounds before first leaves at t_k with probability a(t_k) - a(t_{k-1}). These are levels of a
normal statistic; a t statistic is held against the t quantile of the same level (the significance-
level approach of Jennison and Turnbull 2000, section 3.8). That is close for many degrees of
freedom; below ENOUGH of them each look gets a(t_k) - a(t_{k-1}) as its level, which is exact for
any t and any dependence between looks, at the price of some power (Bonferroni). Pocock's type and
not O'Brien and Fleming's, because most of these experiments will end at 3 or 5 seeds, where the
latter spends nothing.
"""

from __future__ import annotations

import functools
import math

import numpy as np

__all__ = ["ALPHA", "ENOUGH", "LOOKS", "increments", "level", "levels", "spent"]

#: Seeds a cell at which records are judged; between two looks the earlier one's verdict stands.
LOOKS = (3, 5, 10, 20)
#: Error of each one-sided statement over all looks together: 95 % intervals have it on both sides.
ALPHA = 0.025
#: Degrees of freedom from which a t statistic's looks depend on each other like a normal one's.
ENOUGH = 30

_GRID = 2001  # points of the density; the levels are then right to 1e-5 of themselves
_FAR = 8.0  # standard deviations below which the density is 0


def spent(fraction: float) -> float:
    """The error a(t) that looks up to the information fraction ``fraction`` in [0, 1] may spend."""
    return ALPHA * math.log1p((math.e - 1) * fraction)


@functools.cache
def increments() -> tuple[float, ...]:
    """What each look may spend by itself; they add up to ALPHA.

    Statements at these levels err with at most ALPHA over all looks whatever their dependence
    (Bonferroni); for many small statements (Holm) there is little to gain over that.
    """
    totals = [spent(n / LOOKS[-1]) for n in LOOKS]
    return tuple(b - a for a, b in zip([0.0, *totals], totals, strict=False))


@functools.cache
def levels() -> tuple[float, ...]:
    """The one-sided nominal level p_k of each look, by numerical integration over the looks.

    With S_k = Z_k sqrt(t_k), whose increments are independent normal with variance t_k - t_{k-1},
    f_k(s) = ∫_{x < b_{k-1}} f_{k-1}(x) φ((s - x) / sd_k) / sd_k dx, and the bound b_k solves
    ∫ f_{k-1}(x) Φ((x - b_k) / sd_k) dx = a(t_k) - a(t_{k-1}).
    """
    from scipy import integrate, optimize, stats  # a machine that only trains does without

    times = [n / LOOKS[-1] for n in LOOKS]
    found: list[float] = []
    grid = density = np.empty(0)
    for k, (time, error) in enumerate(zip(times, increments(), strict=True)):
        sd = math.sqrt(time - (times[k - 1] if k else 0.0))

        def leaves(bound: float, x: np.ndarray, f: np.ndarray, sd: float, k: int) -> float:
            if k == 0:
                return float(stats.norm.sf(bound / sd))
            return float(integrate.simpson(f * stats.norm.sf((bound - x) / sd), x=x))

        bound = optimize.brentq(
            lambda b, x=grid, f=density, sd=sd, k=k, e=error: leaves(b, x, f, sd, k) - e,
            0.0,
            _FAR * math.sqrt(time),
            xtol=1e-12,
        )
        found.append(float(stats.norm.sf(bound / math.sqrt(time))))
        inside = np.linspace(-_FAR * math.sqrt(time), bound, _GRID)
        if k == 0:
            density = stats.norm.pdf(inside / sd) / sd
        else:
            steps = stats.norm.pdf((inside[:, None] - grid) / sd) / sd
            density = integrate.simpson(steps * density, x=grid, axis=1)
        grid = inside
    return tuple(found)


def level(look: int, df: np.ndarray | float) -> np.ndarray:
    """The one-sided level of a t statistic with ``df`` degrees of freedom at a look (from 0)."""
    return np.where(np.asarray(df) >= ENOUGH, levels()[look], increments()[look])
