"""What a job may use, as it is written on the command line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paper_repro.cli import main as cli
from paper_repro.errors import UserError
from paper_repro.experiment.executors import slurm as module
from paper_repro.experiment.executors.limits import Limits, minutes

pytest.importorskip("submitit", reason="the extra [slurm] is not installed")


@given(st.integers(0, 30), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_every_way_to_write_a_time_means_the_same(days, hours, mins, secs):
    whole = 24 * 60 * days + 60 * hours + mins
    if whole == 0:
        return
    assert minutes(f"{days}-{hours}:{mins}:{secs}") == whole + (secs > 0)
    assert minutes(f"{days}-{hours}:{mins}") == minutes(str(whole)) == whole
    assert minutes(f"{24 * days + hours}:{mins}:{secs}") == whole + (secs > 0)
    assert minutes(f"{whole}:{secs}") == whole + (secs > 0)


@pytest.mark.parametrize("time", ["", "soon", "-5", "0", "0:30", "1:2:3:4", "1-", "4h", "٤"])
def test_what_is_no_time_is_refused(time):
    with pytest.raises(UserError, match="time"):
        minutes(time)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("--time", "4h"), "a time is written as 90, 4:00:00 or 1-12"),
        (("--memory", "lots"), "memory is written as 16G or 500M, not 'lots'"),
        (("--cpus", "0"), "cpus must be at least 1, not 0"),
        (("--gpus", "-1"), "gpus must be at least 0, not -1"),
        (("--jobs", "0"), "jobs must be at least 1, not 0"),
        (("--slurm", "array=0-9"), "the sweep sets the option array of sbatch itself"),
        (("--slurm", "mem=4G"), "the option mem of sbatch itself; use --memory"),
        (("--slurm", "open_mode=append"), "the sweep sets the option open-mode"),
        (("--slurm", "=x"), "an option of sbatch is written as qos=high"),
        (("--slurm", "comment=a\nb"), "is of one line"),
    ],
)
def test_limits_that_cannot_be_are_refused_in_a_sentence(argv, said, pretend, capsys):
    assert cli.main(["sweep", "table1", "--executor", "slurm", *argv]) == 2
    err = capsys.readouterr().err
    assert said in err and len(err.splitlines()) == 1 + said.count("\n")
    assert not list(pretend.glob("*.sh"))


@pytest.mark.parametrize("option", ["time=5", "cpus=2", "slurm=qos=high", "partition=gpu"])
def test_what_only_jobs_have_is_refused_where_there_are_none(option, capsys):
    assert cli.main(["sweep", "table1", f"--{option}"]) == 2
    assert "is of jobs of a cluster; add --executor slurm" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "asked"),
    [
        ({"gres": "gpu:2"}, True),
        ({"gpus": "1"}, True),
        ({"tres-per-node": "gres/gpu:1"}, True),
        ({"exclude": "gpunode[1-4]"}, False),
        ({"qos": "nogpu"}, False),
    ],
)
def test_a_gpu_is_asked_for_by_what_brings_one(more, asked):
    assert Limits(more=more).any_gpu is asked
    assert Limits(more=more, gpus=1).any_gpu


def test_without_submitit_or_slurm_one_sentence_says_so(pretend, capsys, monkeypatch):
    command = ["sweep", "table1", "--executor", "slurm"]
    with monkeypatch.context() as patch:
        patch.setattr(module.importlib.util, "find_spec", lambda name: None)
        assert cli.main(command) == 2
    assert "needs submitit, which pip install" in capsys.readouterr().err
    monkeypatch.setenv("PATH", str(pretend.parent))
    assert cli.main(command) == 2
    assert "there is no sbatch here" in capsys.readouterr().err
