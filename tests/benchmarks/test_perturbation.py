"""The measurement of what arrives of a perturbation: it runs, is resumed, and says what it is."""

import json

import pytest

from benchmarks.perturbation import main, table


@pytest.fixture
def quick(tmp_path):
    out = tmp_path / "results.json"
    arguments = ["--models", "resnet_digits", "--dataset", "digits", "--batch", "16"]
    return out, lambda *more: main([*arguments, "--steps", "3", "--out", str(out), *more])


def test_every_precision_of_every_training_is_written_and_none_is_trained_twice(quick, capsys):
    out, run = quick
    assert run("--seeds", "0") == 0
    first = json.loads(out.read_text())["trainings"]
    assert [(t["sparsity"], t["seed"], t["steps"]) for t in first] == [(0.0, 0, 3), (0.9, 0, 3)]
    assert run("--seeds", "0", "1") == 0
    trainings = json.loads(out.read_text())["trainings"]
    assert trainings[:2] == first and [t["seed"] for t in trainings] == [0, 0, 1, 1]
    assert "n = 2" in capsys.readouterr().out
    for training in trainings:
        assert training["rho"] == 0.05 and len(training["environment"]["tree"]) == 40
        shares = {name: p["overall"] for name, p in training["precisions"].items()}
        assert shares["float32"]["cosine"] == pytest.approx(1)
        assert shares["float32"]["changed"] > shares["tf32"]["changed"] > shares["bf16"]["changed"]
        assert set(training["precisions"]["bf16"]["layers"]) >= {"conv1.weight", "fc.weight"}
    active = [t["precisions"]["bf16"]["overall"]["active"] for t in first]
    assert active[1] < 0.2 * active[0]


def test_a_file_that_holds_something_else_is_not_written_over(quick, capsys):
    out, run = quick
    out.write_text("{}")
    assert run("--seeds", "0") == 2
    assert "holds no such results" in capsys.readouterr().err and out.read_text() == "{}"


def test_a_line_says_mean_range_and_n():
    def training(changed):
        share = {"changed": changed, "cosine": 0.5, "ratio": 1.5}
        return {"model": "m", "sparsity": 0.9, "precisions": {"bf16": {"overall": share}}}

    shown = table([training(0.1), training(0.3)])
    assert "m, 90%, bf16: 0.200 (0.100 to 0.300), 0.500 (0.500 to 0.500)" in shown
    assert shown.endswith("n = 2")
