"""Data sets as huggingface_hub and datasets keep them in their caches."""

import json
import os

import numpy as np
import pyarrow as pa
import pytest
from made_cifar import encode, pictures, write_parquet
from made_imagenet import KIND, jpeg, picture, write_shard

from paper_repro.data import hub, load, parquet
from paper_repro.data.imagenet import find
from paper_repro.data.parallel import encoded
from paper_repro.data.parallel import find as find_text
from paper_repro.errors import UserError

COMMIT, OLDER = "a" * 40, "b" * 40


def link(repository, commit, name, write):
    """A file as huggingface_hub keeps it: a relative link from the snapshot to a blob."""
    blob = repository / "blobs" / f"{abs(hash((commit, name))):064x}"
    blob.parent.mkdir(parents=True, exist_ok=True)
    made = blob.with_suffix(".parquet")
    write(made)
    made.rename(blob)
    path = repository / "snapshots" / commit / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(os.path.relpath(blob, path.parent))


def cifar_repository(hub_cache, commit=COMMIT, owner="uoft-cs--", seed=0, main=True):
    repository = hub_cache / f"datasets--{owner}cifar10"
    for split, count in (("train", 5), ("test", 4)):
        images, labels = pictures(count, seed + (split == "test"))
        link(
            repository,
            commit,
            f"plain_text/{split}-00000-of-00001.parquet",
            lambda path, i=images, n=labels: write_parquet(path, i, n),
        )
    if main:
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs/main").write_text(commit)
    return repository


def same(split, images, labels):
    assert np.array_equal(split.images.numpy(), images)
    assert np.array_equal(split.labels.numpy(), labels)


# -- huggingface_hub -----------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["the cache", "its parent", "HF_HOME", "HF_HUB_CACHE", "home"])
def test_a_repository_in_the_hubs_cache_is_found(tmp_path, monkeypatch, where):
    hub_cache = tmp_path / ("home/huggingface/hub" if where == "home" else "hf/hub")
    cifar_repository(hub_cache)
    root = {"the cache": hub_cache, "its parent": hub_cache.parent}.get(where)
    if where == "HF_HOME":
        monkeypatch.setenv("HF_HOME", str(hub_cache.parent))
    if where == "HF_HUB_CACHE":
        monkeypatch.setenv("HF_HUB_CACHE", str(hub_cache))
    data = load("cifar10", root=root)
    same(data.train, *pictures(5, 0))
    same(data.test, *pictures(4, 1))
    with pytest.raises(UserError, match="cifar100 was not found"):
        load("cifar100", root=root)


def test_the_branch_main_says_which_snapshot(tmp_path):
    cifar_repository(tmp_path, OLDER, seed=10)
    repository = cifar_repository(tmp_path, COMMIT, seed=0)
    same(load("cifar10", root=tmp_path).train, *pictures(5, 0))
    (repository / "refs/main").write_text(OLDER + "\n")
    same(load("cifar10", root=tmp_path).train, *pictures(5, 10))
    (repository / "refs/main").unlink()
    with pytest.raises(UserError, match="holds 2 snapshots and none of them is that of refs/main"):
        load("cifar10", root=tmp_path)


def test_the_only_snapshot_needs_no_branch(tmp_path):
    cifar_repository(tmp_path, main=False)
    same(load("cifar10", root=tmp_path).train, *pictures(5, 0))


def test_the_owners_copy_goes_before_one_without_an_owner_and_others_are_not_taken(tmp_path):
    cifar_repository(tmp_path, owner="somebody--", seed=20)
    with pytest.raises(UserError, match="cifar10 was not found"):
        load("cifar10", root=tmp_path)
    cifar_repository(tmp_path, owner="", seed=10)
    same(load("cifar10", root=tmp_path).train, *pictures(5, 10))
    cifar_repository(tmp_path, seed=0)
    same(load("cifar10", root=tmp_path).train, *pictures(5, 0))


def test_a_blob_that_is_gone_is_named(tmp_path):
    repository = cifar_repository(tmp_path)
    for blob in (repository / "blobs").iterdir():
        blob.unlink()
    with pytest.raises(UserError, match="is a link to nothing: the copy is incomplete"):
        load("cifar10", root=tmp_path)


def test_a_folder_in_its_own_layout_goes_before_the_hubs(tmp_path):
    cifar_repository(tmp_path, seed=10)
    for split, count in (("train", 5), ("test", 4)):
        write_parquet(tmp_path / f"cifar10/{split}-0.parquet", *pictures(count, split == "test"))
    same(load("cifar10", root=tmp_path).train, *pictures(5, 0))


def test_imagenet_is_found_in_the_hubs_cache(tmp_path):
    repository = tmp_path / "hub/datasets--ILSVRC--imagenet-1k"
    for split, count in (("train", 12), ("validation", 6)):
        images = [jpeg(picture(i)) for i in range(count)]
        labels = [i % 3 for i in range(count)]
        link(
            repository,
            COMMIT,
            f"data/{split}-00000-of-00001.parquet",
            lambda path, i=images, n=labels: write_shard(path, i, n),
        )
    data = find(imagenet_kind(), tmp_path, tmp_path / "cache", 0, False)
    assert len(data.train) == 12 and len(data.test) == 6
    assert {data.test.encoded(i) for i in range(6)} == {jpeg(picture(i)) for i in range(6)}


def imagenet_kind():
    from dataclasses import replace

    return replace(KIND, repositories=("ILSVRC/imagenet-1k",))


# -- datasets ------------------------------------------------------------------------------------


def write_arrow(path, table, rows=2):
    """As ``datasets`` writes: the stream format, with batches of some rows."""
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table, max_chunksize=rows)


def write_loaded(folder, splits, name, shards=1):
    """A folder of ``datasets``' cache: Arrow shards, a dataset_info.json, and what maps leave."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, table in splits.items():
        size = -(-len(table) // shards)
        for i in range(shards):
            numbered = "" if shards == 1 else f"-{i:05}-of-{shards:05}"
            write_arrow(folder / f"{name}-{split}{numbered}.arrow", table.slice(i * size, size))
    info = {"splits": {s: {"name": s, "num_examples": len(t)} for s, t in splits.items()}}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    write_arrow(folder / f"cache-{'0' * 16}-train.arrow", next(iter(splits.values())))
    return folder


def image_table(images, labels, image="img", label="label"):
    rows = [{"bytes": one, "path": None} for one in images]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.table({image: pa.array(rows, kind), label: pa.array(labels, pa.int64())})


def cifar_tables(seed=0):
    made = {"train": pictures(5, seed), "test": pictures(4, seed + 1)}
    return {s: image_table([encode(i) for i in images], n) for s, (images, n) in made.items()}


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("where", ["the cache", "its parent", "HF_DATASETS_CACHE", "home", "old"])
def test_what_datasets_loaded_is_found(tmp_path, monkeypatch, where, shards):
    cache = tmp_path / ("home/huggingface/datasets" if where == "home" else "hf/datasets")
    owner = "" if where == "old" else "uoft-cs___"
    inner = f"{owner}cifar10/plain_text/0.0.0/{'c' * 40}"
    write_loaded(cache / inner, cifar_tables(), "cifar10", shards)
    root = {"the cache": cache, "its parent": cache.parent, "old": cache}.get(where)
    if where == "HF_DATASETS_CACHE":
        monkeypatch.setenv("HF_DATASETS_CACHE", str(cache))
    data = load("cifar10", root=root)
    same(data.train, *pictures(5, 0))
    same(data.test, *pictures(4, 1))


def test_of_several_versions_the_last_loaded_is_taken_and_halves_are_not(tmp_path):
    kept = tmp_path / "uoft-cs___cifar10/plain_text"
    for time, seed, name in ((1, 10, "1.0.0/a"), (3, 0, "0.0.0/b"), (9, 30, "0.0.0/c.incomplete")):
        folder = write_loaded(kept / name, cifar_tables(seed), "cifar10")
        os.utime(folder / "dataset_info.json", (time, time))
    write_loaded(tmp_path / "uoft-cs___cifar10/other/0.0.0/d", cifar_tables(40), "cifar10")
    same(load("cifar10", root=tmp_path).train, *pictures(5, 0))


def test_imagenet_is_found_as_arrow_files(tmp_path):
    splits = {
        split: image_table([jpeg(picture(i)) for i in range(n)], [i % 3 for i in range(n)], "image")
        for split, n in (("train", 12), ("validation", 6))
    }
    folder = tmp_path / "ILSVRC___imagenet-1k/default/0.0.0/e"
    write_loaded(folder, splits, "imagenet-1k", shards=2)
    data = find(imagenet_kind(), tmp_path, tmp_path / "cache", 0, False)
    assert {data.train.encoded(i) for i in range(12)} == {jpeg(picture(i)) for i in range(12)}
    assert data.test.name(4) == f"row 1 of {folder}/imagenet-1k-validation-00001-of-00002.arrow"


def test_parallel_text_is_found_in_both_layouts(tmp_path):
    import pyarrow.parquet as pq

    words = [f"w{i} x{i % 3} y{i % 5}" for i in range(60)]
    kind = pa.struct([("de", pa.string()), ("en", pa.string())])
    splits = {
        split: pa.table(
            {"translation": pa.array([{"de": w.upper(), "en": w} for w in words], kind)}
        )
        for split in ("train", "validation", "test")
    }
    loaded, cached = tmp_path / "loaded", tmp_path / "cached"
    write_loaded(loaded / "wmt___wmt14/de-en/0.0.0/f", splits, "wmt14")
    for split, table in splits.items():
        link(
            cached / "hub/datasets--wmt--wmt14",
            COMMIT,
            f"de-en/{split}-00000-of-00001.parquet",
            lambda path, t=table: pq.write_table(t, path),
        )
    made = []
    for root in (loaded, cached):
        folder = find_text("wmt14", ["wmt14/de-en", "wmt14"], root, "hint", ["wmt/wmt14"])
        settings = {"source": "en", "target": "de", "vocabulary": 100, "beam": 1}
        made.append(encoded("wmt14", folder, tmp_path / "c", **settings, length_penalty=1.0))
    assert made[0].test.texts == made[1].test.texts
    assert made[0].test.texts[0] == ("w0 x0 y0", "W0 X0 Y0")
    assert made[0].train.source.tokens.equal(made[1].train.source.tokens)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("cut short", "cifar10-train.arrow is damaged or is no Arrow stream"),
        ("a file instead", "cifar10-train.arrow is damaged or is no Arrow stream"),
        ("shard gone", "has 3 rows of train, and its dataset_info.json says 5"),
        ("split gone", "has 0 rows of train, and its dataset_info.json says 5"),
        ("info", "dataset_info.json is damaged or describes no splits"),
        ("column", "needed are img or image, and label"),
        ("pictures", "holds an image that cannot be decoded"),
    ],
)
def test_damaged_arrow_files_are_named(tmp_path, damage, said):
    folder = tmp_path / "uoft-cs___cifar10/plain_text/0.0.0/g"
    tables = cifar_tables()
    if damage == "column":
        tables["train"] = image_table([b"x"] * 5, [0] * 5, label="fine")
    if damage == "pictures":
        tables["train"] = image_table([b"x"] * 5, [0] * 5)
    write_loaded(folder, tables, "cifar10", 2 if damage == "shard gone" else 1)
    file = folder / "cifar10-train.arrow"
    if damage == "cut short":
        file.write_bytes(file.read_bytes()[:-200])
    if damage == "a file instead":
        with pa.OSFile(str(file), "wb") as out, pa.ipc.new_file(out, tables["train"].schema) as w:
            w.write_table(tables["train"])
    if damage == "shard gone":
        (folder / "cifar10-train-00001-of-00002.arrow").unlink()
    if damage == "split gone":
        file.unlink()
    if damage == "info":
        (folder / "dataset_info.json").write_text('{"splits": null}')
    with pytest.raises(UserError, match=said):
        load("cifar10", root=tmp_path)


def test_batches_are_no_longer_than_asked_for(tmp_path):
    write_arrow(tmp_path / "x-train.arrow", image_table([b"x"] * 7, range(7)), rows=5)
    read = list(parquet.columns(tmp_path / "x-train.arrow", "label", 2))
    assert [len(labels) for _, labels in read] == [2, 2, 1, 2]
    assert np.concatenate([labels for _, labels in read]).tolist() == list(range(7))


def test_a_folder_that_is_named_is_not_left_for_the_users_caches(tmp_path):
    there = cifar_repository(tmp_path / "home/huggingface/hub")
    other = tmp_path / "other"
    other.mkdir()
    assert there / "snapshots" / COMMIT / "data" in hub.copies(None, ["uoft-cs/cifar10"])
    assert list(hub.copies(other, ["uoft-cs/cifar10"])) == []


def test_a_snapshot_of_no_more_than_a_card_is_none(tmp_path):
    repository = cifar_repository(tmp_path, main=False)
    for commit in ("1" * 40, "2" * 40):
        (repository / "snapshots" / commit).mkdir()
        (repository / "snapshots" / commit / "README.md").touch()
    same(load("cifar10", root=tmp_path).train, *pictures(5, 0))


def test_what_is_odd_in_the_users_own_cache_hides_nothing_else(tmp_path, caplog):
    cache = tmp_path / "home/huggingface/hub"
    cifar_repository(cache, "1" * 40, main=False)
    cifar_repository(cache, "2" * 40, main=False)
    with pytest.raises(UserError, match=r"cifar10 was not found in .* could not be downloaded"):
        load("cifar10", root=tmp_path)
    assert "passed over" in caplog.text and "holds 2 snapshots" in caplog.text
    cifar_repository(cache, owner="", seed=10)
    same(load("cifar10", root=tmp_path).train, *pictures(5, 10))
