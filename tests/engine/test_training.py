"""Whole trainings in the engine beside PyTorch's: the same run, stopped, moved and recorded."""

import copy
import dataclasses
import functools
import io

import pytest
import torch
from toys import same_state, through_disk

from paper_repro import data as datasets
from paper_repro.config import RunConfig
from paper_repro.data import Split
from paper_repro.errors import UserError
from paper_repro.optim import OPTIMIZERS, exact
from paper_repro.sparse import METHODS
from paper_repro.sparse.lt import spec_reaching
from paper_repro.train import Trainer

BATCH, STEPS = 24, 5


@functools.cache
def digits(steps=STEPS):
    full = datasets.load("digits", train_size=BATCH * steps)
    return dataclasses.replace(full, test=Split(full.test.images[:150], full.test.labels[:150]))


def config(method="rigl", optimizer="s2sam", model="resnet_digits", steps=STEPS, **settings):
    known = METHODS.defaults(method)
    short = {"sparsity": 0.8, "delta_t": 3, "updates": 5, "round": 1, "rounds": 10}
    return RunConfig(
        **{
            "profile": "smoke",
            "dataset": "digits",
            "model": model,
            "method": METHODS.spec(method, **{k: v for k, v in short.items() if k in known}),
            "optimizer": OPTIMIZERS.spec(optimizer),
            "seed": 0,
            "epochs": 3,
            "batch_size": BATCH,
            "train_size": BATCH * steps,
            **settings,
        }
    )


def make(run, engine="sparse", steps=STEPS, **options):
    return Trainer(run, digits(steps), engine=engine, **options)


def essence(trainer):
    timing = {"seconds", "images_per_second"}
    state = copy.deepcopy(trainer.state_dict())
    state["curve"] = [{k: v for k, v in line.items() if k not in timing} for line in state["curve"]]
    return state


def train(trainer, epochs=None):
    for _ in range(trainer.config.epochs - trainer.epoch if epochs is None else epochs):
        trainer.run_epoch()
    return trainer


@pytest.mark.parametrize("method, optimizer", [("mest", "sgd"), ("rigl", "s2sam"), ("mest", "sam")])
def test_the_first_steps_are_the_same(method, optimizer):
    losses = []
    for engine in ("dense", "sparse"):
        trainer = make(config(method, optimizer), engine)
        sums = [0.0]
        for index in trainer.begin_epoch():
            trainer.step(index)
            sums.append(float(trainer.within.loss_sum))
        losses.append(torch.tensor(sums).diff())
    assert torch.allclose(*losses, rtol=1e-4, atol=1e-5), losses


@pytest.mark.parametrize("engine", ["sparse", pytest.param("sparse-bf16", marks=pytest.mark.slow)])
def test_a_whole_training_is_indistinguishable(engine):
    run = config("mest", epochs=9, train_size=BATCH * 20)
    ends = {
        e: [line["test_accuracy"] for line in train(make(run, e, 20)).curve][-3:]
        for e in ("dense", engine)
    }
    means = {e: sum(values) / 3 for e, values in ends.items()}
    # 150 test images: a standard error of 2 % at 93 %.
    assert means["dense"] > 85 and abs(means["dense"] - means[engine]) < 6, ends


@pytest.mark.parametrize(
    "method, optimizer",
    [
        ("rigl", "s2sam"),
        ("mest", "sam"),
        ("granet", "msam"),
        ("chase", "looksam"),
        ("set", "s2sam"),
    ],
)
def test_a_resumed_run_ends_bit_identical(method, optimizer):
    run = config(method, optimizer)
    whole = train(make(run))
    assert whole.method.updates >= 2
    trainer = make(run)
    while not trainer.finished:
        train(trainer, 1)
        saved = through_disk(trainer.state_dict())
        trainer = make(run)
        torch.manual_seed(99)
        trainer.load_state_dict(saved)
    assert same_state(essence(trainer), essence(whole))


def by_name(trainer):
    """Everything that a run is, whatever engine it is in: dense, by parameter."""
    found = {}
    if trainer.net is None:
        for name, p in trainer.model.named_parameters():
            found[name, "u"], found[name, "w"] = p.detach(), exact(trainer.optimizer, p).detach()
            for key, value in trainer.optimizer.state.get(p, {}).items():
                found[name, key] = value
    else:
        flat, layout = trainer.net.flat, trainer.net.layout
        state = {"u": flat, "w": exact(trainer.optimizer, flat)}
        state.update(trainer.optimizer.state.get(flat, {}))
        for key, value in state.items():
            packed = isinstance(value, torch.Tensor) and value.shape == flat.shape
            for name in layout.shapes:
                found[name, key] = layout.unpack(value, name) if packed else value
    masks = {("mask", n): m for n, m in trainer.method.masks.state_dict().items()}
    buffers = dict(trainer.model.named_buffers())
    settings = [
        {k: v for k, v in g.items() if k != "params"} for g in trainer.optimizer.param_groups
    ]
    method = {k: v for k, v in trainer.method.state_dict().items() if k != "masks"}
    generator = trainer.generator.get_state()
    return copy.deepcopy([found, masks, buffers, settings, method, generator, trainer.epoch])


@pytest.mark.parametrize(
    "method, optimizer",
    [("rigl", "s2sam"), ("granet", "msam"), ("chase", "looksam"), ("rigl", "sgd")],
)
@pytest.mark.parametrize("engines", [("dense", "sparse"), ("sparse", "dense")], ids="->".join)
def test_a_checkpoint_of_one_engine_goes_on_in_the_other(method, optimizer, engines):
    run = config(method, optimizer)
    first, second = train(make(run, engines[0]), 1), make(run, engines[1])
    second.load_state_dict(through_disk(first.state_dict()))
    assert same_state(by_name(first), by_name(second))
    third = make(run, engines[0])  # and back
    third.load_state_dict(through_disk(second.state_dict()))
    assert same_state(by_name(first), by_name(third))
    lines = [train(trainer, 1).curve[-1] for trainer in (first, second)]
    assert lines[0]["train_loss"] == pytest.approx(lines[1]["train_loss"], rel=0.02)
    assert first.method.steps == second.method.steps


def test_a_checkpoint_is_as_small_as_the_network():
    spec = METHODS.spec("mest", sparsity=0.98)
    run = dataclasses.replace(config("mest", model="resnet32x2"), method=spec)
    sizes = {}
    for engine in ("dense", "sparse"):
        trainer = Trainer(run, digits(), engine=engine)
        trainer.step(next(iter(trainer.begin_epoch()))[:2])
        file = io.BytesIO()
        torch.save(trainer.state_dict(), file)
        sizes[engine] = file.tell()
        assert sum(p.numel() for p in trainer.model.parameters()) > 1.8e6
    assert sizes["sparse"] < 1.6e6 < 15e6 < sizes["dense"], sizes


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_trains_in_it_or_is_refused(name):
    run = config(name)
    if name == "lt":
        run = dataclasses.replace(run, method=spec_reaching(0.8, 0.5))
    parent = run.parent()
    left = None if parent is None else _outcome(parent)
    if not METHODS[name].masks_only:
        with pytest.raises(UserError, match="more than its masks"):
            Trainer(run, digits(), left, engine="sparse")
        assert Trainer(run, digits(), left).engine_reason
        return
    trainer = train(Trainer(run, digits(), left, engine="sparse"), 2)
    assert trainer.net is not None and trainer.curve[-1]["train_loss"] < 10
    outcome = trainer.outcome()
    for layer, mask in outcome["masks"].items():
        assert not outcome["weights"][layer][~mask].any()
    # What is handed on scores as the run did.
    other = Trainer(run, digits(), left, engine="dense")
    other.model.load_state_dict(outcome["weights"])
    assert other.task.evaluate(other.model)["test_loss"] == pytest.approx(
        trainer.curve[-1]["test_loss"], rel=1e-3
    )


@functools.cache
def _outcome(run):
    parent = run.parent()
    left = None if parent is None else _outcome(parent)
    return train(Trainer(run, digits(), left, engine="dense"), 1).outcome()


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_every_optimizer_trains_in_it_or_is_refused(name):
    run = config("rigl", name)
    if name in ("esam", "released"):
        with pytest.raises(UserError, match="a way of its own"):
            make(run)
        return
    trainer = train(make(run), 2)
    assert trainer.curve[-1]["train_loss"] < trainer.curve[0]["train_loss"] + 0.5
    assert trainer.method.updates >= 2


@pytest.mark.parametrize("optimizer", ["s2sam", "sam"])
def test_diagnostics_are_of_the_same_network(optimizer):
    """The perturbation too: under S2-SAM the one that training stands at, not SAM's."""
    run = config("mest", optimizer)
    curves = [train(make(run, e, diagnostics=True), 1).curve[0] for e in ("dense", "sparse")]
    ours, theirs = (_numbers(line["diagnostics"]) for line in curves)
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        assert theirs[key] == pytest.approx(value, rel=0.05, abs=5e-3), key


def _numbers(nested, prefix=()):
    if not isinstance(nested, dict):
        return {prefix: nested}
    return {k: v for n, inner in nested.items() for k, v in _numbers(inner, (*prefix, n)).items()}


def test_replayed_steps_are_the_plain_ones():
    run = config("rigl")
    plain, replayed = (essence(train(make(run, graph=g), 2)) for g in (False, True))
    for state in (plain, replayed):
        state.pop("graphed")
    assert torch.allclose(plain["flat"], replayed["flat"], rtol=1e-4, atol=1e-5)
    assert plain["curve"][0]["train_loss"] == pytest.approx(replayed["curve"][0]["train_loss"])
