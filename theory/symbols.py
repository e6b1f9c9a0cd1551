"""The named constants of every statement: one sympy symbol each, with its sign."""

__all__ = [
    "CONSTANTS",
    "F0",
    "B",
    "Fstar",
    "J",
    "L",
    "T",
    "a",
    "beta",
    "c",
    "delta",
    "eta",
    "gamma",
    "k",
    "lam",
    "mu",
    "n",
    "r",
    "rho",
    "sigma",
    "theta",
    "wnorm",
]

from sympy import Symbol, symbols

L, mu, B, eta = symbols("L mu B eta", positive=True)
rho, sigma, lam, beta, c = symbols("rho sigma lambda beta c", nonnegative=True)
T, n, k = symbols("T n k", positive=True, integer=True)
F0, Fstar, J = symbols("F_0 F_* J", real=True)
delta = Symbol("delta", nonnegative=True)
wnorm = Symbol("w", nonnegative=True)
gamma, theta = symbols("gamma theta", positive=True)
a, r = Symbol("a", positive=True), Symbol("r", nonnegative=True)

CONSTANTS: dict[Symbol, str] = {
    L: "smoothness: the gradient is L-Lipschitz [loss / weight^2]",
    mu: "Polyak-Lojasiewicz constant [loss / weight^2]",
    B: "Lipschitz constant of the loss [loss / weight]",
    sigma: "root of the variance of a stochastic gradient [loss / weight]",
    rho: "radius of the perturbation [weight]",
    eta: "step size [weight^2 / loss]",
    lam: "weight decay [loss / weight^2]",
    beta: "momentum [1]",
    c: "radius schedule rho_t = sqrt(c / t): c [weight^2]",
    T: "number of steps [1]",
    n: "number of training examples [1]",
    k: "number of active weights [1]",
    F0: "objective at the start [loss]",
    J: "sum of the jumps of the objective where the mask changes [loss]",
    Fstar: "infimum of the objective [loss]",
    delta: "distance of two weight vectors [weight]; in PAC-Bayes: the failure probability [1]",
    wnorm: "norm of the weights [weight]",
    gamma: "length below which a gradient is not normalised up to 1 [loss / weight]",
    theta: "share of the squared gradient that the perturbation's error is charged to [1]",
    a: "step times curvature, eta h [1]",
    r: "radius times curvature, rho h, of the unnormalised perturbation rho g [1]",
}
