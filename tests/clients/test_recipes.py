"""Each recipe of docs/recipes.md, run with the real library; `make test-clients` brings those."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).parents[2] / "examples"
pytestmark = pytest.mark.slow


def needs(*libraries):
    for library in libraries:
        pytest.importorskip(library)


def same(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_every_recipe_is_shown_and_tested():
    page = (EXAMPLES.parent / "docs" / "recipes.md").read_text()
    for path in EXAMPLES.glob("*.py"):
        if path.stem != "digits":
            assert f"(../examples/{path.name})" in page
            assert path.stem in Path(__file__).read_text()


def test_plain_loop_stopped_and_resumed():
    import plain_loop

    assert plain_loop.main(3, Path("whole")) > 80
    whole = torch.load("whole/checkpoint.pt")
    assert plain_loop.main(3, Path("whole")) > 80  # goes on from its end
    weights = torch.load("whole/weights.pt")
    assert (weights["3.weight"] == 0).float().mean() > 0.5
    assert whole["optimizer"]["sparse_method"]["steps"] == 90


def test_own_method():
    import own_method

    found, method = own_method.main(3)
    assert found > 80 and method.masks.sparsity() == pytest.approx(0.9, abs=0.01)


def test_own_data():
    import own_data

    accuracy, record = own_data.main(2)
    assert accuracy > 50 and record.status == "finished"


@pytest.mark.parametrize("stop_at", [50, 60])
def test_accelerate_loop_resumed_is_the_one_never_stopped(stop_at, capsys):
    needs("accelerate")
    import accelerate_loop

    whole, method = accelerate_loop.main(3, "whole")
    assert method.steps == 90
    assert float(capsys.readouterr().out.split("shipped: ")[1].split()[0]) > 70
    stopped, early = accelerate_loop.main(3, "half", stop_at=stop_at)
    assert stopped is None and early.steps == stop_at
    # Killed while it wrote the next one.
    Path("half/unfinished").mkdir()
    Path("half/unfinished/model.safetensors").write_bytes(b"half of it")
    resumed, late = accelerate_loop.main(3, "half")
    # It went on from the last checkpoint, 20 steps apart, and not from the start or the end.
    epochs = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    first = stop_at // 20 * 20 // 30
    assert len(epochs) == (stop_at - 1) // 30 + 3 - first
    same(whole, resumed)
    same(method.masks.state_dict(), late.masks.state_dict())


def test_lightning_module_resumed_is_the_one_never_stopped():
    needs("lightning")
    import lightning.pytorch as pl
    import lightning_module

    class Stop(pl.Callback):
        def on_train_epoch_end(self, trainer, *_):
            if trainer.current_epoch == 1:
                trainer.should_stop = True

    accuracy, whole, _ = lightning_module.main(4, "whole")
    assert accuracy > 70
    lightning_module.main(4, "half", stop=[Stop()])
    saved = torch.load("half/last.ckpt", weights_only=False)
    group = saved["optimizer_states"][0]
    assert group["sparse_method"]["steps"] == 60
    assert not group["param_groups"][0]["train_mode"]  # so the checkpoint's weights are w
    again, resumed, trainer = lightning_module.main(4, "half", resume="half/last.ckpt")
    same(whole.state_dict(), resumed.state_dict())
    assert again == accuracy and trainer.current_epoch == 4


def test_hf_trainer_resumed_is_the_one_never_stopped():
    needs("transformers", "accelerate")
    import hf_trainer
    from transformers import TrainerCallback

    class Stop(TrainerCallback):
        def on_epoch_end(self, args, state, control, **_):
            control.should_training_stop = state.epoch >= 1

    accuracy, whole, method = hf_trainer.main(2, "whole")
    assert accuracy > 60
    hf_trainer.main(2, "half", stop_after=[Stop()])
    again, resumed, late = hf_trainer.main(2, "half", resume="half/checkpoint-30")
    assert late.steps == method.steps == 60
    same(method.masks.state_dict(), late.masks.state_dict())
    same(whole.state_dict(), resumed.state_dict())
    assert again == accuracy


def test_timm_model():
    needs("timm")
    import timm_model

    found, method = timm_model.main(1)
    assert found >= 0 and method.masks.sparsity() == pytest.approx(0.8, abs=0.01)
    assert not [n for n, w in method.masks.weights.items() if w.shape[1] == 1]  # depthwise


def test_torchrun_ddp():
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
            *(str(EXAMPLES / "torchrun_ddp.py"), "2"),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent), "OMP_NUM_THREADS": "1"},
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("masks alike: True") == 2


def test_the_real_schedule_free_optimizer():
    needs("schedulefree")
    import schedulefree
    from digits import accuracy, datasets, network

    from paper_repro.optim import S2SAM, evaluating
    from paper_repro.sparse import SET

    torch.manual_seed(0)
    train, test = datasets()
    model = network()
    base = schedulefree.AdamWScheduleFree(model.parameters(), lr=3e-3)
    optimizer = S2SAM(base, rho=0.05)
    method = SET(model, optimizer, sparsity=0.8, total_steps=90, steps_per_epoch=30)
    optimizer.train()
    images, labels = train.tensors
    for index in torch.randperm(1500).split(25):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images[index]), labels[index]).backward()
        optimizer.step()
    with evaluating(optimizer):
        assert accuracy(model, test) > 60
        for name, weight in method.masks.weights.items():
            assert not weight[~method.masks[name]].any()
    assert base.param_groups[0]["train_mode"]
