import copy
import json

import pytest
import torch
from toys import convnet
from workplaces import tiny, workplace

from paper_repro.experiment.runs import execute
from paper_repro.measure import compaction as module
from paper_repro.measure.compaction import compaction
from paper_repro.measure.flops import inference_flops, layer_macs
from paper_repro.models import build
from paper_repro.sparse import METHODS, channel_groups, channel_masks, compact

IMAGE = (1, 8, 8)


def halved(name="resnet50_digits"):
    """A network and the masks that remove the first half of each group's channels."""
    model = build(name, classes=10, channels=1, seed=0)
    groups = channel_groups(model)
    kept = {g.name: torch.arange(g.size) >= g.size // 2 for g in groups}
    return model, channel_masks(model, groups, kept)


def test_numbers_are_those_of_the_compacted_network():
    model, masks = halved()
    found = compaction(model, masks, IMAGE, batch_size=4, rounds=3, seconds=0.0)
    small = compact(model, masks)
    assert found["flops_before"] == inference_flops(layer_macs(model, IMAGE), {})
    assert found["flops_after"] == inference_flops(layer_macs(small, IMAGE), {})
    assert found["flops_after"] < 0.6 * found["flops_before"]
    assert found["parameters_after"] == sum(p.numel() for p in small.parameters())
    assert found["parameters_ratio"] == found["parameters_after"] / 9442 < 0.7
    assert (found["batch_size"], found["rounds"]) == (4, 3)
    speeds = found["images_per_second_before"], found["images_per_second_after"]
    assert min(speeds) > 0 and found["speedup"] == pytest.approx(speeds[1] / speeds[0])


def test_the_output_stays_if_the_masks_were_applied_and_not_if_they_are_not():
    model, masks = halved()
    assert compaction(model, masks, IMAGE, rounds=1)["output_difference"] > 1e-2
    weights = dict(model.named_parameters())
    with torch.no_grad():
        for name, mask in masks.items():
            weights[name].mul_(mask)
    assert compaction(model, masks, IMAGE, rounds=1)["output_difference"] < 1e-5


def test_the_fastest_pass_counts(monkeypatch):
    """A pass that a neighbour interrupts changes nothing, and quick ones are repeated."""
    times = iter([3.0, 1.0, 2.0, 9.0, 90.0, 4.0])
    monkeypatch.setattr(module, "_timed", lambda network, inputs: next(times))
    found = compaction(*halved(), IMAGE, batch_size=4, rounds=3, seconds=0.0)
    assert found["rounds"] == 3 and found["images_per_second_before"] == 4 / 2.0
    assert found["images_per_second_after"] == 4 / 1.0 and found["speedup"] == 2.0
    monkeypatch.undo()
    assert compaction(*halved(), IMAGE, batch_size=1, rounds=2, seconds=60.0)["rounds"] == 20


def test_the_network_and_the_random_state_are_left_alone():
    model = convnet()
    model[1].eval()
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    compaction(model, {}, (1, 6, 6), batch_size=2, rounds=1)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not model[1].training and model[4].training
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("name", ["chex", "chase"])
def test_a_structured_runs_record_says_what_compaction_gains(tmp_path, name):
    config = tiny(method=METHODS.spec(name, sparsity=0.5), epochs=3)
    place = workplace(tmp_path)
    execute(config, place)
    body = json.loads(place.records.path(config).read_text())
    found = body["compaction"]
    kept, size = (sum(body["method_facts"][k].values()) for k in ("channels_kept", "channels"))
    assert kept < size and found["flops_after"] < found["flops_before"]
    assert found["flops_before"] == body["flops"]["inference_dense"]
    assert found["output_difference"] < 1e-4


def test_other_runs_have_nothing_to_compact(tmp_path):
    place = workplace(tmp_path)
    assert "compaction" not in execute(tiny(), place).body


def test_dense_gradients_are_recorded_beside_the_training(tmp_path):
    """RigL with an update every second of six steps, until 75 %: at steps 2 and 4."""
    config = tiny()
    body = execute(config, workplace(tmp_path)).body
    assert body["method_facts"]["topology_updates"] == 2
    flops = body["flops"]
    extra = flops["inference_dense"] - flops["inference"]
    assert flops["training_dense_gradients"] == pytest.approx(2 * 32 * extra)
    # SET's growth needs none.
    other = execute(tiny(method=METHODS.spec("set", sparsity=0.9)), workplace(tmp_path)).body
    assert other["flops"]["training_dense_gradients"] == 0.0
