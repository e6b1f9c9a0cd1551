"""The commands run and sweep."""

import json
import os
import re
from pathlib import Path

import pytest
from commands import RIGL, config_of, status_of
from workplaces import made_body, workplace

from paper_repro.cli import main as cli
from paper_repro.errors import UserError
from paper_repro.experiment.profiles import PROFILES, profile
from paper_repro.experiment.sweep import Outcome
from paper_repro.files import exclusive
from paper_repro.registry import Spec
from paper_repro.train import Trainer
from tables import TABLES


def test_run_trains_once_and_then_says_that_there_is_a_record(capsys, monkeypatch):
    assert status_of(*RIGL) == 0
    first = capsys.readouterr().out.splitlines()
    assert first[0] == "digits resnet_digits rigl 90.0% s2sam seed 0 (smoke)"
    (path,) = Path("results/smoke").glob("*.json")
    assert first[1] == f"fingerprint {path.stem}, record {path}"
    accuracy = json.loads(path.read_text())["accuracy"]["last"]
    assert first[-1].startswith(f"test accuracy {accuracy:.2f} % after the last epoch")
    assert "sparsity 90.0" in first[-1] and first[-1].endswith("images/s")
    monkeypatch.setattr(Trainer, "run_epoch", None)
    assert status_of(*RIGL) == 0
    again = capsys.readouterr().out.splitlines()
    assert again == [*first[:2], "It has a record already and is not trained again.", first[-1]]


@pytest.mark.slow
def test_run_translates_and_says_so_in_its_own_words(capsys):
    given = ["--dataset", "wmt14", "--optimizer", "s2sam", "--epochs", "2"]
    assert status_of("run", *given) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "phrases transformer_toy dense 0.0% s2sam seed 0 (smoke)"
    assert re.match(r"test bleu \d+\.\d\d after the last epoch .* tokens/s$", lines[-1])
    (path,) = Path("results/smoke").glob("*.json")
    assert (Path("runs") / path.stem / "translations.tsv").exists()


def test_a_sweep_trains_one_seed_of_everything_before_the_next(monkeypatch):
    asked = []
    monkeypatch.setattr(cli, "sweep", lambda wanted, *_: asked.extend(wanted) or Outcome())
    assert status_of("sweep", "table1", "--methods", "rigl", "mest", "--seeds", "7", "3") == 0
    seeds, methods = [c.seed for c in asked], [c.method.name for c in asked]
    half = len(asked) // 2
    assert seeds == [7] * half + [3] * half
    assert methods[:half] == methods[half:] and set(methods[:half]) == {"rigl", "mest"}


def test_a_run_that_diverges_is_said_and_ends_with_status_1(capsys):
    assert status_of(*RIGL, "--option", "rho=1e30") == 1
    assert "diverged: the training loss became" in capsys.readouterr().out


def test_a_run_that_breaks_is_recorded_as_failed(monkeypatch):
    def out_of_memory(self):
        raise RuntimeError("no memory left")

    monkeypatch.setattr(Trainer, "run_epoch", out_of_memory)
    with pytest.raises(RuntimeError, match="no memory left"):
        cli.main(RIGL)
    (path,) = Path("results/smoke").glob("*.json")
    record = json.loads(path.read_text())
    assert record["status"] == "failed" and record["reason"] == "RuntimeError: no memory left"


def test_a_damaged_record_and_a_damaged_checkpoint_end_with_status_2(capsys, monkeypatch):
    config = config_of(*RIGL)
    place = workplace(Path())
    place.records.path(config).parent.mkdir(parents=True)
    place.records.path(config).write_text("{")
    for command in (RIGL, ("sweep", "table1"), ("table", "table1"), ("status",)):
        if command[0] in ("sweep", "table"):  # which want the run at its full length
            full = config_of(*RIGL, "--epochs", "20", "--option", "distribution=uniform")
            place.records.path(full).write_text("{")
        assert status_of(*command) == 2
        assert "is not a run's record" in capsys.readouterr().err
    place.records.path(config).unlink()
    place.folder(config).mkdir(parents=True)
    (place.folder(config) / "checkpoint.pt").write_bytes(b"PK damaged")
    assert status_of(*RIGL) == 2
    assert "checkpoint.pt is damaged" in capsys.readouterr().err


def test_two_runs_at_once_in_one_folder_end_with_status_2(capsys):
    config = config_of(*RIGL)
    with exclusive(workplace(Path()).folder(config)):
        assert status_of(*RIGL) == 2
    assert f"another process (pid {os.getpid()}) is training in" in capsys.readouterr().err


def test_options_reach_the_method_and_the_optimizer():
    config = config_of(*RIGL, "--option", "delta_t=7", "--option", "rho=1", "--seed", "4")
    assert config.method["delta_t"] == 7 and config.optimizer["rho"] == 1.0
    assert (config.seed, config.epochs, config.method["sparsity"]) == (4, 1, 0.9)
    none = config_of(*RIGL, "--optimizer", "sam", "--option", "adaptive=true")
    assert none.optimizer["adaptive"] is True


def test_a_training_is_lengthened_by_a_multiplier():
    longer = ("run", "--method", "mest", "--sparsity", "0.9", "--multiplier", "1.7")
    assert config_of(*longer).epochs == 34  # of 20
    assert config_of(*longer, "--profile", "paper").epochs == 272
    assert config_of(*longer[:-2]) == config_of(*longer[:-1], "1")


def test_the_precision_is_the_profiles_or_the_one_asked_for():
    dense = ("run", "--profile")
    assert config_of(*dense, "paper").precision == "tf32"
    assert config_of(*dense, "paper", "--precision", "bf16").precision == "bf16"
    with pytest.raises(UserError, match="unknown precision 'fp8'; known are float32, tf32, bf16"):
        config_of(*dense, "paper", "--precision", "fp8")


def test_a_sparsity_is_reached_by_as_many_rounds_as_the_ratio_takes():
    def rounds(*more):
        method = config_of("run", "--method", "lt", *more).method
        return method["round"], method["prune_ratio"], method["sparsity"]

    target = ("--sparsity", "0.9")
    assert rounds(*target) == (4, 0.5, 0.9)  # the smoke profile prunes half a round
    assert rounds(*target, "--option", "prune_ratio=0.2") == (11, 0.2, 0.9)
    assert rounds(*target, "--option", "round=5") == (5, 0.5, 0.9)
    assert rounds("--option", "round=5") == (5, 0.5, None)


def profiles_with(dataset):
    return [name for name, size in PROFILES.items() if dataset in size.datasets]


@pytest.mark.usefixtures("imagenets")
@pytest.mark.parametrize("optimizer", ["sgd", "s2sam", "sam"])
def test_a_run_without_further_options_is_one_of_the_tables(optimizer):
    def is_in(table, name, *argv):
        own = TABLES.build(Spec(table), profile=profile(name)).runs()
        seed = str(profile(name).seeds[0])
        asked = ("--profile", name, "--optimizer", optimizer, "--seed", seed)
        return config_of("run", *asked, *argv) in list(own)

    mest = ("--method", "mest", "--sparsity", "0.9", "--option", "distribution=uniform")
    for name in profiles_with("cifar10"):
        assert is_in("table6", name)
        assert is_in("ablation-sam", name, *mest[:4])
        if optimizer != "sam":
            assert is_in("table1", name, *mest)
    for name in profiles_with("imagenet"):
        assert is_in("table6", name, "--dataset", "imagenet")
        assert is_in("table6", name, "--model", "mobilenetv2")
    for name in profiles_with("wmt14"):
        assert is_in("rebuttal-translation", name, "--dataset", "wmt14")


@pytest.mark.usefixtures("imagenets")
def test_a_profiles_radius_and_network_give_way_to_options():
    cpu = ("run", "--profile", "cpu")
    assert config_of(*cpu).optimizer["rho"] == 0.1
    assert config_of(*cpu, "--option", "rho=0.05").optimizer["rho"] == 0.05
    assert config_of(*cpu, "--optimizer", "randomsam").optimizer["rho"] == 0.1
    assert config_of(*cpu, "--model", "resnet_digits").model == "resnet_digits"
    big = config_of("run", "--profile", "paper", "--dataset", "imagenet")
    assert (big.model, big.optimizer["rho"]) == ("resnet50", 1.0)


def test_no_more_epochs_are_averaged_than_there_are():
    translate = ("run", "--dataset", "wmt14", "--epochs")
    assert [config_of(*translate, n).average for n in ("1", "2", "9")] == [1, 2, 2]
    short = ("run", "--dataset", "wmt14", "--multiplier", "0.1")
    assert (config_of(*short).epochs, config_of(*short).average) == (1, 1)


def test_a_run_that_needs_no_training_for_its_parents_fate_is_named_all_the_same(capsys):
    lost = ("run", "--method", "lt", "--option", "round=1", "--epochs", "1", "--option", "rho=1e30")
    parent = config_of(*lost).parent()
    workplace(Path()).records.write(
        parent, "diverged", {**made_body(), "reason": "a test", "curve": []}
    )
    assert status_of(*lost) == 1
    out = capsys.readouterr().out
    assert out.startswith("digits resnet_digits lt") and "which diverged" in out


def test_no_sparsity_at_all_is_dense_training():
    assert config_of("run", "--method", "lt", "--sparsity", "0").method.name == "dense"
    assert config_of("run").method.name == "dense"


def test_what_a_negative_radius_is_is_said(capsys):
    options = ("run", "--method", "dense", "--epochs", "1", "--option", "rho=-0.05")
    assert status_of(*options, "--train-size", "64") == 0
    assert "ρ < 0 is a control" in capsys.readouterr().out


def test_graphs_are_refused_where_there_are_none(capsys):
    assert status_of(*RIGL, "--graph", "--device", "cpu") == 2
    assert "--graph replays steps on a GPU" in capsys.readouterr().err
