import copy
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from subjects import subject

from paper_repro.errors import UserError
from paper_repro.measure.surface import direction, roughness, surface
from paper_repro.sparse.distribution import prunable

QUICK = {"points": 3, "directions": 2, "samples": 16}


def test_heights_are_the_losses_of_a_network_that_stands_there():
    trained = subject()
    found = surface(trained, points=5, span=0.5, directions=2, samples=24, seed=4)
    weights = {n: w.detach() for n, w in prunable(trained.model).items()}
    d1, d2 = (direction(weights, trained.masks, (4, 0, axis)) for axis in (0, 1))
    inputs, targets = trained.sample(24, 4)
    assert found["axis"] == pytest.approx([-0.5, -0.25, 0.0, 0.25, 0.5])
    for i, a in enumerate(found["axis"]):
        for j, b in enumerate(found["axis"]):
            moved = copy.deepcopy(trained.model)
            with torch.no_grad():
                for name, w in prunable(moved).items():
                    w += a * d1[name] + b * d2[name]
                loss = float(F.cross_entropy(moved(inputs), targets))
            assert found["heights"][i][j] == pytest.approx(loss, rel=1e-5)
    assert found["heights"][2][2] == pytest.approx(found["loss"], rel=1e-6)
    assert len(found["ra_each"]) == 2 and found["ra_each"][0] == roughness(found["heights"])
    assert found["ra"] == pytest.approx(sum(found["ra_each"]) / 2)


def test_a_direction_has_each_filters_norm_and_is_0_where_pruned():
    trained = subject()
    weights = {n: w.detach() for n, w in prunable(trained.model).items()}
    for masks in (trained.masks, {}):
        d = direction(weights, masks, (0, 0, 0))
        assert set(d) == {n for n, p in trained.model.named_parameters() if p.ndim > 1}
        for name, w in weights.items():
            alive = w.flatten(1).norm(dim=1) > 0
            torch.testing.assert_close(
                d[name].flatten(1).norm(dim=1)[alive], w.flatten(1).norm(dim=1)[alive]
            )
            assert bool((d[name][~trained.masks[name]] == 0).all()) == bool(masks)


def test_a_dead_filter_does_not_move_and_makes_no_nan():
    w = {"w": torch.tensor([[0.0, 0.0], [3.0, 4.0]])}
    assert direction(w, {}, (0,))["w"][0].tolist() == [0.0, 0.0]
    d = direction(w, {"w": torch.tensor([[True, True], [False, False]])}, (0,))["w"]
    assert d.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_networks_are_compared_along_the_same_directions():
    one, other = subject(seed=0), subject(seed=0, masks={})
    weights = {n: w.detach() for n, w in prunable(one.model).items()}
    a = direction(weights, one.masks, (0, 1, 0))
    b = direction({n: w.detach() for n, w in prunable(other.model).items()}, {}, (0, 1, 0))
    for name, mask in one.masks.items():  # up to each filter's length
        assert torch.equal(torch.sign(a[name][mask]), torch.sign(b[name][mask]))
    seeds = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]
    drawn = [direction(weights, {}, seed) for seed in seeds]
    assert len({tuple(d["0.weight"].flatten().tolist()) for d in drawn}) == 4


def test_unrestricted_directions_make_another_surface():
    ours, dense = (surface(subject(), restrict=r, **QUICK)["ra"] for r in (True, False))
    assert ours != dense


@given(
    st.lists(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3), min_size=3, max_size=3),
    st.floats(-100, 100),
    st.floats(0.1, 10),
)
def test_roughness_ignores_the_level_and_goes_with_the_scale(heights, level, scale):
    ra = roughness(heights)
    assert ra >= 0
    moved = roughness([[scale * h + level for h in row] for row in heights])
    assert moved == pytest.approx(scale * ra, rel=1e-6, abs=1e-6)


def test_roughness_of_known_grids():
    assert roughness([[2.0] * 3] * 3) == 0.0
    assert roughness([[0.0, 1.0], [1.0, 0.0]]) == 0.5
    assert roughness([[0.0, None], [1.0, 0.0]]) is None


def test_a_height_that_is_not_finite_leaves_no_ra(monkeypatch):
    trained = subject()
    found = surface(trained, span=1e30, **QUICK)
    assert found["ra"] is None and found["ra_std"] is None
    assert math.isfinite(found["loss"])


def test_the_cost_is_stated_before_it_starts(capsys):
    surface(subject(), **QUICK)
    said = capsys.readouterr().err
    assert said.index("18 points, 16 samples each: about") < said.index("loss surface")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"points": 4}, "odd number of points, 3 or more, not 4"),
        ({"points": 1}, "odd number"),
        ({"directions": 1}, "at least 2 directions"),
        ({"span": 0.0}, "span above 0"),
    ],
)
def test_bad_options_are_refused(options, said):
    with pytest.raises(UserError, match=said):
        surface(subject(), **{**QUICK, **options})
