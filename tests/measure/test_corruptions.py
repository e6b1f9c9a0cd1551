from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from subjects import subject
from torch import nn

from paper_repro.data.corrupted import GROUPS, SEVERITIES, TYPES
from paper_repro.errors import UserError
from paper_repro.measure import corruptions as module
from paper_repro.measure.corruptions import corruptions


class Brightness(nn.Module):
    """Class 1 where the first pixel is at least 100, else class 0."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(1))

    def forward(self, x):
        bright = (x[:, 0, 0, 0] >= 100).float()
        return torch.stack([1 - bright, bright], 1)


def made(**changes):
    """40 images whose first pixel says their number; the first 20 are of class 0."""
    pixels = torch.zeros(40, 8, 8, 1, dtype=torch.uint8)
    pixels[:, 0, 0, 0] = torch.arange(40)
    pixels[20:, 0, 0, 0] += 100
    labels = (torch.arange(40) >= 20).long()
    trained = replace(
        subject(),
        model=Brightness(),
        images=lambda rows: (pixels[rows], labels[rows]),
        normalise=lambda x: x.permute(0, 3, 1, 2).float(),
        **changes,
    )
    return replace(trained, data=replace(trained.data, test=list(range(40))))


def test_accuracies_are_of_the_right_images_and_means_are_means(monkeypatch):
    def corrupted(name, images, seed, folder):
        # Severity s of type t: the first s + t + 8 images become black.
        five = np.stack([images] * 5)
        for s in SEVERITIES:
            five[s - 1, : s + TYPES.index(name) + 8] = 0
        return five

    monkeypatch.setattr(module, "corrupted", corrupted)
    found = corruptions(made(), images=None)
    assert found["clean"] == 100.0 and found["images"] == 40
    expected = {
        name: [100 * (1 - max(0, s + t + 8 - 20) / 40) for s in SEVERITIES]
        for t, name in enumerate(TYPES)
    }
    assert {n: pytest.approx(v) for n, v in found["types"].items()} == expected
    assert found["mean"] == pytest.approx(np.mean(list(expected.values())))
    for group, names in GROUPS.items():
        assert found["groups"][group] == pytest.approx(np.mean([expected[n] for n in names]))
    common = [expected[n] for g, names in GROUPS.items() for n in names if g != "extra"]
    assert found["common"] == pytest.approx(np.mean(common))


def test_a_subset_is_a_fixed_one_from_all_over_the_test_set(monkeypatch):
    asked = []

    def corrupted(name, images, seed, folder):
        asked.append(images[:, 0, 0, 0].tolist())
        return np.stack([images] * 5)

    monkeypatch.setattr(module, "corrupted", corrupted)
    assert corruptions(made(), images=12)["images"] == 12
    assert len(set(map(tuple, asked))) == 1 and len(set(asked[0])) == 12
    assert min(asked[0]) < 20 and max(asked[0]) >= 100  # of both classes, though sorted by class
    first = asked[0]
    corruptions(made(), images=12, seed=1)
    assert asked[-1] != first


def test_the_published_set_is_scored_where_it_is(tmp_path):
    folder = tmp_path / "CIFAR-10-C"
    folder.mkdir()
    images = np.zeros((200, 8, 8, 3), np.uint8)
    labels = np.tile((np.arange(40) >= 20).astype(int), 5)
    for name in TYPES:
        right = images.copy()
        right[np.arange(200) // 40 < 3, 0, 0] = 0  # severities 1 to 3: all taken for class 0
        right[(np.arange(200) // 40 >= 3) & (labels == 1), 0, 0] = 200
        np.save(folder / f"{name}.npy", right)
    np.save(folder / "labels.npy", labels)
    trained = made(root=tmp_path)
    trained = replace(trained, data=replace(trained.data, name="cifar10"))
    found = corruptions(trained, images=None, source="published")
    assert found["types"]["fog"] == [50.0, 50.0, 50.0, 100.0, 100.0]
    assert found["mean"] == pytest.approx(70.0)


def black(root):
    """A published set in which every image of every type is black and of class 0."""
    folder = root / "CIFAR-10-C"
    folder.mkdir()
    for name in TYPES:
        np.save(folder / f"{name}.npy", np.zeros((200, 8, 8, 3), np.uint8))
    np.save(folder / "labels.npy", np.zeros(200, int))


def test_beside_published_corruptions_clean_is_of_all_images(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_AT_ONCE", 15)
    black(tmp_path)
    trained = made(root=tmp_path)
    pixels, right = trained.images(torch.arange(40))
    wrong = right.clone()
    wrong[::2] = 1 - wrong[::2]  # half are taken for the other class: of a few rows more or fewer
    wrong[1] = 1 - wrong[1]
    trained = replace(
        trained,
        data=replace(trained.data, name="cifar10"),
        images=lambda rows: (pixels[rows], wrong[rows]),
    )
    found = corruptions(trained, images=7, source="published")
    assert found["clean"] == pytest.approx(100 * 19 / 40) and found["images"] == 7


def test_published_pictures_of_more_classes_are_matched_by_the_classes_names(tmp_path):
    for name in TYPES:
        for s in SEVERITIES:
            for wnid, value in (("n01", 200), ("n03", 255), ("n05", 7)):
                folder = tmp_path / "Tiny-ImageNet-C" / name / str(s) / wnid
                folder.mkdir(parents=True)
                Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(folder / "0.png")
    pixels, labels = torch.zeros(2, 8, 8, 3, dtype=torch.uint8), torch.arange(2)
    images = dict(images=lambda rows: (pixels[rows], labels[rows]))

    def accuracy(*names):
        data = SimpleNamespace(name="tinyimagenet20", classes=2, test=range(2), names=names)
        trained = replace(made(root=tmp_path), data=data, **images)
        return corruptions(trained, images=None, source="published")["mean"]

    # Dark n05 is class 0 and bright n01 class 1; n03 is none of the network's.
    assert accuracy("n05", "n01") == 100.0
    assert accuracy("n01", "n05") == 0.0


def skipping(broken):
    """A stream's images, of which some cannot be decoded and are left out."""
    trained = made()

    def images(rows):
        left = [row for row in rows.tolist() if row not in broken]
        return trained.images(torch.tensor(left, dtype=torch.int64))

    return replace(trained, images=images)


def test_of_a_stream_the_images_that_are_scored_are_counted(monkeypatch):
    monkeypatch.setattr(module, "corrupted", lambda name, images, *_: np.stack([images] * 5))
    assert corruptions(skipping({0, 7, 33}), images=None)["images"] == 37
    with pytest.raises(UserError, match="none of the 40 test images can be decoded"):
        corruptions(skipping(set(range(40))), images=None)


def test_of_a_stream_clean_is_of_the_images_that_are_there(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_AT_ONCE", 15)
    black(tmp_path)
    # Of the three parts 2, none and 10 are left.
    trained = skipping(set(range(2, 30)))
    right = trained.images

    def images(rows):
        pixels, labels = right(rows)
        return pixels, torch.where(labels == 0, 1 - labels, labels)  # the first two are wrong

    data = replace(trained.data, name="cifar10")
    trained = replace(trained, data=data, images=images, root=tmp_path)
    found = corruptions(trained, images=None, source="published")
    assert found["clean"] == pytest.approx(100 * 10 / 12) and found["images"] == 40


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"source": "internet"}, "source is generated or published, not 'internet'"),
        ({"images": 0}, "at least 1 image"),
        ({"source": "published"}, "nothing was published for made"),
    ],
)
def test_bad_options_are_refused(options, said):
    with pytest.raises(UserError, match=said):
        corruptions(made(), **options)


def test_a_network_that_sees_no_images_is_refused():
    with pytest.raises(UserError, match="that see images"):
        corruptions(replace(subject(), normalise=None))
