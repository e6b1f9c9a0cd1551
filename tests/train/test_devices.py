"""The same training on every device that is here: the CPU, and CUDA where there is one."""

import gc

import pytest
import torch
from graph_runs import CASES, config, fuse, noise, run
from torch import nn
from toys import advance, convnet, images, same_state

from paper_repro.experiment import runs
from paper_repro.optim import OPTIMIZERS
from paper_repro.sparse import CHEX, MEST, SETITOP, Chase, GraNet, RigL
from paper_repro.train import Trainer
from paper_repro.train.graph import CAPTURABLE

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
devices = pytest.mark.parametrize("device", DEVICES)


@pytest.fixture(autouse=True)
def deterministic(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)


@devices
@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize(("method", "options", "optimizer"), CASES)
def test_a_graphed_run_ends_as_a_plain_one(device, method, options, optimizer, precision):
    data, c = noise(device=device), config(method, optimizer, precision, **options)
    assert same_state(run(Trainer(c, data, graph=True)), run(fuse(Trainer(c, data))))


@devices
@pytest.mark.parametrize("graph", [False, True], ids=["plain", "graph"])
def test_a_resumed_run_ends_bit_identical(device, graph, tmp_path):
    data, c = noise(device=device), config("rigl", "s2sam", delta_t=5)
    whole = run(Trainer(c, data, graph=graph))
    first = Trainer(c, data, graph=graph)
    run(first, 2)
    runs.save_tensors(tmp_path / "checkpoint.pt", first.state_dict())
    second = Trainer(c, data, graph=graph)
    second.load_state_dict(runs.load_tensors(tmp_path / "checkpoint.pt", second.device))
    assert same_state(run(second), whole)


@devices
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_trains(device, optimizer):
    trainer = Trainer(config(optimizer=optimizer), noise(device=device))
    run(trainer)
    assert all(p.isfinite().all() and p.device.type == device for p in trainer.model.parameters())


@devices
@pytest.mark.parametrize("name", ["randomsam", "ssam", "s2sam"])
@pytest.mark.parametrize("kind", [Chase, CHEX, GraNet, MEST, RigL, SETITOP])
def test_a_model_may_move_after_a_method_is_attached(device, kind, name):
    model = convnet()
    model.insert(3, nn.Conv2d(6, 6, 3, padding=1))
    base = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    optimizer = OPTIMIZERS.build(OPTIMIZERS.spec(name), base=base, model=model, total_steps=24)
    options = {"updates": 4} if kind in (Chase, CHEX, MEST) else {"delta_t": 3}
    method = kind(model, optimizer, sparsity=0.5, total_steps=24, **options)
    model.to(device)
    for x, y in images(24):
        advance(model, optimizer, (x.to(device), y.to(device)))
    assert method.updates > 2
    for layer, weight in method.masks.weights.items():
        assert weight.device.type == device and not weight[~method.masks[layer]].any()


if "cuda" in DEVICES:

    @pytest.mark.parametrize("graph", [False, True], ids=["plain", "graph"])
    @pytest.mark.parametrize("optimizer", sorted(CAPTURABLE))
    def test_a_step_never_waits_for_the_gpu(optimizer, graph):
        trainer = Trainer(config(optimizer=optimizer), noise(device="cuda"), graph=graph)
        run(trainer, 1)  # warm, and recorded
        steps = trainer.begin_epoch()
        torch.cuda.set_sync_debug_mode("error")
        try:
            for index in steps:
                trainer.step(index)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    def test_a_graphed_run_gives_its_memory_back():
        def after_a_run():
            run(Trainer(config(), data, graph=True))
            gc.collect()
            torch.cuda.empty_cache()
            return torch.cuda.memory_allocated()

        data = noise(device="cuda")
        first = after_a_run()
        assert after_a_run() == after_a_run() == first
