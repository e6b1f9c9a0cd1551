"""A mixture of quadratics: every example has its own curvature, so noise depends on the weights."""

__all__ = ["Mixture", "mixture"]

from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import minimize

from theory.problems.base import Problem


@dataclass
class Mixture(Problem):
    """F = mean of f_i(w) = (w - c_i)^T H_i (w - c_i) / 2; a step draws one i with replacement.

    Args:
        hessians: H_i, symmetric positive semidefinite with an invertible mean; (n, dim, dim).
        centers: c_i; shape (n, dim).
    """

    hessians: np.ndarray
    centers: np.ndarray
    mask: np.ndarray = field(init=False)
    name: str = "mixture of quadratics"

    def __post_init__(self) -> None:
        self.mask = np.ones(self.centers.shape[1], dtype=bool)
        self._pulls = np.einsum("nij,nj->ni", self.hessians, self.centers)
        self._mean = self.hessians.mean(axis=0)
        self.smoothness = float(np.linalg.eigvalsh(self._mean)[-1])

    def slopes(self, w: np.ndarray) -> np.ndarray:
        """Every example's gradient at each row; shape (rows, n, dim)."""
        return np.einsum("nij,rj->rni", self.hessians, w) - self._pulls

    def loss(self, w: np.ndarray) -> np.ndarray:
        away = w[:, None] - self.centers
        return 0.5 * np.einsum("rni,nij,rnj->r", away, self.hessians, away) / len(self.centers)

    def gradient(self, w: np.ndarray) -> np.ndarray:
        return w @ self._mean - self._pulls.mean(axis=0)

    def draw(self, rows: int, rng: np.random.Generator) -> np.ndarray:
        return rng.integers(len(self.centers), size=rows)

    def sample_gradient(self, w: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        return np.einsum("rij,rj->ri", self.hessians[drawn], w) - self._pulls[drawn]

    def noise_variance(self, w: np.ndarray) -> np.ndarray:
        slopes = self.slopes(w)
        return ((slopes - slopes.mean(axis=1, keepdims=True)) ** 2).sum(axis=2).mean(axis=1)

    def minimizer(self) -> np.ndarray:
        """argmin F; shape (dim,)."""
        return np.linalg.solve(self._mean, self._pulls.mean(axis=0))

    def penalised(self, rho: float, normalize: bool) -> np.ndarray:
        """argmin of F + rho E|grad f_i|^2 / 2, or of F + rho E|grad f_i| (``normalize``)."""
        if not normalize:
            square = np.einsum("nij,njk->ik", self.hessians, self.hessians) / len(self.centers)
            pull = np.einsum("nij,nj->i", self.hessians, self._pulls) / len(self.centers)
            return np.linalg.solve(self._mean + rho * square, self._pulls.mean(axis=0) + rho * pull)

        def value(w: np.ndarray) -> float:
            lengths = np.linalg.norm(self.slopes(w[None])[0], axis=1)
            return float(self.loss(w[None])[0] + rho * lengths.mean())

        return minimize(value, self.minimizer(), method="Nelder-Mead", options=_EXACT).x

    def infimum(self, decay: float = 0.0) -> float:
        if decay:
            raise ValueError("the infimum of a mixture is known without weight decay only")
        return float(self.loss(self.minimizer()[None])[0])

    def start(self) -> np.ndarray:
        return self.minimizer()

    def pl(self, decay: float = 0.0) -> float | None:
        return float(np.linalg.eigvalsh(self._mean)[0] + decay)


_EXACT = {"xatol": 1e-9, "fatol": 1e-14, "maxiter": 20_000, "maxfev": 20_000}


def mixture(seed: int, examples: int = 6, dim: int = 3) -> Mixture:
    """Random examples of very different curvature, the mean Hessian's largest eigenvalue 1."""
    rng = np.random.default_rng(seed)
    roots = rng.standard_normal((examples, dim, dim)) * rng.exponential(size=(examples, 1, 1))
    hessians = roots @ roots.transpose(0, 2, 1)
    hessians /= np.linalg.eigvalsh(hessians.mean(axis=0))[-1]
    return Mixture(hessians, rng.standard_normal((examples, dim)))
