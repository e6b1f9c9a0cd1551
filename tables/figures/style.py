"""One look for all figures, readable in greyscale and at a phone's width, and how they are kept."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from paper_repro.experiment.profiles import Profile
from paper_repro.files import write_bytes
from tables.caution import cautions

__all__ = [
    "COLOURS",
    "CONTOUR",
    "GREY",
    "LINES",
    "MARKERS",
    "PUBLISHED",
    "SURFACE",
    "WIDTH",
    "described",
    "description",
    "figure",
    "png",
    "save",
    "svg",
]

#: By optimizer; they differ in lightness too, and never alone: by line or marker as well.
COLOURS = {"SGD": "#b35806", "S2-SAM": "#1b3a6b", "SAM": "#5aae61"}
LINES = {"SGD": "--", "S2-SAM": "-", "SAM": "-."}
MARKERS = {"SGD": "s", "S2-SAM": "o", "SAM": "^"}
GREY = "#8c8c8c"
#: Of what the paper's authors published.
PUBLISHED = "#666666"
#: Of heights: its lightness rises steadily.
SURFACE = "cividis"
#: The same under lines and numbers: light where the basin is.
CONTOUR = "Blues"
#: Inches at which 9-point text stays readable on a phone.
WIDTH = 4.4

_STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 9,
    "figure.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.hashsalt": "paper_repro",  # the same drawing makes the same bytes
    "svg.fonttype": "none",
}
_DPI = 150
#: Characters of a caution that fit in an inch.
_PER_INCH = 17


def figure(width: float, height: float, **options: Any) -> Any:
    """An empty figure in inches, drawn without a display."""
    import matplotlib

    matplotlib.rcParams.update(_STYLE)
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", **options)


def described(drawn: Any, text: str) -> Any:
    """The figure with what it shows in words, for who cannot see it: kept in the files."""
    drawn.set_label(text)
    return drawn


def description(drawn: Any) -> str:
    """What a figure shows in words: its description, or else its title."""
    return str(drawn.get_label() or drawn.get_suptitle())


def _warned(drawn: Any, profile: Profile | None) -> None:
    """Write below what the profile's numbers are not; a figure travels without its page."""
    import textwrap

    said_of = cautions(profile) if profile is not None else ()
    width = int(drawn.get_figwidth() * _PER_INCH)
    lines = [line for said in said_of for line in textwrap.wrap(said, width)]
    if lines:
        drawn.supxlabel("\n".join(lines), fontsize=8)


def svg(drawn: Any, profile: Profile | None) -> bytes:
    """The figure as SVG with its description, warning where the profile calls for it."""
    return _bytes(drawn, profile, "svg", {"Date": None, "Description": description(drawn)})


def png(drawn: Any, profile: Profile | None) -> bytes:
    """The same as PNG."""
    return _bytes(drawn, profile, "png", {"Software": None, "Description": description(drawn)})


def _bytes(drawn: Any, profile: Profile | None, form: str, metadata: dict[str, Any]) -> bytes:
    _warned(drawn, profile)
    held = io.BytesIO()
    drawn.savefig(held, format=form, dpi=_DPI, metadata=metadata)
    return held.getvalue()


def save(drawn: Any, name: str, profile: Profile | None, folder: Path) -> list[Path]:
    """Write ``<name>.png`` and ``<name>.svg``, with what is to be known of the profile, if of one.

    Args:
        drawn: the figure.
        name: of the files.
        profile: whose records it shows; None for what is drawn from no record.
        folder: where to.
    """
    paths = []
    for form in (png, svg):
        path = folder / f"{name}.{form.__name__}"
        write_bytes(path, form(drawn, profile))
        paths.append(path)
    return paths
