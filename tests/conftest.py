"""What every test shares: hypothesis without a deadline, since machines differ in speed."""

from collections import Counter

import pytest
import torch
from hypothesis import settings

from paper_repro.data import DATASETS
from paper_repro.train import Trainer

settings.register_profile("repro", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("repro")


@pytest.fixture
def one_thread():
    """One processor thread here, as the processes have that trainings are compared with."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def trained(monkeypatch):
    """How many epochs of each run are trained from now on, by fingerprint."""
    counts = Counter()
    original = Trainer.run_epoch

    def run_epoch(self):
        counts[self.config.fingerprint] += 1
        return original(self)

    monkeypatch.setattr(Trainer, "run_epoch", run_epoch)
    return counts


@pytest.fixture
def imagenets(monkeypatch):
    """ImageNet and its stand-in known by name, for tests that only name them."""
    for name in ("imagenet", "tinyimagenet20"):
        if name not in DATASETS:
            monkeypatch.setitem(DATASETS._members, name, lambda root=None: None)
