"""Tables as LaTeX: what is escaped, aligned, grouped and said below."""

import dataclasses
import re
import shutil
import subprocess

import pytest
from made_table import TABLE, body_of

from paper_repro.experiment.profiles import profile
from paper_repro.registry import Spec
from tables import TABLES
from tables.base import Number, Row, Table
from tables.render import latex

SMOKE, PAPER = profile("smoke"), profile("paper")


def unescaped(tex, character):
    return len(re.findall(rf"(?<!\\){re.escape(character)}", tex))


def columns_of(line):
    """How many columns a row of a tabular fills."""
    cells = re.split(r"(?<!\\)&", line.removesuffix(r" \\"))
    spans = (re.match(r"\s*\\multicolumn\{(\d+)\}", cell) for cell in cells)
    return sum(int(span[1]) if span else 1 for span in spans)


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


def test_latex_says_what_the_published_numbers_are_of(records):
    said = "published: the published number, in the paper's setting. The authors' code reports"
    assert said in latex(TABLE, records, PAPER).split(r"\begin{minipage}")[1]
    assert "the published number" not in latex(TABLE, records, SMOKE)
    once = dataclasses.replace(TABLE, alternatives=())  # no table of the best epoch: of no epochs
    assert "The authors' code" not in latex(once, records, PAPER)


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
    assert "Float too large" not in done.stdout
