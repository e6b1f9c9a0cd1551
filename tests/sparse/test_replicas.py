"""Replicas mask alike, whatever seeds they were given; sharded models are refused."""

import warnings

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from toys import backward, batches, convnet, images, mlp
from workplaces import PROCESSES

from paper_repro.errors import UserError
from paper_repro.optim import MSAM, S2SAM
from paper_repro.sparse import CHEX, SET, Magnitude, Random, RigL, alone
from paper_repro.sparse.replicas import agreed, checksum

REPLICAS = 2


def together(work, folder):
    """``work(rank)`` on every replica; what each returned, in their order."""
    processes = [
        PROCESSES.Process(target=_replica, args=(rank, folder, work)) for rank in range(REPLICAS)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    return [torch.load(folder / f"{rank}.pt") for rank in range(REPLICAS)]


def _replica(rank, folder, work):
    torch.set_num_threads(1)

    def meet():
        dist.init_process_group(
            "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=REPLICAS
        )

    if work is before_the_group:
        found = work(rank, meet)
    else:
        meet()
        found = work(rank)
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


def steps(model, optimizer, rank, count=9):
    replicated = torch.nn.parallel.DistributedDataParallel(model)
    for x, y in batches(count):
        optimizer.zero_grad()
        backward(replicated, (x[rank * 4 : rank * 4 + 4], y[rank * 4 : rank * 4 + 4]))
        optimizer.step()


def own_seeds(rank):
    model = mlp(seed=rank)  # DDP sends rank 0's weights when it is made
    optimizer = S2SAM(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), rho=0.1)
    method = SET(model, optimizer, sparsity=0.6, total_steps=20, steps_per_epoch=2, seed=100 + rank)
    first = method.masks.state_dict()
    steps(model, optimizer, rank)
    return (
        first,
        method.masks.state_dict(),
        method.updates,
        [p.detach() for p in model.parameters()],
    )


def before_the_group(rank, meet):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, still = mlp(), mlp()
        optimizer = S2SAM(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), rho=0.1)
        moving = SET(
            model, optimizer, sparsity=0.6, total_steps=20, steps_per_epoch=2, seed=100 + rank
        )
        other = torch.optim.SGD(still.parameters(), lr=0.1)
        static = Random(still, other, sparsity=0.6, distribution="uniform-all", seed=rank)
        own = static.masks.state_dict()
        meet()
        steps(model, optimizer, rank)
        steps(still, other, rank)
    parameters = [p.detach() for m in (model, still) for p in m.parameters()]
    return own, static.masks.state_dict(), moving.masks.state_dict(), parameters


def own_memory(rank):
    model = convnet(seed=rank)
    model.insert(3, nn.Conv2d(6, 6, 3, padding=1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        method = CHEX(model, optimizer, sparsity=0.5, total_steps=12, updates=4, stop=1.0)
        replicated = torch.nn.parallel.DistributedDataParallel(model)
        for x, y in images(12):
            optimizer.zero_grad()
            backward(replicated, (x[rank * 4 : rank * 4 + 4], y[rank * 4 : rank * 4 + 4]))
            optimizer.step()
    return method.updates, [p.detach() for p in model.parameters()]


def own_scores(rank):
    model = mlp(seed=rank)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        method = Magnitude(model, optimizer, sparsity=0.6)
        with alone():
            other = mlp(seed=rank)
            lonely = Magnitude(other, sparsity=0.6).masks.state_dict()
    said = [str(w.message) for w in caught if "replicas" in str(w.message)]
    steps(model, optimizer, rank, 2)
    return method.masks.state_dict(), lonely, said, [p.detach() for p in model.parameters()]


def sharded(rank):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (REPLICAS,))
    found = {}
    for name, wrap in (("s2sam", S2SAM), ("msam", MSAM)):
        model = mlp()
        fully_shard(model, mesh=mesh)
        optimizer = wrap(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), rho=0.1)
        try:
            RigL(model, optimizer, sparsity=0.6, total_steps=20)
        except UserError as error:
            found["said"] = str(error)
        for x, y in batches(5):
            optimizer.zero_grad()
            backward(model, (x[rank * 4 : rank * 4 + 4], y[rank * 4 : rank * 4 + 4]))
            optimizer.step()
        optimizer.eval()
        found[name] = [p.full_tensor().detach() for p in model.parameters()]
    return found


def test_replicas_of_other_seeds_mask_and_move_alike(tmp_path):
    one, two = together(own_seeds, tmp_path)
    assert one[2] == two[2] == 4
    for mine, other in zip(one[:2], two[:2], strict=True):
        assert all(torch.equal(mask, other[name]) for name, mask in mine.items())
    assert all(torch.equal(a, b) for a, b in zip(one[3], two[3], strict=True))
    assert not all(torch.equal(mask, one[1][name]) for name, mask in one[0].items())


def test_a_method_made_before_the_process_group_masks_alike_too(tmp_path):
    one, two = together(before_the_group, tmp_path)
    assert not all(torch.equal(mask, two[0][name]) for name, mask in one[0].items())
    for mine, other in zip(one[1:3], two[1:3], strict=True):
        assert all(torch.equal(mask, other[name]) for name, mask in mine.items())
    assert all(torch.equal(mask, one[1][name]) for name, mask in one[0].items())  # rank 0's
    assert all(torch.equal(a, b) for a, b in zip(one[3], two[3], strict=True))


def test_channels_come_back_with_the_same_weights_on_all_replicas(tmp_path):
    one, two = together(own_memory, tmp_path)
    assert one[0] == two[0] == 4
    assert all(torch.equal(a, b) for a, b in zip(one[1], two[1], strict=True))


def test_replicas_whose_scores_differ_go_on_with_those_of_the_first(tmp_path):
    one, two = together(own_scores, tmp_path)
    assert all(torch.equal(mask, two[0][name]) for name, mask in one[0].items())
    assert all(torch.equal(mask, one[1][name]) for name, mask in one[0].items())  # rank 0's
    assert not all(torch.equal(mask, two[1][name]) for name, mask in one[1].items())
    assert len(one[2]) == len(two[2]) == 1
    assert all(torch.equal(a, b) for a, b in zip(one[3], two[3], strict=True))


@pytest.mark.slow
def test_under_fsdp_the_optimizers_work_and_sparse_methods_say_that_they_do_not(tmp_path):
    one, two = together(sharded, tmp_path)
    assert "sharded (FSDP)" in one["said"]
    for name, wrap in (("s2sam", S2SAM), ("msam", MSAM)):
        assert all(torch.equal(a, b) for a, b in zip(one[name], two[name], strict=True))
        model = mlp()
        optimizer = wrap(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), rho=0.1)
        for batch in batches(5):
            optimizer.zero_grad()
            backward(model, batch)
            optimizer.step()
        optimizer.eval()
        for a, b in zip(one[name], model.parameters(), strict=True):
            torch.testing.assert_close(a, b.detach(), rtol=1e-4, atol=1e-5)


@given(st.lists(st.booleans(), min_size=12, max_size=12), st.integers(0, 11))
def test_the_checksum_tells_masks_apart(bits, place):
    mask = {"a": torch.tensor(bits[:8]).view(2, 4), "b": torch.tensor(bits[8:])}
    other = {name: m.clone() for name, m in mask.items()}
    assert torch.equal(checksum(mask), checksum(other))
    name, i = ("a", place) if place < 8 else ("b", place - 8)
    other[name].view(-1)[i] ^= True
    assert checksum(mask)[0] == checksum(other)[0]
    assert checksum(mask)[1] != checksum(other)[1]


def test_masks_moved_within_a_layer_or_of_other_layers_differ():
    one = torch.tensor([True, False, False, True])
    two = torch.tensor([False, True, True, False])
    assert not torch.equal(checksum({"a": one}), checksum({"a": two}))
    assert checksum({"a": one})[0] != checksum({"b": one})[0]


def test_one_process_is_left_alone():
    masks = {"a": torch.ones(2, dtype=torch.bool)}
    assert agreed(masks) is masks


@pytest.mark.parametrize("kind", [RigL, SET])
def test_a_model_wrapped_by_fsdp1_is_refused(kind):
    class FullyShardedDataParallel(torch.nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

    model = FullyShardedDataParallel(mlp())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    more = {"steps_per_epoch": 2} if kind is SET else {}
    with pytest.raises(UserError, match="sharded"):
        kind(model, optimizer, sparsity=0.5, total_steps=9, **more)
