"""The estimate of what a run costs goes with what it computes."""

from dataclasses import replace

import pytest
from workplaces import made_body, tiny, workplace

from paper_repro import models
from paper_repro.data import download
from paper_repro.experiment.cost import RATE, Cost, gradients_per_step, relative_time
from paper_repro.experiment.records import Record
from paper_repro.measure.flops import layer_macs
from paper_repro.optim import OPTIMIZERS
from paper_repro.sparse import METHODS


def test_a_dense_run_costs_its_flops(tmp_path):
    config = tiny(method=METHODS.spec("dense"), optimizer=OPTIMIZERS.spec("sgd"))
    model = models.build("resnet_digits", classes=10, channels=1, seed=0)
    macs = sum(layer_macs(model, (1, 8, 8)).values())
    hours = 6 * macs * 96 * 2 / RATE / 3600  # 96 images, 2 epochs
    cost = Cost(workplace(tmp_path))
    assert cost(config) == pytest.approx(hours)
    assert cost(replace(config, epochs=6)) == pytest.approx(3 * hours)
    assert cost(replace(config, optimizer=OPTIMIZERS.spec("sam"))) == pytest.approx(2 * hours)
    # An incomplete last batch is left out.
    assert cost(replace(config, train_size=100)) == pytest.approx(hours)


def test_zeros_save_time_where_the_engine_skips_them(tmp_path):
    dense = tiny(method=METHODS.spec("dense"))
    sparse = tiny(method=METHODS.spec("mest", sparsity=0.98))
    cost = Cost(workplace(tmp_path))
    assert cost(sparse) / cost(dense) == pytest.approx(relative_time(0.02))
    bf16 = [replace(c, precision="bf16") for c in (sparse, dense)]
    assert cost(bf16[0]) == cost(bf16[1])
    for other in (workplace(tmp_path, engine="dense"), workplace(tmp_path, device="cuda")):
        assert Cost(other)(sparse) == Cost(other)(dense)


def test_sparse_steps_gain_less_than_flops_say():
    shares = [relative_time(d) for d in (0.0, 0.02, 0.1, 0.4, 0.5, 1.0)]
    assert shares == sorted(shares) and shares[-2:] == [1.0, 1.0]
    assert all(relative_time(d) > d for d in (0.02, 0.05, 0.1, 0.2))


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_every_optimizers_gradients_are_known(name):
    assert 1.0 <= gradients_per_step(OPTIMIZERS.spec(name)) <= 3.0


def test_some_optimizers_gradients_by_their_definition():
    known = {"sgd": 1, "s2sam": 1, "sam": 2, "ssam": 2}
    assert {name: gradients_per_step(OPTIMIZERS.spec(name)) for name in known} == known
    assert gradients_per_step(OPTIMIZERS.spec("looksam", k=4)) == 1.25


def test_the_machines_own_speed_is_taken_from_its_records(tmp_path):
    config = tiny()
    place = workplace(tmp_path)
    plain = Cost(place)(config)

    def record(slowness, **environment):
        body = made_body()
        body["environment"] |= {"device_type": "cpu", "threads": 2, **environment}
        body["speed"] = {"seconds": 3600 * plain * slowness / 2}
        return Record(config, "finished", body)

    some = [record(1.5), record(4.0), record(2.0)]
    assert Cost(place, some)(config) == pytest.approx(2.0 * plain)
    assert Cost(place, some[:2])(config) == plain
    gpu = [record(9.0, device_type="cuda")] * 3
    assert Cost(place, gpu)(config) == plain
    bare = Record(config, "finished", made_body())
    assert Cost(place, [bare, *some])(config) == pytest.approx(2.0 * plain)
    together = [record(1.5, ranks=2), record(4.0, ranks=2), record(2.0, ranks=2)]
    assert Cost(place, together)(config) == pytest.approx(4.0 * plain)
    odd = record(9.0, ranks="x")
    assert Cost(place, [odd, odd, odd, *some])(config) == pytest.approx(2.0 * plain)


def test_records_whose_data_are_elsewhere_say_nothing(tmp_path, monkeypatch):
    def no_network(*arguments):
        raise download.Failed("no network")

    monkeypatch.setattr(download, "cifar", no_network)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    body = made_body()
    body["environment"] |= {"device_type": "cpu", "threads": 2}
    absent = Record(tiny(dataset="cifar10"), "finished", body)
    place = workplace(tmp_path, data=tmp_path)
    assert Cost(place, [absent] * 3)(tiny()) == Cost(place)(tiny())
