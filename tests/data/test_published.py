import numpy as np
import pytest
from PIL import Image

from paper_repro.data.corrupted import SEVERITIES, TYPES
from paper_repro.data.corrupted.published import Published, find
from paper_repro.errors import UserError

N = 6  # images of the test set


def arrays(folder, size=4):
    """CIFAR-10-C's layout: image i at severity s is filled with 10 s + i, labelled i % 3."""
    folder.mkdir(parents=True)
    images = np.empty((5 * N, size, size, 3), np.uint8)
    for s in SEVERITIES:
        for i in range(N):
            images[(s - 1) * N + i] = 10 * s + i
    for name in TYPES:
        np.save(folder / f"{name}.npy", images)
    np.save(folder / "labels.npy", np.tile(np.arange(N) % 3, 5))
    return folder


def tree(folder, grouped=False, size=4, suffix="png"):
    """Tiny-ImageNet-C's layout, or ImageNet-C's: two pictures of each of three classes."""
    for name in TYPES:
        for s in SEVERITIES:
            for label, wnid in enumerate(("n01", "n02", "n05")):
                place = (folder / "group" if grouped else folder) / name / str(s) / wnid
                place.mkdir(parents=True)
                for i in range(2):
                    fill = np.full((size, size, 3), 10 * s + 2 * label + i, np.uint8)
                    Image.fromarray(fill).save(place / f"{i}.{suffix}")
    return folder


@pytest.mark.parametrize("make", [arrays, tree, lambda f: tree(f, grouped=True)])
def test_each_severity_is_read_with_its_labels(tmp_path, make):
    there = Published(make(tmp_path / "C"), classes=3, size=4)
    rows = np.array([1, 2, 5])
    for severity in (1, 5):
        images, labels = there.read("fog", severity, rows)
        assert images.shape == (3, 4, 4, 3) and images.dtype == np.uint8
        assert images[:, 0, 0, 0].tolist() == [10 * severity + i for i in rows]
        expected = rows % 3 if there.arrays else rows // 2
        assert labels.dtype == np.int64 and labels.tolist() == expected.tolist()


def test_of_more_classes_those_of_the_network_are_taken(tmp_path):
    there = Published(tree(tmp_path / "C"), classes=2, size=4, names=["n05", "n01"])
    images, labels = there.read("fog", 1, np.arange(4))
    assert images[:, 0, 0, 0].tolist() == [14, 15, 10, 11] and labels.tolist() == [0, 0, 1, 1]


def test_it_is_found_in_the_data_folder_or_below(tmp_path):
    arrays(tmp_path / "a" / "CIFAR-10-C")
    arrays(tmp_path / "b" / "cifar100" / "CIFAR-100-C")
    assert find("cifar10", tmp_path / "a", 3, 4).arrays
    assert find("cifar100", tmp_path / "b", 3, 4).arrays
    for root in (tmp_path / "b", None):
        with pytest.raises(UserError, match="the published CIFAR-10-C is not in"):
            find("cifar10", root, 3, 4)
    with pytest.raises(UserError, match="nothing was published for digits"):
        find("digits", tmp_path, 10, 8)


def damaged(path, content=b"nonsense"):
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f: (f / "fog.npy").unlink(), "lacks fog: the copy is incomplete"),
        (lambda f: damaged(f / "fog.npy"), "cannot be read"),
        (lambda f: damaged(f / "fog.npy", b""), "cannot be read"),
        (lambda f: damaged(f / "labels.npy"), "cannot be read"),
        (lambda f: np.save(f / "fog.npy", np.zeros((3, 4, 4, 3), np.uint8)), "is uint8"),
        (lambda f: np.save(f / "fog.npy", np.zeros((30, 4, 4, 3))), "is float64"),
        (lambda f: np.save(f / "labels.npy", np.full(30, 3)), "not five times"),
        (lambda f: np.save(f / "labels.npy", np.full(30, -1)), "not five times"),
    ],
)
def test_damaged_arrays_are_named(tmp_path, damage, said):
    folder = arrays(tmp_path / "C")
    damage(folder)
    with pytest.raises(UserError, match=said) as caught:
        Published(folder, classes=3, size=4).read("fog", 1, np.arange(N))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("make", [arrays, tree])
def test_too_few_images_are_said(tmp_path, make):
    there = Published(make(tmp_path / "C"), classes=3, size=4)
    with pytest.raises(UserError, match="6 images, too few for number 6"):
        there.read("fog", 1, np.array([6]))


def test_damaged_folders_are_named(tmp_path):
    folder = tree(tmp_path / "C")
    with pytest.raises(UserError, match="a folder for each of 4 classes, and holds 3"):
        Published(folder, classes=4, size=4).read("fog", 1, np.arange(2))
    with pytest.raises(UserError, match=r"0\.png is no picture of 8 x 8 pixels"):
        Published(folder, classes=3, size=8).read("fog", 1, np.arange(2))
    damaged(folder / "fog" / "1" / "n01" / "0.png")
    with pytest.raises(UserError, match=r"0\.png is no picture"):
        Published(folder, classes=3, size=4).read("fog", 1, np.arange(2))
