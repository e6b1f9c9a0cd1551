"""NVIDIA's daemon is started, tried, and ended, whatever happens in between."""

import os
import subprocess
import sys
import time

import pytest

from paper_repro.cli import campaign as cli_campaign
from paper_repro.cli import main as cli
from paper_repro.cli import place as cli_place
from paper_repro.errors import UserError
from paper_repro.experiment import mps

DAEMON = """#!/bin/sh
echo "$* $CUDA_MPS_PIPE_DIRECTORY" >> {log}
if [ -z "$1" ]; then cat >> {log}; fi
{then}
"""


@pytest.fixture
def daemon(tmp_path, monkeypatch):
    """Puts a stand-in for the daemon on the PATH; returns what it was told so far."""
    log = tmp_path / "log"

    def install(then="exit 0", probe="pass"):
        folder = tmp_path / "bin"
        folder.mkdir()
        program = folder / mps.PROGRAM
        program.write_text(DAEMON.format(log=log, then=then))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        monkeypatch.setattr(mps, "_PROBE", probe)
        return lambda: log.read_text().splitlines() if log.exists() else []

    return install


def pipes():
    return os.environ.get("CUDA_MPS_PIPE_DIRECTORY")


def test_processes_inside_know_the_daemon_and_it_ends_with_the_block(daemon, tmp_path):
    told = daemon()
    own = str(tmp_path / "mps" / "pipes")
    with mps.multi_process_service(tmp_path / "mps"):
        assert told() == [f"-d {own}"] and os.path.isdir(own)
        see = "import os; print(os.environ['CUDA_MPS_PIPE_DIRECTORY'])"
        seen = subprocess.run([sys.executable, "-c", see], capture_output=True, text=True)
        assert seen.stdout.strip() == own
    assert told() == [f"-d {own}", f" {own}", "quit"]
    assert pipes() is None


def test_a_daemon_that_keeps_its_output_open_is_not_waited_for(daemon, tmp_path):
    daemon(then='[ "$1" = -d ] && sleep 60 & exit 0')
    begun = time.monotonic()
    with mps.multi_process_service(tmp_path / "mps"):
        assert time.monotonic() - begun < 30


def test_a_campaign_trains_while_the_daemon_runs(daemon, tmp_path, monkeypatch):
    told = daemon()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli_place, "usable_device", lambda name: name)  # as if there were one
    # A campaign that ends with the number of times that the daemon was spoken to.
    monkeypatch.setattr(cli_campaign, "_train", lambda options, campaign, seconds: len(told()))
    assert cli.main(["campaign", "--minutes", "1", "--device", "cuda", "--mps"]) == 1
    assert len(told()) == 3 and told()[-1] == "quit"
    assert cli.main(["campaign", "--minutes", "1", "--device", "cuda"]) == 3
    assert len(told()) == 3  # not without being asked


def test_it_ends_when_the_work_fails_and_leaves_the_environment_as_it_was(
    daemon, tmp_path, monkeypatch
):
    told = daemon()
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", "before")
    with pytest.raises(RuntimeError, match="broken"), mps.multi_process_service(tmp_path / "mps"):
        raise RuntimeError("broken")
    assert told()[-1] == "quit" and pipes() == "before"


def test_a_daemon_that_does_not_start_is_said(daemon, tmp_path):
    told = daemon(then="echo no GPU >&2; exit 3")
    with (
        pytest.raises(UserError, match=r"MPS daemon does not start: no GPU"),
        mps.multi_process_service(tmp_path / "mps"),
    ):
        pass
    assert told()[-1] == "quit" and pipes() is None


def test_a_daemon_that_no_process_can_use_is_ended_and_said(daemon, tmp_path):
    told = daemon(probe="raise SystemExit('cannot connect')")
    with (
        pytest.raises(UserError, match=r"MPS daemon cannot be used here: cannot connect"),
        mps.multi_process_service(tmp_path / "mps"),
    ):
        pass
    assert told()[-1] == "quit" and pipes() is None


def test_where_it_is_not_installed_or_nothing_can_be_shared_status_is_2(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(UserError, match="is not on the PATH"),
        mps.multi_process_service(tmp_path / "mps"),
    ):
        pass
    monkeypatch.chdir(tmp_path)
    assert cli.main(["campaign", "--minutes", "1", "--device", "cpu", "--mps"]) == 2
    assert capsys.readouterr().err == (
        "paper_repro: MPS shares an NVIDIA GPU; this campaign trains on the CPU\n"
    )
