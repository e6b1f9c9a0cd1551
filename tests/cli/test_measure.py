from dataclasses import replace

import pytest
from commands import status_of
from workplaces import tiny, workplace

from paper_repro.experiment.profiles import profile
from paper_repro.experiment.runs import execute
from paper_repro.registry import Spec
from tables import TABLES

FP = "0123456789abcdef"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("sharpness",), "one of the arguments --runs-of --table is required"),
        (("magic", "--runs-of", FP), "unknown measure 'magic'; known are"),
        (("sharpness", "--runs-of", FP), f"there is no record of run {FP}"),
        (("sharpness", "--runs-of", "../.."), "16 hex digits"),
        (("--runs-of", FP), "say what is to be measured"),
        (("--table", "table1"), "no cell of table1 reads a measure"),
        (("--table", "nope"), "unknown table 'nope'"),
        (("--table", "table1", "--option", "rho=1"), "--option belongs to a measure"),
        (("sharpness", "--table", "table1", "--option", "size=1"), "has no option 'size'"),
        (("sharpness", "--table", "table1", "--option", "rho=big"), "must be a number"),
        (("sharpness", "--table", "table1", "--device", "abacus"), "cannot be used"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(argv, said, capsys):
    assert status_of("measure", *argv) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and "Traceback" not in error


def test_a_run_is_measured_and_shown(tmp_path, capsys):
    execute(tiny(), workplace(tmp_path))
    argv = ("measure", "sharpness", "--runs-of", tiny().fingerprint, "--option", "draws=2",
            "--option", "steps=1", "--option", "samples=32")  # fmt: skip
    assert status_of(*argv) == 0
    said = capsys.readouterr().out
    assert "1 measures wanted, 1 to make." in said and "worst" in said
    assert status_of(*argv) == 0
    assert "1 measures wanted, 0 to make." in capsys.readouterr().out


def test_runs_of_a_table_that_cannot_be_measured_do_not_stop_the_others(tmp_path, capsys):
    assert status_of("measure", "sharpness", "--table", "control", "--seeds", "0") == 1
    seen = capsys.readouterr()
    assert "6 measures wanted, 6 to make." in seen.out and "6 could not be" in seen.out
    assert seen.err.count("it has no record") == 6


def test_what_is_not_trained_here_is_left_out_with_a_count_where_asked(tmp_path, capsys):
    asked = ("sharpness", "--table", "control", "--seeds", "0", "--where-trained",
             "--option", "draws=2", "--option", "steps=1", "--option", "samples=32")  # fmt: skip
    assert status_of("measure", *asked) == 0
    seen = capsys.readouterr()
    left = "6 left out, whose networks are not trained here."
    assert f"6 measures wanted, 0 to make; {left}" in seen.out and seen.err == ""
    # One is trained: it is measured, and the next time there already.
    config = next(iter(TABLES.build(Spec("control"), profile=profile("smoke")).runs()))
    place = workplace(tmp_path)
    execute(replace(config, epochs=1), place)
    short = replace(config, epochs=1)
    body = place.records.get(short).body
    place.records.write(config, "finished", body)
    place.folder(config).mkdir(parents=True)
    place.weights(short).rename(place.weights(config))
    assert status_of("measure", *asked) == 0
    assert "6 measures wanted, 1 to make; 5 left out" in capsys.readouterr().out
    assert status_of("measure", *asked) == 0
    assert "6 measures wanted, 0 to make; 5 left out" in capsys.readouterr().out
    place.weights(config).unlink()
    assert status_of("measure", "spectrum", *asked[1:6]) == 0
    assert "0 to make; 6 left out" in capsys.readouterr().out


@pytest.mark.parametrize("skip", [True, False])
def test_pictures_that_cannot_be_decoded_are_skipped_where_asked(monkeypatch, skip):
    places = []
    monkeypatch.setattr(
        "paper_repro.cli.main.run_measure", lambda _, place, *__: places.append(place) or 0
    )
    asked = ["--skip-broken"] if skip else []
    assert status_of("measure", "sharpness", "--runs-of", FP, *asked) == 0
    assert [place.skip_broken for place in places] == [skip]
