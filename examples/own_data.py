"""A data set of your own in this project's loop: a run, its record, resume and all.

python examples/own_data.py [epochs]
"""

import sys
from pathlib import Path

import torch

from paper_repro.config import RunConfig
from paper_repro.data import DATASETS
from paper_repro.data.base import Dataset, Split
from paper_repro.experiment.runs import Workplace, execute
from paper_repro.optim import OPTIMIZERS
from paper_repro.sparse import METHODS


@DATASETS.register("stripes")
def stripes():
    """Which way do noisy stripes run? 16x16 grey images, four directions."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(1200) % 4
    y, x = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    waves = torch.stack([x, y, x + y, x - y]).double()[labels]
    phase = 6 * torch.rand(1200, 1, 1, generator=generator)
    noise = 60 * torch.randn(1200, 16, 16, generator=generator)
    images = (127 + 60 * torch.sin(waves + phase) + noise).clamp(0, 255).byte().unsqueeze(3)
    train, test = (Split(images[rows], labels[rows]) for rows in (slice(1000), slice(1000, None)))
    return Dataset("stripes", train, test, 4, (0.5,), (0.3,), pad=1, flip=False)


def main(epochs=3, folder=Path("runs/own_data")):
    config = RunConfig(
        profile="mine",
        dataset="stripes",
        model="resnet_digits",
        method=METHODS.spec("rigl", sparsity=0.9, delta_t=10),
        optimizer=OPTIMIZERS.spec("s2sam", rho=0.05),
        seed=0,
        epochs=epochs,
        batch_size=50,
    )
    record = execute(config, Workplace(runs=folder / "runs", results=folder / "results"))
    return record.accuracy(), record


if __name__ == "__main__":
    accuracy, record = main(*map(int, sys.argv[1:]))
    print(f"{record.config}: {accuracy:.1f} %")
