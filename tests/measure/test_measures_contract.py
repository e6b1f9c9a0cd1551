"""What every measure of a trained network must do, whichever it is."""

import copy
import json

import pytest
import torch
from subjects import subject

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


def test_every_option_has_a_default_and_a_type(name):
    spec = MEASURES.spec(name)
    assert isinstance(spec, Spec) and dict(spec.options)
