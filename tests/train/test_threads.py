import os

import pytest

from paper_repro.train.threads import share


@pytest.mark.parametrize(
    ("cores", "processes", "asked", "expected"),
    [
        (8, 2, None, 4),
        (8, 3, None, 2),
        (2, 8, None, 1),
        (None, 1, None, 1),
        (8, 2, "1", 1),
        (8, 2, "16", 4),
        (8, 2, "0", 4),
        (8, 2, "4,2", 4),
        (8, 2, "", 4),
    ],
)
def test_processes_share_the_cores_and_the_user_may_ask_for_fewer(
    monkeypatch, cores, processes, asked, expected
):
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert share(processes) == expected
