"""PAC-Bayes for masked weights: Theorem 2 of the appendix of Foret et al. 2021.

For a loss in [0, 1], any radius rho fixed before the data are seen, and with probability 1 - delta
over n independent examples,

    L_D(w) <= max_{|e| <= rho} L_S(w + e)
              + sqrt((k log(1 + |w|^2 / rho^2 (1 + sqrt(log n / k))^2)
                      + 4 log(n / delta) + 8 log(6 n + 3 k)) / (n - 1)),

if L_D(w) <= E L_D(w + e), e ~ N(0, s^2 I), s = rho / (sqrt k + sqrt(log n)). k is the number of
active weights: the mask is drawn before the data, so the pruned coordinates are not parameters.
"""

__all__ = ["RADII", "Certificate", "certificates", "complexity", "worst_error"]

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from theory.iterate import iterate
from theory.problems import Logistic, digits

_DELTA = 0.05
RADII = np.geomspace(1e-2, 1e2, 12)
"""The radii that share delta. Fixed: a union bound over radii that the data chose (such as shares
of the trained weights' norm) is no bound."""


def complexity(
    k: int, n: int, norm: float, rho: np.ndarray, delta: np.ndarray | float
) -> np.ndarray:
    """The square root in the bound; ``rho`` is broadcast."""
    spread = (norm / rho) ** 2 * (1 + np.sqrt(np.log(n) / k)) ** 2
    inside = k * np.log1p(spread) + 4 * np.log(n / delta) + 8 * np.log(6 * n + 3 * k)
    return np.sqrt(inside / (n - 1))


def worst_error(problem: Logistic, w: np.ndarray, rho: np.ndarray) -> np.ndarray:
    """An upper bound on max_{|e| <= rho} of the training error of w + e, e on active coordinates.

    Class y beats class j as long as its margin exceeds rho sqrt(|x_y|^2 + |x_j|^2), x_c the image
    restricted to the active features of class c (Cauchy-Schwarz), so an example counts as wrong
    if that fails for some j. Shape of ``rho``.
    """
    scores = w.reshape(problem.classes, -1) @ problem.images.T
    rows = np.arange(len(problem.labels))
    lengths = problem.active_lengths
    margin = scores[problem.labels, rows] - scores
    reach = np.sqrt(lengths[problem.labels, rows] + lengths)
    margin[problem.labels, rows] = np.inf
    slack = (margin / np.maximum(reach, 1e-300)).min(axis=0)
    return (slack[None] <= rho[:, None]).mean(axis=1)


@dataclass(frozen=True)
class Certificate:
    """The best radius's bound at one density. ``with_mask`` also pays for choosing the mask.

    ``norm``: |w|. With R = ``len(RADII)``, ``complexity`` is that of delta / R, since the bound
    must hold at all radii at once for the best of them to be chosen (union bound).
    """

    density: float
    k: int
    n: int
    norm: float
    rho: float
    train_error: float
    worst_error: float
    complexity: float
    bound: float
    with_mask: float
    test_error: float
    noisy_test_error: float
    draws: int

    @property
    def vacuous(self) -> bool:
        """Whether the bound says no more than that an error is at most 1."""
        return self.bound >= 1


def certificates(densities: tuple[float, ...], steps: int, seed: int) -> list[Certificate]:
    """Train S2-SAM at each density on 1,200 digits and certify it; 597 digits test it.

    The radius is chosen from ``RADII``, each given its equal part of the failure probability.
    """
    found = []
    for density in densities:
        rng = np.random.default_rng(seed)
        images, labels, test_images, test_labels = digits(rng, 1200)
        mask = rng.permutation(640) < round(density * 640)
        problem = Logistic(images, labels, batch=32, mask=mask)
        test = Logistic(test_images, test_labels, mask=mask)
        w = problem.start()[None]
        eta = 1 / problem.smoothness
        for moment in iterate(problem, "s2sam", w, steps, eta=eta, rho=0.5, rng=rng, decay=1e-3):
            w = moment.after
        k, n, norm = problem.active, len(labels), float(np.linalg.norm(w))
        worst = worst_error(problem, w[0], RADII)
        price = complexity(k, n, norm, RADII, _DELTA / len(RADII))
        best = int(np.argmin(worst + price))
        choices = gammaln(641) - gammaln(k + 1) - gammaln(641 - k)
        dearer = complexity(k, n, norm, RADII, np.exp(np.log(_DELTA / len(RADII)) - choices))
        draws = 200
        noise = rng.standard_normal((draws, 640)) * mask
        spread = RADII[best] / (np.sqrt(k) + np.sqrt(np.log(n)))
        found.append(
            Certificate(
                density,
                k,
                n,
                norm,
                float(RADII[best]),
                float(problem.error(w)[0]),
                float(worst[best]),
                float(price[best]),
                float(worst[best] + price[best]),
                float((worst + dearer).min()),
                float(test.error(w)[0]),
                float(test.error(w + spread * noise).mean()),
                draws,
            )
        )
    return found
