"""Tables A.1, 2, 3 and 6: which runs they want, what is published, what needs no run."""

import re

import pytest
from workplaces import made_body

from paper_repro.experiment.profiles import PROFILES, profile
from paper_repro.experiment.records import Records
from paper_repro.registry import Spec
from paper_repro.sparse import METHODS, Stage
from tables import TABLES
from tables.base import Cell, Delta, MeanDelta, Number
from tables.compare import DATASET_LABELS, MODEL_LABELS, data_label
from tables.render import csv, latex, markdown
from tables.rigl_counts import counts
from tables.table6 import NETWORKS
from tables.work import work

pytestmark = pytest.mark.usefixtures("imagenets")
NAMES = ("tableA1", "table2", "table3", "table6")
SIZES = ("smoke", "cpu", "paper")


def build(name, size):
    return TABLES.build(Spec(name), profile=profile(size))


def published(table):
    """Published numbers by the row's labels and the column's header."""
    width = len(table.rows[0].labels)
    return {
        (*row.labels, header): entry.published
        for row in table.rows
        for header, entry in zip(table.headers[width:], row.entries, strict=True)
        if getattr(entry, "published", None) is not None
    }


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", list(PROFILES))
def test_every_row_is_whole_and_every_run_is_wanted_once(name, size):
    table = build(name, size)
    for row in table.rows:
        assert len(row.labels) + len(row.entries) == len(table.headers)
    assert len({row.labels for row in table.rows}) == len(table.rows)
    prints = [c.fingerprint for c in table.runs()]
    assert len(prints) == len(set(prints))
    assert all(config.seed in profile(size).seeds for config in table.runs())


@pytest.mark.parametrize("name", NAMES)
def test_smoke_needs_no_downloaded_data_and_trains_every_experiment(name):
    table = build(name, "smoke")
    assert {config.dataset for config in table.runs()} == {"digits"}
    accuracies = [
        e for row in table.rows for e in row.entries if isinstance(e, Cell) and e.value is None
    ]
    if name != "table3":
        assert all(cell.runs for cell in accuracies)
    assert all(row.entries[0].runs for row in table.rows if isinstance(row.entries[0], Cell))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", SIZES)
def test_the_title_says_what_it_is_trained_on(name, size, tmp_path):
    table, own = build(name, size), profile(size)
    page = markdown(table, Records(tmp_path), own)
    if name != "tableA1":  # whose columns say it
        assert data_label(own, "imagenet") in table.title
    if size == "cpu" and name != "tableA1":
        assert "20 classes of Tiny-ImageNet" in page.splitlines()[0]
    assert ("Not evidence" in page) == (size == "smoke")
    assert latex(table, Records(tmp_path), own) and csv(table, Records(tmp_path), own)
    models = {c.model for c in table.runs()}
    assert all(MODEL_LABELS[m] in page for m in models)


def test_the_notes_say_how_the_networks_are_trained():
    (how,) = (n for n in build("table2", "paper").notes if "epochs, batches" in n)
    assert how == (
        "ResNet-50 on ImageNet-1K: 150 epochs, batches of 256, learning rate 0.1, weight decay "
        "0.0001, label smoothing 0.1, ρ = 1."
    )
    said = [n for n in build("table6", "paper").notes if "epochs, batches" in n]
    assert len(said) == 6 and "MobileNet-V2 on CIFAR-10: 350 epochs, batches of 64" in said[1]
    assert not any("epochs, batches" in n for n in build("table3", "cpu-bf16-12").notes)


def test_two_data_sets_of_one_stand_in_keep_their_names_apart():
    labels = [data_label(profile("smoke"), d) for d in ("cifar10", "cifar100", "imagenet")]
    assert labels == ["digits", "digits (for CIFAR-100)", "digits (for ImageNet-1K)"]
    labels = [data_label(profile("paper"), d) for d in ("cifar10", "cifar100", "imagenet")]
    assert labels == [DATASET_LABELS[d] for d in ("cifar10", "cifar100", "imagenet")]


def test_a1_has_both_distributions_of_what_distributes():
    table = build("tableA1", "paper")
    pairs = list(dict.fromkeys(row.labels[:2] for row in table.rows))
    assert pairs == [
        *((m, "global") for m in ("LT", "SNIP", "GraSP")),
        *(
            (m, d)
            for m in ("SET", "DSR", "RigL", "MEST(EM)", "MEST(EM&S)")
            for d in ("uniform", "ERK")
        ),
        ("all", "all"),
    ]
    assert {c.model for c in table.runs()} == {"vgg19"}
    assert {c.dataset for c in table.runs()} == {"cifar10", "cifar100"}
    for row in table.rows[:-1]:
        for entry in row.entries:
            if isinstance(entry, Cell) and row.labels[1] != "global":
                (shown,) = {c.method["distribution"] for c in entry.runs}
                assert shown == row.labels[1].lower()
    last = table.rows[-1].entries
    assert all(isinstance(e, MeanDelta) and len(e.deltas) == 13 for e in last)
    assert not published(table)


def test_table2_trains_what_its_labels_say():
    epochs = {"1.7x": 255, "5x": 750}
    names = {"dense": "dense", "SET": "set", "RigL": "rigl"}
    names |= {"MEST(EM)": "mest", "MEST(EM&S)": "mest-ems"}
    for row in build("table2", "paper").rows:
        method, distribution, sparsity, optimizer = row.labels
        label, _, length = method.partition(" ")
        for config in row.entries[0].runs:
            assert (config.dataset, config.model) == ("imagenet", "resnet50")
            assert config.method.name == names[label]
            assert config.epochs == epochs.get(length, 150)
            assert f"{config.sparsity:.0%}" == sparsity
            own = {"uniform": "uniform-rigl", "ERK": "erk", "–": None}[distribution]
            assert config.method.get("distribution") == own
            assert config.optimizer.name == ("sgd" if optimizer == "SGD" else "s2sam")
            assert config.optimizer.get("rho", 1.0) == 1.0
    rows = build("table2", "paper").rows
    for sgd, ours in zip(rows[::2], rows[1::2], strict=True):
        assert isinstance(ours.entries[1], Delta)
        assert ours.entries[1].baseline.runs == sgd.entries[0].runs
        assert ours.entries[1].treatment.runs == ours.entries[0].runs


def test_table2_has_the_rebuttals_numbers_and_no_others():
    mine = published(build("table2", "paper"))
    accuracy = {k[:4]: v for k, v in mine.items() if k[-1] == "accuracy"}
    assert accuracy == {
        ("dense", "–", "0%", "SGD"): 76.90,
        ("dense", "–", "0%", "S2-SAM"): 77.32,
        ("RigL", "uniform", "95%", "SGD"): 69.02,
        ("RigL", "uniform", "95%", "S2-SAM"): 69.83,
        ("MEST(EM)", "uniform", "95%", "SGD"): 69.95,
        ("MEST(EM)", "uniform", "95%", "S2-SAM"): 70.81,
        ("SET 5x", "uniform", "80%", "SGD"): 74.60,
        ("SET 5x", "uniform", "80%", "S2-SAM"): 75.43,
        ("SET 5x", "uniform", "90%", "SGD"): 72.43,
        ("SET 5x", "uniform", "90%", "S2-SAM"): 73.16,
    }
    gains = {k[0]: v for k, v in mine.items() if k[-1] == "Δ to SGD" and k[2] == "95%"}
    assert gains == {"RigL": 0.81, "MEST(EM)": 0.86}


@pytest.mark.parametrize("size", SIZES)
def test_table2_shows_flops_where_nothing_has_been_measured(size, tmp_path):
    table = build("table2", size)
    numbers = [e for row in table.rows for e in row.entries if isinstance(e, Number)]
    assert len(numbers) == 2 * len(table.rows) and all(n.value for n in numbers)
    page = markdown(table, Records(tmp_path), profile(size))
    cells = [[c.strip() for c in line.split("|")] for line in page.splitlines()]
    (dense,) = (c for c in cells[:20] if c[1:2] == ["dense"] and c[4] == "SGD")
    assert dense[-3:-1] == ["1.00", "1.00"] and dense[5].startswith("–")


def flops(size="paper"):
    return {
        row.labels[:3]: tuple(e.value for e in row.entries[2:])
        for row in build("table2", size).rows
    }


def test_table2s_flops_agree_with_rigls_count_to_their_conventions():
    """Within half a percent of dense: ReLUs, a padded stem, and updates that end at 75 %."""
    own = flops()
    for shown, distribution in (("uniform", "uniform-rigl"), ("ERK", "erk")):
        for sparsity in (0.8, 0.9):
            theirs = counts(distribution, sparsity)
            training, inference = own["RigL", shown, f"{sparsity:.0%}"]
            assert inference == pytest.approx(theirs["inference"], abs=0.005)
            assert training == pytest.approx(theirs["training 1x"], abs=0.005)
            five, again = own["RigL 5x", shown, f"{sparsity:.0%}"]
            assert five == pytest.approx(5 * training, rel=1e-3) and again == inference


def test_table2s_flops_say_what_each_method_pays():
    own = flops()
    for shown in ("uniform", "ERK"):
        for sparsity in ("80%", "90%"):
            plain = own["SET", shown, sparsity]
            assert plain[0] == pytest.approx(plain[1])  # no dense gradient, never denser
            assert own["MEST(EM)", shown, sparsity] == plain
            assert own["RigL", shown, sparsity][0] > plain[0]
            soft = own["MEST(EM&S)", shown, sparsity]
            assert soft[0] > plain[0] and soft[1] == plain[1]
            assert own["SET 5x", shown, sparsity][0] == pytest.approx(5 * plain[0])
            assert own["MEST(EM) 1.7x", shown, sparsity][0] == pytest.approx(1.7 * plain[0])
    # 100 of 160 parts at 15 %, 30 at 12.5 %, 30 at 10 %, beside the dense stem.
    stem = 2 * own["MEST(EM)", "uniform", "90%"][1] - own["MEST(EM)", "uniform", "80%"][1]
    expected = stem + (1 - stem) * (100 * 0.15 + 30 * 0.125 + 30 * 0.1) / 160
    # A stage ends with the first update after its time, one of 32 of the training.
    soft = own["MEST(EM&S)", "uniform", "90%"][0]
    assert expected * 0.999 < soft < expected + (1 - stem) * 2 * 0.025 / 32


def test_work_counts_steps_and_images(monkeypatch):
    size = profile("smoke")
    spec = METHODS.spec("rigl", sparsity=0.9)
    config = size.config("cifar10", "resnet32x2", spec, Spec("sgd"), 0)
    asked = {}

    def planned(spec, model, total_steps, steps_per_epoch):
        asked["steps"] = total_steps, steps_per_epoch
        return METHODS["dense"].planned(spec, model, total_steps, steps_per_epoch)

    monkeypatch.setattr(METHODS["rigl"], "planned", planned)
    dense = work(config)
    assert asked["steps"] == (20 * 44, 44)  # 1,437 images, 32 a step
    assert dense.training == pytest.approx(3 * dense.inference * 20 * 44 * 32)
    assert Stage(3, {}).dense_gradients == 0
    snip = size.config("cifar10", "resnet32x2", METHODS.spec("snip", sparsity=0.9), Spec("sgd"), 0)
    assert work(snip) is None


def test_table3_reads_what_compaction_measured(tmp_path):
    table, records = build("table3", "smoke"), Records(tmp_path)
    row = next(r for r in table.rows if r.labels[1:] == ("CHEX 50 %", "SGD"))
    gains = {
        "flops_before": 4e6,
        "flops_after": 1e6,
        "parameters_ratio": 0.25,
        "images_per_second_before": 1000.0,
        "images_per_second_after": 2500.0,
        "speedup": 2.5,
    }
    for config in row.entries[0].runs:
        records.write(config, "finished", {**made_body(), "compaction": gains})
    page = markdown(table, records, profile("smoke"))
    line = next(
        line for line in page.splitlines() if "CHEX 50 %" in line and "SGD" in line
    )  # the first is of ResNet-34's stand-in
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:3] == list(row.labels)
    assert [re.sub(r" .*", "", c) for c in cells[-6:]] == [
        "4.0", "1.0", "0.25", "1000", "2500", "2.50",
    ]  # fmt: skip
    dense = next(r for r in table.rows if r.labels[1] == "dense")
    assert dense.entries[0].runs and not any(e.runs for e in dense.entries[2:])


def test_table3_has_both_methods_on_both_networks():
    table = build("table3", "paper")
    assert {c.model for c in table.runs()} == {"resnet34", "resnet50"}
    assert {c.method.name for c in table.runs()} == {"dense", "chex", "chase"}
    assert {c.dataset for c in table.runs()} == {"imagenet"} and not published(table)


def test_table6_is_the_papers_and_r2s(tmp_path):
    mine = published(build("table6", "paper"))
    expected = {
        ("CIFAR-10", "ResNet-32"): (94.58, 94.99, 95.32),
        ("CIFAR-10", "MobileNet-V2"): (94.13, 94.55, 94.77),
        ("CIFAR-10", "VGG-19"): (94.21, 94.48, 94.71),
        ("ImageNet-1K", "EfficientNet-B0"): (76.54, 77.10, 77.38),
        ("ImageNet-1K", "ResNet-34"): (74.09, 74.58, 74.77),
        ("ImageNet-1K", "ResNet-50"): (76.90, 77.32, 77.58),
    }
    for labels, numbers in expected.items():
        for name, number in zip(("SGD", "S2-SAM", "SAM"), numbers, strict=True):
            assert mine[(*labels, name, "accuracy")] == number
            if name != "SGD":
                assert mine[(*labels, name, "Δ to SGD")] == round(number - numbers[0], 2)
    assert len(mine) == 6 * 5
    for row in build("table6", "paper").rows:
        (config, *_) = row.entries[0].runs
        assert config.method.name == "dense"
        rho = 0.05 if config.dataset == "cifar10" else 1.0
        assert config.optimizer.get("rho", rho) == rho
    assert len(NETWORKS) == 6


def test_a_size_without_the_data_shows_gaps(tmp_path):
    size = profile("cpu-bf16-12")
    table = build("table2", size.name)
    assert not list(table.runs())
    assert "ImageNet-1K" in markdown(table, Records(tmp_path), size)


@pytest.mark.parametrize("size", PROFILES)
@pytest.mark.parametrize("name", TABLES)
def test_a_title_begins_its_sentences_with_capitals(name, size):
    title = TABLES.build(Spec(name), profile=PROFILES[size]).title
    assert all(sentence[0].isupper() for sentence in title.split(". ")), title
