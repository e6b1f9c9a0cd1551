"""The trained network as others want it: a plain state dict at w, or a safetensors file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol
from weakref import WeakKeyDictionary, ref

from torch import Tensor, nn
from torch.optim import Optimizer

from paper_repro.errors import UserError
from paper_repro.files import save_tensors, write_bytes
from paper_repro.optim.base import evaluating

__all__ = ["TRAINED_APART", "export_weights", "save_weights"]


class _Apart(Protocol):
    def settle(self) -> None: ...


#: Models whose weights something else trains, and what puts them there (``paper_repro.engine``).
TRAINED_APART: WeakKeyDictionary[nn.Module, ref[_Apart]] = WeakKeyDictionary()


def export_weights(model: nn.Module, optimizer: Optimizer | None = None) -> dict[str, Tensor]:
    """The model's whole state dict at the weights w, pruned ones exactly 0; training can go on.

    Copies on the CPU that share no memory, under the names of the bare model, whatever is around
    it (DDP, ``torch.compile``). Any model of the class loads it by ``load_state_dict``.

    Args:
        model: the network.
        optimizer: that trains it, in any mode, also as accelerate or Lightning wrapped it.
    """
    bare = _bare(model)
    apart = TRAINED_APART.get(bare, lambda: None)()
    with evaluating(optimizer):
        if apart is not None:
            apart.settle()
        return {
            name: value.detach().cpu().clone().contiguous()
            for name, value in bare.state_dict().items()
            if isinstance(value, Tensor)
        }


def save_weights(path: Path | str, model: nn.Module, optimizer: Optimizer | None = None) -> None:
    """:func:`export_weights` into a file, whole or not at all.

    Args:
        path: a name that ends in ``.safetensors`` makes one of those, any other a file for
            ``torch.load``.
        model: the network.
        optimizer: that trains it.

    Raises:
        UserError: safetensors is not installed, or the path is no regular file.
    """
    target = Path(path)
    if target.exists() and not target.is_file():
        raise UserError(f"{target} is no regular file")
    weights = export_weights(model, optimizer)
    if target.suffix != ".safetensors":
        save_tensors(target, weights)
        return
    try:
        from safetensors.torch import save
    except ImportError as error:
        raise UserError(
            "a .safetensors file needs the package safetensors: pip install safetensors"
        ) from error
    write_bytes(target, save(weights, metadata={"format": "pt"}))


def _bare(model: Any) -> nn.Module:
    """The model inside DDP or torch.compile."""
    while len(model._modules) == 1 and (set(model._modules) <= {"module", "_orig_mod"}):
        model = next(iter(model._modules.values()))
    return model  # type: ignore[no-any-return]
