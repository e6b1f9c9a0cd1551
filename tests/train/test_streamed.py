"""The loop on pictures that are read as they are needed, and on runs stopped within an epoch."""

import copy
import dataclasses
import multiprocessing

import made_imagenet
import pytest
import torch
from made_imagenet import write_shards, write_tree
from rank_runs import execute_and_save, together
from toys import same_state, through_disk
from workplaces import tiny, workplace

from paper_repro import data as datasets
from paper_repro.errors import UserError
from paper_repro.experiment import runs
from paper_repro.optim import OPTIMIZERS
from paper_repro.sparse import METHODS
from paper_repro.sparse.method import BatchRequest
from paper_repro.train import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("imagenet")
    return made_imagenet.load(write_tree(folder), folder / "cache")


def config(method="rigl", optimizer="s2sam", **changes):
    options = {"delta_t": 2} if method == "rigl" else {}
    settings = {
        "dataset": "imagenet",
        "method": METHODS.spec(method, sparsity=0.8, **options),
        "optimizer": OPTIMIZERS.spec(optimizer),
        "epochs": 3,
        "batch_size": 3,
        "train_size": None,
    }
    return tiny(**{**settings, **changes})


def essence(trainer):
    """Everything that training determines: all of the state but the time it took."""
    state = copy.deepcopy(trainer.state_dict())
    timing = {"seconds", "images_per_second"}
    state["curve"] = [{k: v for k, v in line.items() if k not in timing} for line in state["curve"]]
    return state


def run(trainer):
    while not trainer.finished:
        trainer.run_epoch()
    return trainer


def test_a_streamed_run_learns(data):
    trainer = run(Trainer(config(epochs=15, batch_size=6, augment=False), data))
    first, last = trainer.curve[0], trainer.curve[-1]
    assert last["train_loss"] < 0.7 * first["train_loss"]
    assert set(last) >= {"train_accuracy", "test_accuracy", "images_per_second"}
    assert trainer.method.updates > 2


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_no_bit_of_a_run(data, workers):
    alone = run(Trainer(config(), data))
    many = run(Trainer(config(), dataclasses.replace(data, workers=workers)))
    assert same_state(essence(alone), essence(many))


def test_a_step_sees_the_augmented_pictures_and_their_labels(data):
    trainer = Trainer(config(), data)
    steps = trainer.begin_epoch()
    assert len(steps) == 4
    seen = []
    for index in steps:
        batch = trainer.task.batch(index)
        loaded = trainer.task.loader.load("train", index, trainer.task._seed)
        mean, std = torch.tensor(data.mean), torch.tensor(data.std)
        plain = ((loaded.images / 255 - mean) / std).permute(0, 3, 1, 2)
        torch.testing.assert_close(batch.inputs, plain, rtol=1e-5, atol=1e-5)
        assert batch.target.tolist() == data.train.labels[index].tolist()
        seen += index.tolist()
    assert sorted(seen) == list(range(12))


def test_two_epochs_differ_in_order_and_crops(data):
    trainer = Trainer(config(), data)
    orders, seeds = [], []
    for _ in range(2):
        orders.append([index.tolist() for index in trainer.begin_epoch()])
        seeds.append(trainer.task._seed)
    assert orders[0] != orders[1] and seeds[0] != seeds[1]


def test_evaluation_is_over_every_test_picture(data):
    trainer = Trainer(config(), data)
    scores = trainer.evaluate()
    batch = trainer.task._batch(trainer.task.loader.load("test", torch.arange(6)))
    model = copy.deepcopy(trainer.model).eval()
    with torch.no_grad():
        logits = model(batch.inputs)
    loss = torch.nn.functional.cross_entropy(logits, batch.target)
    assert scores["test_loss"] == pytest.approx(float(loss), rel=1e-5)
    hits = (logits.argmax(1) == batch.target).sum()
    assert scores["test_accuracy"] == pytest.approx(100 * int(hits) / 6)


def test_wide_tests_are_on_what_training_leaves_out_too(data):
    trainer = Trainer(config(test_on="wide"), data.prefix(6, keep_rest=True))
    spare = trainer.task.scores(trainer.model, "spare")[1]
    scores = trainer.task.evaluate(trainer.model)
    official = scores["official_test_accuracy"]
    assert scores["test_accuracy"] == pytest.approx((6 * official + 6 * spare) / 12)


@pytest.mark.parametrize("request_", [BatchRequest(5), BatchRequest(2, per_class=True)])
def test_pictures_to_score_on_are_shown_as_in_testing(data, request_):
    task = Trainer(config(), data).task
    inputs, labels = task.scoring_batch(request_, torch.Generator().manual_seed(0))
    shown = task._batch(task.loader.load("train", torch.arange(12))).inputs
    where = [[i for i in range(12) if torch.equal(shown[i], x)] for x in inputs]
    assert all(len(at) == 1 for at in where)
    assert labels.tolist() == [int(data.train.labels[at[0]]) for at in where]
    assert labels.tolist() == [0, 0, 1, 1, 2, 2] if request_.per_class else len(labels) == 5


@pytest.mark.parametrize("method", ["snip", "grasp", "mest", "synflow"])
def test_methods_that_score_train_on_streams(data, method):
    assert run(Trainer(config(method, epochs=1), data)).curve


def test_shards_train_as_a_tree_does(tmp_path):
    folder = write_shards(tmp_path / "imagenet")
    run(Trainer(config(epochs=1), made_imagenet.load(folder, tmp_path / "cache", workers=1)))


def test_broken_pictures_stop_a_run_or_are_counted(tmp_path):
    folder = write_tree(tmp_path)
    for split in ("train", "val"):
        path = next((folder / split).rglob("*.JPEG"))
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match="cannot be decoded"):
        run(Trainer(config(), made_imagenet.load(folder, tmp_path)))
    trainer = run(Trainer(config(), made_imagenet.load(folder, tmp_path, skip_broken=True)))
    assert [line["broken_images"] for line in trainer.curve] == [1, 2, 2]


def test_broken_pictures_are_named(tmp_path, capsys):
    folder = write_tree(tmp_path)
    path = next((folder / "train").rglob("*.JPEG"))
    path.write_bytes(b"")
    run(Trainer(config(), made_imagenet.load(folder, tmp_path, skip_broken=True)))
    assert capsys.readouterr().err.count(f"left out, it cannot be decoded: {path}") == 1


def test_nothing_left_to_test_on(tmp_path):
    folder = write_tree(tmp_path)
    for path in (folder / "val").rglob("*.JPEG"):
        path.write_bytes(b"")
    trainer = Trainer(config(), made_imagenet.load(folder, tmp_path, skip_broken=True))
    with pytest.raises(UserError, match="none of imagenet's test images can be decoded"):
        trainer.evaluate()


# Stopped within an epoch.


class Stop(Exception):
    pass


def stopped(trainer, steps):
    """Its state after so many steps from now on."""
    left = steps

    def pause():
        nonlocal left
        left -= 1
        if left == 0:
            raise Stop

    trainer.pause = pause
    with pytest.raises(Stop):
        run(trainer)
    trainer.pause = None
    return through_disk(trainer.state_dict())


@pytest.mark.parametrize("optimizer", ["s2sam", "looksam"])
@pytest.mark.parametrize("kind", ["streamed", "streamed by workers", "in memory", "sparse engine"])
def test_a_run_stopped_within_an_epoch_ends_bit_identical(data, kind, optimizer):
    if kind.startswith("streamed"):
        chosen, there = config(optimizer=optimizer), data
        if "workers" in kind:
            there = dataclasses.replace(data, workers=2)
    else:
        there = datasets.load("digits", train_size=64)
        chosen = tiny(optimizer=OPTIMIZERS.spec(optimizer), batch_size=16, train_size=64)
    engine = "sparse" if kind == "sparse engine" else "dense"
    whole = run(Trainer(chosen, there, engine=engine))
    trainer = Trainer(chosen, there, engine=engine)
    for steps in (2, 1, 3):  # stops in the first epoch twice, and in the second
        state = stopped(trainer, steps)
        assert state["within"]["steps"] > 0
        trainer = Trainer(chosen, there, engine=engine)
        torch.manual_seed(99)
        trainer.load_state_dict(state)
    assert same_state(essence(run(trainer)), essence(whole))


def test_a_resumed_epoch_loads_only_its_rest(data, monkeypatch):
    state = stopped(Trainer(config(), data), 3)
    trainer = Trainer(config(), data)
    trainer.load_state_dict(state)
    asked = []
    batches = trainer.task.loader.batches
    monkeypatch.setattr(
        trainer.task.loader, "batches", lambda *a: asked.append(len(a[1])) or batches(*a)
    )
    trainer.train_epoch()
    assert asked == [1]


@pytest.mark.parametrize("how", ["ends", "fails"])
def test_no_loading_process_outlives_its_run(data, tmp_path, monkeypatch, how):
    before = set(multiprocessing.active_children())
    found = []

    def run_epoch(self, original=Trainer.run_epoch):
        line = original(self)
        found.extend(set(multiprocessing.active_children()) - before)
        if how == "fails":
            raise RuntimeError("a fault")
        return line

    parallel = dataclasses.replace(data, workers=1)
    monkeypatch.setattr(runs, "data_of", lambda config, place: parallel)
    monkeypatch.setattr(Trainer, "run_epoch", run_epoch)
    try:
        runs.execute(config(epochs=1), workplace(tmp_path, engine="dense"))
    except RuntimeError:  # whose traceback holds the loader
        assert found and not found[0].is_alive()
    assert found and not found[0].is_alive()


def test_diagnosed_runs_are_resumed_at_epochs(data):
    trainer = Trainer(config(), data, diagnostics=True)
    assert not trainer.pausable and Trainer(config(), data).pausable


def test_a_long_epoch_is_saved_in_its_middle(tmp_path, monkeypatch):
    place, chosen = workplace(tmp_path), tiny(batch_size=16)
    saved = []
    monkeypatch.setattr(runs, "SAVED_EVERY", 0.0)
    original = runs.save_tensors

    def save(path, value):
        original(path, value)
        if path.name == "checkpoint.pt":
            saved.append(value["within"] and value["within"]["steps"])
            if len(saved) == 4:
                raise KeyboardInterrupt

    monkeypatch.setattr(runs, "save_tensors", save)
    with pytest.raises(KeyboardInterrupt):
        runs.execute(chosen, place)
    assert saved == [1, 2, 3, 4]  # of 6 steps
    runs.execute(chosen, place)
    again = workplace(tmp_path / "again")
    monkeypatch.setattr(runs, "SAVED_EVERY", 600.0)
    runs.execute(chosen, again)
    assert place.weights(chosen).read_bytes() == again.weights(chosen).read_bytes()


def test_two_ranks_go_on_in_the_middle_of_an_epoch_and_count_its_beginning_once(
    tmp_path, monkeypatch
):
    chosen = tiny(seed=1)  # as in test_ranks.py
    whole, cut = (workplace(tmp_path / name, engine="dense") for name in ("whole", "cut"))
    runs.execute(chosen, whole)
    original = runs.save_tensors

    def save(path, value):
        original(path, value)
        if value["epoch"] == 1 and value["within"] and value["within"]["steps"] == 2:  # of 3
            raise KeyboardInterrupt

    monkeypatch.setattr(runs, "SAVED_EVERY", 0.0)
    monkeypatch.setattr(runs, "save_tensors", save)
    with pytest.raises(KeyboardInterrupt):
        runs.execute(chosen, cut)
    together(2, execute_and_save, tmp_path / "ranks", chosen, cut)
    alone, both = (place.records.get(chosen).body["curve"][-1] for place in (whole, cut))
    assert both["train_loss"] == pytest.approx(alone["train_loss"], rel=1e-4)
    assert both["train_accuracy"] == pytest.approx(alone["train_accuracy"], abs=1.05)  # an image
