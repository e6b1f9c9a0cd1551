"""The recipes' folder on the path, and a working folder that is empty."""

import sys
from pathlib import Path

import pytest

import paper_repro.vision  # noqa: F401  # before others import a torchvision that does not load

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
