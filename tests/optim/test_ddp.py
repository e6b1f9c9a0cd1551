"""Replicas under DistributedDataParallel stay bit-identical, masks, perturbations and all."""

import pytest
import torch
import torch.distributed as dist
from toys import BASES, backward, batches, mlp, weights
from workplaces import PROCESSES

from paper_repro.optim import S2SAM, SAM
from paper_repro.sparse import RigL

STEPS = 8
REPLICAS = 2
WRAPS = {"s2sam": S2SAM, "sam": SAM}


def replica(rank, folder, name):
    """Train one replica on its own half of every batch and save what it ends with."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=REPLICAS
    )
    model = mlp()
    optimizer = WRAPS[name](BASES["momentum"](model.parameters()), rho=0.5)
    method = RigL(model, optimizer, sparsity=0.5, total_steps=STEPS, delta_t=2)
    replicated = torch.nn.parallel.DistributedDataParallel(model)
    for x, y in batches(STEPS):
        own = slice(rank * 4, rank * 4 + 4)
        take(optimizer, replicated, (x[own], y[own]))
    masks = method.masks.state_dict()
    held = [p.detach() for p in model.parameters()]
    torch.save((weights(model, optimizer), held, masks, method.updates), folder / f"{rank}.pt")
    dist.destroy_process_group()


def take(optimizer, model, batch):
    """The usual loop for an optimizer of one gradient a step, a closure for one of two."""

    def closure():
        optimizer.zero_grad()
        return backward(model, batch)

    if isinstance(optimizer, S2SAM):
        closure()
        optimizer.step()
    else:
        optimizer.step(closure)


@pytest.mark.parametrize("name", WRAPS)
def test_replicas_agree_bit_for_bit_and_with_one_process(tmp_path, name):
    processes = [
        PROCESSES.Process(target=replica, args=(rank, tmp_path, name)) for rank in range(REPLICAS)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(REPLICAS))
    assert first[3] == second[3] > 1
    for ours, theirs in zip(first[:2], second[:2], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert all(torch.equal(mask, second[2][layer]) for layer, mask in first[2].items())

    model = mlp()
    optimizer = WRAPS[name](BASES["momentum"](model.parameters()), rho=0.5)
    method = RigL(model, optimizer, sparsity=0.5, total_steps=STEPS, delta_t=2)
    for batch in batches(STEPS):
        take(optimizer, model, batch)
    for a, b in zip(first[0], weights(model, optimizer), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    for layer, mask in method.masks.state_dict().items():
        assert torch.equal(mask, first[2][layer])
        weight = dict(zip(dict(model.named_parameters()), first[0], strict=True))[layer]
        assert not weight[~mask].any()
