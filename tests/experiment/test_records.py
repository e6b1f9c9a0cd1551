import io
import json
import math
import subprocess
import tarfile
from pathlib import Path

import pytest
from workplaces import made_body, tiny

from paper_repro.config import RunConfig
from paper_repro.errors import UserError
from paper_repro.experiment.provenance import tree_id
from paper_repro.experiment.records import Records, read

RESULTS = Path(__file__).parents[2] / "results"
#: Of profiles, and of one run trained in several ways: by each engine, and by one and two ranks.
COMMITTED = sorted([*RESULTS.glob("*/*.json"), *RESULTS.glob("*/*/*/*.json")])


@pytest.fixture(params=[*COMMITTED, None], ids=lambda p: p.stem if p else "made up")
def path(request, tmp_path):
    """Each committed record, and a made-up one."""
    if request.param is None:
        Records(tmp_path).write(tiny(), "finished", made_body())
        return Records(tmp_path).path(tiny())
    return request.param


def test_every_record_reads_back_as_what_its_name_says(path):
    record = read(path)
    plain = json.loads(path.read_text())
    config = RunConfig.from_dict(plain["config"])
    assert path.stem == config.fingerprint == plain["fingerprint"] == record.config.fingerprint
    assert path.parent.name == record.config.profile
    assert record.status == plain["status"]
    assert Records(path.parents[1]).get(config) == record


def test_a_committed_record_is_complete_evidence(path, tmp_path):
    record = read(path)
    assert record.status in ("finished", "diverged")
    if record.status == "finished":
        body, epochs = record.body, record.config.epochs
        assert [line["epoch"] for line in body["curve"]] == list(range(1, epochs + 1))
        every = record.config.evaluate_every
        scored = [line for line in body["curve"] if record.score in line]
        due = {n for n in range(1, epochs + 1) if n % every == 0 or n == epochs}
        assert {line["epoch"] for line in scored} == due
        assert record.accuracy("last") == scored[-1][record.score]
        final = body["curve"][-1]["sparsity"]
        assert record.accuracy("best") == max(
            line[record.score] for line in scored if line["sparsity"] == final
        )
        assert body["environment"]["commit"]
        where = body["environment"]
        if "tree" in where and not where["dirty"]:
            tree = tree_of(where["commit"])
            if tree not in (None, where["tree"]):  # of the days when only Python was counted
                assert tree_of_python(where["commit"], tmp_path) == where["tree"]


def tree_of(commit):
    """The package's tree in a commit; None where the history is not here."""
    ran = subprocess.run(
        ["git", "rev-parse", f"{commit}:paper_repro"], cwd=RESULTS, capture_output=True, text=True
    )
    return ran.stdout.strip() if ran.returncode == 0 else None


def tree_of_python(commit, folder):
    """The same of the package's Python files alone."""
    archive = subprocess.run(
        ["git", "archive", commit, "paper_repro"],
        cwd=RESULTS.parent,
        capture_output=True,
        check=True,
    )
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    for other in (folder / "paper_repro").rglob("*"):
        if other.is_file() and other.suffix != ".py":
            other.unlink()
    return tree_id(folder / "paper_repro")


def test_a_record_lies_where_its_run_says_and_comes_back(tmp_path):
    records, config = Records(tmp_path), tiny()
    assert records.get(config) is None and not records.done(config)
    written = records.write(config, "finished", made_body(last=92.5, best=93.0))
    path = tmp_path / "smoke" / f"{config.fingerprint}.json"
    assert records.path(config) == path and path.exists()
    assert records.get(config) == written and records.done(config)
    assert written.accuracy() == 92.5 and written.accuracy("best") == 93.0
    assert list(records) == [written]
    assert records.get(tiny(seed=1)) is None


def test_only_a_failure_is_tried_again(tmp_path):
    records = Records(tmp_path)
    for seed, status in enumerate(("finished", "diverged", "failed")):
        records.write(tiny(seed=seed), status, made_body())
    assert [records.done(tiny(seed=seed)) for seed in range(3)] == [True, True, False]
    assert [records.get(tiny(seed=seed)).accuracy() for seed in range(3)] == [90.0, None, None]


def test_a_number_that_is_not_finite_is_null_in_the_file(tmp_path):
    body = {**made_body(), "curve": [{"test_loss": math.nan, "train_loss": 1.0}]}
    record = Records(tmp_path).write(tiny(), "finished", body)
    assert record.body["curve"] == [{"test_loss": None, "train_loss": 1.0}]
    assert Records(tmp_path).get(tiny()) == record


def changed(**changes):
    return lambda plain: {**plain, **changes}


def lacking(*names):
    return lambda plain: {k: v for k, v in plain.items() if k not in names}


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda plain: [], "is not a run's record"),
        (lambda plain: "words", "is not a run's record"),
        (lambda plain: {}, "lacks 'config'"),
        (lacking("status"), "lacks 'status'"),
        (lacking("fingerprint"), "lacks 'fingerprint'"),
        (lacking("accuracy"), "lacks 'accuracy'"),
        (lacking("environment"), "lacks 'environment'"),
        (changed(accuracy={"last": 90.0}), "lacks 'best'"),
        (changed(accuracy={"last": None, "best": 1.0}), "last accuracy is None"),
        (changed(accuracy=None), "is not a run's record"),
        (changed(status="done"), "status is 'done'"),
        (changed(fingerprint="0123456789abcdef"), "it is of run 0123456789abcdef"),
        (changed(config={}), "lacks"),
        (changed(config=tiny(seed=7).to_dict()), f"config of run {tiny(seed=7).fingerprint}"),
    ],
)
def test_a_damaged_record_is_refused_in_a_sentence_that_names_it(tmp_path, damage, said):
    records = Records(tmp_path)
    records.write(tiny(), "finished", made_body())
    path = records.path(tiny())
    path.write_text(json.dumps(damage(json.loads(path.read_text()))))
    with pytest.raises(UserError, match=said) as caught:
        records.get(tiny())
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b'{"config": ', b"\xff\xfe\x00", b"NaN"])
def test_a_file_that_is_no_json_is_refused(tmp_path, content):
    path = Records(tmp_path).path(tiny())
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(UserError, match="is not a run's record"):
        Records(tmp_path).get(tiny())
    with pytest.raises(UserError, match="is not a run's record"):
        list(Records(tmp_path))


def test_a_record_under_another_runs_name_is_refused(tmp_path):
    records = Records(tmp_path)
    records.write(tiny(), "finished", made_body())
    records.path(tiny()).rename(records.path(tiny(seed=1)))
    with pytest.raises(UserError, match="it is of run"):
        records.get(tiny(seed=1))
