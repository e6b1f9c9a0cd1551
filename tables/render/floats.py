"""Where a table stands on LaTeX's pages: in a float or over several pages, upright or on its side.

Sizes are reckoned in letters, of which 70 of the ordinary size fill a line of an article. What is
reckoned only chooses the environment; a float is then made to fit by its measured width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt

__all__ = ["Column", "floated"]

_LINE, _TURNED = 70, 110
#: Between two columns; a tabular's own gap does not grow and shrink with its letters.
_GAP, _SEPARATED = 2.2, r"\setlength{\tabcolsep}{.5em}"
#: As often as this a line may be made to fit before the table is turned on its side.
_SHRUNK = 1.5
#: Lines of a table that leave room for its notes on a page.
_PAGE = 60
#: How wide letters are. A longtable cannot be made to fit, so that the largest that does is taken.
_SIZES = {"small": 0.93, "footnotesize": 0.85, "scriptsize": 0.8, "tiny": 0.68}
_PROSE = "footnotesize"


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        kind: LaTeX's name of it; empty for prose, whose width is what the others leave.
        head: letters of its header.
        letters: of each of its cells, row by row.
    """

    kind: str
    head: int
    letters: Sequence[int]

    @property
    def widest(self) -> int:
        """Letters of its widest cell."""
        return max([self.head, *self.letters])


def floated(
    columns: Sequence[Column],
    width: int,
    head: Sequence[str],
    lines: Sequence[str],
    caption: str,
    label: str,
    notes: Sequence[str],
) -> str:
    """The whole environment.

    Args:
        columns: from left to right.
        width: into how many of LaTeX's columns they fall.
        head: the lines above the first rule within the table.
        lines: the rows; one of published numbers stays with that above it.
        caption: with ``label`` and ``notes``, ready for LaTeX.
    """
    kinds, height = _kinds(columns, len(lines))
    letters = sum(column.widest + _GAP for column in columns)
    below = [note + r"\par" for note in notes]
    named = rf"\caption{{{caption}}}\label{{tab:{label}}}"
    prose = any(not column.kind for column in columns)
    if height > _PAGE:
        turned = not prose and letters * _SIZES["scriptsize"] > _LINE
        size = _PROSE if prose else _fitting(letters, _TURNED if turned else _LINE)
        glued = [
            line + "*" if "{published}" in after else line
            for line, after in zip(lines, [*lines[1:], ""], strict=True)
        ]
        more = rf"\multicolumn{{{width}}}{{r@{{}}}}{{continued on the next page}} \\"
        return _joined(
            ["longtable", *(["lscape"] if turned else [])],
            *([r"\begin{landscape}"] if turned else []),
            rf"\begingroup\{size}{_SEPARATED}\setlength{{\parindent}}{{0pt}}\setlength{{\LTcapwidth}}{{\linewidth}}",
            rf"\begin{{longtable}}{{{kinds}}}",
            named + r" \\",
            *(r"\toprule", *head, r"\endfirsthead"),
            *(r"\toprule", *head, r"\endhead"),
            *(r"\midrule", more, r"\endfoot"),
            *(r"\bottomrule", r"\endlastfoot"),
            *glued,
            r"\end{longtable}",
            *(r"\footnotesize", *below),
            r"\endgroup",
            *([r"\end{landscape}"] if turned else []),
        )
    turned = not prose and letters > _SHRUNK * _LINE
    name = "sidewaystable" if turned else "table"
    tabular = [
        rf"\begin{{tabular}}{{{kinds}}}",
        *(r"\toprule", *head, *lines, r"\bottomrule"),
    ]
    if prose:
        fitted = [rf"{{\{_PROSE}{_SEPARATED}%", *tabular, r"\end{tabular}}"]
    else:
        fitted = [
            # No wider than the text, and then no higher than leaves room for the notes.
            rf"\resizebox*{{!}}{{{_least('totalheight', '.75', 'textheight')}}}{{%",
            rf"\resizebox{{{_least('width', '', 'linewidth')}}}{{!}}{{%",
            *tabular,
            r"\end{tabular}}}",
        ]
    return _joined(
        ["graphicx", *(["rotating"] if turned else [])],
        rf"\begin{{{name}}}",
        r"\centering",
        named,
        *fitted,
        r"\par\smallskip",
        *(r"\begin{minipage}{\linewidth}\footnotesize", *below, r"\end{minipage}"),
        rf"\end{{{name}}}",
    )


def _kinds(columns: Sequence[Column], rows: int) -> tuple[str, int]:
    """LaTeX's columns, and how many lines the rows take."""
    across = _LINE / _SIZES[_PROSE]
    taken = _GAP * len(columns) + sum(column.widest for column in columns if column.kind)
    rest = max(0.4, 1 - taken / across)
    prose = [column for column in columns if not column.kind]
    # Twice the text gets less than twice the width: no column is to be a letter wide.
    shares = [sqrt(column.widest) for column in prose]
    widths = iter([rest * share / sum(shares) for share in shares])
    kinds, heights = [], [1] * len(columns[0].letters)
    for column in columns:
        if column.kind:
            kinds.append(column.kind)
            continue
        own = next(widths)
        kinds.append(rf">{{\raggedright\arraybackslash}}p{{{own:.3f}\linewidth}}")
        heights = [
            max(height, ceil(letters / (own * across)))
            for height, letters in zip(heights, column.letters, strict=True)
        ]
    return "".join(kinds), sum(heights) + rows - len(heights)


def _fitting(letters: float, line: int) -> str:
    """The largest size in which so many letters fit into a line."""
    for name, size in _SIZES.items():
        if letters * size <= line:
            return name
    return name


def _joined(packages: Sequence[str], *lines: str) -> str:
    names = ["booktabs", *(["array"] if any("p{" in line for line in lines) else []), *packages]
    return "\n".join([rf"% needs \usepackage{{{','.join(names)}}}", *lines, ""])


def _least(own: str, share: str, bound: str) -> str:
    """A box's own size, or the bound if it is larger."""
    most = rf"{share}\{bound}"
    return rf"\ifdim\{own}>{most} {most}\else\{own}\fi"
