import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paper_repro.data import load
from paper_repro.data.noise import with_label_noise
from paper_repro.errors import UserError

DIGITS = load("digits", train_size=400, keep_rest=True)


def wrong(fraction):
    noisy = with_label_noise(DIGITS, fraction)
    return noisy, noisy.train.labels != DIGITS.train.labels


@given(st.floats(0, 0.99))
def test_as_many_labels_are_wrong_as_asked_and_nothing_else_changes(fraction):
    noisy, changed = wrong(fraction)
    assert int(changed.sum()) == round(fraction * 400)
    assert noisy.train.labels.dtype == torch.int64
    assert int(noisy.train.labels.min()) >= 0 and int(noisy.train.labels.max()) < 10
    assert noisy.train.images is DIGITS.train.images
    assert noisy.test is DIGITS.test and noisy.spare is DIGITS.spare


@given(st.floats(0, 0.5), st.floats(0.5, 0.99))
def test_what_is_wrong_at_a_small_fraction_is_wrong_alike_at_a_larger(small, large):
    few, changed = wrong(small)
    many, _ = wrong(large)
    assert torch.equal(few.train.labels[changed], many.train.labels[changed])


def test_wrong_labels_are_of_all_other_classes_alike():
    noisy, changed = wrong(0.9)
    shift = (noisy.train.labels - DIGITS.train.labels)[changed] % 10
    counts = torch.bincount(shift, minlength=10)
    assert counts[0] == 0
    assert counts[1:].min() > 20  # 40 expected, with a standard deviation of 6


def test_labels_are_the_same_every_time_and_load_makes_them():
    loaded = load("digits", train_size=400, label_noise=0.4)
    assert torch.equal(loaded.train.labels, wrong(0.4)[0].train.labels)
    assert torch.equal(load("digits", train_size=400).train.labels, DIGITS.train.labels)


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_a_fraction_out_of_range_is_refused(fraction):
    with pytest.raises(UserError, match="label_noise"):
        with_label_noise(DIGITS, fraction)


def test_sentences_have_no_labels_to_be_made_wrong():
    with pytest.raises(UserError, match="phrases has no labels"):
        load("phrases", label_noise=0.2)
