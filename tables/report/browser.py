"""A browser that is there already, to print the page."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from paper_repro.errors import UserError

__all__ = ["browser", "print_page"]

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_SECONDS = 300.0


def browser() -> str | None:
    """The path of a Chromium, if one is installed; ``PAPER_REPRO_BROWSER`` names another."""
    named = os.environ.get("PAPER_REPRO_BROWSER")
    return named or next((found for name in _NAMES if (found := shutil.which(name))), None)


def print_page(program: str, page: Path, pdf: Path) -> None:
    """Print an HTML file as PDF.

    Raises:
        UserError: the browser did not; what it said is in the sentence.
    """
    with tempfile.TemporaryDirectory() as profile:  # a browser of the user's may be running
        held = Path(profile) / "page.pdf"
        options = [
            "--headless",
            "--disable-gpu",
            "--no-pdf-header-footer",
            f"--user-data-dir={profile}",
            f"--print-to-pdf={held}",
            # In a container whose only user is root a browser cannot build its sandbox; the page
            # loads nothing but itself.
            *(["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []),
        ]
        try:
            done = subprocess.run(
                [program, *options, page.resolve().as_uri()],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UserError(f"{program} could not print {page}: {error}") from error
        if done.returncode or not held.exists():
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise UserError(f"{program} could not print {page}: {last}")
        shutil.move(held, pdf)
