"""The floor: what a training step must compute and move, over what the machine can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.setup import Stepper, config
from benchmarks.timing import Spread, interleaved, spread
from paper_repro import models
from paper_repro.data import Dataset
from paper_repro.measure.flops import layer_macs, training_flops
from paper_repro.train import Trainer

__all__ = ["PASSES", "ceilings", "measure", "output_elements"]

#: How often each convolution's output travels between memory and processor in a training step,
#: counting reads and writes of it and of its gradient, each block's residual addition as half a
#: convolution's. See the README for the count.
PASSES: Mapping[str, float] = {"eager": 22.0, "fused elementwise": 15.0, "saved only": 4.0}

_IMAGES = 50_000
_EPOCHS = 160


def measure(
    data: Dataset, *, model: str = "resnet32x2", batch_size: int = 64, rounds: int = 10
) -> dict[str, Any]:
    """FLOPs, bytes and operators of a step and of the paper's 160 epochs, and the ceilings here."""
    device = data.train.images.device
    shape = (data.channels, data.size, data.size)
    network = models.build(model, classes=10, channels=data.channels, seed=0)
    flops = training_flops(layer_macs(network, shape), {})
    elements = output_elements(network, shape)
    top = ceilings(device, rounds)
    steps = _EPOCHS * (_IMAGES // batch_size)
    run_images = steps * batch_size
    rows = {}
    for precision, size in (("float32", 4), ("bf16", 2)):
        seconds = flops / (1e12 * top[f"{precision} TFLOP/s"].median)
        moved = {
            name: elements * size * passes / (1e9 * top["copy GB/s"].median)
            for name, passes in PASSES.items()
        }
        rows[precision] = {
            "step_ms_flops": 1e3 * batch_size * seconds,
            "step_ms_bytes": {name: 1e3 * batch_size * s for name, s in moved.items()},
            "run_s_flops": run_images * seconds,
            "run_s_bytes": {name: run_images * s for name, s in moved.items()},
        }
    return {
        "model": model,
        "batch_size": batch_size,
        "macs_per_image": sum(layer_macs(network, shape).values()),
        "tflop_per_epoch": flops * _IMAGES / 1e12,
        "output_elements_per_image": elements,
        "gb_per_epoch_bf16": {n: elements * 2 * p * _IMAGES / 1e9 for n, p in PASSES.items()},
        "steps_per_run": steps,
        "operators_per_step": operators(data, model, batch_size),
        "ceilings": top,
        "floor": rows,
    }


def output_elements(network: nn.Module, shape: tuple[int, int, int]) -> int:
    """Elements of all convolutions' outputs for one image."""
    total = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        total += output.numel()

    handles = [
        m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Conv2d)
    ]
    was_training = network.training
    with torch.no_grad():
        network.eval()(torch.zeros(1, *shape))
    network.train(was_training)
    for handle in handles:
        handle.remove()
    return total


def ceilings(device: torch.device, rounds: int) -> dict[str, Spread]:
    """Matrix products and copies at their best, measured in turns."""
    n = 8192 if device.type == "cuda" else 1024
    length = 2**30 if device.type == "cuda" else 2**26
    source = torch.zeros(length, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    work: dict[str, Callable[[], object]] = {"copy GB/s": lambda: target.copy_(source)}
    amount = {"copy GB/s": 2 * length / 1e9}
    for name, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
        work[f"{name} TFLOP/s"] = lambda a=a, b=b: a @ b  # type: ignore[misc]
        amount[f"{name} TFLOP/s"] = 2 * n**3 / 1e12
    # As convolutions do by default: TF32 where the GPU has it.
    tf32 = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    try:
        seconds = interleaved(work, rounds, 3, device)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = tf32
    return {name: spread([amount[name] / s for s in values]) for name, values in seconds.items()}


def operators(data: Dataset, model: str, batch_size: int) -> int:
    """Operators of one S2-SAM training step that touch data: about as many kernels on a GPU."""
    trainer = Trainer(config("s2sam", model, batch_size), data, engine="dense")
    step = Stepper(trainer)
    step()
    step()
    with _Count() as count:
        step()
    return count.n


class _Count(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.n = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        view = any(r.alias_info is not None for r in func._schema.returns) and not any(
            a.alias_info is not None and a.alias_info.is_write for a in func._schema.arguments
        )
        self.n += not view and not func._schema.name.startswith("aten::empty")
        return func(*args, **(kwargs or {}))
