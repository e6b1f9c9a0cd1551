import dataclasses
import io
import re
import shutil
import subprocess

import pandas as pd
import pytest
from workplaces import made_body, tiny

from paper_repro.experiment.profiles import profile
from paper_repro.experiment.records import Records
from paper_repro.registry import Spec
from tables import TABLES
from tables.base import Cell, Delta, MeanDelta, Number, Row, Table, best_accuracy
from tables.render import csv, latex, markdown, text, write
from tables.render.tidy import runs_csv
from tables.stats import Summary

SMOKE, PAPER = profile("smoke"), profile("paper")


def cell(n, published=None, **changes):
    return Cell(tuple(tiny(seed=seed, **changes) for seed in range(n)), published)


BASE = cell(2, 92.56, weight_decay=0.0)
OURS = cell(2, 93.43)
LOST = cell(1, batch_size=10)
DELTA = Delta(OURS, BASE, 0.87)
TABLE = Table(
    name="made-up",
    title="Made up & 100% wrong_ρ. Accuracy (%)",
    headers=("method", "optimizer", "digits 90%", "digits 98%"),
    rows=(
        Row(("MEST(EM&S)", "SGD"), (BASE, LOST)),
        Row(("MEST(EM&S)", "S2-SAM"), (OURS, Cell())),
        Row(("MEST(EM&S)", "Δ"), (DELTA, Delta(LOST, Cell()))),
        Row(("all", "mean Δ"), (MeanDelta((DELTA,), 0.77), MeanDelta(()))),
    ),
    notes=("A note: 20 % of it, and 3 < 4.",),
    alternatives=(("Best epoch", best_accuracy),),
)


@pytest.fixture
def records(tmp_path):
    """Both cells whole: SGD 90 and 91, S2-SAM 91 and 93; one run lost; one dirty commit."""
    records = Records(tmp_path / "results")
    for config, last in zip(BASE.runs, (90.0, 91.0), strict=True):
        records.write(config, "finished", made_body(last=last, best=last + 0.5))
    for config, last in zip(OURS.runs, (91.0, 93.0), strict=True):
        records.write(config, "finished", made_body(last=last, best=last + 0.25, dirty=last > 92))
    records.write(LOST.runs[0], "diverged", made_body(commit=None, dirty=None))
    return records


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
    plain = Table("t", "T", ("m", "a"), (Row(("x",), (cell(2),)),))
    page = markdown(plain, records, PAPER)
    assert "Δ" not in page and "[paper x]" not in page and "±" in page


def unescaped(tex, character):
    return len(re.findall(rf"(?<!\\){re.escape(character)}", tex))


def columns_of(line):
    """How many columns a row of a tabular fills."""
    cells = re.split(r"(?<!\\)&", line.removesuffix(r" \\"))
    spans = (re.match(r"\s*\\multicolumn\{(\d+)\}", cell) for cell in cells)
    return sum(int(span[1]) if span else 1 for span in spans)


def body_of(tex):
    """The rows between \\toprule and \\bottomrule."""
    lines = tex.split("\\toprule\n")[1].split("\\bottomrule")[0].splitlines()
    return [line for line in lines if not line.startswith(("\\midrule", "\\add", "\\cmid"))]


@pytest.mark.parametrize("size", [SMOKE, PAPER], ids=lambda p: p.name)
def test_latex_is_balanced_and_escaped(records, size):
    tex = latex(TABLE, records, size)
    assert tex.count(r"\begin{") == tex.count(r"\end{") == 3
    assert unescaped(tex, "{") == unescaped(tex, "}")
    lines = body_of(tex)
    known = sum(line.startswith(" & {published}") for line in lines)
    assert len(lines) == 2 + len(TABLE.rows) + known and known == (0 if size is SMOKE else 4)
    for line in lines:
        assert line.endswith(r" \\") and columns_of(line) == 2 + 2 * 2
        # An opening bracket after \\ would be taken for its argument.
        assert line.startswith(("{", " &"))
    assert r"\begin{tabular}{llr@{}lr@{}l}" in tex and r"\label{tab:made-up}" in tex
    code = [line for line in tex.splitlines() if not line.startswith("% needs")]
    # Those that end a line are comments on the line break after \resizebox.
    assert unescaped("\n".join(code), "%") == sum(line.endswith("{%") for line in code) == 2
    assert unescaped(tex, "$") % 2 == 0 and unescaped(tex, "#") == 0
    assert r"MEST(EM\&S)" in tex and r"100\% wrong\_$\rho$" in tex
    assert all(ord(c) < 128 for c in tex)


def test_latex_sets_a_minus_as_one_and_leaves_hyphens_alone(records):
    tex = latex(TABLE, records, PAPER)
    assert "{S2-SAM}" in tex and "[$-$4.85, +7.85]" in tex


def test_latex_aligns_numbers_at_the_decimal_point(records):
    rows = body_of(latex(TABLE, records, PAPER))
    sgd = next(line for line in rows if "{SGD}" in line)
    assert r"{90} & {.50 $\pm$ 0.71 (2)} & \multicolumn{2}{c}{diverged}" in sgd


def test_latex_has_a_short_caption_and_the_notes_below(records):
    tex = latex(TABLE, records, PAPER)
    (caption,) = (line for line in tex.splitlines() if line.startswith(r"\caption"))
    assert r"100\% wrong" in caption and "standard deviation" not in caption
    below = tex.split(r"\begin{minipage}")[1]
    for words in ("standard deviation", r"20 \% of it, and 3 $<$ 4", "5 of 5 runs"):
        assert words in below
    assert "[paper" not in tex  # published numbers have lines of their own


def test_latex_gives_published_numbers_a_line_of_their_own(records):
    rows = body_of(latex(TABLE, records, PAPER))
    lines = [rows[i + 1] for i, line in enumerate(rows) if "{S2-SAM}" in line or "mean" in line]
    assert lines[0] == r" & {published} & {93} & {.43} & \multicolumn{2}{c}{} \\"
    assert "{+0} & {.77}" in lines[1]


def test_latex_leaves_the_numbering_to_latex(records):
    table = dataclasses.replace(TABLE, title="Table A.1. Made up, accuracy (%)")
    caption = r"\caption{Made up, accuracy (\%) (the paper's Table A.1). Profile"
    assert caption in latex(table, records, PAPER)


def test_latex_says_no_label_twice_in_a_group(records):
    labels = [("a", "x", "1"), ("a", "x", "2"), ("a", "y", "2"), ("b", "y", "2"), ("b", "y", "2")]
    rows = tuple(Row(own, (Number(1.0),)) for own in labels)
    lines = body_of(latex(Table("t", "T", ("l", "m", "n", "v"), rows), records, PAPER))[1:]
    shown = [[cell.strip() for cell in line.split("&")[:3]] for line in lines]
    assert shown == [
        ["{a}", "{x}", "{1}"],
        ["", "", "{2}"],
        ["", "{y}", "{2}"],
        ["{b}", "{y}", "{2}"],
        ["", "", "{2}"],
    ]


def test_latex_puts_columns_of_one_name_under_one_heading(records):
    head = latex(TABLE, records, PAPER).split("\\toprule\n")[1].splitlines()[:3]
    assert head[0] == r" &  & \multicolumn{4}{c}{digits} \\"
    assert head[1] == r"\cmidrule(lr){3-6}"
    ends = [r"\multicolumn{2}{c}{90\%}", r"\multicolumn{2}{c}{98\%}"]
    assert head[2] == " & ".join(["{method}", "{optimizer}", *ends]) + r" \\"


def test_latex_sets_groups_of_rows_apart_and_names_each_once(records):
    body = latex(TABLE, records, PAPER).splitlines()
    assert body.count(r"\addlinespace") == 1
    assert body[body.index(r"\addlinespace") + 1].startswith("{all}")
    assert sum(line.startswith(r"{MEST(EM\&S)}") for line in body) == 1


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no LaTeX here")
@pytest.mark.usefixtures("imagenets")
def test_every_tables_latex_is_compiled_by_a_real_latex(records, tmp_path):
    pages = [latex(TABLE, records, PAPER)]
    for name in TABLES:
        for size in (SMOKE, profile("cpu")):
            pages.append(latex(TABLES.build(Spec(name), profile=size), records, size))
    needs = [line.removeprefix("% needs ") for p in pages for line in p.splitlines()[:1]]
    packages = "".join(dict.fromkeys(needs))
    begin = r"\documentclass{article}" + packages + r"\extrafloats{100}\begin{document}"
    text = "\n".join([begin, *(p + r"\clearpage" for p in pages), r"\end{document}"])
    (tmp_path / "all.tex").write_text(text)
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "all.pdf").stat().st_size > 10_000
    # A longtable's widths are only right the second time.
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    wide = re.findall(r"Overfull \\hbox \((\d+)", done.stdout)
    assert done.returncode == 0 and all(int(points) < 10 for points in wide)


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


def test_runs_of_different_numbers_of_threads_are_said(records):
    assert "processor threads" not in markdown(TABLE, records, PAPER)
    for config, threads in zip((*BASE.runs, *OURS.runs), (1, 1, 1, 2), strict=True):
        body = records.get(config).body
        where = {**body["environment"], "threads": threads}
        records.write(config, "finished", {**body, "environment": where})
    page = markdown(TABLE, records, PAPER)
    assert "different numbers of processor threads (runs): 1 (3), 2 (1)" in page
