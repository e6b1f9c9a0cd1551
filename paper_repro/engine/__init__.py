"""Truly sparse training on CPUs: zeros are skipped, in time and in memory.

    net = SparseNet(model, masks)
    optimizer = S2SAM(torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9), rho=0.05)
    loss_fn(net(images), labels).backward(); optimizer.step(); optimizer.zero_grad()

or, with a sparse method that moves the masks, :func:`attach` in place of the first line. A
:class:`SparseNet` is a module with one parameter, the active weights; a model that it does not
cover raises :class:`Uncovered`, a ``UserError``. :func:`obstacle` and :func:`worth` say whether it
can take a model's place, and whether that pays.

The kernels are C++ (``native/``), compiled at first use for the instruction set of the machine
(:mod:`paper_repro.engine.build`), and called through ctypes: no ABI of torch is involved. The flow:
``lower`` (a network's structure), ``layout`` (where each weight lies), ``bound`` (the two brought
together), ``forward`` and ``backward`` (the programs of a step), ``program`` (their operations),
``native`` (what runs them).
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
