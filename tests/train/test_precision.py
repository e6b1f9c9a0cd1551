"""Half precision changes a training's numbers, but not what comes of it."""

import statistics
from dataclasses import replace

import pytest
import torch

from paper_repro import data as datasets
from paper_repro.experiment.profiles import profile
from paper_repro.optim import OPTIMIZERS
from paper_repro.train import Trainer

SEEDS = (0, 1, 2)
TOLERANCE = 1.0  # points of mean test accuracy; one of the 360 test images is 0.28


@pytest.mark.slow
def test_a_full_smoke_run_in_bf16_ends_as_accurate_as_in_float32():
    data = datasets.load("digits")
    size = profile("smoke")
    method = size.method("mest", sparsity=0.9)
    final = {"float32": [], "bf16": []}
    for seed in SEEDS:
        config = size.config("cifar10", "resnet32x2", method, OPTIMIZERS.spec("s2sam"), seed)
        ends = {}
        for precision, accuracies in final.items():
            trainer = Trainer(replace(config, precision=precision), data)
            while not trainer.finished:
                line = trainer.run_epoch()
            accuracies.append(line["test_accuracy"])
            ends[precision] = trainer.outcome()["weights"]["fc.weight"]
        assert not torch.equal(ends["float32"], ends["bf16"])  # it did compute otherwise
    means = {name: statistics.mean(values) for name, values in final.items()}
    assert means["float32"] > 95
    assert abs(means["bf16"] - means["float32"]) < TOLERANCE, final
