"""One look for all figures, readable in greyscale and at a phone's width, and how they are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from paper_repro.experiment.profiles import Profile
from paper_repro.files import write_bytes

__all__ = ["COLOURS", "CONTOUR", "LINES", "SURFACE", "figure", "save"]

#: By optimizer; they differ in lightness too.
COLOURS = {"SGD": "#b35806", "S2-SAM": "#1b3a6b"}
LINES = {"SGD": "--", "S2-SAM": "-"}
#: Of heights: its lightness rises steadily.
SURFACE = "cividis"
#: The same under lines and numbers: light where the basin is.
CONTOUR = "Blues"

_STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "paper_repro",  # the same drawing makes the same bytes
    "svg.fonttype": "none",
}
_DPI = 150


def figure(width: float, height: float, **options: Any) -> Any:
    """An empty figure in inches, drawn without a display."""
    import matplotlib

    matplotlib.rcParams.update(_STYLE)
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", **options)


def save(drawn: Any, name: str, profile: Profile, folder: Path) -> list[Path]:
    """Write ``<name>.png`` and ``<name>.svg``; where the profile is no evidence, it says so."""
    import io

    if not profile.evidence:
        drawn.supxlabel("Not evidence: this size only shows that the pipeline works.", fontsize=8)
    paths = []
    for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
        held = io.BytesIO()
        drawn.savefig(held, format=suffix, dpi=_DPI, metadata=metadata)
        path = folder / f"{name}.{suffix}"
        write_bytes(path, held.getvalue())
        paths.append(path)
    return paths
