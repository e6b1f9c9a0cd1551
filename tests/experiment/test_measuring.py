import json

import pytest
import torch
from workplaces import made_body, tiny, workplace

from paper_repro.errors import UserError
from paper_repro.experiment.measures import Measures
from paper_repro.experiment.measuring import find, load_trained, measure
from paper_repro.experiment.runs import execute
from paper_repro.files import Busy, exclusive, load_tensors, save_tensors
from paper_repro.measure import MEASURES

SPEC = MEASURES.spec("sharpness", draws=3, steps=2, samples=96)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where a run was trained."""
    place = workplace(tmp_path_factory.mktemp("place"))
    execute(tiny(), place)
    return place


@pytest.fixture(autouse=True)
def nothing_measured(place):
    yield
    for path in place.results.glob("*/measures/*"):
        path.unlink()


def test_a_measure_is_of_the_weights_that_the_run_left(place):
    trained = load_trained(tiny(), place)
    left = load_tensors(place.weights(tiny()))
    assert all(torch.equal(v, left["weights"][k]) for k, v in trained.model.state_dict().items())
    assert {n: int(m.sum()) for n, m in trained.masks.items()} == {
        n: int(m.sum()) for n, m in left["masks"].items()
    }
    assert not trained.model.training
    # The score of the record is that of these weights on these images.
    images, labels = trained.images(torch.arange(len(trained.data.test)))
    assert images.dtype == torch.uint8 and torch.equal(labels, trained.data.test.labels)
    hits = (trained.model(trained.normalise(images)).argmax(1) == labels).float().mean()
    assert 100 * float(hits) == pytest.approx(place.records.get(tiny()).accuracy(), abs=1e-4)


def test_it_says_where_it_comes_from_and_is_not_made_twice(place, monkeypatch):
    measured = measure(tiny(), SPEC, place)
    assert measured.fingerprint == tiny().fingerprint and measured.spec == SPEC
    assert measured.body["environment"]["torch"] == torch.__version__
    assert len(measured.body["weights"]) == 64 and measured.body["seconds"] > 0
    assert Measures(place.results).get(tiny(), SPEC) == measured
    assert not list((place.folder(tiny()) / "measures").glob("*.json"))  # of its parts
    monkeypatch.setattr(MEASURES, "build", lambda *a, **k: pytest.fail("measured again"))
    assert measure(tiny(), SPEC, place) == measured


def test_a_measurement_that_was_stopped_goes_on(place, monkeypatch):
    whole = measure(tiny(), SPEC, place).values
    Measures(place.results).path(tiny(), SPEC).unlink()
    from paper_repro.measure import sharpness

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sharpness, "_ascend", stop)
        with pytest.raises(KeyboardInterrupt):
            measure(tiny(), SPEC, place)
    (parts,) = (place.folder(tiny()) / "measures").glob("*.json")
    assert len(json.loads(parts.read_text())["parts"]) == 3
    monkeypatch.setattr(
        "paper_repro.measure.landscape.torch.randn",
        lambda *a, **k: pytest.fail("a part was measured again"),
    )
    assert measure(tiny(), SPEC, place).values == whole


def test_what_cannot_be_measured_is_said(place, tmp_path):
    with pytest.raises(UserError, match="it has no record"):
        measure(tiny(seed=1), SPEC, place)
    place.records.write(tiny(seed=2), "diverged", made_body())
    with pytest.raises(UserError, match="cannot be measured: it diverged"):
        measure(tiny(seed=2), SPEC, place)
    place.records.write(tiny(seed=3), "finished", made_body())
    with pytest.raises(UserError, match=r"trained weights are not at .*weights.pt"):
        measure(tiny(seed=3), SPEC, place)
    other = tiny(seed=3)
    save_tensors(place.weights(other), {"weights": {"w": torch.zeros(1)}, "masks": {}})
    with pytest.raises(UserError, match="does not hold this run's network"):
        measure(other, SPEC, place)
    place.weights(other).write_bytes(b"nonsense")
    with pytest.raises(UserError, match="is damaged"):
        measure(other, SPEC, place)
    save_tensors(place.weights(other), [1])
    with pytest.raises(UserError, match="does not hold this run's network"):
        measure(other, SPEC, place)
    assert not list(place.results.glob("*/measures/*.json"))


def test_one_process_measures_a_run_at_a_time(place):
    with (
        exclusive(place.folder(tiny()) / "measures"),
        pytest.raises(Busy, match="is measuring run"),
    ):
        measure(tiny(), SPEC, place)


def test_a_run_is_found_by_its_fingerprint(place):
    assert find(tiny().fingerprint, place) == tiny()
    with pytest.raises(UserError, match="no record of run 0000000000000000"):
        find("0" * 16, place)
    for name in ("*", "../x", "", "g" * 16):
        with pytest.raises(UserError, match="16 hex digits"):
            find(name, place)
