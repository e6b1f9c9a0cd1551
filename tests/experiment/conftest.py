"""Slurm's commands, which only pretend; tests/cluster tries the real ones."""

import os
import stat

import pytest

from paper_repro.experiment.executors import slurm as module

COMMANDS = {
    # Notes the script it is given, and puts its jobs into the queue.
    "sbatch": """
        sleep 0.2
        id=$(($(cat "$FAKE/count") + 1)); echo $id > "$FAKE/count"
        cp "$1" "$FAKE/$id.sh"
        last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\)%.*/\\1/p' "$1")
        if [ -z "$last" ]; then echo "$id|PENDING" >> "$FAKE/queue"
        else for i in $(seq 0 $last); do echo "${id}_$i|PENDING" >> "$FAKE/queue"; done; fi
        echo "Submitted batch job $id"
    """,
    "squeue": 'echo "$@" >> "$FAKE/asked"; cat "$FAKE/queue"',
    "scontrol": 'echo "JobId=1 JobState=NODE_FAIL Reason=None"',
    "srun": "exit 1",
}


@pytest.fixture
def pretend(tmp_path, monkeypatch):
    """A folder with what is in the queue, and each script submitted as ``<job>.sh``."""
    folder = tmp_path / "pretend"
    folder.mkdir()
    (folder / "count").write_text("0")
    (folder / "queue").touch()
    for name, text in COMMANDS.items():
        script = folder / name
        script.write_text(f"#!/bin/sh\n{text}\n")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE", str(folder))
    monkeypatch.setattr(module, "time", Clock())
    return folder


class Clock:
    """A time that passes only while somebody sleeps."""

    now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
