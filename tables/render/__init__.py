"""Tables as Markdown, LaTeX and CSV: :mod:`tables.render.pages` makes them whole."""

from tables.render.pages import csv, latex, markdown, notes, text, write

__all__ = ["csv", "latex", "markdown", "notes", "text", "write"]
