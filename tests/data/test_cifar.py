import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from made_cifar import MEAN, STD, encode, pictures, same, write_parquet, write_pickle

from paper_repro.data import download, load, parquet
from paper_repro.errors import UserError


def test_parquet_pixels_are_exact_and_shards_in_order(parquet_root):
    data = load("cifar10", root=parquet_root)
    same(data.train, *pictures(12, 0))
    same(data.test, *pictures(4, 1))
    assert (data.classes, data.channels, data.size) == (10, 3, 32)
    assert (data.pad, data.flip) == (4, True)
    assert (data.mean, data.std) == (MEAN, STD)


@pytest.mark.parametrize("place", ["cifar10", ".", "cifar10/plain_text", "plain_text"])
def test_root_may_be_the_folder_or_its_parent(tmp_path, place):
    folder = tmp_path / "data" / place
    if place == "plain_text":  # the hub's copy of the data set, given itself
        folder = tmp_path / "data/cifar10/plain_text"
    write_parquet(folder / "train-0.parquet", *pictures(3, 0))
    write_parquet(folder / "test-0.parquet", *pictures(2, 1))
    same(load("cifar10", root=tmp_path / "data").train, *pictures(3, 0))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_lossless_decoding_is_exact_under_either_column_name(tmp_path, kind):
    images, labels = pictures(5, 0)
    write_parquet(tmp_path / "train-0.parquet", images, labels, "image", kind=kind)
    decoded, read = parquet.decode([tmp_path / "train-0.parquet"], "label", 32, "test")
    assert np.array_equal(decoded, images) and np.array_equal(read, labels)


def test_more_images_than_one_task_decodes_keep_their_order(tmp_path):
    images, labels = pictures(700, 0)
    write_parquet(tmp_path / "a.parquet", images[:300], labels[:300])
    write_parquet(tmp_path / "b.parquet", images[300:], labels[300:])
    files = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    decoded, read = parquet.decode(files, "label", 32, "test")
    assert np.array_equal(decoded, images) and np.array_equal(read, labels)


def test_statistics_are_about_the_declared_ones(test_shards):
    images, labels = parquet.decode(test_shards, "label", 32, "test")
    pixels = images / 255
    assert np.allclose(pixels.mean((0, 1, 2)), MEAN, atol=0.02)
    assert np.allclose(pixels.std((0, 1, 2)), STD, atol=0.03)
    assert set(labels.tolist()) == set(range(10))


def test_torchvision_layout(pickle_root):
    data = load("cifar10", root=pickle_root)
    batches = [pictures(3, i) for i in range(1, 6)]
    images, labels = (np.concatenate(part) for part in zip(*batches, strict=True))
    same(data.train, images, labels)
    same(data.test, *pictures(3, 6))
    again = load("cifar10", root=pickle_root / "cifar-10-batches-py")
    assert torch.equal(again.train.images, data.train.images)


def test_cifar100_in_either_layout(pickle_root, tmp_path):
    data = load("cifar100", root=pickle_root)
    same(data.train, *pictures(3, 0, classes=100))
    assert data.classes == 100 and data.mean == (0.5071, 0.4865, 0.4409)
    folder = tmp_path / "other/cifar100"
    for seed, split in enumerate(("train", "test")):
        images, labels = pictures(3, seed, classes=100)
        write_parquet(folder / f"{split}-0.parquet", images, labels, label_column="fine_label")
    same(load("cifar100", root=tmp_path / "other").train, *pictures(3, 0, classes=100))


def test_the_published_pickles_name_numpy_as_it_was(pickle_root):
    path = pickle_root / "cifar-10-batches-py/test_batch"
    path.write_bytes(path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    same(load("cifar10", root=pickle_root).test, *pictures(3, 6))


def test_search_order(parquet_root, pickle_root, bare_home, monkeypatch):
    bare_home.mkdir(parents=True)
    (pickle_root / "cifar-10-batches-py").rename(bare_home / "cifar-10-batches-py")
    assert len(load("cifar10").train) == 15  # the user's cache
    monkeypatch.setenv("PAPER_REPRO_DATA", str(pickle_root))
    assert len(load("cifar10").train) == 15  # nothing there any more: the user's cache again
    monkeypatch.setenv("PAPER_REPRO_DATA", str(parquet_root))
    assert len(load("cifar10").train) == 12
    monkeypatch.setenv("PAPER_REPRO_DATA", "/nowhere")
    assert len(load("cifar10", root=parquet_root).train) == 12  # the argument before all


def test_downloads_once_into_the_users_cache(bare_home, monkeypatch, pickle_root):
    calls = []

    def fetch(name, folder):
        calls.append(name)
        folder.mkdir()
        (pickle_root / "cifar-10-batches-py").rename(folder / "cifar-10-batches-py")

    monkeypatch.setattr(download, "_fetch", fetch)
    assert len(load("cifar10").train) == len(load("cifar10").train) == 15
    assert calls == ["cifar10"]
    assert (bare_home / "cifar-10-batches-py").is_dir()
    assert not (bare_home / "cifar10.partial").exists()


def test_a_download_that_breaks_off_leaves_nothing(bare_home, monkeypatch):
    def fetch(name, folder):
        (folder / "cifar-10-batches-py").mkdir(parents=True)
        raise RuntimeError("File not found or corrupted.")

    monkeypatch.setattr(download, "_fetch", fetch)
    with pytest.raises(UserError, match="could not be downloaded"):
        load("cifar10")
    assert [p.name for p in bare_home.iterdir()] == ["cifar10.lock"]


def test_nothing_found_is_one_sentence_that_helps(tmp_path, bare_home):
    with pytest.raises(UserError) as caught:
        load("cifar10", root=tmp_path)
    said = str(caught.value)
    for word in (str(tmp_path), str(bare_home), "no route to host", "train-*.parquet",
                 "cifar-10-batches-py", "PAPER_REPRO_DATA", "smoke"):  # fmt: skip
        assert word in said
    assert "\n" not in said


def test_a_root_that_is_no_folder(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="nowhere does not exist"):
        load("cifar10", root=tmp_path / "nowhere")
    (tmp_path / "file").touch()
    monkeypatch.setenv("PAPER_REPRO_DATA", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"from PAPER_REPRO_DATA.*no folder"):
        load("cifar10")


def test_decoded_images_are_kept_and_follow_their_source(parquet_root, tmp_path, monkeypatch):
    cache = tmp_path / "kept"
    first = load("cifar10", root=parquet_root, cache=cache)
    assert len(list(cache.glob("cifar10-*.npz"))) == 1
    with monkeypatch.context() as patch:
        patch.setattr(parquet, "decode", None)  # not needed any more
        again = load("cifar10", root=parquet_root, cache=cache)
    assert torch.equal(first.train.images, again.train.images)
    write_parquet(parquet_root / "cifar10/test-00000-of-00001.parquet", *pictures(9, 5))
    same(load("cifar10", root=parquet_root, cache=cache).test, *pictures(9, 5))


def break_shard(path, how):
    images, labels = pictures(4, 1)
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "image column":
        write_parquet(path, images, labels, image_column="picture")
    elif how == "label column":
        write_parquet(path, images, labels, label_column="coarse_label")
    elif how == "no bytes":
        write_parquet(path, [images[0], None], labels[:2])
    elif how == "no struct":
        pq.write_table(pa.table({"img": ["a"], "label": [0]}), path)
    elif how == "labels no numbers":
        write_parquet(path, images, ["cat"] * 4)
    elif how == "label missing":
        write_parquet(path, images, [1, 2, None, 3])
    elif how == "no rows":
        write_parquet(path, [images[0]], labels[:1])
        pq.write_table(pq.read_table(path).slice(0, 0), path)
    elif how == "damaged image":
        rows = [{"bytes": encode(images[0])[:200], "path": "x"}]
        pq.write_table(pa.table({"img": rows, "label": [0]}), path)
    elif how == "size":
        write_parquet(path, [images[0][:16]], labels[:1])
    elif how == "label range":
        write_parquet(path, images, [0, 1, 2, 10])


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("truncated", "test-00000-of-00001.parquet is damaged"),
        ("empty", "test-00000-of-00001.parquet is damaged"),
        ("image column", "has the columns picture, label; needed are img or image, and label"),
        ("label column", "has the columns img, coarse_label"),
        ("no bytes", "test-00000-of-00001.parquet has a row without image bytes"),
        ("no struct", "test-00000-of-00001.parquet is damaged or is no parquet file of images"),
        ("labels no numbers", "test-00000-of-00001.parquet is damaged or is no parquet file"),
        ("label missing", "test-00000-of-00001.parquet is damaged or is no parquet file"),
        ("no rows", "is not cifar10: it has no images"),
        ("damaged image", "test-00000-of-00001.parquet holds an image that cannot be decoded"),
        ("size", "holds an image of 32x16 pixels; expected are 32x32"),
        ("label range", "labels outside 0 to 9"),
    ],
)
def test_bad_parquet(parquet_root, how, said):
    break_shard(parquet_root / "cifar10/test-00000-of-00001.parquet", how)
    with pytest.raises(UserError, match=said):
        load("cifar10", root=parquet_root)


@pytest.mark.parametrize("lost", ["train-00001-of-00002", "test-00000-of-00001"])
def test_a_missing_shard(parquet_root, lost):
    (parquet_root / "cifar10" / f"{lost}.parquet").unlink()
    with pytest.raises(UserError, match=f"cifar10 has .*{lost[:5].strip('-')}.*incomplete"):
        load("cifar10", root=parquet_root)


def test_a_copy_of_another_size_is_read_and_said(parquet_root, pickle_root, caplog):
    load("cifar10", root=parquet_root)
    sizes = "has 12 training and 4 test images of cifar10, and the published copy 50,000 and 10,000"
    assert sizes in caplog.text
    load("cifar100", root=pickle_root)
    assert "has 3 training and 3 test images of cifar100" in caplog.text


def test_cifar10_is_not_taken_for_cifar100(parquet_root):
    with pytest.raises(UserError, match="needed are img or image, and fine_label"):
        load("cifar100", root=parquet_root / "cifar10")


def test_a_truncated_or_missing_batch(pickle_root):
    path = pickle_root / "cifar-10-batches-py/data_batch_3"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(UserError, match="data_batch_3 is damaged"):
        load("cifar10", root=pickle_root)
    path.unlink()
    with pytest.raises(UserError, match="cifar-10-batches-py lacks data_batch_3"):
        load("cifar10", root=pickle_root)


def test_a_batch_with_other_content(pickle_root):
    path = pickle_root / "cifar-10-batches-py/test_batch"
    images, labels = pictures(3, 0)
    write_pickle(path, images, labels, key="fine_labels")
    with pytest.raises(UserError, match=r"test_batch.*it has no 'labels'"):
        load("cifar10", root=pickle_root)
    write_pickle(path, images.astype(np.float32), labels)
    with pytest.raises(UserError, match=r"test_batch.*not uint8"):
        load("cifar10", root=pickle_root)
    write_pickle(path, images[:, :16], labels)
    with pytest.raises(UserError, match="test_batch is damaged"):
        load("cifar10", root=pickle_root)


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit('ran')",))


def test_a_pickle_cannot_run_code(pickle_root):
    write_pickle(pickle_root / "cifar-10-batches-py/test_batch", *pictures(3, 0), evil=Evil())
    with pytest.raises(UserError, match=r"it refers to .*exec"):
        load("cifar10", root=pickle_root)
