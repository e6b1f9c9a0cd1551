"""What the Slurm executor submits and waits for, with commands that only pretend."""

import json
import os
import pickle
import re
import signal
import sys
import threading
from types import SimpleNamespace

import pytest
from workplaces import lottery, made_body, tiny, workplace

from paper_repro.cli import main as cli
from paper_repro.data.cache import locked
from paper_repro.errors import UserError
from paper_repro.experiment.executors import Limits, Slurm, queue
from paper_repro.experiment.executors import slurm as module
from paper_repro.experiment.runs import record_failure
from paper_repro.experiment.status import report
from paper_repro.experiment.sweep import missing, sweep

pytest.importorskip("submitit", reason="the extra [slurm] is not installed")


def flags(script):
    """The options of a submitted script."""
    found = re.findall(r"^#SBATCH --([a-z-]+)(?:=(.*))?$", script.read_text(), re.M)
    return {name: value.strip("'") for name, value in found}


def test_an_array_is_submitted_with_what_its_jobs_may_use(tmp_path, pretend, monkeypatch):
    monkeypatch.chdir(tmp_path)
    limits = Limits(
        *("1-12", 7, 3, 1, "16G", "fast", "lab"), more={"qos": "high", "exclusive": True}
    )
    place = workplace(tmp_path, device="auto", runs=(tmp_path / "runs").relative_to(tmp_path))
    done = sweep([tiny(), tiny(seed=1)], place, Slurm(limits, wait=False))
    assert set(done.submitted) == {tiny().fingerprint, tiny(seed=1).fingerprint}
    script = pretend / "1.sh"
    assert {
        **{"array": "0-1%2", "time": "2160", "cpus-per-task": "3", "gpus-per-node": "1"},
        **{"mem": "16G", "partition": "fast", "account": "lab", "qos": "high", "exclusive": ""},
        **{"requeue": "", "job-name": queue.NAME, "signal": "USR2@90", "open-mode": "append"},
        "error": str(tmp_path / "runs/slurm/%A_%a_0_log.err"),
    }.items() <= flags(script).items()
    text = script.read_text()
    assert re.search(r"^srun .*--cpus-per-task=3 ", text, re.M)
    assert f"export PYTHONPATH={os.path.dirname(os.path.dirname(cli.__file__))[:-12]}" in text
    left = pickle.loads((tmp_path / "runs/slurm/1_1_submitted.pkl").read_bytes())
    assert left.function.config == tiny(seed=1)
    where = left.function.place
    assert where.runs == tmp_path / "runs" and where.results.is_absolute()
    assert where.device == "cuda"  # as asked for, whatever the machine has that submits
    assert left.function.threads == 1  # the smoke profile's, however many cpus


def test_threads_follow_the_cpus_and_the_profile(tmp_path, pretend):
    def threads(config, limits):
        place = workplace(tmp_path, device="auto")
        made = Slurm(limits)._job(config, place, set())
        assert made.place.device == "cpu"
        return made.threads

    free = tiny(profile="one without a limit")
    assert threads(free, Limits(cpus=6)) == 6 and threads(free, Limits()) == 1
    assert threads(tiny(), Limits(cpus=6)) == 1
    assert Limits(more={"gres": "gpu:a100:1"}).any_gpu and not Limits(more={"qos": "x"}).any_gpu


def test_rounds_wait_for_the_jobs_of_the_rounds_they_start_from(tmp_path, pretend):
    place, wanted = workplace(tmp_path), [lottery(0.75), lottery(0.7), tiny()]
    todo = missing(wanted, place)
    Slurm(wait=False).train(todo, place)
    scripts = [pretend / f"{i}.sh" for i in range(1, 4)]
    assert [flags(s).get("dependency") for s in scripts] == [None, "afterany:1", "afterany:2"]
    assert flags(scripts[0])["array"] == "0-1%2" and "array" not in flags(scripts[1])
    needed = {c.fingerprint for c in todo if c not in wanted}
    for path in (place.runs / "slurm").glob("*_submitted.pkl"):
        left = pickle.loads(path.read_bytes()).function
        assert left.need_weights == (left.config.fingerprint in needed)


def test_arrays_are_as_long_as_slurm_takes_and_share_the_number_at_once(
    tmp_path, pretend, monkeypatch
):
    monkeypatch.setattr(module, "_ARRAY", 2)
    place = workplace(tmp_path)
    Slurm(Limits(jobs=2), wait=False).train([tiny(seed=s) for s in range(5)], place)
    scripts = [flags(pretend / f"{i}.sh") for i in range(1, 4)]
    assert [s.get("array") for s in scripts] == ["0-1%2", "0-1%2", None]
    assert [s.get("dependency") for s in scripts] == [None, "afterany:1", "afterany:2"]


def test_two_sweeps_at_once_submit_each_run_once(tmp_path, pretend):
    place = workplace(tmp_path)
    shared = [tiny(seed=s) for s in range(4)]
    parts = [shared[:3], shared[1:], shared]
    found = []

    def submit(configs):
        found.append(set(Slurm(wait=False).train(configs, place).submitted))

    sweeps = [threading.Thread(target=submit, args=(part,)) for part in parts]
    for one in sweeps:
        one.start()
    for one in sweeps:
        one.join()
    ids = [line.split("|")[0] for line in (pretend / "queue").read_text().splitlines()]
    assert len(ids) == len(set(ids)) == len(shared)
    runs = [pickle.loads(p.read_bytes()).function.config for p in place.runs.glob("slurm/*d.pkl")]
    assert sorted(c.seed for c in runs) == [0, 1, 2, 3]
    # Each sweep knows of all jobs that train its runs, its own and the others'.
    assert sorted(map(len, found)) == [3, 3, 4]


def test_what_slurm_refuses_is_said_in_its_words(tmp_path, pretend):
    (pretend / "sbatch").write_text(
        "#!/bin/sh\necho 'sbatch: error: invalid partition specified: x' >&2\nexit 1\n"
    )
    with pytest.raises(UserError, match="cannot be submitted: sbatch: error: invalid partition"):
        Slurm(wait=False).train([tiny()], workplace(tmp_path))
    (pretend / "squeue").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(UserError, match="Slurm does not answer"):
        Slurm(wait=False).train([tiny()], workplace(tmp_path))


# No shell's script, for shells let all signals in.
SBATCH = f"""#!{sys.executable} -SE
import os, signal, subprocess, sys
os.kill(os.getppid(), signal.SIGINT)
os.kill(os.getpid(), signal.SIGINT)
sys.exit(subprocess.run([sys.argv[0] + ".sh", *sys.argv[1:]]).returncode)
"""


@pytest.mark.parametrize("moment", ["sbatch", "noting"])
def test_ctrl_c_while_jobs_are_submitted_leaves_none_unnoted(
    tmp_path, pretend, monkeypatch, capsys, moment
):
    monkeypatch.setattr(module, "_ARRAY", 2)
    place, runs = workplace(tmp_path), [tiny(seed=s) for s in range(4)]
    script, write = (pretend / "sbatch").read_text(), module.write_json

    def interrupted(path, value):
        os.kill(os.getpid(), signal.SIGINT)
        write(path, value)

    if moment == "sbatch":  # as a terminal does, to Slurm's command too
        (pretend / "sbatch").rename(pretend / "sbatch.sh")
        (pretend / "sbatch").write_text(SBATCH)
        (pretend / "sbatch").chmod(0o755)
    else:
        monkeypatch.setattr(module, "write_json", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            Slurm(wait=False).train(runs, place)
    finally:
        signal.signal(signal.SIGINT, before)
    assert "The jobs go on without this command; `scancel 1` ends them." in capsys.readouterr().out
    assert sorted(queue.states()) == ["1_0", "1_1"]
    (pretend / "sbatch").write_text(script)
    monkeypatch.setattr(module, "write_json", write)
    assert set(Slurm(wait=False).train(runs, place).submitted) == {c.fingerprint for c in runs}
    assert sorted(queue.states()) == ["1_0", "1_1", "2_0", "2_1"]


def test_what_was_submitted_before_a_refusal_is_said(tmp_path, pretend):
    place, child = workplace(tmp_path), lottery(0.5)
    script = (pretend / "sbatch").read_text()
    refuse = '[ -s "$FAKE/queue" ] && { echo "sbatch: error: QOSMaxSubmit" >&2; exit 1; }\n'
    (pretend / "sbatch").write_text(script.replace("sleep 0.2", refuse))
    with pytest.raises(UserError) as caught:
        Slurm().train([child.parent(), child], place)
    assert str(caught.value) == (
        "the jobs cannot be submitted: sbatch: error: QOSMaxSubmit; 1 run was submitted before "
        "that as jobs 1, and the same command goes on with the rest"
    )
    (pretend / "sbatch").write_text(script)
    done = Slurm(wait=False).train([child.parent(), child], place)
    assert len(done.submitted) == 2 and sorted(queue.states()) == ["1", "2"]


def test_the_lock_on_submitting_is_no_run_under_way(tmp_path):
    place = workplace(tmp_path)
    (place.runs / "slurm").mkdir(parents=True)
    with locked(place.runs / "slurm" / "lock"):
        assert "slurm" not in report(place, None)[0].replace(str(tmp_path), "")


# -- what Slurm says ------------------------------------------------------------------------------


def test_jobs_that_wait_to_be_released_are_told_from_those_that_wait_for_their_turn(pretend):
    (pretend / "queue").write_text(
        "1|PENDING|Priority\n2_0|PENDING|JobHeldUser\n2_1|RUNNING|None\n3|SPECIAL_EXIT|None\n"
        "4|REQUEUE_HOLD|None\n5|PENDING|launch failed requeued held\n"
    )
    assert queue.states() == {
        **{"1": "PENDING", "2_0": "held: JobHeldUser", "2_1": "RUNNING"},
        **{"3": "held: SPECIAL_EXIT", "4": "held: REQUEUE_HOLD"},
        "5": "held: launch failed requeued held",
    }


def test_the_accounts_say_in_full_how_a_job_ended(pretend):
    (pretend / "scontrol").write_text("#!/bin/sh\nexit 1\n")
    sacct = pretend / "sacct"  # whose columns are ten characters wide if nothing else is asked for
    sacct.write_text(
        '#!/bin/sh\ncase "$*" in *--parsable2*) echo OUT_OF_MEMORY;; *) echo "OUT_OF_ME+";; esac\n'
    )
    sacct.chmod(0o755)
    assert queue.ended_as("12_3") == "OUT_OF_MEMORY"


# -- waiting -------------------------------------------------------------------------------------


def test_what_became_of_jobs_is_told_from_records_results_and_slurm(tmp_path, pretend, capsys):
    place = workplace(tmp_path)
    runs = [tiny(seed=s) for s in range(4)]
    good, bad, lost, busy = runs
    Slurm(wait=False).train(runs, place)
    assert queue.states() == {f"1_{i}": "PENDING" for i in range(4)}
    assert f"--user={os.getuid()} --name={queue.NAME}" in (pretend / "asked").read_text()
    place.records.write(good, "finished", made_body())
    record_failure(bad, place, "no memory")
    folder = place.runs / "slurm"
    for i, said in ((0, ""), (1, "no memory"), (3, "another process (pid 1) is training")):
        (folder / f"1_{i}_0_result.pkl").write_bytes(pickle.dumps(("success", said)))
    (pretend / "queue").write_text("")
    # A sweep over the same runs: all jobs are gone, and what has no record is submitted anew.
    jobs = {c.fingerprint: f"1_{i}" for i, c in enumerate(runs)}
    done = module._Watch(runs, place, jobs).outcome()
    assert done.trained == [good.fingerprint]
    assert done.failed[bad.fingerprint] == "no memory"
    assert "another process" in done.failed[busy.fingerprint]
    assert "its job 1_2 left no record (NODE_FAIL)" in done.failed[lost.fingerprint]
    assert place.records.get(lost) is None  # that a node died is no failure of the run
    assert capsys.readouterr().err.count("failed: ") == 3


def test_a_round_whose_weights_a_child_needs_has_not_ended_well_without_them(tmp_path, pretend):
    place, child = workplace(tmp_path), lottery(0.75)
    parent = child.parent()
    for config in (parent, child):
        place.records.write(config, "finished", made_body())
    jobs = {parent.fingerprint: "1", child.fingerprint: "2"}
    left = module._Watch([parent, child], place, jobs).outcome()
    assert left.trained == [child.fingerprint] and list(left.failed) == [parent.fingerprint]
    place.weights(parent).parent.mkdir(parents=True, exist_ok=True)
    place.weights(parent).touch()
    whole = module._Watch([parent, child], place, jobs).outcome()
    assert whole.trained == [parent.fingerprint, child.fingerprint] and not whole.failed


def test_of_anothers_array_only_the_job_that_matters_is_waited_for(tmp_path, pretend):
    place, child = workplace(tmp_path), lottery(0.75)
    parent = child.parent()
    (pretend / "queue").write_text("12_3|RUNNING\n12_4|PENDING\n")
    (place.runs / "slurm").mkdir(parents=True)
    (place.runs / "slurm" / "12_runs.json").write_text(json.dumps({parent.fingerprint: "12_3"}))
    Slurm(wait=False).train([parent, child], place)
    assert flags(pretend / "1.sh")["dependency"] == "afterany:12_3"


def test_a_sweep_waits_while_jobs_are_queued_and_slurm_restarts(tmp_path, pretend, monkeypatch):
    place, looks = workplace(tmp_path), []
    answers = [{"1": "PENDING"}, None, {"1": "RUNNING"}, {}, {}]

    def states():
        looks.append(len(looks))
        if len(looks) == 5:  # written on another machine, and seen here a look later
            place.records.write(tiny(), "finished", made_body())
        return answers[looks[-1]]

    monkeypatch.setattr(module.queue, "states", states)
    done = module._Watch([tiny()], place, {tiny().fingerprint: "1"}).outcome()
    assert done.trained == [tiny().fingerprint] and len(looks) == 5


def waited(place, monkeypatch, answers):
    """A sweep's wait for the job 1 while Slurm gives these answers; when each was asked for."""
    looks = []

    def states():
        looks.append(module.time.monotonic())
        return answers[len(looks) - 1] if len(looks) <= len(answers) else {}

    monkeypatch.setattr(module.queue, "states", states)
    return module._Watch([tiny()], place, {tiny().fingerprint: "1"}).outcome(), looks


def test_a_job_is_absent_for_longer_than_a_file_server_keeps_its_record_back(
    tmp_path, pretend, monkeypatch
):
    there = {"1": "RUNNING"}
    done, looks = waited(workplace(tmp_path), monkeypatch, [there, {}, {}, there])
    assert "left no record" in done.failed[tiny().fingerprint]
    assert looks[-2] - looks[4] < 90 <= looks[-1] - looks[4]  # since it was absent for good


def test_a_job_that_waits_to_be_released_is_told_once(tmp_path, pretend, monkeypatch, capsys):
    held = {"1": "held: JobHeldUser"}
    waited(workplace(tmp_path), monkeypatch, [{"1": "PENDING"}, held, held, None, held])
    said = capsys.readouterr().err
    assert said.count("wait to be released") == 1
    assert "1 of the jobs wait to be released (held: JobHeldUser); `scontrol release 1`" in said


def test_a_slurm_that_is_silent_for_long_is_told_once(tmp_path, pretend, monkeypatch, capsys):
    there = {"1": "RUNNING"}
    waited(workplace(tmp_path), monkeypatch, [there, *[None] * 5, there])
    assert "not answered" not in capsys.readouterr().err
    waited(workplace(tmp_path), monkeypatch, [there, *[None] * 100, there])
    assert capsys.readouterr().err.count("Slurm has not answered for 5 minutes.") == 1


def test_ctrl_c_leaves_the_jobs_and_says_how_to_end_them(tmp_path, pretend, monkeypatch, capsys):
    def stop(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=stop, monotonic=lambda: 0.0))
    with pytest.raises(KeyboardInterrupt):
        sweep([tiny()], workplace(tmp_path), Slurm())
    assert "The jobs go on without this command; `scancel 1` ends them." in capsys.readouterr().out
    command = ["sweep", "table1", "--executor", "slurm", "--methods", "rigl"]
    monkeypatch.chdir(tmp_path)
    assert cli.main(command) == 130
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == "paper_repro: stopped; the same command waits for them again"
