import re

import pytest

from paper_repro.experiment.profiles import profile
from paper_repro.experiment.records import Records
from tables.base import Number, Row, Table, Words
from tables.render import latex

PAPER = profile("paper")


def page(tmp_path, headers, rows, notes=()):
    """LaTeX of a table whose cells are numbers or words."""
    entries = [
        Row(
            labels,
            tuple(
                Words(lambda _, cell=cell: cell) if isinstance(cell, str) else Number(*cell)
                for cell in cells
            ),
        )
        for labels, cells in rows
    ]
    table = Table("t", "Made up", headers, tuple(entries), notes, about="nothing")
    return latex(table, Records(tmp_path), PAPER)


def environments(tex):
    return re.findall(r"\\begin\{(\w+)\}", tex)


def needed(tex):
    return set(re.match(r"% needs \\usepackage\{(.*)\}", tex)[1].split(","))


def numbers(columns, rows, published=None):
    headers = ("method", *(f"number {i}" for i in range(columns)))
    own = [((f"method {i}",), [(1.25, published)] * columns) for i in range(rows)]
    return headers, own


def test_what_fits_is_a_float_made_no_wider_than_the_text(tmp_path):
    tex = page(tmp_path, *numbers(3, 4))
    assert environments(tex) == ["table", "tabular", "minipage"]
    assert needed(tex) == {"booktabs", "graphicx"}
    assert r"\resizebox{\ifdim\width>\linewidth \linewidth\else\width\fi}{!}" in tex


def test_what_would_be_too_small_to_read_is_turned_on_its_side(tmp_path):
    few, many = (page(tmp_path, *numbers(n, 4)) for n in (8, 12))
    assert environments(few)[0] == "table" and environments(many)[0] == "sidewaystable"
    assert needed(many) == {"booktabs", "graphicx", "rotating"}


@pytest.mark.parametrize("columns", [3, 12])
def test_what_is_too_long_for_a_page_goes_over_several(tmp_path, columns):
    turned = columns > 3
    fits = 35 if turned else 61  # rows, made smaller by the width of twelve or by a half
    short, long = (page(tmp_path, *numbers(columns, n)) for n in (fits, fits + 1))
    assert "longtable" not in environments(short)
    assert environments(long) == [*(["landscape"] if turned else []), "longtable"]
    assert needed(long) == {"booktabs", "longtable", *(["lscape"] if turned else [])}
    # Its head on every page, the rule below its last row only.
    assert long.count("{method}") == 2 and long.count(r"\bottomrule") == 1
    assert rf"\multicolumn{{{1 + 2 * columns}}}{{r@{{}}}}{{continued on the next page}}" in long
    assert r"\resizebox" not in long


def share(tex):
    """How much of a page's height a float's rows may take."""
    return float(re.search(r"\\totalheight>([\d.]+)\\textheight", tex)[1])


def test_rows_leave_room_for_the_notes_or_go_over_several_pages(tmp_path):
    note = ("words " * 27,)  # two lines
    bare, some = (page(tmp_path, *numbers(3, 40), notes=note * n) for n in (0, 5))
    assert environments(bare)[0] == environments(some)[0] == "table"
    assert share(bare) - share(some) == pytest.approx(5 * 2 * 0.8 / 45, abs=0.02)
    many = page(tmp_path, *numbers(3, 40), notes=note * 12)
    assert environments(many) == ["longtable"]


def test_notes_stand_outside_where_no_letters_are_small_enough_for_several_pages(tmp_path):
    few, many = (page(tmp_path, *numbers(20, n), notes=("A note.",)) for n in (4, 60))
    assert environments(few) == ["sidewaystable", "tabular", "minipage"]
    assert environments(many) == ["sidewaystable", "tabular"]
    inside, outside = many.split(r"\end{sidewaystable}")
    assert "A note." in outside and "A note." not in inside
    assert r"Notes to Table~\ref{tab:t}" in outside


def test_no_page_breaks_between_a_number_and_the_published_one(tmp_path):
    tex = page(tmp_path, *numbers(2, 40, published=1.5))
    rows = [line for line in tex.splitlines() if line.startswith("{")]
    for own, published in zip(rows[2::2], rows[3::2], strict=True):
        assert own.startswith("{method") and own.endswith(r" \\*")
        assert published.startswith("{published}") and published.endswith(r" \\")


def prose_of(tex):
    return [float(width) for width in re.findall(r"p\{([\d.]+)\\linewidth\}", tex)]


def test_prose_shares_what_other_columns_leave_and_breaks_its_lines(tmp_path):
    rows = [(("claim " * 10, "short"), ["words " * 8, "words " * 40, (1.25,)])] * 3
    tex = page(tmp_path, ("claim", "word", "few", "many", "number"), rows)
    assert environments(tex)[0] == "table" and r"\resizebox" not in tex
    assert needed(tex) == {"array", "booktabs", "graphicx"}
    claim, few, many = prose_of(tex)
    assert claim < many > few and 0.5 < claim + few + many < 0.9


def test_prose_is_as_long_as_its_lines_not_its_rows(tmp_path):
    rows = [(("a",), ["words " * 100])] * 8
    assert environments(page(tmp_path, ("claim", "found"), rows)) == ["longtable"]
    assert environments(page(tmp_path, ("claim", "found"), rows[:3]))[0] == "table"


@pytest.mark.parametrize(
    ("header", "shown"),
    [
        ("accuracy", "accuracy"),
        ("Δ to SGD", r"$\Delta$ to SGD"),
        ("images/s compacted", r"images/s\\compacted"),
        ("training FLOPs (x dense)", r"training\\FLOPs\\(x dense)"),
        ("unbreakablyandlong", r"unbreakablyandlong"),
    ],
)
def test_a_long_header_is_set_in_lines(tmp_path, header, shown):
    tex = page(tmp_path, ("method", header), [(("a",), [(1.25,)])])
    stacked = rf"\shortstack{{\rule{{0pt}}{{2.4ex}}{shown}}}" if r"\\" in shown else shown
    assert rf"\multicolumn{{2}}{{c}}{{{stacked}}}" in tex
