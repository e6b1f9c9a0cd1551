"""Runs whose expectations are exact: every path of a two-point noise is followed."""

__all__ = ["Tree", "descent_worlds"]

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from theory.iterate import iterate
from theory.problems import Problem, Quadratic, Robust
from theory.statements import Statement


class Tree(Problem):
    """A problem with noise +-push at each step, one row for each of the 2^depth paths.

    Means over rows are expectations, to rounding. It counts its steps, so it serves one run only.

    Args:
        base: gives the objective; its own noise is ignored.
        push: the noise; shape (dim,). Its squared length is the variance.
        depth: number of steps that have noise; 0 for a deterministic run of any length.
    """

    def __init__(self, base: Problem, push: np.ndarray, depth: int) -> None:
        self.base, self.push, self.depth = base, push, depth
        self.name, self.mask, self.smoothness = base.name, base.mask, base.smoothness
        self._step = 0

    @property
    def paths(self) -> int:
        """How many rows a run has."""
        return 2**self.depth

    def loss(self, w: np.ndarray) -> np.ndarray:
        return self.base.loss(w)

    def gradient(self, w: np.ndarray) -> np.ndarray:
        return self.base.gradient(w)

    def draw(self, rows: int, rng: Any) -> np.ndarray:
        if not self.depth:
            return np.zeros((rows, self.dim))
        if rows != self.paths or self._step >= self.depth:
            raise ValueError(
                f"a tree of depth {self.depth} has {self.paths} rows and as many steps"
            )
        sign = 1.0 - 2.0 * ((np.arange(rows) >> self._step) & 1)
        self._step += 1
        return sign[:, None] * self.push

    def sample_gradient(self, w: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        return self.gradient(w) + drawn

    def noise_variance(self, w: np.ndarray) -> np.ndarray:
        return np.full(len(w), float(self.push @ self.push) if self.depth else 0.0)

    def infimum(self, decay: float = 0.0) -> float:
        return self.base.infimum(decay)

    def start(self) -> np.ndarray:
        return self.base.start()

    def pl(self, decay: float = 0.0) -> float | None:
        return self.base.pl(decay)

    def lipschitz(self) -> float | None:
        return None


def _mean(first: np.ndarray, second: np.ndarray) -> float:
    return float((first * second).sum(axis=1).mean())


def _run(
    problem: Problem,
    push: np.ndarray,
    depth: int,
    steps: int,
    numbers: Mapping[str, float],
    schedule: str,
) -> Iterator[dict[str, float]]:
    """One world for each T from 1 to ``steps`` - 1: sums up to step T, and what step T does."""
    tree = Tree(problem, push, depth)
    eta, rho, lam, beta = (numbers[name] for name in ("eta", "rho", "lambda", "beta"))
    alpha = eta / (1 - beta)
    start = np.tile(problem.start(), (tree.paths, 1))
    before = np.zeros_like(start)
    pure, noisy = np.zeros_like(start), np.zeros_like(start)
    sums = dict.fromkeys(("S_T", r"\Sigma_m", r"\Sigma_v", "W_T", "P_T", "Q_T", "R_T", "H_T"), 0.0)

    def step_size(t: int) -> float:
        return eta / np.sqrt(t + 1) if schedule == "both" else eta

    def radius(t: int) -> float:
        return rho if schedule == "constant" else rho / np.sqrt(max(t, 1)) * (t > 0)

    def value(w: np.ndarray) -> float:
        return float((problem.loss(w) + 0.5 * lam * (w**2).sum(axis=1)).mean())

    fixed = {
        **numbers,
        "c": rho**2,
        "L": problem.smoothness,
        "sigma": float(np.sqrt(tree.noise_variance(start)[0])),
        "F_0": value(start),
        "F_*": problem.infimum(lam),
        "alpha": alpha,
        "theta": 1 - beta,
        "fading": float(schedule == "both"),
        "x": 1.3,
        "a": eta * problem.smoothness,
    }
    mu = problem.pl(lam)
    if mu is not None:
        fixed["mu"] = mu
    for moment in iterate(
        tree,
        "s2sam",
        start,
        steps,
        eta=step_size,
        rho=radius,
        rng=np.random.default_rng(0),
        decay=lam,
        momentum=beta,
    ):
        t, w = moment.t, moment.w
        step = step_size(t)
        after = (w - moment.after) / step
        at_u = problem.gradient(moment.u)
        z, z_next = w - alpha * beta * before, moment.after - alpha * beta * after
        y = w - alpha * beta * noisy
        vectors = {
            "a": problem.gradient(w) + lam * w,
            "v": at_u + lam * w,
            "n": moment.g - at_u,
            "m": before,
            "h": problem.gradient(z) + lam * z,
            "p": pure,
            "s": noisy,
            "k": problem.gradient(y) + lam * y,
        }
        pure_next, noisy_next = beta * pure + vectors["v"], beta * noisy + vectors["n"]
        y_next = moment.after - alpha * beta * noisy_next
        squares = {name: _mean(x, x) for name, x in vectors.items()}
        world = {
            **fixed,
            **sums,
            "T": t,
            "G_T": squares["a"],
            "m_T^2": squares["m"],
            "m_{T+1}^2": _mean(after, after),
            "v_T^2": squares["v"],
            "p_T^2": squares["p"],
            "p_{T+1}^2": _mean(pure_next, pure_next),
            "eta_T": step,
            "rho_T": radius(t),
        }
        world |= {rf"\|{name}\|^2": square for name, square in squares.items()}
        for one, other in product(vectors, repeat=2):
            if one < other:
                name = rf"\langle {one},{other}\rangle"
                world[name] = _mean(vectors[one], vectors[other])
        here, there = value(w), value(moment.after)
        world |= {"F_t": here, "F_T": here, "F_{t+1}": there, "F_{T+1}": there}
        world |= {name: x - fixed["F_*"] for name, x in (("D_t", here), ("D_T", here))}
        world |= {name: there - fixed["F_*"] for name in ("D_{t+1}", "D_{T+1}")}
        world |= {"F(z_{t})": value(z), "F(z_{T})": value(z)}
        world |= {"F(z_{t+1})": value(z_next), "F(z_{T+1})": value(z_next)}
        world |= {"F(y_{t})": value(y), "F(y_{T})": value(y)}
        world |= {"F(y_{t+1})": value(y_next), "F(y_{T+1})": value(y_next)}
        if t:
            yield world
        sums["S_T"] += squares["a"]
        sums[r"\Sigma_m"] += squares["m"]
        sums[r"\Sigma_v"] += squares["v"]
        sums["W_T"] += step * squares["a"]
        sums["P_T"] += step * radius(t) ** 2
        sums["Q_T"] += step**2
        sums["R_T"] += np.sqrt(squares["a"])
        sums["H_T"] += step
        before, pure, noisy = after, pure_next, noisy_next


def _problems() -> list[Problem]:
    slanted = np.array([[0.6, 0.3], [0.3, 0.5]])
    features = np.array([[1.0, 0.3], [-0.4, 1.2], [0.5, -0.9]])
    return [
        Quadratic(np.eye(1), np.array([0.7]), name="line"),
        Quadratic(slanted, np.array([0.4, -1.0]), name="plane"),
        Robust(features, np.array([0.5, -1.0, 2.0]), name="robust regression"),
    ]


def descent_worlds(
    statements: Sequence[Statement],
    betas: Sequence[float] = (0.0,),
    depth: int = 4,
    long: int = 30,
) -> Iterator[dict[str, float]]:
    """Runs at the edge of what any of the statements admits, and within it.

    Every combination of three problems, share of the largest step, radius, decay, noise and
    momentum; deterministic runs go on for ``long`` steps.
    """
    for problem, share, rho, decay, sigma, beta in product(
        _problems(), (1.0, 0.3), (0.0, 0.3, 2.0), (0.0, 0.5, 2.0), (0.0, 1.0), betas
    ):
        L = problem.smoothness
        numbers = {"L": L, "lambda": decay * L, "beta": beta, "rho": rho}
        for statement in statements:
            try:
                eta = share * statement.largest_step(**numbers)
            except ValueError:
                continue
            known = {**dict.fromkeys(statement.constants, 1.0), **numbers, "eta": eta}
            if not statement.admits(**known):
                continue
            push = sigma * np.ones(problem.dim) / np.sqrt(problem.dim)
            yield from _run(
                problem,
                push,
                depth if sigma else 0,
                depth if sigma else long,
                {**numbers, "eta": eta},
                statement.schedule,
            )
