"""Where a table stands on LaTeX's pages: in a float or over several pages, upright or on its side.

Sizes are reckoned in letters, of which 70 of the ordinary size fill a line of an article, and in
lines of that size, of which 45 fill a page. What is reckoned chooses the environment and how much
of a page a float's rows may take beside its notes; it is then made to fit by its measured size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt

__all__ = ["Column", "floated"]

_LINE, _TURNED = 70, 110
#: Between two columns; a tabular's own gap does not grow and shrink with its letters.
_GAP, _SEPARATED = 2.2, r"\setlength{\tabcolsep}{.5em}"
#: So much smaller rows may be made to fit before the table is turned on its side or, where they are
#: too high, goes over several pages.
_SHRUNK = 1.5
#: Lines of a page, and of one on its side.
_PAGE, _TURNED_PAGE = 45, 28
#: Lines of the space and the rules around a float's rows.
_AROUND = 2.5
#: Letters of "Table 12: " before a caption.
_NUMBERED = 10
#: How wide letters are. A longtable cannot be made to fit, so that the largest that does is taken.
_SIZES = {"small": 0.93, "footnotesize": 0.85, "scriptsize": 0.8, "tiny": 0.68}
_PROSE = "footnotesize"
#: Height of a line of notes or prose, over an ordinary one's.
_LOW = 0.8


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
    lying = not prose and letters > _SHRUNK * _LINE
    room = _room(caption, notes, lying)
    # What breaks its lines is in smaller letters and no further made to fit.
    least = _LOW if prose else min(1 / _SHRUNK, (_TURNED if lying else _LINE) / letters)
    too_high = least * (height + _head(head)) > room
    too_wide = not prose and letters * min(_SIZES.values()) > _TURNED
    if too_high and not too_wide:
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
    name = "sidewaystable" if lying else "table"
    if too_high:  # no letters are small enough to go over several pages: the notes stand outside
        room = _room(caption, [], lying)
    tabular = [
        rf"\begin{{tabular}}{{{kinds}}}",
        *(r"\toprule", *head, *lines, r"\bottomrule"),
    ]
    if prose:
        fitted = [rf"{{\{_PROSE}{_SEPARATED}%", *tabular, r"\end{tabular}}"]
    else:
        fitted = [
            # No wider than the text, and then no higher than leaves room for the notes.
            rf"\resizebox*{{!}}{{{_least('totalheight', f'{room / _PAGE:.2f}', 'textheight')}}}{{%",
            rf"\resizebox{{{_least('width', '', 'linewidth')}}}{{!}}{{%",
            *tabular,
            r"\end{tabular}}}",
        ]
    return _joined(
        ["graphicx", *(["rotating"] if lying else [])],
        rf"\begin{{{name}}}",
        r"\centering",
        named,
        *fitted,
        *([] if too_high else _inside(below)),
        rf"\end{{{name}}}",
        *(_outside(below, label) if too_high else []),
    )


def _inside(notes: Sequence[str]) -> list[str]:
    begin = r"\begin{minipage}{\linewidth}\footnotesize"
    return [r"\par\smallskip", begin, *notes, r"\end{minipage}"]


def _outside(notes: Sequence[str], label: str) -> list[str]:
    begin = r"\begingroup\footnotesize\setlength{\parindent}{0pt}"
    return [begin, rf"Notes to Table~\ref{{tab:{label}}}.\par", *notes, r"\endgroup"]


def _room(caption: str, notes: Sequence[str], lying: bool) -> float:
    """Lines that a float's rows may take on a page with its caption and its notes."""
    page, across = (_TURNED_PAGE, _TURNED) if lying else (_PAGE, _LINE)
    small = across / _SIZES["footnotesize"]
    below = _LOW * sum(ceil(len(note) / small) for note in notes)
    return page - _AROUND - ceil((_NUMBERED + len(caption)) / across) - below


def _head(head: Sequence[str]) -> int:
    """How many lines a header takes; of stacked words, as many as the most."""
    rows = [line.removesuffix(r" \\") for line in head if line.endswith(r" \\")]
    return sum(1 + max(cell.count(r"\\") for cell in row.split("&")) for row in rows)


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
    """The largest size in which so many letters fit into a line, some of them wider than others."""
    for name, size in _SIZES.items():
        if letters * size <= 0.97 * line:
            return name
    return name


def _joined(packages: Sequence[str], *lines: str) -> str:
    names = ["booktabs", *(["array"] if any("p{" in line for line in lines) else []), *packages]
    return "\n".join([rf"% needs \usepackage{{{','.join(names)}}}", *lines, ""])


def _least(own: str, share: str, bound: str) -> str:
    """A box's own size, or the bound if it is larger."""
    most = rf"{share}\{bound}"
    return rf"\ifdim\{own}>{most} {most}\else\{own}\fi"
