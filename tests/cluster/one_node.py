"""A Slurm cluster of one node, this machine, that lives in a folder of its own.

    python tests/cluster/one_node.py start FOLDER    # prints what to export
    python tests/cluster/one_node.py stop FOLDER

It needs munged, slurmctld and slurmd (Debian: slurm-wlm and munge) and, for jobs that may run as
their user, root. Nothing outside the folder is touched, and only the daemons that it started are
stopped.
"""

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
COMMANDS = ("sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo")

CONF = """\
ClusterName=onenode
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CryptoType=crypto/munge
SlurmctldPort={ctld}
SlurmdPort={slurmd}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/ended.txt
SwitchType=switch/none
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
KillWait=5
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_min_interval=200000,bf_interval=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=work Nodes={host} Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes={host} MaxTime=INFINITE State=UP PriorityTier=2
"""


def lacking() -> list[str]:
    """The commands that are needed and not here."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    names = [n for n in DAEMONS + COMMANDS if shutil.which(n, path=path) is None]
    return names if os.getuid() == 0 else [*names, "root"]


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def environment(folder: Path) -> dict[str, str]:
    """What a process needs to reach the cluster."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH"))}
    return {**inherited, "SLURM_CONF": str(folder / "slurm.conf")}


def start(folder: Path, cpus: int = 2) -> None:
    """Write the configuration and start the three daemons; the node is idle afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    ctld, slurmd = free_ports(2)
    host = socket.gethostname().split(".")[0]
    user = pwd.getpwuid(os.getuid()).pw_name
    (folder / "slurm.conf").write_text(
        CONF.format(host=host, user=user, folder=folder, ctld=ctld, slurmd=slurmd, cpus=cpus)
    )
    try:
        _daemon(
            *(folder, "munged", "--foreground", "--force", f"--key-file={key}"),
            *(f"--socket={folder}/munge.sock", f"--pid-file={folder}/munge.pid"),
            *(f"--log-file={folder}/munged.log", f"--seed-file={folder}/munge.seed"),
        )
        _until(lambda: (folder / "munge.sock").exists(), "munged")
        conf = ("-f", str(folder / "slurm.conf"))
        _daemon(folder, "slurmctld", "-D", "-c", *conf)
        _daemon(folder, "slurmd", "-D", *conf, "-N", host)
        _until(lambda: "idle" in _sinfo(folder), "slurmctld and slurmd")
    except BaseException:
        stop(folder)
        raise


def stop(folder: Path) -> None:
    """End the jobs, then the daemons that :func:`start` started, and no other."""
    env = environment(folder)
    if (folder / "slurmctld.started").exists():
        with contextlib.suppress(subprocess.SubprocessError, OSError, RuntimeError):
            subprocess.run(["scancel", "--user=root"], env=env, timeout=20, capture_output=True)
            _until(lambda: not _squeue(folder), "jobs to end", 30)
    for name in reversed(DAEMONS):
        noted = folder / f"{name}.started"
        if noted.exists():
            _end(int(noted.read_text()), name)
            noted.unlink()


def _daemon(folder: Path, name: str, *arguments: str) -> None:
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    with (folder / f"{name}.out").open("ab") as out:
        process = subprocess.Popen(
            [str(path), *arguments],
            env=environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    (folder / f"{name}.started").write_text(str(process.pid))


def _end(pid: int, name: str) -> None:
    """SIGTERM, and SIGKILL after ten seconds, to a process that still is that daemon."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)  # where this process started it
            try:
                running = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                return
            if name.encode() not in running:  # gone, or only its entry is left
                return
            os.kill(pid, number)
            time.sleep(0.2)


def _sinfo(folder: Path) -> str:
    return _ask(folder, "sinfo", "--noheader", "--format=%T")


def _squeue(folder: Path) -> str:
    return _ask(folder, "squeue", "--noheader")


def _ask(folder: Path, *command: str) -> str:
    try:
        return subprocess.run(
            command, env=environment(folder), capture_output=True, text=True, timeout=20
        ).stdout
    except subprocess.TimeoutExpired:
        return ""


def _until(condition, what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {seconds:g} s for {what}")
        time.sleep(0.2)


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("start", "stop"):
        sys.exit(__doc__)
    here = Path(sys.argv[2]).absolute()
    if sys.argv[1] == "start":
        if absent := lacking():
            sys.exit(f"not here: {', '.join(absent)}")
        start(here)
        print(f"export SLURM_CONF={here}/slurm.conf")
    else:
        stop(here)
