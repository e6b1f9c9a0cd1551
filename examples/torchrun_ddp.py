"""Replicas by torchrun: nothing to add; masks are those of rank 0 on all of them.

torchrun --nproc-per-node 2 examples/torchrun_ddp.py [epochs]
"""

import sys

import torch
import torch.distributed as dist
from digits import accuracy, datasets, network
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler

from paper_repro.optim import S2SAM, evaluating
from paper_repro.sparse import RigL


def main(epochs=5):
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    train, test = datasets()
    sampler = DistributedSampler(train, seed=0)
    loader = DataLoader(train, batch_size=25, sampler=sampler)
    model = network()
    replica = DistributedDataParallel(model)
    optimizer = S2SAM(torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9), rho=0.05)
    # Another seed on each rank would do no harm.
    method = RigL(
        model, optimizer, sparsity=0.9, total_steps=epochs * len(loader), delta_t=20,
        seed=dist.get_rank(),
    )  # fmt: skip
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        for images, labels in loader:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(replica(images), labels).backward()
            optimizer.step()
    with evaluating(optimizer):
        found = accuracy(model, test)
    active = torch.cat([m.flatten() for m in method.masks.state_dict().values()]).double()
    sums = [torch.zeros(1) for _ in range(dist.get_world_size())]
    dist.all_gather(sums, (active @ torch.arange(len(active)).double()).float().view(1))
    print(
        f"rank {dist.get_rank()}: {found:.1f} %, masks alike: {len({s.item() for s in sums}) == 1}"
    )
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
