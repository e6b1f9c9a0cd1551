"""How many training processes at once serve a machine best."""

import time
from dataclasses import replace

import pytest
from workplaces import tiny, workplace

from paper_repro.experiment import packing


def test_the_fewest_processes_close_to_the_best_are_chosen():
    assert packing.best({1: 100.0, 2: 180.0, 4: 184.0}) == 2
    assert packing.best({1: 100.0, 2: 90.0}) == 1
    assert packing.best({1: 100.0, 2: 150.0, 4: 250.0}) == 4
    assert packing.best({}) == 1


@pytest.fixture
def rates(monkeypatch):
    """Made-up rates instead of measured ones; ``asked`` lists the numbers of processes tried."""
    asked = []

    def measure(config, place, jobs, seconds, until=None):
        asked.append(jobs)
        return measure.rates.get(jobs)

    measure.rates, measure.asked = {1: 100.0, 2: 190.0, 4: 300.0, 8: 305.0, 16: 900.0}, asked
    monkeypatch.setattr(packing, "images_per_second", measure)
    monkeypatch.setattr(packing.os, "cpu_count", lambda: 16)
    return measure


def test_processes_are_doubled_until_it_does_not_pay(rates, tmp_path):
    assert packing.measured(tiny(), workplace(tmp_path)) == {1: 100.0, 2: 190.0, 4: 300.0, 8: 305.0}
    assert rates.asked == [1, 2, 4, 8]


def test_no_more_processes_than_cores_are_tried(rates, tmp_path, monkeypatch):
    monkeypatch.setattr(packing.os, "cpu_count", lambda: 2)
    assert list(packing.measured(tiny(), workplace(tmp_path))) == [1, 2]


def test_a_measurement_is_remembered_for_the_same_kind_of_run(rates, tmp_path, monkeypatch):
    first = packing.measured(tiny(), workplace(tmp_path))
    rates.asked.clear()
    assert packing.measured(tiny(seed=1, epochs=5), workplace(tmp_path)) == first
    assert not rates.asked
    packing.measured(replace(tiny(), batch_size=16), workplace(tmp_path))
    assert rates.asked
    rates.asked.clear()
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", "pipes")  # the GPU is shared otherwise now
    packing.measured(tiny(), workplace(tmp_path))
    assert rates.asked


def test_a_damaged_memory_of_measurements_is_made_again(rates, tmp_path):
    (tmp_path / "runs" / "cache").mkdir(parents=True)
    (tmp_path / "runs" / "cache" / "packing.json").write_text("[1")
    assert packing.measured(tiny(), workplace(tmp_path))


def test_numbers_that_do_not_fit_into_memory_end_the_search(rates, tmp_path):
    rates.rates = {1: 100.0}
    assert packing.measured(tiny(), workplace(tmp_path)) == {1: 100.0}
    assert rates.asked == [1, 2]


def test_a_measurement_that_takes_too_long_is_cut_short_and_not_remembered(rates, tmp_path):
    past = time.monotonic() - 1
    assert packing.measured(tiny(), workplace(tmp_path), until=past) == {1: 100.0}
    packing.measured(tiny(), workplace(tmp_path))
    assert rates.asked == [1, 1, 2, 4, 8]


def test_training_processes_report_their_speed_and_a_broken_one_is_noticed(tmp_path):
    rate = packing.images_per_second(tiny(), workplace(tmp_path), jobs=1, seconds=0.2)
    assert rate is not None and rate > 1
    broken = workplace(tmp_path, device="nowhere")
    assert packing.images_per_second(tiny(), broken, jobs=1, seconds=0.2) is None


def test_a_process_that_is_not_ready_in_time_is_not_waited_for(tmp_path, monkeypatch):
    # The time for measuring is over: only the hurried patience is left, here none.
    monkeypatch.setattr(packing, "_HURRIED", 0.0)
    past = time.monotonic() - 1
    assert packing.images_per_second(tiny(), workplace(tmp_path), 1, 0.2, until=past) is None
    assert time.monotonic() - past < 30


def test_steps_are_replayed_where_that_works_and_is_faster(tmp_path, monkeypatch):
    rates, asked = {}, []

    def measure(config, place, jobs, seconds, until=None):
        asked.append((place.graph, jobs))
        return rates.get(place.graph)

    monkeypatch.setattr(packing, "images_per_second", measure)
    monkeypatch.setattr(packing, "_key", lambda config, place: f"{place.graph}")
    for replayed, launched, chosen in ((900.0, 500.0, True), (400.0, 500.0, False)):
        rates.update({True: replayed, False: launched})
        place = workplace(tmp_path / f"{chosen}", device="cuda")
        assert packing.faster(tiny(), place) == replace(place, graph=chosen)
        assert asked == [(True, 1), (False, 1)]
        asked.clear()
        assert packing.faster(tiny(), place).graph is chosen and not asked  # remembered
    del rates[True]  # the capture fails here
    broken = workplace(tmp_path / "broken", device="cuda:1")
    assert packing.faster(tiny(), broken).graph is False
    asked.clear()
    for place in (workplace(tmp_path), workplace(tmp_path, device="cuda", graph=True)):
        assert packing.faster(tiny(), place) == place and not asked
