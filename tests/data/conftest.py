"""Tiny copies of CIFAR in every layout, and a user's home with no data and no network."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from made_cifar import pictures, write_parquet, write_pickle

from paper_repro.data import download

# Read before the fixture below hides it from the code under test.
_REAL = Path(os.environ.get("PAPER_REPRO_DATA", ""), "cifar10")


@pytest.fixture(autouse=True)
def bare_home(tmp_path, monkeypatch):
    """An empty user's cache, no PAPER_REPRO_DATA, and downloads that fail."""
    home = tmp_path / "home"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    for name in ("PAPER_REPRO_DATA", "HF_HOME", "HF_DATASETS_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)

    def offline(name, folder):
        raise OSError("no route to host")

    monkeypatch.setattr(download, "_fetch", offline)
    return home / "paper_repro"


@pytest.fixture
def parquet_root(tmp_path):
    """A parent folder whose cifar10/ has 7 + 5 training and 4 test images."""
    root = tmp_path / "hub"
    images, labels = pictures(12, 0)
    write_parquet(root / "cifar10/train-00000-of-00002.parquet", images[:7], labels[:7])
    write_parquet(root / "cifar10/train-00001-of-00002.parquet", images[7:], labels[7:])
    write_parquet(root / "cifar10/test-00000-of-00001.parquet", *pictures(4, 1))
    return root


@pytest.fixture
def pickle_root(tmp_path):
    """A parent folder with both of torchvision's folders, 3 images a batch."""
    root = tmp_path / "vision"
    for i in range(1, 6):
        write_pickle(root / f"cifar-10-batches-py/data_batch_{i}", *pictures(3, i))
    write_pickle(root / "cifar-10-batches-py/test_batch", *pictures(3, 6))
    for seed, split in enumerate(("train", "test")):
        images, labels = pictures(3, seed, classes=100)
        write_pickle(root / "cifar-100-python" / split, images, labels, key="fine_labels")
    return root


@pytest.fixture(params=["made", "real"] if _REAL.is_dir() else ["made"])
def test_shards(request, tmp_path):
    """Shards of CIFAR-10's test images: made up, and the real ones where they are at hand."""
    if request.param == "real":
        return sorted(_REAL.glob("test-*.parquet"))
    path = tmp_path / "shards/test-00000-of-00001.parquet"
    write_parquet(path, *pictures(200, 0), kind="WEBP")
    return [path]
