import pytest
from workplaces import made_body

from paper_repro.data.corrupted import GROUPS, SEVERITIES, TYPES
from paper_repro.experiment.measures import Measures
from paper_repro.experiment.profiles import PROFILES, profile
from paper_repro.experiment.records import Records
from paper_repro.registry import Spec
from tables import TABLES
from tables.base import Cell, Delta, MeanDelta
from tables.render import markdown


def build(name, size):
    return TABLES.build(Spec(name), profile=profile(size))


@pytest.mark.parametrize("size", list(PROFILES))
def test_its_runs_are_what_its_labels_say(size):
    table = build("table5", size)
    names = {"SNIP": "snip", "GraSP": "grasp", "RigL": "rigl", "MEST(EM)": "mest"}
    for row in table.rows:
        for entry in row.entries:
            if isinstance(entry, Cell):
                for config in entry.runs:
                    assert config.method.name == names[row.labels[0]] and config.sparsity == 0.8
                    assert config.optimizer.name == ("sgd" if row.labels[1] == "SGD" else "s2sam")
    assert len(list(table.runs())) == 8 * len(profile(size).seeds)
    assert list(build("table5-types", size).measures()) == list(table.measures())
    images = {"smoke": 100, "paper": None}.get(size, 1000)
    assert {spec["images"] for _, spec in table.measures()} == {images}


def fill(folder, table):
    """S2-SAM 5 points above SGD on every type; type t has 10 + t + severity with SGD."""
    for config, spec in table.measures():
        Records(folder).write(config, "finished", made_body())
        gain = 5.0 if config.optimizer.name == "s2sam" else 0.0
        types = {n: [10.0 + t + s + gain for s in SEVERITIES] for t, n in enumerate(TYPES)}
        values = {
            "clean": 90.0 + gain,
            "mean": 20.0 + gain,
            "common": 21.0 + gain,
            "groups": {g: 30.0 + i + gain for i, g in enumerate(GROUPS)},
            "types": types,
        }
        where = {"commit": "c0ffee", "dirty": False, "device": "a device"}
        Measures(folder).write(config, spec, values, {"weights": "", "environment": where})


def test_each_column_reads_its_own_number(tmp_path):
    table = build("table5", "cpu")
    fill(tmp_path, table)
    page = markdown(table, Records(tmp_path), profile("cpu"))
    line = next(x for x in page.splitlines() if x.startswith("| SNIP") and "| SGD" in x)
    numbers = [c.split()[0] for c in line.strip("|").split("|")[2:]]
    assert numbers == ["90.00", "20.00", "21.00", "30.00", "31.00", "32.00", "33.00", "34.00"]
    kinds = [{type(e) for e in row.entries} for row in table.rows]
    assert kinds == [{Cell}, {Cell}, {Delta}] * 4 + [{MeanDelta}]
    last = next(x for x in page.splitlines() if "mean Δ" in x)
    assert last.count(" +5.00 [") == 8 and "[paper +3.23]" in last
    assert "24 of 24 measures of trained runs are there" in page


def test_a_type_is_the_mean_of_its_severities(tmp_path):
    table = build("table5-types", "cpu")
    fill(tmp_path, table)
    page = markdown(table, Records(tmp_path), profile("cpu"))
    line = next(x for x in page.splitlines() if "| shot noise" in x)
    assert "14.00 ± 0.00 (3)" in line and "19.00 ± 0.00 (3)" in line and line.count(" +5.00 [") == 4
    assert [row.labels[1].replace(" ", "_") for row in table.rows] == list(TYPES)


def test_the_page_says_what_was_corrupted_and_how(tmp_path):
    said = {n: markdown(build("table5", n), Records(tmp_path), profile(n)) for n in PROFILES}
    assert "CIFAR-10-C, generated" in said["cpu"] and "1000 test images" in said["cpu"]
    assert "digits, corrupted" in said["smoke"] and "100 test images" in said["smoke"]
    assert "8 x 8" in said["smoke"] and "all test images" in said["paper"]
    assert "ublished:" not in said["smoke"] and "Not evidence" in said["smoke"]
