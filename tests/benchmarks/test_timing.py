"""The benchmarks measure what they say."""

import json

import pytest
import torch

from benchmarks import floor
from benchmarks.__main__ import main
from benchmarks.memory import peak_bytes
from benchmarks.plain import PlainLoop
from benchmarks.setup import Stepper, config, images
from benchmarks.timing import interleaved, ratios, spread
from paper_repro import models
from paper_repro.measure.flops import layer_macs, training_flops
from paper_repro.train import Trainer

CPU = torch.device("cpu")


def test_contenders_take_turns_and_warm_up_is_not_counted():
    calls = []
    contenders = {name: lambda name=name: calls.append(name) for name in "abc"}
    seconds = interleaved(contenders, rounds=4, warmup=2, device=CPU)
    assert [len(seconds[name]) for name in "abc"] == [4, 4, 4]
    turns = [calls[i : i + 3] for i in range(0, len(calls), 3)]
    assert len(turns) == 6 and all(sorted(turn) == ["a", "b", "c"] for turn in turns)
    assert {turn[0] for turn in turns} == {"a", "b", "c"}


def test_a_ratio_is_taken_round_by_round():
    # A machine that is ten times slower in one round slows both.
    both = ratios([2.0, 20.0, 2.2], [1.0, 10.0, 1.0])
    assert (both.median, both.low, both.high) == (2.0, 2.0, 2.1)
    assert spread([3.0]).median == 3.0


def test_memory_is_counted_while_it_is_held():
    def work():
        first = torch.zeros(1000)
        second = first + 1  # both are alive here
        del first
        third = second * 2
        del second
        return third.view(10, 100).add_(1)

    assert peak_bytes(work, CPU) == 2 * 4000


def test_memory_of_a_backward_pass_holds_what_it_saves():
    weight = torch.randn(100, 100, requires_grad=True)

    def steps(n):
        def work():
            x = torch.randn(50, 100)
            for _ in range(n):
                x = torch.tanh(x @ weight)
            x.sum().backward()

        return peak_bytes(work, CPU)

    assert steps(8) - steps(4) == 4 * 50 * 100 * 4  # one saved output a layer


def weights(loop):
    optimizer = loop.foreach
    return [
        (p if optimizer is None else optimizer.exact(p)).detach() for p in loop.model.parameters()
    ]


@pytest.mark.parametrize("switches", [{"foreach": True}, {"channels_last": True}])
def test_the_loops_that_are_compared_train_the_same_network(switches):
    data = images(None, CPU, 64)
    plain, other = (
        PlainLoop(data, batched=True, model="resnet_digits", batch_size=8, **s)
        for s in ({}, switches)
    )
    for _ in range(4):
        plain()
        other()
    assert plain.losses == pytest.approx(other.losses, rel=1e-4)
    for p, q in zip(weights(plain), weights(other), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-3, atol=1e-4)


def test_our_loop_trains_what_the_plain_one_does_at_the_first_step():
    data = images(None, CPU, 64)
    trainer = Trainer(config("s2sam", "resnet_digits", 8), data)
    plain = PlainLoop(data, batched=True, model="resnet_digits", batch_size=8)
    Stepper(trainer)()
    plain()
    assert float(trainer.within.loss_sum) == pytest.approx(plain.losses[0], rel=0.5)
    assert sum(p.numel() for p in plain.model.parameters()) == sum(
        p.numel() for p in trainer.model.parameters()
    )
    assert set(plain.masks) == set(trainer.method.masks)


def test_workers_bring_augmented_and_normalised_images():
    data = images(None, CPU, 64)
    loop = PlainLoop(data, model="resnet_digits", batch_size=8, workers=0)
    batch, labels = next(loop._batches)
    assert batch.shape == (8, 3, 32, 32) and labels.shape == (8,)
    black = [-m / s for m, s in zip(data.mean, data.std, strict=True)]
    white = [(1 - m) / s for m, s in zip(data.mean, data.std, strict=True)]
    for channel, low, high in zip(batch.unbind(1), black, white, strict=True):
        assert float(channel.min()) == pytest.approx(low)  # the crop's padding
        assert low < float(channel.max()) <= high + 1e-5


def test_the_papers_network_takes_83_teraflop_an_epoch():
    network = models.build("resnet32x2", classes=10, channels=3, seed=0)
    macs = layer_macs(network, (3, 32, 32))
    assert sum(macs.values()) == 275_612_928
    assert training_flops(macs, {}) * 50_000 / 1e12 == pytest.approx(82.7, abs=0.05)
    # 11 outputs of 32x32x32, 11 of 64x16x16 and 11 of 128x8x8, shortcuts included.
    assert floor.output_elements(network, (3, 32, 32)) == 11 * (2**15 + 2**14 + 2**13)


def test_a_quick_benchmark_runs_and_writes_its_numbers(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("PAPER_REPRO_DATA", raising=False)
    out = tmp_path / "results.json"
    assert main(["floor", "step", "loop", "--quick", "--out", str(out)]) == 0
    results = json.loads(out.read_text())
    assert results["step float32"]["extra_buffers"]["s2sam"] == {"state": 1.0, "peak": 1.0}
    assert results["step float32"]["step_ratio"]["sam/s2sam"]["median"] > 1
    assert results["loop"]["speedup"]["plain"]["median"] == 1
    assert results["floor"]["operators_per_step"] > 100
    assert results["environment"]["threads"] == torch.get_num_threads()
    printed = capsys.readouterr().out
    assert "step_ratio: s2sam/sgd" in printed and "speedup: ours" in printed


@pytest.mark.parametrize("bad", [["nonsense"], ["step", "--rounds", "0"]])
def test_bad_options_exit_with_2(bad):
    with pytest.raises(SystemExit) as stopped:
        main(bad)
    assert stopped.value.code == 2


@pytest.mark.parametrize(
    "less", [["--quick"], ["step"], ["packing", "compile"], ["--rounds", "2"], ["--threads", "1"]]
)
def test_only_a_whole_run_replaces_the_committed_results(less, capsys, monkeypatch):
    monkeypatch.setattr("benchmarks.__main__.measure", lambda _: pytest.fail("it measured"))
    with pytest.raises(SystemExit) as stopped:
        main(less)
    assert stopped.value.code == 2 and "name another file with --out" in capsys.readouterr().err


def test_a_whole_run_replaces_them(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.__main__.__file__", str(tmp_path / "__main__.py"))
    monkeypatch.setattr("benchmarks.__main__.measure", lambda _: {"step float32": 1})
    assert main(["floor", "step", "loop", "packing", "--device", "cpu"]) == 0
    assert json.loads((tmp_path / "results-cpu.json").read_text()) == {"step float32": 1}


def test_a_missing_data_folder_is_one_sentence(tmp_path, capsys):
    out = str(tmp_path / "x.json")
    assert main(["step", "--quick", "--data", str(tmp_path / "none"), "--out", out]) == 2
    assert capsys.readouterr().err.count("\n") == 1
