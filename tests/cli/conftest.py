"""An empty working folder for each command, and the thread count put back afterwards."""

import pytest
import torch


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PAPER_REPRO_DATA", raising=False)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
