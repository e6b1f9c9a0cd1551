"""The smoothing law: how the spread of u differs from that of w, and where the means lie."""

__all__ = ["HEAVY", "SMOOTHING_PROOF"]

from sympy import Rational, Symbol, diff, symbols

from theory.proofs.steps import Cited, Identity, Inequality, Premise, Proof
from theory.symbols import T, beta, eta, rho

_w, _g = symbols(r"\omega_t \gamma_{t-1}", real=True)
_pathwise = Identity(
    r"For any direction $x$ let $\omega_t=\langle x,w_t\rangle$, $\gamma_{t-1}=\langle x,g_{t-1}"
    r"\rangle$. Since $w_{t-1}=w_t+\eta g_{t-1}$ and $u_t=w_t+\rho g_{t-1}$, whatever the loss, "
    r"the "
    r"noise and the path:",
    (_w + rho * _g) ** 2 - _w**2 - rho * (rho - eta) * _g**2,
    rho / eta * ((_w + eta * _g) ** 2 - _w**2),
    shown=r"\langle x,u_t\rangle^2-\langle x,w_t\rangle^2-\rho(\rho-\eta)\langle x,g_{t-1}\rangle^2"
    r"=\frac\rho\eta\left(\langle x,w_{t-1}\rangle^2-\langle x,w_t\rangle^2\right)",
)
_m = Symbol(r"\mu_{t-1}", real=True)
_before = _w + eta * (beta * _m + _g)
HEAVY = rho * (rho - eta) * _g**2 + rho * eta * beta * (1 + beta) * _m**2
_heavy = Identity(
    r"With momentum, $m_t=\beta m_{t-1}+g_{t-1}$, $w_t=w_{t-1}-\eta m_t$, and "
    r"$\mu_{t-1}=\langle x,m_{t-1}\rangle$: likewise on any path.",
    (_w + rho * _g) ** 2 - _w**2 - HEAVY,
    rho / eta * (_before**2 - _w**2 - beta * ((_before + eta * _m) ** 2 - _before**2)),
    shown=r"\langle x,u_t\rangle^2-\langle x,w_t\rangle^2-\rho(\rho-\eta)\gamma_{t-1}^2-\rho\eta"
    r"\beta(1+\beta)\mu_{t-1}^2=\frac\rho\eta\left(\omega_{t-1}^2-\omega_t^2-\beta(\omega_{t-2}^2-"
    r"\omega_{t-1}^2)\right)",
)
_heavy_stationary = Cited(
    r"The right side telescopes: in a stationary state $\mathbb{E}uu^\top-\mathbb{E}ww^\top=\rho"
    r"(\rho-\eta)\mathbb{E}gg^\top+\rho\eta\beta(1+\beta)\mathbb{E}mm^\top$. Momentum adds to the "
    r"spread always: $u$ is spread more than $w$ once $\rho>\eta(1-\beta(1+\beta)\,\mathbb{E}\|m"
    r"\|^2/\mathbb{E}\|g\|^2)$; gradients uncorrelated over time, $\mathbb{E}\|m\|^2=\mathbb{E}\|g"
    r"\|^2/(1-\beta^2)$, make that $\rho>\eta(1-2\beta)/(1-\beta)$, always true for "
    r"$\beta\ge1/2$.",
    "stationarity, as above",
)
_Su, _Sw, _Sg, _first, _last = symbols("S_u S_w S_g W_0 W_T", real=True)
_claim = _Su - _Sw - rho * (rho - eta) * _Sg - rho / eta * (_first - _last)
_u1, _w1, _g1, _next = symbols("u_{T+1} w_{T+1} g_T W_{T+1}", real=True)
_induction = Inequality(
    r"Summed over $t\le T$ the right side telescopes: with $S_u,S_w,S_g$ the sums of the squares "
    r"of "
    r"$\langle x,u_t\rangle,\langle x,w_t\rangle,\langle x,g_{t-1}\rangle$ and "
    r"$W_t=\langle x,w_t\rangle^2$, by induction "
    r"$S_u-S_w\le\rho(\rho-\eta)S_g+\frac\rho\eta(W_0-W_T)$, and $\ge$ alike.",
    _Su + _u1 - _Sw - _w1,
    rho * (rho - eta) * (_Sg + _g1) + rho / eta * (_first - _next),
    [
        (Premise(-_claim, "the claim for $T$ (an equality)"),),
        (
            Premise(
                rho * (rho - eta) * _g1 + rho / eta * (_last - _next) - (_u1 - _w1),
                "the identity above (an equality)",
            ),
        ),
    ],
)
_stationary = Cited(
    r"Divide by $T$ and let $T\to\infty$, or take expectations in a stationary state with second "
    r"moments, where $\mathbb{E}w_tw_t^\top=\mathbb{E}w_{t-1}w_{t-1}^\top$: for every $x$, hence "
    r"as "
    r"matrices, $\mathbb{E}uu^\top-\mathbb{E}ww^\top=\rho(\rho-\eta)\,\mathbb{E}gg^\top$. The "
    r"mean of "
    r"$w_{t}-w_{t-1}=-\eta g_{t-1}$ is 0 there, so $\mathbb{E}g=\mathbb{E}\nabla F(u)=0$ (unbiased "
    r"noise) and $\mathbb{E}u=\mathbb{E}w$.",
    "stationarity, and a quadratic form determines its matrix",
)
_H, _b, _W = (Symbol(x, commutative=False) for x in ("H_i", "b_i", "w"))
_slope = _H * _W - _b
_sam = Identity(
    r"Random quadratics, $\nabla f_i(w)=H_iw-b_i$. One-batch SAM's expected step, with the same "
    r"$i$ "
    r"in both gradients, is along $\mathbb{E}$ of the left side, which is the gradient of "
    r"$F+\frac\rho2\mathbb{E}\|\nabla f_i\|^2$ (the term $\rho H_i\nabla f_i$ is that of "
    r"$\frac\rho2\|\nabla f_i\|^2$): its mean is the minimiser of *that*.",
    (_H * (_W + rho * _slope) - _b).expand(),
    (_slope + rho * _H * _slope).expand(),
    shown=r"H_i\left(w+\rho(H_iw-b_i)\right)-b_i=\nabla f_i(w)+\rho H_i\nabla f_i(w)",
)
_h, _bi, _x = Symbol("h", positive=True), Symbol("b", real=True), Symbol("x", real=True)
_penalty = Identity(
    r"That in one dimension: the slope of $\frac\rho2(hx-b)^2$.",
    diff(rho * Rational(1, 2) * (_h * _x - _bi) ** 2, _x),
    rho * _h * (_h * _x - _bi),
)
_ours = Cited(
    r"S2-SAM's perturbation comes from the step before, so $i$ is independent of $u_t$: "
    r"$0=\mathbb{E}g=\mathbb{E}H_i\,\mathbb{E}u-\mathbb{E}b_i$, that is $\mathbb{E}w=\mathbb{E}u="
    r"\operatorname{argmin}F$, exactly, at every $\rho$: the penalty on the noise is gone. With "
    r"the "
    r"normalised perturbation $\mathbb{E}u=\operatorname{argmin}F$ still, and "
    r"$\mathbb{E}w=\operatorname{argmin}F-\rho\,\mathbb{E}\hat g$.",
    "independence of the example drawn from the past",
)
_first_w, _last_w, _u_mean, _w_mean, _g_mean = symbols("x_0 x_T M_u M_w M_g", real=True)
_means = Inequality(
    r"For a run of $T$ steps, along $x$: the means over $t\le T$ of $u_t$ and $w_t$ differ by "
    r"$\rho$ "
    r"times that of $g_{t-1}$, which is $(x_0-x_T)/(\eta T)$, $x_t=\langle x,w_t\rangle$.",
    _u_mean - _w_mean,
    rho * (_first_w - _last_w) / (eta * T),
    [
        (Premise(_w_mean + rho * _g_mean - _u_mean, r"$u_t=w_t+\rho g_{t-1}$ (an equality)"),),
        (
            rho,
            Premise((_first_w - _last_w) / (eta * T) - _g_mean, r"the steps add up (an equality)"),
        ),
    ],
)
SMOOTHING_PROOF = Proof(
    "smoothing",
    "The smoothing law: S2-SAM spreads u by rho (rho - eta) E gg^T, and keeps the mean",
    (),
    r"$u_t=w_t+\rho g_{t-1}$, $w_{t+1}=w_t-\eta g_t$: no momentum but where said, no decay, "
    r"not normalised; $F$ is any function and $T$ any number of steps.",
    (_pathwise, _induction, _means, _stationary, _heavy, _heavy_stationary, _sam, _penalty, _ours),
)
