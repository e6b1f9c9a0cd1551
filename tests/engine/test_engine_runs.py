"""The engine on the command line and in records, with and without a compiler."""

import json
import sys
from pathlib import Path

import pytest
import torch
from workplaces import outcome, tiny, workplace

from paper_repro.cli import main as cli
from paper_repro.engine.build import best
from paper_repro.errors import UserError
from paper_repro.experiment import runs
from paper_repro.experiment.runs import execute
from paper_repro.files import load_tensors
from paper_repro.train import Trainer

ENGINES = ("dense", "sparse", "sparse-bf16")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch, one_thread):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def no_compiler(monkeypatch):
    def missing(*_):
        raise UserError("the sparse engine needs a C++ compiler (c++, g++ or clang++), or CXX")

    # `attach` names the function, too, where the package exports it.
    for module in (runs, sys.modules["paper_repro.engine.engines"]):
        monkeypatch.setattr(module, "library", missing)


def run(*arguments):
    short = ("--method", "mest", "--sparsity", "0.9", "--epochs", "1", "--train-size", "128")
    try:
        return cli.main(["run", *short, "--threads", "1", *arguments])
    except SystemExit as end:
        return end.code


def record():
    (path,) = Path("results").rglob("*.json")
    return json.loads(path.read_text())


@pytest.mark.parametrize("engine", ENGINES)
def test_the_engine_asked_for_trains_and_is_recorded(engine, capsys):
    assert run("--engine", engine) == 0
    where = record()["environment"]
    assert where["engine"] == engine and "engine_reason" not in where
    assert where.get("instruction_set") == (None if engine == "dense" else best())
    assert "test accuracy" in capsys.readouterr().out


def test_auto_says_why_it_trains_dense(capsys):
    assert run() == 0
    where = record()["environment"]
    assert where["engine"] == "dense" and "so small" in where["engine_reason"]
    assert "PyTorch trained it, not the sparse engine: the network is so" in capsys.readouterr().out


def test_auto_takes_it_where_it_pays(tmp_path, monkeypatch):
    monkeypatch.setattr("paper_repro.engine.engines.worth", lambda *_: None)
    found = execute(tiny(), workplace(tmp_path))
    assert found.body["environment"]["engine"] == "sparse"


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("--engine", "fast"), "unknown engine 'fast'; known are auto, dense, sparse, sparse-bf16"),
        (("--engine", "sparse", "--compile"), "cannot train this run: the model is to be compiled"),
        (("--engine", "sparse", "--precision", "bf16"), "the run asks for bfloat16 autocast"),
        (("--engine", "sparse", "--optimizer", "esam"), "ESAM treats each parameter tensor"),
    ],
)
def test_what_cannot_be_had_is_one_sentence(arguments, said, capsys):
    assert run(*arguments) == 2
    *_bar, error = capsys.readouterr().err.strip().splitlines()
    assert error.startswith("paper_repro: ") and said in error
    assert not list(Path("results").rglob("*.json"))


def test_without_a_compiler_auto_trains_dense_and_sparse_is_an_error(
    no_compiler, monkeypatch, capsys
):
    monkeypatch.setattr("paper_repro.engine.engines.worth", lambda *_: None)
    assert run("--engine", "sparse") == 2
    assert "needs a C++ compiler" in capsys.readouterr().err
    assert run("--engine", "auto") == 0
    where = record()["environment"]
    assert where["engine"] == "dense" and "needs a C++ compiler" in where["engine_reason"]
    assert "needs a C++ compiler" in capsys.readouterr().out


class Stopped(Exception):
    pass


def stop_after(epochs, monkeypatch):
    original = Trainer.run_epoch

    def run_epoch(self):
        if self.epoch == epochs:
            raise Stopped
        return original(self)

    monkeypatch.setattr(Trainer, "run_epoch", run_epoch)
    return lambda: monkeypatch.setattr(Trainer, "run_epoch", original)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_goes_on_in_the_engine_it_began_in(engine, tmp_path, monkeypatch):
    config, whole = tiny(epochs=3), workplace(tmp_path / "whole", engine=engine)
    execute(config, whole)
    place = workplace(tmp_path / "stopped", engine=engine)
    go_on = stop_after(1, monkeypatch)
    with pytest.raises(Stopped):
        execute(config, place)
    go_on()
    assert load_tensors(place.folder(config) / "checkpoint.pt", "cpu")["engine"] == engine
    # Whatever is asked for now.
    other = workplace(tmp_path / "stopped", engine="dense" if engine != "dense" else "sparse")
    found = execute(config, other)
    assert found.body["environment"]["engine"] == engine
    ours, theirs = outcome(config, whole), outcome(config, other)
    assert ours[0] == theirs[0]
    one, two = (torch.load(p.weights(config)) for p in (whole, other))
    assert all(torch.equal(one["weights"][n], two["weights"][n]) for n in one["weights"])


def test_a_sparse_checkpoint_goes_on_where_there_is_no_compiler(tmp_path, monkeypatch, request):
    config, place = tiny(epochs=3), workplace(tmp_path, engine="sparse")
    go_on = stop_after(1, monkeypatch)
    with pytest.raises(Stopped):
        execute(config, place)
    go_on()
    request.getfixturevalue("no_compiler")
    found = execute(config, place)
    assert found.status == "finished" and found.body["environment"]["engine"] == "dense"
    assert len(found.body["curve"]) == 3
