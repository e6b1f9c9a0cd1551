"""The training loop on a few of the bundled digits."""

import copy
import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from toys import equal, same_state, through_disk

from paper_repro import data as datasets
from paper_repro import models
from paper_repro.config import RunConfig
from paper_repro.data import Split
from paper_repro.errors import UserError
from paper_repro.measure.accuracy import evaluate
from paper_repro.optim import OPTIMIZERS, exact
from paper_repro.sparse import METHODS, prunable
from paper_repro.sparse.method import BatchRequest, seed_of_stream
from paper_repro.train import Diverged, Trainer
from paper_repro.train.schedule import cosine

BATCH, STEPS = 16, 5
METHOD_SPECS = {
    "dense": METHODS.spec("dense"),
    "rigl": METHODS.spec("rigl", sparsity=0.8, delta_t=STEPS),  # due at an epoch's first step
    "set": METHODS.spec("set", sparsity=0.8),
    "mest": METHODS.spec("mest", sparsity=0.8, updates=10),
    "lt": METHODS.spec("lt", prune_ratio=0.5, round=1),
}
OPTIMIZER_SPECS = {
    "sgd": OPTIMIZERS.spec("sgd"),
    "s2sam": OPTIMIZERS.spec("s2sam", rho=0.2),
    "sam": OPTIMIZERS.spec("sam", rho=0.2),
}


@pytest.fixture(scope="module")
def data():
    """84 training images, five batches and a rest, and 40 test images."""
    full = datasets.load("digits", train_size=BATCH * STEPS + 4)
    test = Split(full.test.images[::9].clone(), full.test.labels[::9].clone())
    return dataclasses.replace(full, test=test)


@pytest.fixture(scope="module")
def parent(data):
    """The trained dense network that a first pruning round starts from."""
    trainer = Trainer(config(), data)
    trainer.run_epoch()
    return trainer.outcome()


def config(method="dense", optimizer="sgd", **settings):
    settings = {"seed": 0, "epochs": 4, "batch_size": BATCH, **settings}
    return RunConfig(
        profile="smoke",
        dataset="digits",
        model="resnet_digits",
        method=METHOD_SPECS[method],
        optimizer=OPTIMIZER_SPECS[optimizer],
        **settings,
    )


def make(data, parent=None, method="dense", optimizer="sgd", **settings):
    chosen = config(method, optimizer, **settings)
    return Trainer(chosen, data, parent if method == "lt" else None)


def run(trainer, epochs=None):
    for _ in range(epochs or trainer.config.epochs - trainer.epoch):
        trainer.run_epoch()
    return trainer


def essence(trainer):
    """Everything that training determines: all of the state but the time it took."""
    timing = {"seconds", "images_per_second"}
    state = copy.deepcopy(trainer.state_dict())
    state["curve"] = [{k: v for k, v in line.items() if k not in timing} for line in state["curve"]]
    return state


@pytest.mark.parametrize("optimizer", OPTIMIZER_SPECS)
@pytest.mark.parametrize("method", ["rigl", "set", "mest", "lt"])
def test_a_resumed_run_ends_bit_identical(data, parent, method, optimizer):
    whole = run(make(data, parent, method, optimizer))
    assert whole.finished
    if method != "lt":
        assert whole.method.updates >= 2
    trainer = make(data, parent, method, optimizer)
    while not trainer.finished:  # stopped after every single epoch
        run(trainer, 1)
        saved = through_disk(trainer.state_dict())
        trainer = make(data, parent, method, optimizer)
        torch.manual_seed(99)
        trainer.load_state_dict(saved)
    assert same_state(essence(trainer), essence(whole))


def test_a_resumed_run_in_bf16(data):
    whole = run(make(data, method="rigl", optimizer="s2sam", precision="bf16"))
    trainer = run(make(data, method="rigl", optimizer="s2sam", precision="bf16"), 2)
    saved = through_disk(trainer.state_dict())
    trainer = make(data, method="rigl", optimizer="s2sam", precision="bf16")
    trainer.load_state_dict(saved)
    assert same_state(essence(run(trainer)), essence(whole))
    assert all(p.dtype == torch.float32 for p in whole.model.parameters())
    plain = run(make(data, method="rigl", optimizer="s2sam"))
    assert not same_state(essence(plain)["curve"], essence(whole)["curve"])


def test_the_seed_and_nothing_else_decides(data):
    one = run(make(data, method="rigl", optimizer="s2sam"), 2)
    two = make(data, method="rigl", optimizer="s2sam")
    run(two, 1)
    torch.rand(7)  # others may use the global random state meanwhile
    run(two, 1)
    ones, twos = essence(one), essence(two)
    assert ones.pop("global_generator") is not None
    del twos["global_generator"]
    assert same_state(ones, twos)
    other = run(make(data, method="rigl", optimizer="s2sam", seed=1), 2)
    assert other.curve[-1]["train_loss"] != one.curve[-1]["train_loss"]


@pytest.mark.parametrize("optimizer", OPTIMIZER_SPECS)
def test_the_rate_follows_the_cosine_at_every_step(data, optimizer):
    trainer = make(data, optimizer=optimizer, lr=0.2, lr_min=1e-4)
    base = getattr(trainer.optimizer, "base", trainer.optimizer)
    rates = []
    base.register_step_pre_hook(lambda opt, *_: rates.append(opt.param_groups[0]["lr"]))
    run(trainer)
    total = 4 * STEPS
    closed = [1e-4 + 0.5 * (0.2 - 1e-4) * (1 + math.cos(math.pi * t / total)) for t in range(total)]
    assert rates == pytest.approx(closed, rel=1e-12)
    assert [line["lr"] for line in trainer.curve] == rates[STEPS - 1 :: STEPS]
    assert rates[0] == pytest.approx(0.2)
    assert rates[-1] - 1e-4 == pytest.approx(0.2 * (math.pi / total) ** 2 / 4, rel=0.01)


def test_the_loss_is_the_smoothed_one_and_the_test_loss_is_not(data):
    """At lr = 0 nothing moves, so a plain loop over the same images gives the same numbers."""
    trainer = make(data, lr=0.0, lr_min=0.0, label_smoothing=0.3)
    fresh = models.build("resnet_digits", classes=10, channels=1, seed=0)
    generator = torch.Generator().manual_seed(0)
    line = trainer.run_epoch()

    labels = data.train.labels
    order = torch.randperm(len(labels), generator=generator)
    plan = trainer.task.augmenter.draw(len(labels), generator)
    smoothed, plain, correct = [], [], 0
    with torch.no_grad():
        for k in range(STEPS):
            index = order[k * BATCH : (k + 1) * BATCH]
            logits = fresh(trainer.task.augmenter.batch(index, plan))
            log_p = logits.log_softmax(1)
            hot = -log_p.gather(1, labels[index, None]).mean()
            smoothed.append(float(0.7 * hot - 0.3 * log_p.mean()))
            plain.append(float(hot))
            correct += int((logits.argmax(1) == labels[index]).sum())
        fresh.eval()
        logits = fresh(trainer.task.augmenter.normalise(data.test.images))
    assert line["train_loss"] == pytest.approx(sum(smoothed) / STEPS, rel=1e-4)
    assert abs(sum(smoothed) - sum(plain)) / STEPS > 1e-3
    assert line["train_accuracy"] == 100 * correct / (STEPS * BATCH)
    assert line["test_loss"] == pytest.approx(
        float(F.cross_entropy(logits, data.test.labels)), rel=1e-3
    )
    expected = 100 * float((logits.argmax(1) == data.test.labels).float().mean())
    assert line["test_accuracy"] == pytest.approx(expected)
    assert equal(trainer.model.parameters(), fresh.parameters())


def test_evaluation_is_at_w_and_training_goes_on_at_u(data):
    trainer = make(data, method="rigl", optimizer="s2sam")
    line = trainer.run_epoch()
    u = [p.detach().clone() for p in trainer.model.parameters()]
    at_u = evaluate(trainer.model, data.test, trainer.task.augmenter.normalise)
    clone = copy.deepcopy(trainer.model)
    with torch.no_grad():
        for p, q in zip(clone.parameters(), trainer.model.parameters(), strict=True):
            p.copy_(exact(trainer.optimizer, q))
    at_w = evaluate(clone, data.test, trainer.task.augmenter.normalise)
    assert not equal(u, clone.parameters())
    assert (line["test_loss"], line["test_accuracy"]) == at_w
    assert line["test_loss"] != at_u[0]
    assert tuple(trainer.evaluate().values()) == at_w
    assert equal(u, trainer.model.parameters())

    outcome = trainer.outcome()
    assert same_state(dict(outcome["weights"]), dict(clone.state_dict()))
    for name, mask in outcome["masks"].items():
        assert not outcome["weights"][name][~mask].any()


def test_evaluation_that_fails_leaves_training_at_u(data, monkeypatch):
    trainer = make(data, optimizer="s2sam")
    trainer.run_epoch()
    u = [p.detach().clone() for p in trainer.model.parameters()]
    monkeypatch.setattr("paper_repro.train.classification.evaluate", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trainer.evaluate()
    assert equal(u, trainer.model.parameters())


@pytest.mark.parametrize("optimizer", OPTIMIZER_SPECS)
def test_an_epoch_leaves_out_the_incomplete_batch_and_moves_statistics_once_a_step(data, optimizer):
    trainer = make(data, optimizer=optimizer)
    assert (trainer.steps_per_epoch, trainer.total_steps) == (STEPS, 4 * STEPS)
    run(trainer, 2)
    assert int(trainer.model.bn1.num_batches_tracked) == 2 * STEPS
    assert [line["epoch"] for line in trainer.curve] == [1, 2]
    assert trainer.model.training


def test_a_loss_that_is_not_finite_is_a_divergence(data):
    trainer = make(data, lr=1e30)
    with pytest.raises(Diverged, match=r"the training loss became (nan|inf) in epoch 1"):
        trainer.run_epoch()
    assert trainer.curve == []


def test_a_finite_loss_beyond_hope_is_a_divergence_too(data, monkeypatch):
    monkeypatch.setattr(Trainer, "train_epoch", lambda self: (2.4e24, 10.0))
    with pytest.raises(Diverged, match=r"the training loss became 2\.4e\+24 in epoch 1"):
        Trainer(config("rigl"), data).run_epoch()


@pytest.mark.parametrize("optimizer", ["s2sam", "sam"])
def test_a_late_phase_trains_as_the_base_optimizer_first_and_resumes(data, optimizer):
    late = Trainer(config("rigl", optimizer, rho_start=0.6), data)  # from step 12 of 20
    plain, throughout = Trainer(config("rigl"), data), Trainer(config("rigl", optimizer), data)
    for _ in range(2):
        late.run_epoch(), plain.run_epoch(), throughout.run_epoch()
    assert equal(late.model.parameters(), plain.model.parameters())
    assert not equal(throughout.model.parameters(), plain.model.parameters())
    saved = through_disk(late.state_dict())
    resumed = Trainer(late.config, data)
    resumed.load_state_dict(saved)
    for trainer in (late, resumed, plain):
        while not trainer.finished:
            trainer.run_epoch()
    assert same_state(late.outcome(), resumed.outcome())
    assert not same_state(late.outcome(), plain.outcome())
    taken = [line["gradients_per_step"] for line in resumed.curve]
    assert taken == ([1, 1, 1 + 3 / 5, 2] if optimizer == "sam" else [1] * 4)
    assert plain.work.training <= late.work.training
    assert (plain.work.training < late.work.training) == (optimizer == "sam")


def test_initial_weights_as_the_config_says(data):
    for init in ("fan_in", "released"):
        own = Trainer(config(init=init), data).model
        right = models.build("resnet_digits", classes=10, channels=1, seed=0, init=init)
        assert equal(own.parameters(), right.parameters())


def test_a_network_that_breaks_at_the_last_step_is_a_divergence_too(data):
    trainer = make(data, lr=1e30, epochs=1, batch_size=80)
    assert trainer.total_steps == 1  # so the only training loss is that of the initial weights
    with pytest.raises(Diverged, match=r"the test loss became (nan|inf) in epoch 1"):
        trainer.run_epoch()
    assert trainer.curve == []


def test_a_checkpoint_of_another_run_is_refused(data):
    state = make(data).state_dict()
    with pytest.raises(UserError, match=r"the checkpoint is of run \w{16}, not \w{16}"):
        make(data, seed=1).load_state_dict(state)


def test_too_few_images_for_a_batch(data):
    with pytest.raises(UserError, match="batch_size 85 exceeds the 84 training images"):
        make(data, batch_size=85)


def test_a_pruning_chain_rewinds_exactly_and_its_masks_are_nested(data):
    fresh = dict(models.build("resnet_digits", classes=10, channels=1, seed=0).named_parameters())
    outcome = run(make(data, optimizer="s2sam", epochs=1)).outcome()
    total = sum(w.numel() for w in map(fresh.get, prunable(make(data).model)))
    count, old = total, None
    for k in (1, 2, 3):
        spec = METHODS.spec("lt", prune_ratio=0.5, round=k)
        chosen = dataclasses.replace(config(optimizer="s2sam", epochs=1), method=spec)
        trainer = Trainer(chosen, data, outcome)
        count -= math.ceil(count / 2)
        masks = trainer.method.masks.state_dict()
        assert sum(int(m.sum()) for m in masks.values()) == count
        for name, p in trainer.model.named_parameters():
            kept = masks.get(name, torch.tensor(True))
            assert torch.equal(p.detach(), fresh[name].detach() * kept)
            if old and name in masks:
                assert not (masks[name] & ~old[name]).any()
        outcome, old = run(trainer).outcome(), masks
        assert same_state(outcome["masks"], masks)
        line = trainer.curve[-1]
        assert line["sparsity"] == pytest.approx(1 - count / total)


def test_images_to_score_on(data):
    trainer = make(data)
    thirty = METHODS.spec("snip", sparsity=0.9, batch_size=30)
    images, labels = trainer._scoring_batch(METHODS["snip"].batch_request(thirty))
    assert images.shape == (30, 1, 8, 8)
    normal = trainer.task.augmenter.normalise(data.train.images)  # no augmentation, no repeats
    found = [[i for i in range(len(normal)) if torch.equal(normal[i], image)] for image in images]
    assert all(len(where) == 1 for where in found)
    where = [at for (at,) in found]
    assert len(set(where)) == 30
    assert labels.tolist() == data.train.labels[where].tolist()
    request = BatchRequest(size=2, per_class=True)
    _, labels = trainer._scoring_batch(request)
    there = data.train.labels.bincount(minlength=10).tolist()
    assert labels.tolist() == [c for c in range(10) for _ in range(min(2, there[c]))]


def test_rate_and_schedule_agree(data):
    trainer = run(make(data), 1)
    assert trainer.curve[0]["lr"] == cosine(STEPS - 1, 4 * STEPS, 0.1, 4e-8)


@pytest.mark.parametrize("stream", ["own", "weights"])
def test_masks_are_drawn_from_the_stream_that_the_config_names(data, stream):
    chosen = config("rigl", seed=3, mask_stream=stream)
    trainer = Trainer(chosen, data, engine="dense")
    model = trainer.task.build_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    seed = 3 if stream == "own" else seed_of_stream(3)
    by_hand = METHODS.build(
        chosen.method, model=model, optimizer=optimizer, total_steps=trainer.total_steps, seed=seed
    )
    assert same_state(trainer.method.masks.state_dict(), by_hand.masks.state_dict())
