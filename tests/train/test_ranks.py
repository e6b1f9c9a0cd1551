"""Several processes train one run: the same bits on each, and the run that one would train."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import made_imagenet
import pytest
import torch
from made_imagenet import write_tree
from rank_runs import (
    broken_off,
    execute_and_save,
    execute_in,
    refusals,
    together,
    train_and_save,
    train_apart,
)
from torch import nn
from toys import same_state
from workplaces import outcome, tiny, untimed, workplace

from paper_repro import data as datasets
from paper_repro.errors import UserError
from paper_repro.optim import OPTIMIZERS
from paper_repro.sparse import METHODS
from paper_repro.train import Trainer
from paper_repro.train.ranks import ALONE, Ranks, current, joined
from paper_repro.train.replicas import GlobalBatchNorm2d, check_model, join_batch_norm

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits", train_size=96)


def config(method="rigl", optimizer="s2sam", **changes):
    options = {"rigl": {"delta_t": 2}, "mest": {"updates": 2}}.get(method, {})
    spec = METHODS.spec(method, sparsity=0.8, **options)
    return tiny(method=spec, optimizer=OPTIMIZERS.spec(optimizer), **changes)


def alone(chosen, data):
    trainer = Trainer(chosen, data, engine="dense")
    while not trainer.finished:
        trainer.run_epoch()
    return trainer


@pytest.mark.parametrize(
    "method, optimizer",
    [
        ("rigl", "s2sam"),
        pytest.param("mest", "sam", marks=pytest.mark.slow),
        pytest.param("snip", "sgd", marks=pytest.mark.slow),
    ],
)
def test_two_ranks_train_the_run_that_one_trains(digits, tmp_path, method, optimizer):
    # A seed at which no activation is so near 0 that rounding decides on which side: one that is
    # changes a gradient by a pixel's share.
    chosen = config(method, optimizer, seed=1)
    zero, one = together(2, train_and_save, tmp_path, chosen, digits)
    for part in ("model", "masks", "optimizer", "weights"):
        assert same_state(zero[part], one[part]), part
    assert untimed(zero["curve"]) == untimed(one["curve"])
    single = alone(chosen, digits)
    left = single.outcome()
    assert same_state(zero["masks"], left["masks"])
    for name, weight in left["weights"].items():
        torch.testing.assert_close(zero["weights"][name], weight, rtol=1e-4, atol=1e-5)
    for name, mask in zero["masks"].items():
        assert not zero["weights"][name][~mask].any()
    for both, line in zip(zero["curve"], single.curve, strict=True):
        assert both["train_loss"] == pytest.approx(line["train_loss"], rel=1e-4)
        assert both["test_loss"] == pytest.approx(line["test_loss"], rel=1e-4)
        for name in ("train_accuracy", "test_accuracy"):
            assert both[name] == pytest.approx(line[name], abs=1.05)  # an image or so on the edge


def test_two_ranks_divide_a_stream(tmp_path):
    data = made_imagenet.load(write_tree(tmp_path / "imagenet"), tmp_path)
    chosen = config(dataset="imagenet", batch_size=4, train_size=None)
    zero, one = together(2, train_and_save, tmp_path / "ranks", chosen, data)
    assert same_state(zero["weights"], one["weights"])
    single = alone(chosen, data)
    for name, weight in single.outcome()["weights"].items():
        torch.testing.assert_close(zero["weights"][name], weight, rtol=1e-3, atol=1e-4)
    line = single.curve[-1]
    assert zero["curve"][-1]["test_loss"] == pytest.approx(line["test_loss"], rel=1e-3)


def test_a_broken_picture_that_several_ranks_met_is_one(tmp_path):
    class Two(Ranks):
        def gathered(self, value):
            return [value, {"met by both", "by the other"}]

    data = made_imagenet.load(write_tree(tmp_path / "imagenet"), tmp_path, skip_broken=True)
    task = Trainer(config(dataset="imagenet", batch_size=4, train_size=None), data).task
    task.ranks = Two()
    task.loader.broken["met by both"] = "no image"
    assert task.training_metrics()["broken_images"] == 2


@pytest.mark.parametrize(
    "part", ["weights", *(pytest.param(p, marks=pytest.mark.slow) for p in ("buffers", "masks"))]
)
def test_ranks_that_come_apart_are_an_error_on_each(digits, tmp_path, part):
    # S2-SAM would take the stray u back to its w, and nothing would be amiss.
    chosen = config(optimizer="sgd")
    said = together(2, train_apart, tmp_path, chosen, digits, part)
    assert said[0] == said[1]
    assert said[0].startswith("Apart: after epoch 2 rank 1 differs from rank 0 in ")


@pytest.mark.slow
def test_one_record_and_a_resume(tmp_path, digits):
    chosen, place = config(epochs=3), workplace(tmp_path)
    told = together(2, execute_and_save, tmp_path / "first", chosen, place, 2)
    assert told == [[0, 1, 2]] * 2
    (folder,) = (tmp_path / "runs").glob("[!c]*")
    assert (folder / "checkpoint.pt").exists()
    (zero, one) = together(2, execute_and_save, tmp_path / "second", chosen, place)
    assert zero == one and zero[0] == [2, 3] and zero[2] == 2
    assert not (folder / "checkpoint.pt").exists()
    assert len(list((tmp_path / "results").rglob("*.json"))) == 1
    never = workplace(tmp_path / "never")
    together(2, execute_and_save, tmp_path / "third", chosen, never)
    assert outcome(chosen, never) == outcome(chosen, place)
    (again, _) = together(2, execute_and_save, tmp_path / "fourth", chosen, place)
    assert again[0] == []


def test_what_several_ranks_cannot_train_is_refused_on_each(digits, tmp_path):
    text = SimpleNamespace(task="classification", **{k: getattr(digits, k) for k in (
        "train", "test", "spare", "classes", "channels", "size", "pad", "flip", "mean", "std",
    )})  # fmt: skip
    cases = [
        (config(batch_size=31), digits),
        *[(config(optimizer=name), digits) for name in ("esam", "saf", "zosam")],
        (config(model="efficientnet_digits"), digits),
        (config(), text),
    ]
    zero, one = together(2, refusals, tmp_path, cases)
    assert zero[0] == one[0] == "UserError: batch_size 31 cannot be divided among 2 ranks"
    for said, name in zip(zero[1:4], ("esam", "saf", "zosam"), strict=True):
        assert said.startswith(f"UserError: 2 ranks cannot train with {name} together")
    assert zero[4] == one[4] and "StochasticDepth) draws random numbers" in zero[4]
    assert zero[5] == one[5] == ""
    assert zero[6:] == ["ValueError", "Odd", {"rank": 0}]
    assert one[6:] == ["UserError", "UserError", {"rank": 0}]  # what no pickle need carry


def test_ranks_with_other_options_say_so(tmp_path):
    runs, places = [config(seed=1), config(seed=2)], [workplace(tmp_path / "one")] * 2
    said = together(2, execute_in, tmp_path / "ranks", runs, places)
    assert said == ["rank 1 has other options than rank 0"] * 2
    with pytest.raises(UserError, match="rank 1 has other copy of cifar10 than rank 0"):
        Apart({"copy of cifar10": "ab"}).check_alike({"copy of cifar10": "cd"})


class Apart(Ranks):
    """Rank 0, beside one that was given something else."""

    def __init__(self, other):
        super().__init__(world=2)
        object.__setattr__(self, "other", other)

    def gathered(self, value):
        return [value, self.other]


def test_what_the_sparse_engine_began_several_ranks_go_on_with(tmp_path):
    place = workplace(tmp_path / "place", engine="sparse")
    stopped = together(1, execute_and_save, tmp_path / "alone", config(), place, 1)
    assert stopped == [[0, 1]]
    (zero, one) = together(2, execute_and_save, tmp_path / "ranks", config(), place)
    assert zero == one and zero[0] == [1, 2] and zero[2] == 2
    body = place.records.get(config()).body
    assert body["environment"]["engine"] == "dense"
    assert body["earlier"][0]["engine"] == "sparse"


@pytest.mark.parametrize(
    "error, kind, said",
    [(UserError("no such picture"), UserError, "rank 1: no such picture"),
     (ZeroDivisionError("x"), RuntimeError, "rank 1: ZeroDivisionError: x")],
)  # fmt: skip
def test_a_rank_learns_why_another_one_failed(tmp_path, error, kind, said):
    ((before, broken, reason),) = together(2, broken_off, tmp_path, error, codes=(0, 1))
    assert before is None and broken == "RuntimeError"
    assert type(reason) is kind and str(reason) == said


def test_a_task_whose_batches_cannot_be_divided(digits, monkeypatch):
    from paper_repro.train.classification import Classification

    monkeypatch.setattr(Classification, "divisible", False)
    with pytest.raises(UserError, match="2 ranks cannot train digits together"):
        Trainer(config(), digits, ranks=Ranks(0, 2))


def test_a_network_that_draws_as_it_runs_is_refused():
    from paper_repro.vision import torchvision

    StochasticDepth = torchvision.ops.StochasticDepth
    for module in (nn.Dropout(0.1), nn.Dropout2d(0.1), StochasticDepth(0.1, "row")):
        model = nn.Sequential(nn.Linear(2, 2), module)
        check_model(model, 1)
        with pytest.raises(UserError, match=rf"2 ranks cannot .* its 1 \({type(module).__name__}"):
            check_model(model, 2)
    check_model(nn.Sequential(nn.Dropout(0.0)), 2)


def test_shares_are_the_whole_batch():
    batch = torch.arange(12)
    shares = [Ranks(rank, 3).share(batch) for rank in range(3)]
    assert torch.equal(torch.cat(shares), batch) and {len(s) for s in shares} == {4}
    assert ALONE.share(batch) is batch
    rounds = [Ranks(rank, 3).rounds(tuple(range(7))) for rank in range(3)]
    assert sorted(i for some in rounds for i in some) == list(range(7))


def test_batch_norm_of_another_kind_is_refused():
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    with pytest.raises(UserError, match="1 is a BatchNorm1d"):
        join_batch_norm(model)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_joined_batch_norm_is_batch_norm(monkeypatch, affine, momentum):
    from paper_repro.train import replicas

    monkeypatch.setattr(replicas.dist, "get_world_size", lambda: 1)
    monkeypatch.setattr(replicas.dist, "all_reduce", lambda tensor: None)
    plain = torch.nn.BatchNorm2d(5, affine=affine, momentum=momentum)
    joined_ = torch.nn.BatchNorm2d(5, affine=affine, momentum=momentum)
    join_batch_norm(joined_)
    assert type(joined_) is GlobalBatchNorm2d and isinstance(joined_, torch.nn.BatchNorm2d)
    for seed in range(3):
        x = torch.randn(4, 5, 3, 6, generator=torch.Generator().manual_seed(seed)) * 3 + 7
        one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
        a, b = plain(one), joined_(other)
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
        (a**3).sum().backward()
        (b**3).sum().backward()
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-4)
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(joined_.state_dict()[key], value, rtol=1e-4, atol=1e-5)
    plain.eval(), joined_.eval()
    torch.testing.assert_close(plain(x), joined_(x), rtol=1e-4, atol=1e-4)
    joined_.train().track_running_stats = False  # as extra forward passes have it
    before = joined_.running_mean.clone()
    joined_(x)
    assert torch.equal(joined_.running_mean, before)
    constant = torch.full((4, 5, 3, 6), 0.1)
    assert not joined_(constant).any()  # no rounding blown up to a signal


def test_joined_batch_norm_has_the_second_derivative_too(monkeypatch):
    from paper_repro.train import replicas

    # Two ranks of the same images: whatever one adds, the other does, and autograd sees none of it.
    monkeypatch.setattr(replicas.dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(replicas.dist, "all_reduce", torch.no_grad()(lambda t: t.mul_(2)))
    plain, joined_ = torch.nn.BatchNorm2d(5).double(), torch.nn.BatchNorm2d(5).double()
    join_batch_norm(joined_)
    g = torch.Generator().manual_seed(0)
    x, v = (torch.randn(4, 5, 3, 6, generator=g, dtype=torch.float64) for _ in range(2))

    def curved(norm, x, v):
        at = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad((norm(at) ** 3).sum(), at, create_graph=True)
        return torch.autograd.grad((slope * v).sum(), at)[0]

    whole = curved(plain, torch.cat([x, x]), torch.cat([v, v]))
    torch.testing.assert_close(curved(joined_, x, v), whole[:4])


def test_without_torchrun_nothing_is_set_up(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined(torch.device("cpu")) as ranks:
        assert ranks is ALONE and current() is ALONE


@pytest.mark.parametrize(
    "environment, match",
    [({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two'"), ({"WORLD_SIZE": "2"}, "RANK is not")],
)
def test_half_an_environment(monkeypatch, environment, match):
    monkeypatch.delenv("RANK", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=match), joined(torch.device("cpu")):
        pass


def torchrun(*arguments):
    return subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
            *("--standalone", "-m", "paper_repro", *arguments),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )


@pytest.mark.slow
def test_torchrun_trains_one_run_and_writes_one_record(tmp_path):
    folders = ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    options = ["--method", "rigl", "--sparsity", "0.9", "--epochs", "2", "--train-size", "128"]
    ran = torchrun("run", *options, *folders)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("test accuracy") == 1
    (record,) = (tmp_path / "results").rglob("*.json")
    body = json.loads(record.read_text())
    assert body["status"] == "finished" and body["environment"]["ranks"] == 2
    assert len(body["curve"]) == 2
    alone = ["run", "--from-record", str(record), "--runs", str(tmp_path / "runs")]
    refused = subprocess.run(
        [sys.executable, "-m", "paper_repro", *alone], capture_output=True, text=True, timeout=300
    )
    assert refused.returncode == 2 and "use torchrun --nproc-per-node 2" in refused.stderr
    again = torchrun(*alone)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("It came out the same, bit for bit.") == 1


@pytest.mark.slow
def test_torchrun_trains_nothing_but_runs(tmp_path):
    ran = torchrun("status", "--runs", str(tmp_path), "--results", str(tmp_path))
    assert ran.returncode != 0
    assert "several processes train one `run` together, but no status" in ran.stderr
