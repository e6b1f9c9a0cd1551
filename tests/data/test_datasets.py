import pytest
import torch
from sklearn.datasets import load_digits

from paper_repro.data import DATASETS, load
from paper_repro.errors import UserError


def test_known_data_sets():
    assert list(DATASETS) == [
        "cifar10", "cifar100", "digits", "imagenet",
        "multi30k", "phrases", "tinyimagenet20", "wmt14",
    ]  # fmt: skip
    assert all(not DATASETS.spec(name).options for name in DATASETS)


def test_unknown_data_set():
    with pytest.raises(UserError, match="unknown dataset 'mnist'; known are cifar10"):
        load("mnist")


def test_digits():
    data = load("digits")
    assert data.train.images.shape == (1437, 8, 8, 1) and data.test.images.shape == (360, 8, 8, 1)
    assert data.train.images.dtype == torch.uint8 and data.train.labels.dtype == torch.int64
    assert (data.classes, data.channels, data.size, data.pad) == (10, 1, 8, 1)
    assert not data.flip
    assert data.test.labels.bincount().tolist() == [36] * 10


def test_digits_are_all_there_once_and_exact():
    data = load("digits")
    images = torch.cat([data.train.images, data.test.images]).flatten(1)
    labels = torch.cat([data.train.labels, data.test.labels])
    assert (images % 15 == 0).all()
    found = sorted(
        (*row, y) for row, y in zip((images // 15).tolist(), labels.tolist(), strict=True)
    )
    bunch = load_digits()
    given = sorted(
        (*map(int, row), int(y)) for row, y in zip(bunch.data, bunch.target, strict=True)
    )
    assert found == given


def test_digits_statistics_are_the_training_sets():
    data = load("digits")
    pixels = data.train.images.double() / 255
    assert data.mean == pytest.approx([pixels.mean().item()], abs=5e-5)
    assert data.std == pytest.approx([pixels.std(correction=0).item()], abs=5e-5)


def test_the_split_never_changes():
    data = load("digits")
    assert torch.equal(data.train.images, load("digits").train.images)
    assert data.train.labels[:10].tolist() == [6, 6, 6, 6, 6, 9, 7, 6, 9, 9]


def test_train_size_takes_a_prefix_and_leaves_the_test_set():
    data, full = load("digits", train_size=100), load("digits")
    assert len(data.train) == 100 and len(data.test) == 360
    assert torch.equal(data.train.images, full.train.images[:100])
    assert torch.equal(data.train.labels, full.train.labels[:100])
    assert data.train.images.untyped_storage().nbytes() == 100 * 64
    assert len(load("digits", train_size=1437).train) == 1437


@pytest.mark.parametrize("size", [0, -1, 1438])
def test_bad_train_size(size):
    with pytest.raises(UserError, match=f"train_size is {size}, but digits has 1 to 1437"):
        load("digits", train_size=size)


def test_device():
    data = load("digits", device="meta")
    for split in (data.train, data.test):
        assert split.images.device.type == split.labels.device.type == "meta"
