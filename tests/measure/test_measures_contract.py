"""What every measure of a trained network must do, whichever it is."""

import copy
import json

import pytest
import torch
from subjects import subject

from paper_repro.errors import UserError
from paper_repro.files import finite
from paper_repro.measure import MEASURES
from paper_repro.measure.trained import Parts
from paper_repro.registry import Spec

#: Options that make a measure quick.
QUICK = {
    "corruptions": {"images": 4},
    "sharpness": {"draws": 3, "steps": 3, "samples": 32},
    "spectrum": {"nodes": 4, "samples": 32},
    "surface": {"points": 3, "directions": 2, "samples": 32},
    "curvature": {"samples": 16, "iterations": 3},
    "gradient_noise": {"batch": 8, "batches": 5},
    "late_training": {"steps": 4, "discard": 2, "batch": 8, "repeats": 3},
}


def build(name, trained, **options):
    return MEASURES.build(
        MEASURES.spec(name, **{**QUICK.get(name, {}), **options}), trained=trained
    )


@pytest.fixture(params=list(MEASURES))
def name(request):
    return request.param


def test_it_leaves_the_network_and_the_random_state_as_they_were(name, tmp_path):
    trained = subject(cache=tmp_path)
    before = copy.deepcopy(trained.model.state_dict())
    random = torch.get_rng_state()
    build(name, trained)
    assert all(torch.equal(v, before[k]) for k, v in trained.model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in trained.model.parameters())
    assert not any(m.training for m in trained.model.modules())
    assert torch.equal(torch.get_rng_state(), random)


def test_its_values_are_plain_and_the_same_every_time(name, tmp_path):
    first = build(name, subject(cache=tmp_path))
    assert finite(json.loads(json.dumps(finite(first)))) == finite(first)
    assert finite(build(name, subject(cache=tmp_path))) == finite(first)


def test_stopped_after_any_part_it_ends_as_if_it_never_was(name, tmp_path):
    whole = finite(build(name, subject(cache=tmp_path)))

    class Stopping(Parts):
        left = 2

        def each(self, names, measure, *, desc):
            def once(part):
                if not Stopping.left:
                    raise KeyboardInterrupt
                Stopping.left -= 1
                return measure(part)

            return super().each(names, once, desc=desc)

    path = tmp_path / "parts.json"
    for _ in range(100):
        try:
            found = build(name, subject(cache=tmp_path, parts=Stopping(path, "x")))
            break
        except KeyboardInterrupt:
            assert path.exists()
            Stopping.left = 2
    assert finite(found) == whole


def test_a_second_measure_of_the_same_network_is_its_own(name, tmp_path):
    trained = subject(cache=tmp_path)
    other = finite(build(name, trained, seed=1))
    found = finite(build(name, trained))
    assert found == finite(build(name, subject(cache=tmp_path))) != other


def _floats(value):
    if isinstance(value, dict):
        # What is asked for is known without the network.
        return [x for key, v in value.items() if key != "axis" for x in _floats(v)]
    if isinstance(value, list):
        return [x for v in value for x in _floats(v)]
    return [value] if isinstance(value, float) else []


def test_of_weights_that_are_not_numbers_nothing_is_known(name, tmp_path):
    trained = subject(cache=tmp_path)
    with torch.no_grad():
        next(trained.model.parameters()).fill_(float("nan"))
    found = finite(build(name, trained))
    if name == "corruptions":  # an accuracy is a number whatever the outputs are
        assert _floats(found) and all(0 <= accuracy <= 100 for accuracy in _floats(found))
    else:
        assert _floats(found) == [] and None in found.values()


@pytest.mark.parametrize("seed", [-1, 2**32, 2**64])
def test_a_seed_that_no_run_has_is_refused(name, seed):
    with pytest.raises(UserError, match=rf"seed of {name} must be .* below 2\^32, not {seed}$"):
        build(name, subject(), seed=seed)


def test_every_option_has_a_default_and_a_type(name):
    spec = MEASURES.spec(name)
    assert isinstance(spec, Spec) and dict(spec.options)
