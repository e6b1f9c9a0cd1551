"""Cells that read measures of trained runs."""

import io

import pandas as pd
from workplaces import made_body, tiny

from paper_repro.experiment.measures import Measures
from paper_repro.experiment.profiles import profile
from paper_repro.experiment.records import Records
from paper_repro.measure import MEASURES
from tables.base import Cell, Delta, Measurement, Row, Table
from tables.render import csv, markdown
from tables.render.tidy import runs_csv
from tables.stats import summarise

SPEC = MEASURES.spec("sharpness")
WORST = Measurement(SPEC, lambda measured: measured.number("worst"))


def cell(seeds, **changes):
    return Cell(tuple(tiny(seed=s, **changes) for s in seeds), measurement=WORST)


def fill(folder, config, worst=None, status="finished", dirty=False):
    Records(folder).write(config, status, made_body())
    if worst is not None:
        where = {"commit": "c0ffee", "dirty": dirty, "device": "a device"}
        Measures(folder).write(
            config, SPEC, {"worst": worst}, {"weights": "", "environment": where}
        )


def test_a_cell_reads_the_measure_of_its_spec_and_nothing_else(tmp_path):
    for seed, worst in enumerate((1.0, 3.0, None)):
        fill(tmp_path, tiny(seed=seed), worst)
    fill(tmp_path, tiny(seed=3), 100.0, status="diverged")
    found = summarise(cell(range(5)), Records(tmp_path), None)
    assert (found.mean, found.n, found.missing, found.diverged) == (2.0, 2, 2, 1)
    other = Measurement(MEASURES.spec("sharpness", rho=9), WORST.value)
    cells = Cell(cell(range(2)).runs, measurement=other)
    assert summarise(cells, Records(tmp_path), None).n == 0


def test_a_difference_of_measured_cells_is_paired_by_seed(tmp_path):
    for seed, (ours, theirs) in enumerate(((1.0, 2.0), (3.0, 5.0))):
        fill(tmp_path, tiny(seed=seed), ours)
        fill(tmp_path, tiny(seed=seed, lr=0.2), theirs)
    delta = Delta(cell((0, 1)), cell((0, 1), lr=0.2))
    found = summarise(delta, Records(tmp_path), None)
    assert found.mean == -1.5 and found.n == 2


def test_runs_one_by_one_have_what_was_measured_of_them(tmp_path):
    for seed, worst in enumerate((1.0, None)):
        fill(tmp_path, tiny(seed=seed), worst)
    measured, plain = cell(range(3)), Cell(cell(range(1)).runs)
    table = Table("t", "T", ("m", "worst", "a"), (Row(("x",), (measured, plain)),))
    frame = pd.read_csv(io.StringIO(runs_csv(table, Records(tmp_path), profile("cpu"))))
    own = frame[frame.column == "worst"]
    assert list(own.value) == ["sharpness"] * 3 and list(own.seed) == [0, 1, 2]
    assert own.measured.tolist()[0] == 1.0 and own.measured.isna().tolist() == [False, True, True]
    assert list(own.status) == ["finished", "finished", "missing"]
    assert list(frame[frame.column == "a"].value) == ["last_accuracy"]


def test_a_page_says_how_many_measures_are_there_and_a_csv_what_is_read(tmp_path):
    fill(tmp_path, tiny(), 1.25, dirty=True)
    rows = (Row(("x",), (cell((0, 1)), Delta(cell((0,)), cell((1,))), Cell((tiny(),)))),)
    table = Table("made", "Made", ("label", "worst", "Δ", "accuracy"), rows)
    assert list(table.measures()) == [(tiny(seed=s), SPEC) for s in (0, 1)]
    page = markdown(table, Records(tmp_path), profile("cpu"))
    assert "1.25 (1)" in page and "90.00 (1)" in page
    assert "1 of 2 measures of trained runs are there, taken on a device (1)." in page
    assert "1 of them were taken by code that was not committed." in page
    lines = csv(table, Records(tmp_path), profile("cpu")).splitlines()
    assert [line.split(",")[3] for line in lines[1:]] == ["sharpness", "sharpness", "last_accuracy"]
