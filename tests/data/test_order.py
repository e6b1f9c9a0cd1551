"""One order of CIFAR's images, whatever copy they come from."""

import os
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_cifar import pictures, same, write_parquet, write_pickle

from paper_repro.data import cifar, load, order
from paper_repro.errors import UserError

REAL = Path(os.environ.get("PAPER_REPRO_DATA", "/nowhere"))  # read before a fixture hides it


def published(root, name, images, labels, files, key="labels", keep=True):
    """Batches as they are published: rows in an order of their own, pictures named."""
    names = [f"thing_s_{i:06d}.png" for i in np.random.default_rng(3).permutation(len(labels))]
    parts = np.array_split(np.arange(len(labels)), len(files))
    for file, rows in zip(files, parts, strict=True):
        extra = {"filenames": [names[i] for i in rows]} if keep else {}
        write_pickle(root / name / file, images[rows], labels[rows], key, **extra)
    return names


BATCHES = [f"data_batch_{i}" for i in range(1, 6)]


def test_published_images_come_in_the_records_order_however_they_are_split(tmp_path):
    (images, labels), test = pictures(40, 0), pictures(6, 1)
    found = []
    for place, rows in (("a", np.arange(40)), ("b", np.random.default_rng(5).permutation(40))):
        names = published(tmp_path / place, "cifar-10-batches-py", images, labels, BATCHES)
        published(tmp_path / place, "cifar-10-batches-py", *test, ["test_batch"])
        # The same named pictures in other rows and batches.
        for batch, part in zip(BATCHES, np.array_split(rows, 5), strict=True):
            path = tmp_path / place / "cifar-10-batches-py" / batch
            write_pickle(path, images[part], labels[part], filenames=[names[i] for i in part])
        found.append(load("cifar10", root=tmp_path / place))
    begin = sorted(range(40), key=lambda i: (labels[i], names[i]))
    mixed = list(range(40))
    random.Random(0).shuffle(mixed)
    order = [begin[j] for j in mixed]
    for data in found:
        same(data.train, images[order], labels[order])
    assert found[0].digest() == found[1].digest()
    assert found[0].digest() != found[0].prefix(39).digest()


def test_published_cifar100_is_shuffled_from_its_rows(tmp_path):
    images, labels = pictures(30, 0, classes=100)
    for split in ("train", "test"):
        published(tmp_path, "cifar-100-python", images, labels, [split], "fine_labels")
    order = list(range(30))
    random.Random(0).shuffle(order)
    same(load("cifar100", root=tmp_path).train, images[order], labels[order])


def test_a_batch_that_names_too_few_of_its_images(pickle_root):
    path = pickle_root / "cifar-10-batches-py/data_batch_2"
    write_pickle(path, *pictures(3, 0), filenames=["a.png"])
    with pytest.raises(UserError, match=r"data_batch_2 is damaged .* names 1 of its 3 images"):
        load("cifar10", root=pickle_root)


def test_a_copy_in_an_order_of_its_own_says_so_where_a_part_is_trained_on(
    parquet_root, caplog, monkeypatch
):
    monkeypatch.setattr(cifar, "_ROWS", (12, 4))
    load("cifar10", root=parquet_root)
    load("cifar10", root=parquet_root, train_size=12)
    assert not caplog.records
    load("cifar10", root=parquet_root, train_size=5)
    assert "cifar10 has its images in an order of its own: the first 5" in caplog.text


def test_the_records_copy_and_the_published_order_are_known():
    assert order.shuffled(5).tolist() == [2, 1, 0, 4, 3]
    for kind in (cifar._CIFAR10, cifar._CIFAR100):
        shards = sorted((REAL / kind.name).glob("train-*.parquet"))  # none where there are no data
        if not shards:
            continue
        read = [pq.read_table(s, columns=[kind.column])[kind.column].to_numpy() for s in shards]
        labels = np.concatenate(read)
        assert order.fingerprint(labels) == kind.ordered
        if kind.published:
            before = np.empty_like(labels)
            before[order.shuffled(len(labels))] = labels
            assert order.fingerprint(before) == kind.published


def test_a_hubs_copy_in_the_published_order_is_shuffled(tmp_path, monkeypatch):
    images, labels = pictures(20, 0, classes=100)
    kind = replace(cifar._CIFAR100, published=order.fingerprint(labels))
    monkeypatch.setattr(cifar, "_CIFAR100", kind)
    for split in ("train", "test"):
        write_parquet(tmp_path / f"{split}-0.parquet", images, labels, label_column="fine_label")
    rows = order.shuffled(20)
    same(load("cifar100", root=tmp_path).train, images[rows], labels[rows])
