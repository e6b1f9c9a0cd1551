import dataclasses

import pytest

from paper_repro.config import RunConfig
from paper_repro.experiment.profiles import profile
from paper_repro.experiment.records import Records
from paper_repro.registry import Spec
from tables import TABLES
from tables.base import Cell, Measurement, Row, Table
from tables.render import latex, markdown
from tables.render.trained import about, usual

CPU = profile("cpu")
REST = "the test images and the training images left out"
USUAL = CPU.config("cifar10", "resnet32x2", CPU.method("dense"), Spec("sgd"), 0)


def table(*runs: RunConfig, **more) -> Table:
    return Table("t", "T", ("m", "a"), (Row(("x",), (Cell(runs),)),), **more)


def said(*changes, **more):
    return about(table(*(dataclasses.replace(USUAL, **own) for own in changes), **more), CPU)


def test_a_profile_speaks_for_its_usual_runs_only():
    assert said({}, {"seed": 2}) == usual(CPU)
    assert usual(CPU) == f"{CPU.about}; tested on 58,000 images ({REST})"
    assert not said({}, {"model": "vgg19_quarter"}).startswith(CPU.about)
    assert said({}, about="something else") == "something else"
    assert about(table(), CPU) == CPU.about


def test_what_accuracies_are_of_is_said_where_it_is_not_the_test_images_alone():
    assert said({"test_on": "official"}) == said({"train_size": None}) == CPU.about
    assert usual(profile("paper")) == profile("paper").about
    measured = Measurement(Spec("corruptions"), lambda found: None)
    cells = (Cell((USUAL,), measurement=measured),)
    assert about(Table("t", "T", ("m", "a"), (Row(("x",), cells),)), CPU) == CPU.about


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            [{"dataset": "tinyimagenet20", "train_size": None, "label_noise": 0.0, "epochs": 30}],
            "20 classes of Tiny-ImageNet, 30 epochs: ResNet-20",
        ),
        (
            [{"model": "vgg19_quarter", "epochs": n, "label_noise": 0.0} for n in (51, 30, 150)],
            "CIFAR-10, 2,000 images, 30, 51 or 150 epochs, tested on 58,000 images "
            f"({REST}): VGG-19 of quarter width",
        ),
        (
            [{}, {"dataset": "cifar100", "train_size": None, "label_noise": 0.2}],
            "CIFAR-10, 2,000 images, 40 % of their labels wrong, 100 epochs, tested on 58,000 "
            f"images ({REST}): ResNet-20; "
            "CIFAR-100, 20 % of their labels wrong, 100 epochs: ResNet-20",
        ),
        (
            [{"model": "resnet50", "train_size": n} for n in (None, 5000, 100)],
            "CIFAR-10, 100, 5,000 or all images, 40 % of their labels wrong, 100 epochs, tested on "
            f"10,000, 55,000 or 59,900 images ({REST}): ResNet-50",
        ),
    ],
)
def test_other_runs_speak_for_themselves(changes, line):
    assert said(*changes) == line


def test_no_table_on_other_data_says_that_it_is_of_cifar10(tmp_path):
    records = Records(tmp_path)
    for name in ("table2", "table3", "rebuttal-translation"):
        made = TABLES.build(Spec(name), profile=CPU)
        for page in (markdown(made, records, CPU), latex(made, records, CPU)):
            assert "CIFAR-10" not in page
