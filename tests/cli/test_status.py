"""The commands status and table."""

import os
from pathlib import Path

import pytest
from commands import RIGL, config_of, status_of
from workplaces import made_body, tiny, workplace

from paper_repro.experiment.runs import execute
from paper_repro.files import exclusive


def test_status_shows_records_tables_runs_under_way_and_failures(capsys):
    place = workplace(Path())
    for seed, status in enumerate(("finished", "finished", "diverged", "failed")):
        body = {**made_body(), "reason": f"reason {seed}\nand more"}
        place.records.write(tiny(seed=seed), status, body)

    def stop(config, epoch):
        if epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(tiny(seed=7), place, stop)
    killed_early = place.folder(tiny(seed=8))
    killed_early.mkdir()
    for name in ("lock", "checkpoint.pt"):  # and no log yet
        (killed_early / name).touch()
    done = place.folder(tiny(seed=0))  # killed between its record and the checkpoint's removal
    done.mkdir()
    for name in ("lock", "checkpoint.pt"):
        (done / name).touch()
    with exclusive(place.folder(tiny(seed=9))):
        assert status_of("status") == 0
    shown = capsys.readouterr().out
    lines = {line.split("  ")[0]: line.split() for line in shown.splitlines()}
    assert lines["smoke"] == ["smoke", "2", "1", "1"]
    assert lines["table1"][:4] == ["table1", "0", "of", "100"]
    interrupted = " ".join(lines[tiny(seed=7).fingerprint])
    assert f"1 of 2 epochs interrupted {tiny(seed=7)}" in interrupted
    assert "0 of ? epochs interrupted" in " ".join(lines[tiny(seed=8).fingerprint])
    assert f"training (pid {os.getpid()})" in " ".join(lines[tiny(seed=9).fingerprint])
    assert tiny(seed=0).fingerprint not in shown
    assert lines[tiny(seed=2).fingerprint][-2:] == ["reason", "2"]
    assert lines[tiny(seed=3).fingerprint][1] == "failed" and "and more" not in shown


def test_status_counts_the_runs_of_a_table(capsys):
    config = config_of(*RIGL, "--epochs", "20", "--option", "distribution=uniform")
    place = workplace(Path())
    place.records.write(config, "finished", made_body())
    assert status_of("status") == 0
    shown = capsys.readouterr().out
    assert "1 of 100" in shown and "claims" not in shown  # which wants no runs of its own


def test_status_shows_the_rest_beside_a_damaged_record(capsys):
    place = workplace(Path())
    for seed in (0, 1):
        place.records.write(tiny(seed=seed), "finished", made_body())
    place.records.path(tiny()).write_text("{")
    assert status_of("status") == 2
    out, err = capsys.readouterr()
    assert "smoke      1" in out
    assert err.count("\n") == 1 and tiny().fingerprint in err


def test_table_writes_three_files_and_shows_the_first(capsys):
    assert status_of("table", "table1") == 2
    assert "there is no folder of records results" in capsys.readouterr().err
    assert not Path("results").exists()
    Path("results").mkdir()
    assert status_of("table", "table1") == 0
    shown = capsys.readouterr().out
    folder = Path("results/smoke/tables")
    assert {p.name for p in folder.iterdir()} == {
        f"table1.{kind}" for kind in ("md", "tex", "csv", "runs.csv")
    }
    assert (folder / "table1.md").read_text() in shown
    assert "0 of 100 runs have a record" in shown


def test_a_table_of_chosen_seeds_is_shown_and_takes_no_other_pages_place(capsys):
    Path("results").mkdir()
    assert status_of("table", "table1", "--seeds", "5", "5") == 0
    shown = capsys.readouterr().out
    assert "0 of 50 runs have a record" in shown  # one seed, though it was named twice
    assert shown.endswith("not written: of chosen seeds\n")
    assert status_of("table", "claims", "--profile", "cpu", "--seeds", "5") == 0
    assert "not written: of chosen seeds" in capsys.readouterr().out
    assert not list(Path("results").rglob("*"))
    assert status_of("table", "flops", "--seeds", "5") == 2
    assert "flops has no runs whose seeds --seeds could choose" in capsys.readouterr().err
