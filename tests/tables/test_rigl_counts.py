"""RigL's published ResNet-50 table, from counting alone."""

import math

import pytest
import torch

from paper_repro.experiment.profiles import profile
from paper_repro.experiment.records import Records
from paper_repro.measure import micronet
from paper_repro.models import build
from paper_repro.registry import Spec
from paper_repro.sparse import prunable
from tables import TABLES
from tables.published import RIGL_RESNET50
from tables.render import csv, latex, markdown
from tables.rigl_counts import counts

COLUMNS = ("inference", "training 1x", "training 5x", "size")
DIGITS = dict(zip(COLUMNS, (2, 2, 2, 3), strict=True))
#: What their table prints otherwise, and what is counted here.
EXPLAINED = {
    ("erk", 0.9, "training 1x"): (0.24, 0.25),
    ("uniform-rigl", 0.8, "size"): (23.685, 23.729),
}
CELLS = [
    (*row, column, published)
    for row, numbers in RIGL_RESNET50.items()
    for column, published in zip(COLUMNS, numbers, strict=True)
    if published is not None
]


@pytest.mark.parametrize("distribution, sparsity, column, published", CELLS)
def test_to_the_printed_digit(distribution, sparsity, column, published):
    ours = round(counts(distribution, sparsity)[column], DIGITS[column])
    known = EXPLAINED.get((distribution, sparsity, column))
    assert (published, ours) == (known or (published, published))


def test_the_dense_network():
    dense = counts("uniform-rigl", 0.0)
    assert f"{dense['inference FLOPs']:.1e}" == "8.2e+09"
    assert f"{dense['training FLOPs']:.1e}" == "3.2e+18"
    assert f"{dense['size']:.3f}" == "102.122"


def test_why_two_of_their_digits_differ():
    five, published = counts("erk", 0.9)["training 5x"], RIGL_RESNET50["erk", 0.9]
    assert round(five, 2) == published[2] == 1.23 and round(1.23 / 5, 2) == 0.25
    # Erdős-Rényi with layers scored by their channels alone, (in + out) / (in out).
    shapes = {n: tuple(w.shape) for n, w in prunable(resnet50()).items()}
    sizes = {n: math.prod(s) for n, s in shapes.items()}
    score = {n: (s[0] + s[1]) / (s[0] * s[1]) for n, s in shapes.items()}
    dense = set()
    while True:
        sparse = [n for n in shapes if n not in dense]
        budget = 0.2 * sum(sizes.values()) - sum(sizes[n] for n in dense)
        epsilon = budget / sum(score[n] * sizes[n] for n in sparse)
        over = {n for n in sparse if epsilon * score[n] > 1}
        if not over:
            break
        dense |= {n for n in over if score[n] == max(score[m] for m in over)}
    kept = {n: sizes[n] if n in dense else epsilon * score[n] * sizes[n] for n in shapes}
    assert round(micronet.size(resnet50(), kept) / 1e6, 3) == 23.685


def resnet50():
    with torch.device("meta"):
        return torch.nn.Module.to(build("resnet50", classes=1000, channels=3, seed=0), "meta")


def test_without_the_doubled_padding_two_digits_would_be_missed():
    """Which convention makes the difference: the stem's 115 x 115."""
    model = resnet50()
    dense = micronet.inference(model, (3, 224, 224), {})
    uniform = {n: 0.2 for n in prunable(model) if n != "conv1.weight"}
    plain = micronet.inference(model, (3, 224, 224), uniform)
    assert round(plain / dense, 2) == 0.22 != RIGL_RESNET50["uniform-rigl", 0.8][0]


def test_the_page_needs_no_record_and_shows_published_numbers_in_every_profile(tmp_path):
    for name in ("smoke", "paper"):
        size = profile(name)
        table = TABLES.build(Spec("flops"), profile=size)
        assert not list(table.runs())
        page = markdown(table, Records(tmp_path), size)
        assert "2.09 [published 2.09]" in page and "23.729 [published 23.685]" in page
        assert "Not evidence" not in page and "same in every profile" in page
        assert "Not evidence" not in latex(table, Records(tmp_path), size)
        assert "23.685" in csv(table, Records(tmp_path), size)
