"""Sparse training: masks, layer-wise distributions, and one sparse-training method a file.

    >>> RigL(model, optimizer, sparsity=0.9, distribution="erk", total_steps=78_100)

A method attaches to the model and its optimizer by hooks; the training loop does not change.
"""

from paper_repro.registry import Registry

#: What the training loop gives to a method, beside the options that a config names.
RUNTIME = frozenset(
    {"model", "optimizer", "total_steps", "steps_per_epoch", "batch", "loss_fn", "seed", "parent"}
)

# Before the imports below: each of those files registers what it defines.
METHODS: Registry = Registry("sparse method", "paper_repro.sparse", runtime=RUNTIME)

from paper_repro.sparse.channels import (  # noqa: E402
    ChannelGroup,
    channel_groups,
    channel_masks,
    live_channels,
)
from paper_repro.sparse.chase import Chase  # noqa: E402
from paper_repro.sparse.chex import CHEX  # noqa: E402
from paper_repro.sparse.compact import compact  # noqa: E402
from paper_repro.sparse.distribution import groups_of, layer_counts  # noqa: E402
from paper_repro.sparse.dsr import DSR  # noqa: E402
from paper_repro.sparse.dynamic import DynamicMethod  # noqa: E402
from paper_repro.sparse.export import export_weights, save_weights  # noqa: E402
from paper_repro.sparse.granet import GraNet  # noqa: E402
from paper_repro.sparse.grasp import GraSP  # noqa: E402
from paper_repro.sparse.itop import SETITOP, RigLITOP  # noqa: E402
from paper_repro.sparse.layers import choose_layers, maskable, prunable  # noqa: E402
from paper_repro.sparse.lrr import LRR  # noqa: E402
from paper_repro.sparse.lt import LT  # noqa: E402
from paper_repro.sparse.magnitude import Magnitude  # noqa: E402
from paper_repro.sparse.masks import Masks  # noqa: E402
from paper_repro.sparse.mest import MEST  # noqa: E402
from paper_repro.sparse.mest_ems import MESTEMS  # noqa: E402
from paper_repro.sparse.method import SparseMethod  # noqa: E402
from paper_repro.sparse.plan import Plan, Stage  # noqa: E402
from paper_repro.sparse.random import Random  # noqa: E402
from paper_repro.sparse.replicas import alone  # noqa: E402
from paper_repro.sparse.rigl import RigL  # noqa: E402
from paper_repro.sparse.set import SET  # noqa: E402
from paper_repro.sparse.snip import SNIP  # noqa: E402
from paper_repro.sparse.synflow import SynFlow  # noqa: E402

__all__ = [
    "CHEX",
    "DSR",
    "LRR",
    "LT",
    "MEST",
    "MESTEMS",
    "METHODS",
    "SET",
    "SETITOP",
    "SNIP",
    "ChannelGroup",
    "Chase",
    "DynamicMethod",
    "GraNet",
    "GraSP",
    "Magnitude",
    "Masks",
    "Plan",
    "Random",
    "RigL",
    "RigLITOP",
    "SparseMethod",
    "Stage",
    "SynFlow",
    "alone",
    "channel_groups",
    "channel_masks",
    "choose_layers",
    "compact",
    "export_weights",
    "groups_of",
    "layer_counts",
    "live_channels",
    "maskable",
    "prunable",
    "save_weights",
]
