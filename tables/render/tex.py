"""A table as a paper prints it: short caption, numbers at their decimal point, notes below.

Rows that share their first label are a group; columns that differ only in a percentage at the end
of their headers stand under one heading; published numbers have lines of their own. Where all this
stands on the page is :mod:`tables.render.floats`'.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from tables.base import Entry, Row, Table, Words
from tables.render.floats import Column, floated

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
#: Headers longer than this are set in several lines.
_HEADER = 12
_WORD = re.compile(r"\(.*?\)|\S+")
_NUMBER = re.compile(r"([+-]?\d[\d,]*)(.*)", re.DOTALL)
_SHARED = re.compile(r"(.+) (\d+(?:\.\d+)?%)")


def page(
    table: Table,
    shown: Callable[[Entry], str],
    published: Callable[[Entry], str],
    caption: str,
    notes: Sequence[str],
) -> str:
    """A ``booktabs`` table, in an environment that fits its size.

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
    head = [*_head(table.headers[:labels], table.headers[labels:], kinds), r"\midrule"]
    lines: list[str] = []
    texts: list[list[str]] = []
    before: Row | None = None
    for row, cells in zip(table.rows, grid, strict=True):
        last = () if before is None else before.labels
        if labels > 1 and last and row.labels[0] != last[0]:
            lines.append(r"\addlinespace")
        fresh = _fresh(row.labels, last)
        texts.append([*fresh, *cells])
        lines.append(_row(fresh, cells, kinds))
        known = [published(entry) for entry in row.entries]
        if any(known):
            name = (*[""] * (labels - 1), "published")
            lines.append(_row(name, known, kinds, empty=""))
        before = row
    columns = [
        Column(kind, _longest(table.headers[i]), [len(own[i]) for own in texts])
        for i, kind in enumerate([*_label_kinds(table, labels), *kinds])
    ]
    return floated(
        columns,
        labels + sum(map(_width, kinds)),
        head,
        lines,
        tex(caption),
        table.name,
        [tex(note) for note in notes if note],
    )


def tex(text: str) -> str:
    """Words for LaTeX, in ASCII: what it reads as code is escaped, a minus sign is no hyphen."""
    return re.sub(r"(?<!\w)-(?=\d)", "−", text).translate(_TEX)


_NUMERIC, _WORDS, _SENTENCES = "r@{}l", "l", ""


def _label_kinds(table: Table, labels: int) -> Iterator[str]:
    for i in range(labels):
        longest = max((len(row.labels[i]) for row in table.rows), default=0)
        yield _SENTENCES if longest > _LONG else _WORDS


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
    cells = [_span(name, _width(kind), _stacked) for name, kind in zip(below, kinds, strict=True)]
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


def _span(text: str, width: int, told: Callable[[str], str] = tex) -> str:
    if width == 1:
        return _braced(text)
    return rf"\multicolumn{{{width}}}{{c}}{{{told(text)}}}"


def _stacked(text: str) -> str:
    """A header in one or more lines."""
    lines = _broken(text)
    # The strut keeps the upper line from the rule above.
    above = r"\rule{0pt}{2.4ex}" if len(lines) > 1 else ""
    shown = r"\\".join(map(tex, lines))
    return rf"\shortstack{{{above}{shown}}}" if above else shown


def _broken(text: str) -> list[str]:
    """A header's lines; what stands in brackets stays together."""
    lines: list[str] = []
    for word in _WORD.findall(text):
        if lines and len(lines[-1]) + 1 + len(word) <= _HEADER:
            lines[-1] += " " + word
        else:
            lines.append(word)
    return lines or [""]


def _longest(header: str) -> int:
    """Letters of a header as it is set: below a shared heading, or broken."""
    shared = _SHARED.fullmatch(header)
    return len(shared[2]) if shared else max(map(len, _broken(header)))


def _braced(text: str) -> str:
    # A row that begins with "[" would be read as an argument of the \\ before.
    return "{" + tex(text) + "}" if text else ""
