import os
import re

import pytest
import torch
from workplaces import (
    lottery,
    made_body,
    outcome,
    tiny,
    workplace,
)

from paper_repro import files
from paper_repro.errors import UserError
from paper_repro.experiment import runs
from paper_repro.experiment.runs import attempt, execute, prepare, record_failure
from paper_repro.files import Busy, exclusive, load_tensors, save_tensors
from paper_repro.optim import OPTIMIZERS
from paper_repro.sparse import METHODS
from paper_repro.train import Diverged, Trainer

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_run_leaves_a_record_its_log_and_its_weights(tmp_path):
    place, config, reports = workplace(tmp_path), tiny(), []
    record = execute(config, place, lambda c, epoch: reports.append((c, epoch)))
    assert reports == [(config, 0), (config, 1), (config, 2)]
    assert place.records.get(config) == record and record.status == "finished"
    body = record.body
    assert [line["epoch"] for line in body["curve"]] == [1, 2]
    assert body["accuracy"]["last"] == body["curve"][-1]["test_accuracy"]
    assert body["accuracy"]["best"] == max(line["test_accuracy"] for line in body["curve"])
    assert body["speed"]["gradients_per_step"] == 1 and body["speed"]["forwards_per_step"] == 0
    assert body["sparsity"]["asked"] == 0.9 and body["sparsity"]["missed"] == 0.0
    assert record.missed == 0.0
    assert body["sparsity"]["masked_layers"] == pytest.approx(0.9, abs=1e-3)
    assert body["flops"]["inference"] < body["flops"]["inference_dense"]
    assert body["speed"]["images_per_second"] > 0 and body["memory"] and body["finished_at"]
    assert body["environment"]["threads"] == 1 and body["environment"]["compiled"] is False
    left = load_tensors(place.weights(config))
    assert left["weights"]["conv1.weight"].shape[0] == 16 and left["masks"]
    assert {p.name for p in place.folder(config).iterdir()} == {
        "config.json", "lock", "log.jsonl", "weights.pt",
    }  # fmt: skip
    assert len((place.folder(config) / "log.jsonl").read_text().splitlines()) == 2


def test_a_record_says_what_was_done_in_a_late_phase_and_at_another_sparsity_than_asked(tmp_path):
    config = tiny(
        method=METHODS.spec("chex", sparsity=0.9999),
        optimizer=OPTIMIZERS.spec("esam"),
        rho_start=0.5,
    )
    record = execute(config, workplace(tmp_path))
    assert record.body["speed"]["gradients_per_step"] == pytest.approx(1.25)  # of 1 and 1.5
    assert record.body["speed"]["forwards_per_step"] == pytest.approx(0.5)
    kept, channels = 2, 48  # one channel of each group
    assert record.missed == pytest.approx(1 - kept / channels - 0.9999)


def test_the_best_epoch_is_one_in_which_the_network_was_as_sparse_as_in_the_end(
    tmp_path, monkeypatch
):
    # Made-up test accuracies: the best while MEST(EM&S) is still denser than asked.
    accuracies = iter([99.0, 98.0, 97.0, 96.0, 50.0, 60.0, 55.0])

    def scores(self):
        return {"test_loss": 1.0, "test_accuracy": next(accuracies)}

    monkeypatch.setattr(Trainer, "evaluate", scores)
    config = tiny(method=METHODS.spec("mest-ems", sparsity=0.9), epochs=7)
    body = execute(config, workplace(tmp_path)).body
    sparsities = [line["sparsity"] for line in body["curve"]]
    assert [s == sparsities[-1] for s in sparsities] == [False] * 5 + [True] * 2
    assert body["accuracy"] == {"last": 55.0, "best": 60.0}


def test_two_trainings_of_a_run_agree_bit_for_bit(tmp_path):
    for name in "ab":
        execute(tiny(), workplace(tmp_path / name))
    assert outcome(tiny(), workplace(tmp_path / "a")) == outcome(tiny(), workplace(tmp_path / "b"))


def test_a_run_trains_on_what_its_config_says_of_the_data(tmp_path):
    place = workplace(tmp_path)
    right = runs.data_of(tiny(), place).train
    noisy = runs.data_of(tiny(label_noise=0.25), place).train
    assert int((noisy.labels != right.labels).sum()) == 24 == len(right) / 4
    assert torch.equal(noisy.images, right.images)
    few = runs.data_of(tiny(train_size=32, test_on="wide"), place)
    assert len(few.train) == 32 and few.spare is not None
    # And the trained network is another one, so that the labels reach the loss.
    losses = [
        execute(config, place).body["curve"][-1]["train_loss"]
        for config in (tiny(epochs=1), tiny(epochs=1, label_noise=0.25))
    ]
    assert losses[0] != losses[1]


@pytest.mark.parametrize("status", ["finished", "diverged"])
def test_a_run_that_has_a_record_is_not_trained(tmp_path, trained, status):
    place = workplace(tmp_path)
    written = place.records.write(tiny(), status, made_body())
    before = place.records.path(tiny()).read_bytes()
    assert execute(tiny(), place) == written and not trained
    assert place.records.path(tiny()).read_bytes() == before and not place.runs.exists()


def test_a_failed_run_is_trained_and_its_record_replaced(tmp_path, trained):
    place = workplace(tmp_path)
    record_failure(tiny(), place, "out of memory")
    assert place.records.get(tiny()).status == "failed"
    assert execute(tiny(), place).status == "finished" and trained[tiny().fingerprint] == 2
    assert place.records.get(tiny()).status == "finished"


def test_a_failure_never_replaces_a_result(tmp_path):
    place = workplace(tmp_path)
    written = place.records.write(tiny(), "finished", made_body())
    assert record_failure(tiny(), place, "out of memory") == written
    assert place.records.get(tiny()) == written


def test_a_run_that_another_process_has_just_finished_is_not_trained_again(
    tmp_path, trained, monkeypatch
):
    place = workplace(tmp_path)

    def late(folder):  # the other process writes its record before it lets go of the folder
        place.records.write(tiny(), "finished", made_body(last=12.5))
        return exclusive(folder)

    monkeypatch.setattr(runs, "exclusive", late)
    assert execute(tiny(), place).accuracy() == 12.5 and not trained


def test_two_runs_at_once_in_one_folder_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_PATIENCE", 0.1)
    place = workplace(tmp_path)
    with exclusive(place.folder(tiny())):
        with pytest.raises(Busy, match=f"another process .pid {os.getpid()}. is training in"):
            execute(tiny(), place)
        # Not a failure of the run, so none is recorded.
        assert "is training in" in attempt(tiny(), place)
    assert place.records.get(tiny()) is None


def test_sparsities_of_one_chain_share_its_rounds_and_every_round_is_recorded(tmp_path, trained):
    place = workplace(tmp_path)
    wanted = [lottery(0.5), lottery(0.7), lottery(0.75)]
    for config in wanted:
        execute(config, place)
    # Dense training and the rounds at 50 %, 75 % and, trimmed, at exactly 50, 70 and 75 %.
    assert set(trained.values()) == {2} and len(trained) == 5
    done = {r.config.fingerprint: r for r in place.records}
    assert set(done) == set(trained)
    for config in wanted:
        reached = done[config.fingerprint].body["sparsity"]["overall"]
        assert reached == pytest.approx(config.sparsity, abs=1e-3)


def test_a_parent_whose_weights_are_gone_is_trained_again_and_its_record_left_alone(
    tmp_path, trained
):
    place, child = workplace(tmp_path), lottery(0.75)
    execute(lottery(0.5).parent(), place)
    execute(child.parent(), place)
    first = {c: place.weights(c).read_bytes() for c in (child.parent(), child.parent().parent())}
    kept = {c: place.records.path(c).read_bytes() for c in first}
    for config in first:
        place.weights(config).unlink()
    trained.clear()
    assert execute(child, place).status == "finished"
    assert trained == {c.fingerprint: 2 for c in (child, *first)}
    assert kept == {c: place.records.path(c).read_bytes() for c in first}
    assert first == {c: place.weights(c).read_bytes() for c in first}


def test_lost_weights_that_nobody_needs_are_not_trained_again(tmp_path, trained):
    place = workplace(tmp_path)
    execute(tiny(), place)
    place.weights(tiny()).unlink()
    trained.clear()
    execute(tiny(), place)
    assert not trained


def test_a_loss_that_becomes_infinite_is_a_result_and_not_tried_again(tmp_path, trained):
    place, config = workplace(tmp_path), tiny(lr=1e30, optimizer=OPTIMIZERS.spec("sgd"))
    record = execute(config, place)
    assert record.status == "diverged" and "training loss became" in record.body["reason"]
    assert record.accuracy() is None and not place.weights(config).exists()
    trained.clear()
    assert execute(config, place).status == "diverged" and not trained


def test_what_starts_from_a_round_that_diverged_has_diverged_for_good(tmp_path, trained):
    place, child = workplace(tmp_path), lottery(0.5)
    place.records.write(child.parent(), "diverged", made_body())
    assert attempt(child, place) == ""
    record = place.records.get(child)
    assert record.status == "diverged" and record.accuracy() is None
    assert re.search(r"starts from .* dense .* which diverged", record.body["reason"])
    assert execute(child, place).body == record.body and not trained


def test_weights_that_no_training_brings_back_are_an_error_in_a_sentence(tmp_path, monkeypatch):
    place, child = workplace(tmp_path), lottery(0.5)
    place.records.write(child.parent(), "finished", made_body())

    def diverges(self):
        raise Diverged("its training loss became nan")

    monkeypatch.setattr(Trainer, "run_epoch", diverges)
    with pytest.raises(UserError, match=r"weights.pt is lost, and the run ended otherwise"):
        execute(child, place)


def test_a_measurement_that_is_not_finite_does_not_lose_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "_diagnose", lambda self, masks: {"sharpness": float("nan")})
    place = workplace(tmp_path, diagnostics=True)
    assert execute(tiny(), place).status == "finished"
    curve = place.records.get(tiny()).body["curve"]
    assert [line["diagnostics"] for line in curve] == [{"sharpness": None}] * 2


@pytest.mark.parametrize("content", [b"not tensors", None])
def test_weights_of_a_parent_that_cannot_be_used_are_named(tmp_path, content):
    place, child = workplace(tmp_path), lottery(0.5)
    path = place.weights(child.parent())
    place.records.write(child.parent(), "finished", made_body())
    path.parent.mkdir(parents=True)
    save_tensors(path, {"weights": {}}) if content is None else path.write_bytes(content)
    with pytest.raises(UserError, match=r"weights\.pt .*delete it"):
        execute(child, place)


def test_what_goes_wrong_is_recorded_with_its_reason(tmp_path, monkeypatch):
    place = workplace(tmp_path)

    def out_of_memory(self):
        raise RuntimeError("no memory left\nfor this")

    monkeypatch.setattr(Trainer, "run_epoch", out_of_memory)
    assert attempt(tiny(), place) == "RuntimeError: no memory left\nfor this"
    record = place.records.get(tiny())
    assert record.status == "failed" and "no memory left" in record.body["reason"]
    assert "out_of_memory" in record.body["details"]  # the traceback
    too_large = tiny(batch_size=97)
    assert "batch_size" in attempt(too_large, place)
    assert "batch_size" in place.records.get(too_large).body["reason"]


def test_data_that_is_missing_is_found_out_before_processes_start(tmp_path):
    empty = tmp_path / "data"
    with pytest.raises(UserError, match=r"data folder .* does not exist"):
        prepare([tiny(), tiny(dataset="cifar10")], workplace(tmp_path, data=empty))
