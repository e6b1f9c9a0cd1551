"""Runs of a second and less, the folders they live in, and processes to run and kill them in."""

import multiprocessing
import time

import torch

from paper_repro.config import RunConfig
from paper_repro.experiment.runs import Workplace, execute
from paper_repro.optim import OPTIMIZERS
from paper_repro.sparse import METHODS
from paper_repro.sparse.lt import spec_reaching

# Children of a server that has imported everything start in no time and, unlike those of the
# testing process itself, may run autograd.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["paper_repro.experiment.sweep", "sklearn.datasets"])

BIT_IDENTICAL = ("seconds", "images_per_second")  # what may differ between two equal runs


def tiny(**changes):
    """RigL on 96 digits: 3 steps an epoch."""
    settings = {
        "profile": "smoke",
        "dataset": "digits",
        "model": "resnet_digits",
        "method": METHODS.spec("rigl", sparsity=0.9, delta_t=2),
        "optimizer": OPTIMIZERS.spec("s2sam"),
        "seed": 0,
        "epochs": 2,
        "batch_size": 32,
        "train_size": 96,
    }
    return RunConfig(**{**settings, **changes})


def lottery(sparsity, **changes):
    """The round of lottery tickets, half of the weights a round, that reaches ``sparsity``."""
    return tiny(method=spec_reaching(sparsity, 0.5), **changes)


def workplace(folder, **changes):
    return Workplace(**{"runs": folder / "runs", "results": folder / "results", **changes})


def made_body(last=90.0, best=91.0, dirty=False, commit="c0ffee"):
    """As much of a finished run's record as its readers rely on."""
    best = max(best, last)
    return {
        "reason": None,
        "accuracy": {"last": last, "best": best},
        "curve": [
            {"epoch": 1, "test_accuracy": best, "sparsity": 0.9},
            {"epoch": 2, "test_accuracy": last, "sparsity": 0.9},
        ],
        "sparsity": {"asked": 0.9, "masked_layers": 0.9, "overall": 0.9, "missed": 0.0},
        "speed": {"seconds": 1.0, "images_per_second": 100.0},
        "memory": {"process_peak_bytes": 2**20},
        "environment": {"commit": commit, "dirty": dirty, "device": "a device", "torch": "2.13.0"},
    }


def untimed(curve):
    """A curve without what depends on the clock."""
    return [{k: v for k, v in line.items() if k not in BIT_IDENTICAL} for line in curve]


def outcome(config, place):
    """What must not differ between two trainings of a run: curve and weights."""
    record = place.records.get(config)
    return untimed(record.body["curve"]), place.weights(config).read_bytes()


def until(condition, seconds=300.0):
    """Wait until ``condition()`` is true, and return what it is."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"not within {seconds} seconds")


def execute_and_tell(config, place, told):
    """Train in a process of its own; each progress report is a line in the file ``told``."""
    torch.set_num_threads(1)

    def progress(config, epoch):
        with told.open("a") as file:
            file.write(f"{config.fingerprint} {epoch}\n")

    execute(config, place, progress)
