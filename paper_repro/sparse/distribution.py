"""How many weights each layer keeps: uniform in two presets, and Erdős-Rényi-Kernel (ERK)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Set

from torch import nn

from paper_repro.errors import UserError
from paper_repro.sparse.layers import given_densities, is_depthwise, maskable, prunable

__all__ = [
    "DISTRIBUTIONS",
    "check_sparsity",
    "groups_of",
    "kept_dense",
    "layer_counts",
    "prunable",
]

#: ``uniform``: every masked layer equally sparse; first convolution, shortcuts, the layers of
#: squeeze-and-excitation and the classifier stay dense (MEST's and the released S2-SAM code's
#: choice). ``uniform-rigl``: the first convolution stays dense (RigL's). ``uniform-all``: none does
#: (the paper's Transformer). ``erk``: see :func:`erk_densities`. Depthwise convolutions stay dense
#: in each, as in RigL's MobileNets: they are few weights, and a filter of nine has none to spare.
#: Other grouped convolutions are masked. Beside these there is ``n:m``, see :func:`groups_of`.
DISTRIBUTIONS = ("uniform", "uniform-rigl", "uniform-all", "erk")

_GROUPS = re.compile(r"([1-9][0-9]?):([1-9][0-9]?)")


def groups_of(distribution: str) -> tuple[int, int] | None:
    """n and m of a distribution ``n:m`` (``2:4``): n of every m successive weights are active.

    Successive along a weight's dimension 1, its input features or channels, as sparse tensor cores
    want it. Layers whose inputs are no multiple of m stay dense, as do those that ``uniform`` keeps
    dense. None for any other distribution.

    Raises:
        UserError: n is not below m.
    """
    found = _GROUPS.fullmatch(distribution)
    if found is None:
        return None
    n, m = int(found[1]), int(found[2])
    if n >= m:
        raise UserError(f"a distribution n:m needs n below m, not {distribution!r}")
    return n, m


def check_sparsity(sparsity: float) -> float:
    """``sparsity`` itself.

    Raises:
        UserError: it is not in [0, 1).
    """
    if not (isinstance(sparsity, int | float) and 0.0 <= sparsity < 1.0):
        raise UserError(f"sparsity must be at least 0 and below 1, not {sparsity}")
    return float(sparsity)


def kept_dense(model: nn.Module, distribution: str) -> set[str]:
    """Names of the prunable weights that a distribution leaves dense by rule.

    Not those with a density of their own (:func:`paper_repro.sparse.choose_layers`).
    """
    groups = groups_of(distribution)
    if distribution not in DISTRIBUTIONS and groups is None:
        raise UserError(
            f"unknown distribution {distribution!r}; known are {', '.join(DISTRIBUTIONS)} and n:m"
        )
    weights = prunable(model)
    # A stem that is left out or frozen is the stem all the same, and not the layer after it.
    every = maskable(model)
    convolutions = [name for name, w in every.items() if w.dim() > 2]
    linears = [name for name, w in every.items() if w.dim() == 2]
    dense = {name for name in convolutions if is_depthwise(model, name)}
    if distribution not in ("erk", "uniform-all"):
        # A network without convolutions has its first linear layer for a stem, or its embedding,
        # and then the output layer may share that.
        embeds = any(isinstance(m, nn.Embedding) for m in model.modules())
        dense |= set((convolutions or ([] if embeds else linears))[:1])
    if distribution == "uniform" or groups is not None:
        last = [m.weight for m in model.modules() if isinstance(m, nn.Linear)][-1:]
        dense |= {name for name in linears if every[name] is last[0]}
        dense |= {n for n in weights if {"shortcut", "downsample"} & set(n.split("."))}
        dense |= squeeze_excitation(model)
    if groups is not None:
        dense |= {name for name, w in weights.items() if w.shape[1] % groups[1]}
    return (dense & set(weights)) - set(given_densities(model))


def squeeze_excitation(model: nn.Module) -> set[str]:
    """Names of the weights that compute a squeeze-and-excitation's gates."""
    # By the class's name, which torchvision and timm both begin so, to import neither.
    gates = [n for n, m in model.named_modules() if type(m).__name__.startswith("Squeeze")]
    return {n for n in prunable(model) if any(n.startswith(f"{gate}.") for gate in gates)}


def layer_counts(model: nn.Module, sparsity: float, distribution: str) -> dict[str, int]:
    """Weights to keep in each prunable layer; a layer that stays dense keeps its full size.

    Under the uniform presets ``sparsity`` is that of each masked layer (nominal; the overall
    sparsity is lower), and counts are rounded. Under ``erk`` it is that of all prunable weights
    together, and counts are floored. A masked layer keeps at least one weight. Layers to which
    :func:`paper_repro.sparse.choose_layers` gave a density of their own have that one, and
    ``sparsity`` is of the others.

    Raises:
        UserError: for a sparsity outside [0, 1), an unknown distribution, or one of ``n:m`` that
            is of another sparsity than 1 - n/m.
    """
    density = 1.0 - check_sparsity(sparsity)
    weights = prunable(model)
    if not weights:
        raise UserError("the model has no convolution or linear layer to prune that is trained")
    dense = kept_dense(model, distribution)
    own = given_densities(model)
    fixed = {name: max(1, round(d * weights[name].numel())) for name, d in own.items()}
    groups = groups_of(distribution)
    if groups is not None:
        if abs(density - groups[0] / groups[1]) > 1e-9:
            raise UserError(
                f"the distribution {distribution} is of sparsity {1 - groups[0] / groups[1]:g}, "
                f"not {sparsity}"
            )
        if own:
            raise UserError(f"under {distribution} no layer has a density of its own")
    if distribution == "erk":
        shapes = {name: tuple(w.shape) for name, w in weights.items() if name not in fixed}
        found = {
            name: weights[name].numel()
            if d >= 1.0
            else max(1, int(d * weights[name].numel() + 1e-9))
            for name, d in erk_densities(shapes, density, dense).items()
        }
    else:
        found = {
            name: w.numel() if name in dense else max(1, round(density * w.numel()))
            for name, w in weights.items()
        }
    return {name: fixed.get(name, found.get(name, 0)) for name in weights}


def erk_densities(
    shapes: Mapping[str, tuple[int, ...]], density: float, kept: Set[str] = frozenset()
) -> dict[str, float]:
    """Layer densities ε p_l with p_l = Σ(dims) / Π(dims) of the layer's weight (Evci et al. 2020).

    ε solves Σ ε p_l n_l = density Σ n_l. While some ε p_l exceeds 1, the layer where it is
    largest is made dense and ε is solved again over the others.

    Args:
        shapes: of the weights, by name.
        density: of all of them together.
        kept: those that are dense by rule.

    Raises:
        UserError: those in ``kept`` are more than ``density`` allows.
    """
    size = {name: math.prod(shape) for name, shape in shapes.items()}
    score = {name: sum(shape) / size[name] for name, shape in shapes.items()}
    dense = set(kept)
    if kept and sum(size[name] for name in kept) >= density * sum(size.values()):
        raise UserError(
            f"a density of {density:g} leaves nothing beside the layers that stay dense by rule"
        )
    while True:
        sparse = [name for name in shapes if name not in dense]
        if not sparse:
            return dict.fromkeys(shapes, 1.0)
        budget = density * sum(size.values()) - sum(size[name] for name in dense)
        epsilon = budget / sum(score[name] * size[name] for name in sparse)
        largest = max(sparse, key=lambda name: score[name])
        if epsilon * score[largest] <= 1.0:
            return {n: 1.0 if n in dense else epsilon * score[n] for n in shapes}
        dense.add(largest)
