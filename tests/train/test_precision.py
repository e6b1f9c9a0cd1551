"""A run's precision: what it sets, what the device makes of it, and that training survives it."""

import statistics
from dataclasses import replace

import pytest
import torch
from toys import same_state
from workplaces import tiny, untimed, workplace

from paper_repro import data as datasets
from paper_repro.experiment.profiles import profile
from paper_repro.experiment.runs import execute
from paper_repro.optim import OPTIMIZERS
from paper_repro.train import Trainer
from paper_repro.train import precision as module
from paper_repro.train.precision import arithmetic, autocast, float32_as

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
PLACES = (torch.backends.cudnn.conv, torch.backends.cudnn.rnn, torch.backends.cuda.matmul)


def settings():
    return [place.fp32_precision for place in PLACES]


def test_tf32_is_what_the_device_has_of_it(monkeypatch):
    assert [arithmetic(p, CPU) for p in ("float32", "tf32", "bf16")] == [
        "float32",
        "float32",
        "bf16",
    ]
    for capability, found in (((7, 5), "float32"), ((8, 0), "tf32"), ((9, 0), "tf32")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, c=capability: c)
        assert arithmetic("tf32", CUDA) == found
        assert arithmetic("float32", CUDA) == "float32" and arithmetic("bf16", CUDA) == "bf16"
    monkeypatch.setattr(torch.version, "hip", "6.0")
    assert arithmetic("tf32", CUDA) == "float32"


@pytest.mark.parametrize("kind, mode", [("float32", "ieee"), ("tf32", "tf32"), ("bf16", "ieee")])
def test_float32_operators_on_cuda_compute_as_asked_and_only_inside(kind, mode):
    before = settings()
    with pytest.raises(ZeroDivisionError), float32_as(kind, CUDA):
        assert settings() == [mode] * 3
        raise ZeroDivisionError
    assert settings() == before
    with float32_as(kind, CPU):
        assert settings() == before


def test_only_bf16_casts():
    for kind in ("float32", "tf32", "bf16"):
        with autocast(kind, CPU):
            product = torch.ones(2, 2) @ torch.ones(2, 2)
        assert product.dtype == (torch.bfloat16 if kind == "bf16" else torch.float32)


def test_all_of_a_training_computes_inside(monkeypatch):
    """Masks, steps and evaluation, each in the run's own arithmetic."""
    inside, seen = [], set()
    monkeypatch.setattr(module, "_has_tf32", lambda device: True)
    original = float32_as

    class Watched:
        def __init__(self, kind, device):
            self.context, self.kind = original(kind, device), kind

        def __enter__(self):
            inside.append(self.kind)
            return self.context.__enter__()

        def __exit__(self, *error):
            inside.pop()
            return self.context.__exit__(*error)

    monkeypatch.setattr("paper_repro.train.trainer.float32_as", Watched)

    def watch(_module, _inputs, output):
        seen.add(tuple(inside))
        if output.requires_grad:
            output.register_hook(lambda _: seen.add(("backward", *inside)))

    with torch.nn.modules.module.register_module_forward_hook(watch):
        trainer = Trainer(
            replace(tiny(), precision="tf32", model="resnet_digits"),
            datasets.load("digits", train_size=96),
            diagnostics=True,
        )
        seen.clear()  # the count of operations is no computation
        trainer.run_epoch()
    assert seen == {("tf32",), ("backward", "tf32")}


def test_on_a_cpu_a_tf32_run_is_the_float32_run_and_says_so(tmp_path):
    place = workplace(tmp_path)
    full, tf32 = tiny(epochs=1), tiny(epochs=1, precision="tf32")
    assert full.fingerprint != tf32.fingerprint
    one, other = execute(full, place), execute(tf32, place)
    assert untimed(one.body["curve"]) == untimed(other.body["curve"])
    weights = [torch.load(place.weights(c))["weights"] for c in (full, tf32)]
    assert same_state(*weights)
    assert one.body["environment"]["arithmetic"] == "float32"
    assert other.body["environment"]["arithmetic"] == "float32"
    half = execute(tiny(epochs=1, precision="bf16"), place)
    assert half.body["environment"]["arithmetic"] == "bf16"


SEEDS = (0, 1, 2)
TOLERANCE = 1.0  # points of mean test accuracy; one of the 360 test images is 0.28


@pytest.mark.slow
def test_a_full_smoke_run_in_bf16_ends_as_accurate_as_in_float32():
    data = datasets.load("digits")
    size = profile("smoke")
    method = size.method("mest", sparsity=0.9)
    final = {"float32": [], "bf16": []}
    for seed in SEEDS:
        config = size.config("cifar10", "resnet32x2", method, OPTIMIZERS.spec("s2sam"), seed)
        ends = {}
        for precision, accuracies in final.items():
            trainer = Trainer(replace(config, precision=precision), data)
            while not trainer.finished:
                line = trainer.run_epoch()
            accuracies.append(line["test_accuracy"])
            ends[precision] = trainer.outcome()["weights"]["fc.weight"]
        assert not torch.equal(ends["float32"], ends["bf16"])  # it did compute otherwise
    means = {name: statistics.mean(values) for name, values in final.items()}
    assert means["float32"] > 95
    assert abs(means["bf16"] - means["float32"]) < TOLERANCE, final
