"""The loop, sparse methods and optimizers train whatever a task gives: here, short sequences."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from toys import same_state, through_disk
from workplaces import tiny

from paper_repro.errors import UserError
from paper_repro.optim import OPTIMIZERS
from paper_repro.sparse import METHODS
from paper_repro.train import TASKS, Task, Trainer
from paper_repro.train.task import Batch

SAMPLES, LENGTH, WORDS = 50, 6, 11


class NextWord(torch.nn.Module):
    """Word numbers [B, T] to logits [B, WORDS, T]."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(WORDS, 8)
        self.first = torch.nn.Linear(8, 16)
        self.hidden = torch.nn.Linear(16, 16)
        self.out = torch.nn.Linear(16, WORDS)

    def forward(self, words):
        x = torch.tanh(self.hidden(torch.tanh(self.first(self.embed(words)))))
        return self.out(x).transpose(1, 2)


def loss_fn(outputs, target, reduction="mean"):
    """Mean over a sequence's words, then over sequences."""
    losses = F.cross_entropy(outputs, target, reduction="none").mean(1)
    return losses.mean() if reduction == "mean" else losses


@TASKS.register("next-word")
class Sequences(Task):
    """Predict a sequence's next words: no images, no classes, no accuracy."""

    unit = "sequences"
    score = "test_bits"

    def __init__(self, config, data):
        self.config, self.words = config, data.words
        self.device, self.samples = torch.device("cpu"), len(data.words)
        self.steps_per_epoch = self.samples // config.batch_size

    def build_model(self):
        torch.manual_seed(self.config.seed)
        return NextWord()

    def macs(self, model):
        sizes = {"first": 8 * 16, "hidden": 16 * 16, "out": 16 * WORDS}
        return {f"{name}.weight": LENGTH * size for name, size in sizes.items()}

    loss_fn = plain_loss_fn = staticmethod(loss_fn)

    def begin_epoch(self, generator):
        self.tokens = 0
        order = torch.randperm(self.samples, generator=generator)
        size = self.config.batch_size
        for start in range(0, self.steps_per_epoch * size, size):  # a stream, not a list
            yield order[start : start + size]

    def batch(self, index):
        return Batch(self.words[index, :-1], self.words[index, 1:], index)

    def count(self, closure):
        self.tokens += closure.target.numel()

    def training_metrics(self):
        return {"tokens": self.tokens}

    def scoring_batch(self, request, generator):
        index = torch.randperm(self.samples, generator=generator)[: request.size]
        return self.words[index, :-1], self.words[index, 1:]

    @torch.no_grad()
    def evaluate(self, model):
        loss = float(F.cross_entropy(model(self.words[:, :-1]), self.words[:, 1:]))
        return {"test_loss": loss, "test_bits": -loss / math.log(2)}


def make(method="rigl", optimizer="s2sam", diagnostics=False, **options):
    first = torch.randint(WORDS, (SAMPLES, 1), generator=torch.Generator().manual_seed(0))
    words = (first + 3 * torch.arange(LENGTH + 1)) % WORDS
    if method == "rigl":
        options = {"delta_t": 2, **options}
    config = tiny(
        method=METHODS.spec(method, sparsity=0.5, **options),
        optimizer=OPTIMIZERS.spec(optimizer),
        epochs=3,
        batch_size=8,
        train_size=None,
    )
    data = SimpleNamespace(task="next-word", words=words)
    return Trainer(config, data, diagnostics=diagnostics)


@pytest.mark.parametrize("method", ["rigl", "mest", "snip", "grasp"])
@pytest.mark.parametrize("optimizer", ["sgd", "s2sam", "sam", "esam", "zosam"])
def test_methods_and_optimizers_train_on_no_images(method, optimizer):
    trainer = make(method, optimizer)
    lines = [trainer.run_epoch() for _ in range(3)]
    assert lines[-1]["train_loss"] < lines[0]["train_loss"]
    assert trainer.method.masks.sparsity() == pytest.approx(0.5, abs=0.02)
    for name, mask in trainer.outcome()["masks"].items():
        assert not trainer.outcome()["weights"][name][~mask].any()


def test_a_curve_has_the_tasks_own_metrics_and_units():
    line = make().run_epoch()
    assert line["tokens"] == 6 * 8 * LENGTH and line["test_bits"] < 0
    assert line["sequences_per_second"] > 0
    assert not {"images_per_second", "test_accuracy", "train_accuracy"} & set(line)


def test_diagnostics_and_checkpoints_know_no_images_either():
    whole = make(diagnostics=True)
    assert whole.run_epoch()["diagnostics"]["sharpness"] > 0
    state = through_disk(whole.state_dict())
    again = make()
    again.load_state_dict(state)
    whole.run_epoch()
    again.run_epoch()
    assert same_state(whole.outcome()["weights"], again.outcome()["weights"])


def test_a_step_that_no_graph_may_hold_is_taken_plainly():
    plain = make()
    data = SimpleNamespace(task="next-word", words=plain.task.words)
    asked = Trainer(plain.config, data, graph=True)
    assert not asked.graphed
    assert asked.run_epoch()["train_loss"] == plain.run_epoch()["train_loss"]


def test_a_data_set_of_no_known_task():
    with pytest.raises(UserError, match="unknown task 'juggling'"):
        Trainer(tiny(), SimpleNamespace(task="juggling"))
