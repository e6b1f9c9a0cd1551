"""Truly sparse training on CPUs: zeros are skipped, in time and in memory.

    net = SparseNet(model, masks)
    optimizer = S2SAM(torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9), rho=0.05)
    loss_fn(net(images), labels).backward(); optimizer.step(); optimizer.zero_grad()

The kernels are C++ (``native/``), compiled at first use for the instruction set of the machine.
"""

from paper_repro.engine.attach import ENGINES, attach, obstacle, worth
from paper_repro.engine.lower import Uncovered
from paper_repro.engine.masks import PackedMasks
from paper_repro.engine.net import STORAGES, SparseNet

__all__ = [
    "ENGINES",
    "STORAGES",
    "PackedMasks",
    "SparseNet",
    "Uncovered",
    "attach",
    "obstacle",
    "worth",
]
