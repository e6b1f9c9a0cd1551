"""What data sets are shown and scored with, against the published values."""

import importlib
from pathlib import Path

import pytest

from paper_repro.data import DATASETS
from paper_repro.data.imagenet import _IMAGENET
from paper_repro.data.tinyimagenet20 import _TINY


def test_imagenet_is_shown_as_usual():
    """Those of torchvision's reference training and of all weights published with it."""
    assert _IMAGENET.mean == (0.485, 0.456, 0.406) and _IMAGENET.std == (0.229, 0.224, 0.225)
    assert (_IMAGENET.resize, _IMAGENET.size, _IMAGENET.scale) == (256, 224, (0.08, 1.0))
    counts = (_IMAGENET.classes, _IMAGENET.train, _IMAGENET.test)
    assert counts == (1000, 1_281_167, 50_000)


def test_tinyimagenet20_is_shown_as_in_the_records():
    """Mean and deviation of its own training pixels."""
    assert _TINY.mean == (0.4926, 0.4458, 0.3958) and _TINY.std == (0.2801, 0.2742, 0.2841)
    assert (_TINY.resize, _TINY.size, _TINY.scale) == (64, 64, (0.25, 1.0))
    assert (_TINY.classes, _TINY.train, _TINY.test) == (20, 10_000, 1_000)


@pytest.mark.parametrize(
    ("name", "vocabulary", "beam", "length_penalty"),
    [
        ("multi30k", 4_000, 5, 1.0),  # as in the records
        ("wmt14", 37_000, 4, 0.6),  # Vaswani et al. (2017), sections 5.1 and 6.1
    ],
)
def test_sentences_are_cut_and_translations_searched_for(
    monkeypatch, name, vocabulary, beam, length_penalty
):
    module = importlib.import_module(f"paper_repro.data.{name}")
    monkeypatch.setattr(module, "find", lambda *_: Path("there"))
    monkeypatch.setattr(module, "encoded", lambda *_, **settings: settings)
    assert DATASETS.build(DATASETS.spec(name), root=None, cache=None) == {
        "source": "en",
        "target": "de",
        "vocabulary": vocabulary,
        "beam": beam,
        "length_penalty": length_penalty,
    }
