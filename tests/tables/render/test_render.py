import io
import re
from dataclasses import replace

import pandas as pd
import pytest
from made_table import BASE, LOST, OURS, TABLE, body_of, cell
from workplaces import made_body

from paper_repro.experiment.profiles import profile
from paper_repro.experiment.records import Records
from paper_repro.registry import Spec
from tables import TABLES
from tables.base import Cell, Delta, Number, Reading, Row, Table, best_accuracy, last_accuracy
from tables.render import csv, latex, markdown, text, write
from tables.render.tidy import runs_csv
from tables.report.shown import grids
from tables.stats import Summary

SMOKE, PAPER = profile("smoke"), profile("paper")


@pytest.mark.parametrize(
    ("summary", "published", "shown"),
    [
        (Summary(92.314, 0.126, 3), None, "92.31 ± 0.13 (3)"),
        (Summary(92.314, None, 1), None, "92.31 (1)"),
        (Summary(92.314, None, 1), 92.56, "92.31 (1) [paper 92.56]"),
        (Summary(9.0, 0.1, 2, failed=1, diverged=2), None, "9.00 ± 0.10 (2, 1 failed, 2 diverged)"),
        (Summary(92.0, None, 1, elsewhere=1), None, "92.00 (1, 1 not as sparse as asked)"),
        (Summary(None, None, 0, missing=3), None, "–"),
        (Summary(None, None, 0, missing=3), 92.56, "– [paper 92.56]"),
        (Summary(None, None, 0, failed=1, missing=2), None, "failed"),
        (Summary(None, None, 0, diverged=1), None, "diverged"),
        (Summary(None, None, 0, failed=1, diverged=1), None, "failed and diverged"),
        (Summary(0.5, None, 1, difference=True), None, "+0.50 (1)"),
        (Summary(-0.5, None, 1, difference=True), 0.87, "-0.50 (1) [paper +0.87]"),
        (Summary(0.5, 1, 2, low=-1, high=2, difference=True), None, "+0.50 [-1.00, +2.00] (2)"),
        (Summary(-1e-9, 1, 2, low=-1, high=0, difference=True), None, "+0.00 [-1.00, +0.00] (2)"),
    ],
)  # fmt: skip
def test_an_entry_in_words(summary, published, shown):
    assert text(summary, published) == shown


def test_digits_are_the_cells():
    assert text(Summary(1234.5, 10.4, 2), digits=0) == "1234 ± 10 (2)"


def rows_of(page):
    """The cells of a Markdown page's tables, by their first two columns."""
    found = []
    for line in page.splitlines():
        if line.startswith("|") and not line.startswith(("|-", "|:")):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            found.append(cells)
    return found


def test_markdown_shows_what_the_records_say(records):
    page = markdown(TABLE, records, PAPER)
    rows = rows_of(page)
    assert page.startswith(f"# {TABLE.title}\n")
    assert rows[0] == list(TABLE.headers)
    assert rows[1][2:] == ["90.50 ± 0.71 (2) [paper 92.56]", "diverged"]
    assert rows[2][2:] == ["92.00 ± 1.41 (2) [paper 93.43]", "–"]
    assert rows[3][2:] == ["+1.50 [-4.85, +7.85] (2) [paper +0.87]", "diverged"]
    assert rows[4][2:] == ["+1.50 [-4.85, +7.85] (1) [paper +0.77]", "–"]
    assert "the epoch that is best on the test images" in page
    assert rows[6][2:] == ["91.00 ± 0.71 (2) [paper 92.56]", "diverged"]  # the best epoch
    assert "## Best epoch" in page and TABLE.notes[0] in page


def test_an_alternative_that_shows_the_same_numbers_is_only_named(tmp_path):
    records = Records(tmp_path / "once")
    page = markdown(TABLE, records, PAPER)
    assert "Best epoch" not in page  # there is nothing yet
    for config in (*BASE.runs, *OURS.runs):
        records.write(config, "finished", made_body(last=90.0, best=90.0))
    page = markdown(TABLE, records, PAPER)
    assert "## Best epoch" not in page
    assert "- Best epoch: the same numbers, hence not shown again." in page
    records.write(LOST.runs[0], "finished", made_body(last=90.0, best=90.5))
    page = markdown(TABLE, records, PAPER)
    assert "## Best epoch" in page and "the same numbers" not in page


def test_a_size_that_is_no_evidence_says_so_and_shows_no_published_number(records):
    page = markdown(TABLE, records, SMOKE)
    assert "**Not evidence.**" in page and "paper " not in "".join(map("".join, rows_of(page)))
    assert "92.56" not in page and "published" not in page
    assert "Not evidence" not in markdown(TABLE, records, PAPER)
    assert "Not evidence" in latex(TABLE, records, SMOKE) and "92.56" not in latex(
        TABLE, records, SMOKE
    )
    assert "Not evidence" not in latex(TABLE, records, PAPER)


def test_the_notes_count_what_is_there_and_what_ran_from_uncommitted_code(records, tmp_path):
    for show in (markdown, latex):
        page = show(TABLE, records, PAPER)
        assert "5 of 5 runs have a record (1 diverged)." in page
        # One dirty, one of no commit at all.
        assert "2 of them were run from code that was not committed." in page
        assert "0 of 5 runs have a record." in show(TABLE, Records(tmp_path / "none"), PAPER)
    assert "- Trained on (runs): a device, torch 2.13.0 (5)." in markdown(TABLE, records, PAPER)


def test_the_legend_explains_only_what_is_there(records):
    whole = markdown(TABLE, records, PAPER)
    assert "\n- Δ: " in whole and "\n- mean Δ: " in whole and "\n- [paper x]: " in whole
    assert "Δ: difference to SGD, or between what its row or column names" in whole
    plain = Table("t", "T", ("m", "a"), (Row(("x",), (cell(2),)),))
    page = markdown(plain, records, PAPER)
    assert "Δ" not in page and "[paper x]" not in page and "±" in page


def test_markdown_has_numbers_on_the_right(records):
    (rule, *_) = (line for line in markdown(TABLE, records, PAPER).splitlines() if "|:" in line)
    assert [cell.endswith(":") for cell in rule.strip("|").split("|")] == [False, False, True, True]


def test_a_known_number_needs_no_record_and_is_published_by_whom_the_notes_say(records):
    table = Table("t", "T", ("m", "a", "b"), (Row(("x",), (Number(0.416, 0.42), Number(None))),))
    for size in (SMOKE, PAPER):
        assert rows_of(markdown(table, records, size))[1] == ["x", "0.42 [published 0.42]", "–"]
        rows = body_of(latex(table, records, size))
        assert rows[1] == r"{x} & {0} & {.42} & \multicolumn{2}{c}{--} \\"
        assert rows[2] == r"{published} & {0} & {.42} & \multicolumn{2}{c}{} \\"
        frame = pd.read_csv(io.StringIO(csv(table, records, size)))
        assert (frame["mean"][0], frame["published"][0]) == (0.416, 0.42)
    assert [p.suffix for p in write(table, records, PAPER, records.folder / "t")] == [
        ".md", ".tex", ".csv",
    ]  # fmt: skip


@pytest.mark.parametrize("show", [markdown, latex, csv, runs_csv])
def test_a_table_without_rows_is_rendered(records, show):
    page = show(Table("t", "T", ("m", "a"), ()), records, SMOKE)
    assert "same in every profile" not in page and isinstance(page, str)


def test_runs_csv_has_a_line_for_every_run_of_a_cell(records):
    frame = pd.read_csv(io.StringIO(runs_csv(TABLE, records, PAPER)))
    assert len(frame) == 2 * 5  # the last epoch and the best
    last = frame[frame.value == "last_accuracy"]
    sgd = last[(last.optimizer == "SGD") & (last.column == "digits 90%")]
    assert list(sgd.seed) == [0, 1] and list(sgd.measured) == [90.0, 91.0]
    assert list(sgd.run) == [c.fingerprint for c in BASE.runs]
    lost = last[last.column == "digits 98%"].iloc[0]
    assert lost.status == "diverged" and pd.isna(lost.measured)
    gone = pd.read_csv(io.StringIO(runs_csv(TABLE, Records(records.folder / "none"), PAPER)))
    assert set(gone.status) == {"missing"} and gone.measured.isna().all()


def test_csv_is_for_machines(records):
    frame = pd.read_csv(io.StringIO(csv(TABLE, records, PAPER)))
    assert len(frame) == 2 * 8 and set(frame["profile"]) == {"paper"}
    assert list(frame.columns[:5]) == ["profile", "method", "optimizer", "column", "value"]
    best = frame[frame.value == "best_accuracy"]
    assert len(best) == 8 and best.iloc[0]["mean"] == 91.0
    frame = frame[frame.value == "last_accuracy"]
    sgd = frame[(frame.optimizer == "SGD") & (frame.column == "digits 90%")].iloc[0]
    assert (sgd["mean"], sgd["n"], sgd["published"]) == (90.5, 2, 92.56)
    assert sgd["std"] == pytest.approx(0.5**0.5)
    assert sgd["runs"].split() == [c.fingerprint for c in BASE.runs]
    delta = frame[(frame.optimizer == "Δ") & (frame.column == "digits 90%")].iloc[0]
    assert delta["mean"] == 1.5 and delta["low95"] < delta["mean"] < delta["high95"]
    lost = frame[(frame.optimizer == "SGD") & (frame.column == "digits 98%")].iloc[0]
    assert (lost["n"], lost["missing"], lost["failed"], lost["diverged"]) == (0, 0, 0, 1)
    assert pd.isna(lost["mean"]) and pd.isna(lost["published"])


def test_csv_has_no_published_number_where_nothing_is_evidence(records):
    frame = pd.read_csv(io.StringIO(csv(TABLE, records, SMOKE)))
    assert frame["published"].isna().all() and frame["n"].sum() > 0


def test_write_leaves_four_files(records, tmp_path):
    paths = write(TABLE, records, PAPER, tmp_path / "tables")
    assert [p.name.removeprefix("made-up.") for p in paths] == ["md", "tex", "csv", "runs.csv"]
    assert [p.read_text() for p in paths] == [
        show(TABLE, records, PAPER) for show in (markdown, latex, csv, runs_csv)
    ]


def test_a_missed_sparsity_is_shown(records):
    config = OURS.runs[0]
    record = records.get(config)
    assert "missed the sparsity" not in markdown(TABLE, records, PAPER)
    body = {**record.body, "sparsity": {**record.body["sparsity"], "missed": -0.0389}}
    records.write(config, "finished", body)
    page = markdown(TABLE, records, PAPER)
    assert "(2, 1 not as sparse as asked)" in page
    assert (
        "1 of them missed the sparsity asked for by more than a layer's rounding, "
        "rigl at 90.00% by -3.89%." in page
    )
    frame = pd.read_csv(io.StringIO(csv(TABLE, records, PAPER)))
    assert set(frame["not_as_sparse_as_asked"].dropna()) == {0.0, 1.0}


def test_runs_that_went_on_elsewhere_are_said(records):
    assert "went on in another environment" not in markdown(TABLE, records, PAPER)
    body = records.get(BASE.runs[0]).body
    body = {**body, "earlier": [{"device_type": "cuda", "engine": "dense", "after_epoch": 0}]}
    records.write(BASE.runs[0], "finished", body)
    assert "1 of them went on in another environment" in markdown(TABLE, records, PAPER)


def test_pairs_trained_on_different_machines_are_counted(records):
    for show in (markdown, latex):
        assert "different machines" not in show(TABLE, records, PAPER)
    for config, changed in zip(OURS.runs, ({"device": "another"}, {"torch": "2.0"}), strict=True):
        body = records.get(config).body
        said = markdown(TABLE, records, PAPER)
        where = {**body["environment"], **changed}
        records.write(config, "finished", {**body, "environment": where})
        assert "2 of 2 pairs" not in said
    for show in (markdown, latex):
        said = "2 of 2 pairs that a "
        assert said in show(TABLE, records, PAPER)
        assert "were trained on different machines" in show(TABLE, records, PAPER)


def test_runs_of_different_numbers_of_threads_are_said(records):
    assert "processor threads" not in markdown(TABLE, records, PAPER)
    for config, threads in zip((*BASE.runs, *OURS.runs), (1, 1, 1, 2), strict=True):
        body = records.get(config).body
        where = {**body["environment"], "threads": threads}
        records.write(config, "finished", {**body, "environment": where})
    page = markdown(TABLE, records, PAPER)
    assert "different numbers of processor threads (runs): 1 (3), 2 (1)" in page


def test_engines_and_arithmetic_are_said_where_they_are_not_one_and_the_asked(records):
    assert "Engine and arithmetic" not in markdown(TABLE, records, PAPER)
    runs = [config for config in TABLE.runs() if records.get(config) is not None]

    def computed(*engines, arithmetic="float32"):
        for config, engine in zip(runs, engines, strict=True):
            body = records.get(config).body
            where = {**body["environment"], "engine": engine, "arithmetic": arithmetic}
            records.write(config, records.get(config).status, {**body, "environment": where})
        return markdown(TABLE, records, PAPER)

    same = runs[0].precision
    assert "Engine" not in computed(*["sparse"] * 5, arithmetic=same)
    page = computed("dense", "sparse", "sparse", "dense", "dense", arithmetic=same)
    assert f"Engine and arithmetic (runs): dense, {same} (3); sparse, {same} (2)." in page
    page = computed(*["sparse-bf16"] * 5, arithmetic=same)
    assert f"sparse-bf16, {same} (5). `sparse-bf16` stores activations in bfloat16." in page
    assert "sparse, other (5)" in computed(*["sparse"] * 5, arithmetic="other")


def test_runs_on_other_examples_than_their_like_are_said(records):
    runs = [config for config in TABLE.runs() if records.get(config) is not None]

    def trained_on(*digests):
        for config, digest in zip(runs, digests, strict=True):
            body = records.get(config).body
            where = {**body["environment"], "data": digest}
            records.write(config, records.get(config).status, {**body, "environment": where})
        return markdown(TABLE, records, PAPER)

    assert "same examples" not in trained_on(*["a"] * 5)
    assert "same examples" not in trained_on(None, "a", "a", "a", "a")  # an older record
    page = trained_on("a", "a", "b", "a", "a")
    assert "**They were not trained on the same examples**" in page
    assert f"(digests, runs): {runs[0].dataset}: a (4), b (1)." in page


def test_a_difference_has_its_cells_digits(records):
    fine = replace(BASE, digits=4), replace(OURS, digits=4)
    rows = (Row(("a", "b"), (*fine, Delta(fine[1], fine[0]))),)
    table = replace(TABLE, headers=("", "", "SGD", "S2-SAM", "Δ"), rows=rows)
    row = next(line for line in markdown(table, records, PAPER).splitlines() if "| a" in line)
    assert re.search(r"[+-]\d+\.\d{4} ", row), row


def test_a_number_in_another_unit_has_no_published_one_beside_it(records):
    def chrf(record):
        last = record.accuracy("last")
        return None if last is None else 2 * last

    other = replace(TABLE, alternatives=(Reading("Doubled", chrf, comparable=False),))
    first, doubled = markdown(other, records, PAPER).split("## Doubled")
    assert "[paper" in first and "[paper" not in doubled.split("## Notes")[0]
    frame = pd.read_csv(io.StringIO(csv(other, records, PAPER)))
    assert frame[frame["value"] == "chrf"]["published"].isna().all()
    assert frame[frame["value"] != "chrf"]["published"].notna().any()
    comparable = replace(TABLE, alternatives=(Reading("Doubled", chrf),))
    comparable = markdown(comparable, records, PAPER)
    assert "[paper" in comparable.split("## Doubled")[1].split("## Notes")[0]


def test_another_reading_has_headers_and_digits_of_its_own(records, tmp_path):
    renamed = {"digits 90%": "best, digits 90%"}
    reading = Reading("Best epoch", best_accuracy, renamed, digits=3)
    last = Cell(OURS.runs, value=last_accuracy)  # reads the same in every reading
    rows = (Row(("a", "b"), (BASE, last)), Row(("a", "c"), (Delta(OURS, BASE), last)))
    table = replace(TABLE, rows=rows, alternatives=(reading,))
    first, best = markdown(table, records, PAPER).split("## Best epoch")
    for page, header, one, difference in (
        (first, "digits 90%", "90.50 ± 0.71 (2) [paper 92.56]", "+1.50 ["),
        (best, "best, digits 90%", "91.000 ± 0.707 (2) [paper 92.560]", "+1.250 ["),
    ):
        head, sgd, delta, *_ = rows_of(page)
        assert (head[2], sgd[2]) == (header, one) and delta[2].startswith(difference)
        assert sgd[3] == "92.00 ± 1.41 (2)"
    for made in (csv, runs_csv):
        frame = pd.read_csv(io.StringIO(made(table, records, PAPER)))
        columns = frame.groupby("value").column.unique().map(set).to_dict()
        assert columns["best_accuracy"] == {"best, digits 90%"}
        assert columns["last_accuracy"] == {"digits 90%", "digits 98%"}
    *_, grid = grids(table, records, PAPER, tmp_path)
    assert grid.headers[2] == "best, digits 90%"
    shown = grid.rows[0][1][0]
    assert shown.text == "91.000 ± 0.707 (2)" and shown.runs[0].measured == "90.500"


def test_a_mean_of_differences_of_measures_names_the_measure(tmp_path):
    table = TABLES.build(Spec("table5"), profile=PAPER)
    frame = pd.read_csv(io.StringIO(csv(table, Records(tmp_path), PAPER)))
    of_measures = frame[frame["optimizer"] == "mean Δ"]
    assert set(of_measures["value"]) == {"corruptions"}
