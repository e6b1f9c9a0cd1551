"""Which weights of a model may be masked: by a rule, and by what the user says of layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import cast

from torch import nn
from torch.nn.parameter import UninitializedParameter

from paper_repro.errors import UserError

__all__ = [
    "check_whole",
    "choose_layers",
    "given_densities",
    "is_depthwise",
    "maskable",
    "prunable",
    "skipped",
]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_LAYERS = (*_CONVOLUTIONS, *_TRANSPOSED, nn.Linear)
_PROJECTIONS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)

#: What names layers: a module's or a parameter's name, a pattern of it (``blocks.*.mlp``), or a
#: type of module. A module's name stands for everything inside it.
Which = str | type[nn.Module]


@dataclass(frozen=True)
class _Choice:
    """What :func:`choose_layers` was told, with names as the model has them."""

    include: frozenset[str] | None = None
    exclude: frozenset[str] = frozenset()
    densities: Mapping[str, float] = field(default_factory=dict)


#: Where a model carries its choice: in the module itself, so that copies and pickles have it too.
_ATTRIBUTE = "_sparse_layers"


def maskable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that are masked by rule, trained or not, by name in the model's order.

    Those of linear layers, of convolutions (1-, 2- and 3-dimensional, transposed and depthwise ones
    too) and of attention's input projections (``in_proj_weight`` and its parts). Not: embeddings,
    nor a linear layer that shares an embedding's weight; biases, normalisation, recurrent layers
    and parameters of one's own. A weight shared by two layers appears once. A weight that is
    computed from other parameters (``torch.nn.utils.parametrize``, weight norm, ``prune``) is no
    parameter and is left out.

    Raises:
        UserError: a layer has no weights yet (lazy modules).
    """
    embedded = {
        id(module.weight)
        for module in model.modules()
        if isinstance(module, _EMBEDDINGS) and module.weight is not None
    }
    found: dict[str, nn.Parameter] = {}
    seen: set[int] = set()
    for name, weight in _candidates(model):
        if isinstance(weight, UninitializedParameter):
            raise UserError(
                f"{name!r} has no shape yet: run one batch through the model before pruning it"
            )
        if isinstance(weight, nn.Parameter) and id(weight) not in seen | embedded:
            seen.add(id(weight))
            found[name] = weight
    return found


def check_whole(model: nn.Module) -> None:
    """Masks need weights that are on one device as a whole.

    Raises:
        UserError: the model is sharded (FSDP, DTensor).
    """
    kinds = {base.__name__ for m in model.modules() for base in type(m).__mro__}
    tensors = {base.__name__ for p in model.parameters() for base in type(p).__mro__}
    if "DTensor" in tensors or "FullyShardedDataParallel" in kinds:
        raise UserError(
            "the model's weights are sharded (FSDP), and sparse methods need them whole: train "
            "replicas instead (DDP), which gives the same numbers where the model fits on a device"
        )


def prunable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that a sparse method may mask here, by name.

    Those of :func:`maskable` that are trained (``requires_grad``), narrowed or widened by
    :func:`choose_layers`.
    """
    prefix, choice = _choice(model)
    weights = maskable(model)
    if choice.include is not None:
        every = dict(model.named_parameters())
        weights = {
            prefix + name: every[prefix + name]
            for name in _in_order(model, prefix, choice.include)
            if prefix + name in every
        }
    return {
        name: weight
        for name, weight in weights.items()
        if weight.requires_grad and name.removeprefix(prefix) not in choice.exclude
    }


def choose_layers(
    model: nn.Module,
    *,
    include: Sequence[Which] | None = None,
    exclude: Sequence[Which] = (),
    densities: Mapping[str, float] | None = None,
) -> None:
    """Say which layers of ``model`` sparse methods are to mask; call it before one attaches.

    ::

        choose_layers(model, exclude=["head", "blocks.0.*", nn.Conv1d], densities={"stem": 0.5})
        RigL(model, optimizer, sparsity=0.9, total_steps=...)

    What a distribution leaves dense by rule, as ``uniform`` does the first convolution, stays dense
    also where it is included. The choice stays with the model, and with its copies; another call
    replaces it, and one without arguments removes it. Each entry is a parameter's or a module's
    name, a pattern as the shell has them, or a type of module.

    Args:
        model: the network.
        include: mask these and no others. What the rule leaves out (embeddings, recurrent
            weights, one's own parameters) must be named by the parameter's full name.
        exclude: keep these dense.
        densities: fraction of active weights, in (0, 1], of layers that do not follow the method's
            distribution; ``sparsity`` is then that of the others.

    Raises:
        UserError: an entry that fits nothing, or a density out of range.
    """
    by_rule = maskable(model)
    parameters = {n: p for n, p in model.named_parameters() if p.dim() > 1}
    included = None
    if include is not None:
        included = frozenset(
            name
            for entry in include
            for name in (
                [entry]
                if isinstance(entry, str) and entry in parameters
                else _matching(model, entry, by_rule, "include")
            )
        )
    excluded = frozenset(
        name
        for entry in exclude
        for name in _matching(model, entry, {**parameters, **by_rule}, "exclude")
    )
    fixed: dict[str, float] = {}
    for entry, density in (densities or {}).items():
        if not (isinstance(density, int | float) and 0 < density <= 1):
            raise UserError(f"the density of {entry!r} must lie above 0 and up to 1, not {density}")
        pool = by_rule if included is None else {n: parameters[n] for n in included}
        fixed |= dict.fromkeys(_matching(model, entry, pool, "densities"), float(density))
    choice = _Choice(included, excluded | {n for n, d in fixed.items() if d == 1.0}, fixed)
    if choice == _Choice():
        model.__dict__.pop(_ATTRIBUTE, None)
    else:
        model.__dict__[_ATTRIBUTE] = choice


def given_densities(model: nn.Module) -> dict[str, float]:
    """The densities that :func:`choose_layers` fixed, below 1, of layers that are masked."""
    prefix, choice = _choice(model)
    weights = prunable(model)
    return {prefix + n: d for n, d in choice.densities.items() if prefix + n in weights}


def skipped(model: nn.Module) -> dict[str, str]:
    """Layers that the rule covers and that are not masked all the same, and why."""
    reasons: dict[str, str] = {}
    prefix, choice = _choice(model)
    for name, weight in _candidates(model):
        short = name.removeprefix(prefix)
        left_out = choice.include is not None and short not in choice.include
        if left_out or short in choice.exclude:
            continue  # as the user wished
        if not isinstance(weight, nn.Parameter):
            reasons[name] = "it is computed from other parameters (parametrized)"
        elif not weight.requires_grad:
            reasons[name] = "it is frozen"
    return reasons


def is_depthwise(model: nn.Module, name: str) -> bool:
    """Whether a weight is that of a convolution with one input channel a group."""
    module = model.get_submodule(name.rpartition(".")[0])
    return isinstance(module, (*_CONVOLUTIONS, *_TRANSPOSED)) and (
        module.groups == module.in_channels > 1
    )


def _candidates(model: nn.Module) -> Iterator[tuple[str, object]]:
    """Name and value of every weight of a layer that the rule covers."""
    for name, module in model.named_modules():
        keys: Sequence[str] = ()
        if isinstance(module, _LAYERS):
            keys = ("weight",)
        elif isinstance(module, nn.MultiheadAttention):
            keys = [k for k in _PROJECTIONS if getattr(module, k, None) is not None]
        for key in keys:
            yield (f"{name}.{key}" if name else key), getattr(module, key)


def _choice(model: nn.Module) -> tuple[str, _Choice]:
    """The model's choice, or that of the module inside it (DDP, compiled), with its prefix."""
    if _ATTRIBUTE in model.__dict__:
        return "", model.__dict__[_ATTRIBUTE]
    for name in ("module", "_orig_mod"):
        inner = model._modules.get(name)
        if inner is not None and len(model._modules) == 1:
            prefix, choice = _choice(inner)
            return f"{name}.{prefix}", choice
    return "", _Choice()


def _in_order(model: nn.Module, prefix: str, names: frozenset[str]) -> list[str]:
    order = [n.removeprefix(prefix) for n, _ in model.named_parameters()]
    return [name for name in order if name in names]


def _matching(
    model: nn.Module, entry: Which, weights: Mapping[str, object], where: str
) -> list[str]:
    if isinstance(entry, str):
        found = [n for n in weights if _names(entry, n)]
    elif isinstance(entry, type) and issubclass(entry, nn.Module):
        inside = [n for n, m in model.named_modules() if isinstance(m, cast(type, entry))]
        found = [n for n in weights if any(not i or n.startswith(f"{i}.") for i in inside)]
    else:
        raise UserError(f"{where} holds names, patterns and module types, not {entry!r}")
    if not found:
        shown = entry if isinstance(entry, str) else entry.__name__
        raise UserError(
            f"{where}: {shown!r} fits no weight that can be masked; there are "
            f"{', '.join(list(weights)[:4])}{', ...' if len(weights) > 4 else ''}"
        )
    return found


def _names(pattern: str, name: str) -> bool:
    """Whether the pattern is of the parameter or of a module around it."""
    parts = name.split(".")
    around = (".".join(parts[:i]) for i in range(1, len(parts) + 1))
    return any(fnmatchcase(outer, pattern) for outer in around)
