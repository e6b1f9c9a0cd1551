"""Decoding and cropping: the same pictures whoever makes them, and as torchvision makes them."""

import dataclasses
import multiprocessing

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_imagenet import jpeg, load, picture, write_tree
from PIL import Image

from paper_repro.data.loader import Loader, close_loaders, decode, usual_workers
from paper_repro.errors import UserError
from paper_repro.vision import torchvision, transforms

functional = torchvision.transforms.functional


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("imagenet")
    return load(write_tree(folder), folder / "cache")


def order(n=12, seed=0, size=5):
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed)).split(size)


def same(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a.index, b.index) and torch.equal(a.labels, b.labels)
        assert torch.equal(a.images, b.images)


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_nothing(data, workers):
    alone, many = Loader(data, True, 0), Loader(data, True, workers)
    for seed in (5, 6):  # two epochs, from the same processes
        same(list(alone.batches("train", order(seed=seed), seed)),
             list(many.batches("train", order(seed=seed), seed)))  # fmt: skip
    same(list(alone.batches("test", order(6))), list(many.batches("test", order(6))))


def test_an_epoch_that_was_left_early_does_not_disturb_the_next(data):
    alone, many = Loader(data, True, 0), Loader(data, True, 2)
    for _ in many.batches("train", order(), 1):
        break
    same(list(alone.batches("train", order(), 2)), list(many.batches("train", order(), 2)))


def test_processes_end_when_told_and_start_again_when_needed(data):
    alone, many = Loader(data, True, 0), Loader(data, True, 2)
    before = set(multiprocessing.active_children())
    held = many.batches("train", order(), 1)  # as the traceback of an error holds it
    next(held)
    processes = set(multiprocessing.active_children()) - before
    assert len(processes) == 2
    close_loaders()
    assert not any(process.is_alive() for process in processes)
    same(list(alone.batches("train", order(), 2)), list(many.batches("train", order(), 2)))


def test_a_pictures_crop_follows_from_seed_and_number_alone(data):
    loader = Loader(data, True, 0)
    whole = loader.load("train", torch.arange(12), 7).images
    torch.rand(3)  # whatever others draw
    again = [loader.load("train", torch.tensor([i]), 7).images[0] for i in reversed(range(12))]
    assert torch.equal(torch.stack(again[::-1]), whole)
    other = loader.load("train", torch.arange(12), 8).images
    assert all(not torch.equal(a, b) for a, b in zip(whole, other, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_the_global_random_state_stays(data, workers):
    before = torch.get_rng_state()
    list(Loader(data, True, workers).batches("train", order(), 3))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_training_picture_is_what_torchvision_makes_of_it(data):
    v2 = transforms()
    augment = v2.Compose([v2.RandomResizedCrop(16, scale=(0.3, 1.0)), v2.RandomHorizontalFlip()])
    loaded = Loader(data, True, 0).load("train", torch.tensor([4, 9]), 11)
    for row, image in zip((4, 9), loaded.images, strict=True):
        seed = np.random.SeedSequence((11, row)).generate_state(1, np.uint64)[0]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(seed))
            made = augment(decode(data.train.encoded(row)))
        assert np.array_equal(np.asarray(made), image.numpy())


def test_crops_and_mirrorings_vary_as_they_should(data):
    """Of a picture whose left half is black: mirrored half of the time, shown in part or whole."""

    class Half(type(data.train)):
        def encoded(self, i):
            pixels = np.zeros((64, 64, 3), np.uint8)
            pixels[:, 32:] = 255
            return jpeg(pixels, kind="PNG")

    train = Half(data.train.whole, data.train.rows)
    half = Loader(dataclasses.replace(data, train=train), True, 0)
    images = torch.cat([half.load("train", torch.arange(12), s).images for s in range(60)]).float()
    left = images[:, :, :4].mean((1, 2, 3))
    right = images[:, :, -4:].mean((1, 2, 3))
    split = (left - right).abs() > 200
    mirrored = (left > right)[split].float().mean()
    assert split.sum() > 300 and 0.4 < mirrored < 0.6
    assert len({i.mean().item() for i in images}) > 100


@pytest.mark.parametrize("augment", [True, False])
def test_a_test_picture_is_resized_and_its_centre_taken(data, augment):
    loaded = Loader(data, augment, 0).load("test", torch.arange(6))
    for i, image in enumerate(loaded.images):
        shown = functional.center_crop(functional.resize(decode(data.test.encoded(i)), 20), 16)
        assert np.array_equal(np.asarray(shown), image.numpy())
    assert loaded.labels.tolist() == data.test.labels.tolist()


def test_without_augmentation_training_pictures_are_shown_as_test_pictures(data):
    loader = Loader(data, False, 0)
    rows = torch.arange(12)
    assert torch.equal(loader.load("train", rows, 3).images, loader.load("train", rows).images)


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB", "P", "RGBA", "LA", "1"])
def test_files_of_every_colour_mode_become_rgb(mode):
    kind = "JPEG" if mode in ("L", "CMYK", "RGB") else "PNG"
    pixels = picture(3)
    image = decode(jpeg(pixels, mode, kind))
    assert image.mode == "RGB" and image.size == (30, 24)
    shown = np.asarray(image).astype(float)
    if mode in ("RGB", "CMYK", "RGBA"):
        assert abs(shown - pixels).mean() < 12  # not inverted
    elif mode in ("L", "LA"):
        assert (shown[..., 0] == shown[..., 2]).all()
        assert abs(shown[..., 0] - np.asarray(Image.fromarray(pixels).convert("L"))).mean() < 3


@given(st.integers(1, 90), st.integers(1, 90))
def test_any_shape_gives_the_size(height, width):
    v2 = transforms()
    image = Image.new("RGB", (width, height))
    made = v2.Compose([v2.Resize(20), v2.CenterCrop(16)])(image)
    assert made.size == (16, 16)


# Pictures that cannot be decoded.


def break_some(folder, names):
    paths = sorted(folder.rglob("train/*/*.JPEG"))
    for i in names:
        paths[i].write_bytes(paths[i].read_bytes()[:150])
    return [str(paths[i]) for i in names]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_picture_is_an_error_that_names_it(tmp_path, workers):
    folder = write_tree(tmp_path / "data")
    (name,) = break_some(folder, [5])
    loader = Loader(load(folder, tmp_path), True, workers)
    with pytest.raises(UserError) as caught:
        list(loader.batches("train", order(), 1))
    sentence = str(caught.value)
    assert sentence.startswith(f"imagenet has an image in a batch that cannot be decoded, {name} (")
    assert "--skip-broken" in sentence and "\n" not in sentence
    with pytest.raises(UserError, match="has an image in a batch that cannot be decoded"):
        list(loader.batches("train", order(), 1))  # nor the second time, though it is known


def test_several_in_a_batch_are_counted(tmp_path):
    folder = write_tree(tmp_path / "data")
    break_some(folder, [1, 4, 7])
    (folder / "train/n01440764/n01440764_1.JPEG").write_bytes(b"")
    with pytest.raises(UserError, match=r"imagenet has 3 images in a batch .* decoded, first /"):
        Loader(load(folder, tmp_path), True, 0).load("train", torch.arange(12), 1)


@pytest.mark.parametrize("workers", [0, 2])
def test_skipped_ones_are_replaced_in_training_and_counted(tmp_path, workers):
    folder = write_tree(tmp_path / "data")
    names = break_some(folder, [5, 6])
    data = load(folder, tmp_path, skip_broken=True)
    loader = Loader(data, True, workers)
    made = list(loader.batches("train", [torch.arange(12)], 1))
    assert set(loader.broken) == set(names)
    index = made[0].index.tolist()
    assert len(index) == 12 and not {data.train.name(i) for i in index} & set(names)
    for at, i in enumerate(index):
        if i != at:  # the next sound one in the order
            assert all(data.train.name(j) in names for j in range(at, i if i > at else 12))
    assert made[0].labels.tolist() == data.train.labels[index].tolist()


def test_skipped_ones_are_left_out_in_testing(tmp_path):
    folder = write_tree(tmp_path / "data")
    path = next((folder / "val").rglob("*.JPEG"))
    path.write_bytes(b"no image")
    data = load(folder, tmp_path, skip_broken=True)
    loader = Loader(data, True, 0)
    loaded = loader.load("test", torch.arange(6))
    assert len(loaded.index) == 5 and loader.broken == {str(path): "it is no image"}


def test_all_broken(tmp_path):
    folder = write_tree(tmp_path / "data")
    break_some(folder, range(12))
    loader = Loader(load(folder, tmp_path, skip_broken=True), True, 0)
    assert len(loader.load("train", torch.arange(4), 1).images) == 0
    assert len(loader.broken) == 12


def test_a_file_that_goes_away_is_a_broken_picture(tmp_path):
    folder = write_tree(tmp_path / "data")
    data = load(folder, tmp_path)
    (folder / "val/n01440764/n01440764_0.JPEG").unlink()
    with pytest.raises(UserError, match=r"n01440764_0.JPEG \(.*No such file"):
        Loader(data, True, 0).load("test", torch.arange(6))


def test_workers_that_suit_a_device():
    assert usual_workers(torch.device("cpu")) == 0
    assert 1 <= usual_workers(torch.device("cuda"), 2) <= usual_workers(torch.device("cuda")) <= 16
    with pytest.raises(UserError, match="workers must be at least 0, not -1"):
        Loader(None, True, -1)
