"""ImageNet from a tree and from shards, and everything that can be wrong with a copy."""

import multiprocessing
import shutil
from dataclasses import replace

import numpy as np
import pytest
from made_imagenet import KIND, WNIDS, jpeg, load, picture, write_shard, write_shards, write_tree

from paper_repro import data as datasets
from paper_repro.data import packed
from paper_repro.data.imagenet import find, imagenet
from paper_repro.errors import UserError


def contents(pictures):
    """Each picture's label and bytes."""
    return [(int(label), pictures.encoded(i)) for i, label in enumerate(pictures.labels)]


@pytest.fixture
def tree(tmp_path):
    return write_tree(tmp_path / "data/imagenet")


@pytest.fixture
def shards(tmp_path):
    return write_shards(tmp_path / "data/imagenet")


def expected(split):
    extra, count = (0, 4) if split == "train" else (50, 2)
    return [(c, jpeg(picture(100 * c + i + extra))) for c in range(3) for i in range(count)]


@pytest.mark.parametrize("layout", [write_tree, write_shards])
@pytest.mark.parametrize("inner", ["imagenet", "imagenet/data", "ILSVRC/Data/CLS-LOC", "."])
def test_every_picture_is_there_once_with_its_label(tmp_path, layout, inner):
    layout(tmp_path / "root" / inner)
    data = load(tmp_path / "root", tmp_path / "cache")
    assert sorted(contents(data.train)) == sorted(expected("train"))
    assert sorted(contents(data.test)) == sorted(expected("test"))
    assert (data.classes, data.channels, data.size) == (3, 3, 16)
    assert data.train.labels.dtype == np.int64


def test_the_labels_names_are_known(tree, tmp_path):
    assert load(tree, tmp_path / "cache").names == WNIDS
    write_shards(tmp_path / "other")
    assert load(tmp_path / "other", tmp_path / "cache").names is None
    named = replace(KIND, names=("c", "b", "a"))
    assert find(named, tmp_path / "other", tmp_path / "cache", None, False).names == named.names


def test_a_prefix_mixes_the_classes_and_the_rest_is_spare(tree, tmp_path):
    data = load(tree, tmp_path / "cache")
    assert data.train.labels.tolist() != sorted(data.train.labels.tolist())
    part = data.prefix(7, keep_rest=True)
    assert contents(part.train) == contents(data.train)[:7]
    assert contents(part.spare) == contents(data.train)[7:]
    assert part.prefix(2).spare is None
    assert contents(part.prefix(2).train) == contents(data.train)[:2]
    for size in (0, 13):
        with pytest.raises(UserError, match=f"train_size is {size}, but imagenet has 1 to 12"):
            data.prefix(size)


def test_names_lead_to_the_file(tree, tmp_path):
    data = load(tree, tmp_path / "cache")
    for i in range(12):
        name = data.train.name(i)
        assert f"/{WNIDS[data.train.labels[i]]}/" in name
        with open(name, "rb") as file:
            assert file.read() == data.train.encoded(i)


def test_names_lead_to_the_row(shards, tmp_path):
    import pyarrow.parquet as pq

    train = load(shards, tmp_path / "cache").train
    for i in range(12):
        _, row, _, path = train.name(i).split(" ")
        cell = pq.read_table(path)["image"][int(row)].as_py()
        assert cell["bytes"] == train.encoded(i)


def test_shards_are_unpacked_once(shards, tmp_path, monkeypatch):
    first = load(shards, tmp_path / "cache")
    kept = contents(first.train)
    monkeypatch.setattr(packed, "_write", lambda *a: pytest.fail("unpacked again"))
    assert contents(load(shards, tmp_path / "cache").train) == kept


@pytest.mark.parametrize("damage", ["cut short", "gone", "index damaged", "index gone"])
def test_a_damaged_copy_in_the_cache_is_made_again(shards, tmp_path, damage):
    kept = contents(load(shards, tmp_path / "cache").train)
    for path in (tmp_path / "cache").glob("*.npz" if "index" in damage else "*.images"):
        if "gone" in damage:
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:-5])
    assert contents(load(shards, tmp_path / "cache").train) == kept


def test_other_shards_are_unpacked_anew(shards, tmp_path):
    load(shards, tmp_path / "cache")
    encoded = [jpeg(picture(7000 + i)) for i in range(6)]
    write_shard(shards / "validation-00000-of-00001.parquet", encoded, [0, 1, 2, 2, 1, 0])
    assert [e for _, e in contents(load(shards, tmp_path / "cache").test)] == encoded


def _read_some(pictures, rows, out):
    out.put([pictures.encoded(i) for i in rows])


def test_forked_processes_share_no_position_in_the_file(shards, tmp_path):
    pictures = load(shards, tmp_path / "cache").train
    whole = [pictures.encoded(i) for i in range(12)]  # opens it before the fork
    context = multiprocessing.get_context("fork")
    queues = [context.Queue() for _ in range(2)]
    order = [3, 0, 11, 5] * 50
    processes = [
        context.Process(target=_read_some, args=(pictures, order, queue)) for queue in queues
    ]
    for process in processes:
        process.start()
    for queue in queues:
        assert queue.get(timeout=60) == [whole[i] for i in order]
    for process in processes:
        process.join(60)


# What can be wrong with a copy: one sentence each that says where.


def refused(root, cache, match, **options):
    with pytest.raises(UserError, match=match) as caught:
        load(root, cache, **options)
    assert "\n" not in str(caught.value)


def test_not_there(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    refused(
        tmp_path / "empty", tmp_path / "cache", "imagenet was not found in .*empty and .*--data"
    )
    refused(tmp_path / "none", tmp_path / "cache", "none does not exist or is no folder")
    monkeypatch.setenv("PAPER_REPRO_DATA", str(tmp_path / "none"))
    refused(None, tmp_path / "cache", r"none \(from PAPER_REPRO_DATA\) does not exist")


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_missing(tree, tmp_path, split):
    shutil.rmtree(tree / split)
    refused(tree, tmp_path / "cache", f"imagenet has no folder {split}: the copy is incomplete")


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_class_folder_missing(tree, tmp_path, split):
    shutil.rmtree(tree / split / WNIDS[1])
    refused(tree, tmp_path / "cache", f"{split} has 2 of the 3 class folders: the copy is incompl")


def test_class_folders_that_differ(tree, tmp_path):
    (tree / "val" / WNIDS[2]).rename(tree / "val/n99999999")
    refused(tree, tmp_path / "cache", "differ in their class folders, in n02110341 first")


def test_a_class_without_images(tree, tmp_path):
    for path in (tree / "train" / WNIDS[2]).iterdir():
        path.rename(path.with_suffix(".part"))
    refused(tree, tmp_path / "cache", f"the class folder .*{WNIDS[2]} has no images")


def test_test_images_not_sorted_into_classes(tree, tmp_path):
    shutil.rmtree(tree / "val")
    (tree / "val").mkdir()
    for i in range(6):
        (tree / f"val/ILSVRC2012_val_{i:08}.JPEG").write_bytes(jpeg(picture(i)))
    refused(tree, tmp_path / "cache", "val has 6 images but no folder for each class")


def test_images_missing(tree, tmp_path):
    next((tree / "train" / WNIDS[0]).iterdir()).unlink()
    refused(tree, tmp_path / "cache", "11 of the 12 training images of imagenet: the copy is inc")


def test_too_many_images(tree, tmp_path):
    (tree / "val" / WNIDS[0] / "more.JPEG").write_bytes(jpeg(picture(0)))
    refused(tree, tmp_path / "cache", "7 of the 6 test images of imagenet: it is another data set")


def test_a_shard_missing(shards, tmp_path):
    (shards / "train-00001-of-00002.parquet").unlink()
    refused(shards, tmp_path / "cache", "has 1 of the 2 files train-.*: the copy is incomplete")


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_split_of_shards_missing(shards, tmp_path, split):
    for path in shards.glob(f"{split}-*"):
        path.unlink()
    refused(shards, tmp_path / "cache", f"has no {split}-\\*.parquet: the copy is incomplete")


@pytest.mark.parametrize("keep", [0, 4, 0.5, -1])
def test_a_truncated_shard(shards, tmp_path, keep):
    path = shards / "train-00001-of-00002.parquet"
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    refused(shards, tmp_path / "cache", "train-00001-of-00002.parquet is damaged or is no parquet")
    assert not list((tmp_path / "cache").glob("*.partial"))


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_out_of_range(shards, tmp_path, label):
    encoded = [jpeg(picture(i)) for i in range(6)]
    write_shard(shards / "validation-00000-of-00001.parquet", encoded, [0, 1, 2, 2, label, 0])
    refused(shards, tmp_path / "cache", f"row 4 of .*validation.* has the label {label}; .* 0 to 2")


def test_a_row_without_an_image(shards, tmp_path):
    encoded = [jpeg(picture(0)), None, *[jpeg(picture(i)) for i in range(4)]]
    write_shard(shards / "validation-00000-of-00001.parquet", encoded, [0, 1, 2, 2, 1, 0])
    refused(shards, tmp_path / "cache", "validation-.* has a row without image bytes")


def test_a_class_without_rows(shards, tmp_path):
    encoded = [jpeg(picture(i)) for i in range(6)]
    write_shard(shards / "validation-00000-of-00001.parquet", encoded, [0, 2, 2, 2, 0, 0])
    refused(shards, tmp_path / "cache", "no images of 1 of the 3 classes .the first is label 1")


def test_no_room_to_unpack(shards, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(packed.shutil, "disk_usage", lambda path: usage)
    refused(shards, tmp_path / "cache", "needs .* GB in .*cache, which has 0.0 GB left")


def test_a_cache_that_cannot_be_written(shards, tmp_path):
    (tmp_path / "file").touch()
    refused(shards, tmp_path / "file/cache", "cannot keep unpacked images: Not a directory")


def test_the_real_ones_by_their_registered_names(tree, tmp_path):
    with pytest.raises(UserError, match="train has 3 of the 1,000 class folders"):
        imagenet(tree, tmp_path / "cache")
    with pytest.raises(UserError, match="train has 3 of the 20 class folders"):
        datasets.load("tinyimagenet20", root=tree, cache=tmp_path / "cache")


def test_only_what_streams_gets_workers():
    assert datasets.load("digits", workers=3, skip_broken=True).classes == 10


def test_labels_of_a_stream_are_not_made_wrong(monkeypatch, tree, tmp_path):
    streamed = load(tree, tmp_path / "cache")
    monkeypatch.setattr(datasets.DATASETS, "build", lambda *_, **__: streamed)
    with pytest.raises(UserError, match="imagenet is streamed: its labels cannot be made wrong"):
        datasets.load("imagenet", label_noise=0.1)
