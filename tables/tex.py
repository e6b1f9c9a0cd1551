"""A table as a paper prints it: short caption, numbers at their decimal point, notes below.

Rows that share their first label are a group; columns that differ only in a percentage at the end
of their headers stand under one heading; published numbers have lines of their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from tables.base import Entry, Row, Table, Words

__all__ = ["page"]

_TEX = str.maketrans(
    {
        **{c: rf"\{c}" for c in "%&#$_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        "–": "--",
        "²": "$^2$",
        "³": "$^3$",
        "Δ": r"$\Delta$",
        "λ": r"$\lambda$",
        "ρ": r"$\rho$",
        "ζ": r"$\zeta$",
        "η": r"$\eta$",
        "ε": r"$\varepsilon$",
        "β": r"$\beta$",
        "×": r"$\times$",
        "≤": r"$\le$",
        "≥": r"$\ge$",
        "−": "$-$",
        "ő": r"\H{o}",
        "é": r"\'e",
        "<": "$<$",
        ">": "$>$",
        "`": "",
    }
)
#: Sentences longer than this get a column that breaks lines.
_LONG = 40
_NUMBER = re.compile(r"([+-]?\d[\d,]*)(.*)", re.DOTALL)
_SHARED = re.compile(r"(.+) (\d+(?:\.\d+)?%)")


def page(
    table: Table,
    shown: Callable[[Entry], str],
    published: Callable[[Entry], str],
    caption: str,
    notes: Sequence[str],
) -> str:
    """A ``booktabs`` tabular in a table float.

    Args:
        table: its rows and headers.
        shown: an entry in words, without its published number.
        published: that number in words, empty where there is none.
        caption: a sentence or two.
        notes: what stands below, each a paragraph.
    """
    labels = len(table.rows[0].labels) if table.rows else len(table.headers)
    grid = [[shown(entry) for entry in row.entries] for row in table.rows]
    kinds = [_kind(table, i, grid) for i in range(len(table.headers) - labels)]
    lines = [*_head(table.headers[:labels], table.headers[labels:], kinds), r"\midrule"]
    before: Row | None = None
    for row, cells in zip(table.rows, grid, strict=True):
        last = () if before is None else before.labels
        if labels > 1 and last and row.labels[0] != last[0]:
            lines.append(r"\addlinespace")
        lines.append(_row(_fresh(row.labels, last), cells, kinds))
        known = [published(entry) for entry in row.entries]
        if any(known):
            name = (*[""] * (labels - 1), "published")
            lines.append(_row(name, known, kinds, empty=""))
        before = row
    columns = "l" * labels + "".join(kinds)
    return "\n".join(
        [
            r"% needs \usepackage{booktabs} and \usepackage{graphicx}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{tex(caption)}}}",
            rf"\label{{tab:{table.name}}}",
            # No wider than the text, and then no higher than leaves room for the notes.
            rf"\resizebox*{{!}}{{{_least('totalheight', '.75', 'textheight')}}}{{%",
            rf"\resizebox{{{_least('width', '', 'linewidth')}}}{{!}}{{%",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}}}",
            r"\par\smallskip",
            r"\begin{minipage}{\linewidth}\footnotesize",
            *(tex(note) + r"\par" for note in notes if note),
            r"\end{minipage}",
            r"\end{table}",
            "",
        ]
    )


def _least(own: str, share: str, bound: str) -> str:
    """A box's own size, or the bound if it is larger."""
    most = rf"{share}\{bound}"
    return rf"\ifdim\{own}>{most} {most}\else\{own}\fi"


def tex(text: str) -> str:
    """Words for LaTeX, in ASCII: what it reads as code is escaped, a minus sign is no hyphen."""
    return re.sub(r"(?<!\w)-(?=\d)", "−", text).translate(_TEX)


_NUMERIC, _WORDS, _SENTENCES = "r@{}l", "l", r"p{0.45\linewidth}"


def _kind(table: Table, column: int, grid: Sequence[Sequence[str]]) -> str:
    """How a column is set: numbers in two halves that meet at the decimal point, words, or more."""
    if not any(isinstance(row.entries[column], Words) for row in table.rows):
        return _NUMERIC
    longest = max(len(cells[column]) for cells in grid)
    return _SENTENCES if longest > _LONG else _WORDS


def _head(labels: Sequence[str], headers: Sequence[str], kinds: Sequence[str]) -> Iterator[str]:
    """The header, in two lines if columns share a heading."""
    parts = [_SHARED.fullmatch(header) for header in headers]
    keys = [part[1] if part else f"\0{i}" for i, part in enumerate(parts)]
    groups = [(key, len(list(same))) for key, same in groupby(keys)]
    shared = {key for key, count in groups if count > 1}
    if shared:
        top, rules, at = ["" for _ in labels], [], len(labels) + 1
        column = 0
        for key, count in groups:
            width = sum(_width(kind) for kind in kinds[column : column + count])
            top.append(_span(key if key in shared else "", width))
            if key in shared:
                rules.append(rf"\cmidrule(lr){{{at}-{at + width - 1}}}")
            at, column = at + width, column + count
        yield " & ".join(top) + r" \\"
        yield " ".join(rules)
    below = [
        part[2] if part and part[1] in shared else header
        for part, header in zip(parts, headers, strict=True)
    ]
    cells = [_span(name, _width(kind)) for name, kind in zip(below, kinds, strict=True)]
    yield " & ".join([*(_braced(label) for label in labels), *cells]) + r" \\"


def _row(
    labels: Sequence[str], cells: Sequence[str], kinds: Sequence[str], empty: str = "–"
) -> str:
    shown = [_entry(cell or empty, kind) for cell, kind in zip(cells, kinds, strict=True)]
    return " & ".join([*(_braced(label) for label in labels), *shown]) + r" \\"


def _entry(text: str, kind: str) -> str:
    if kind != _NUMERIC:
        return _braced(text)
    number = _NUMBER.fullmatch(text)
    if number is None:
        return _span(text, 2)
    return _braced(number[1]) + " & " + _braced(number[2])


def _fresh(labels: Sequence[str], before: Sequence[str]) -> list[str]:
    """A row's labels without those at its front that the row before has too."""
    same = 0
    while same < len(labels) - 1 and same < len(before) and labels[same] == before[same]:
        same += 1
    return [""] * same + list(labels[same:])


def _width(kind: str) -> int:
    return 2 if kind == _NUMERIC else 1


def _span(text: str, width: int) -> str:
    if width == 1:
        return _braced(text)
    return rf"\multicolumn{{{width}}}{{c}}{{{tex(text)}}}"


def _braced(text: str) -> str:
    # A row that begins with "[" would be read as an argument of the \\ before.
    return "{" + tex(text) + "}" if text else ""
