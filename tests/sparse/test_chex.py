import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from toys import advance, convnet, equal, images, same_state, through_disk

from paper_repro.errors import UserError
from paper_repro.optim import MSAM, S2SAM, SAM, exact
from paper_repro.sparse import CHEX, METHODS, prunable
from paper_repro.sparse.chex import leverage, novelty

STEPS = 20


def sgd(model, lr=0.1):
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=1e-2)


WRAPPERS = {"sgd": lambda base: base, "s2sam": S2SAM, "sam": SAM, "msam": MSAM}


def begin(wrapper="s2sam", sparsity=0.5, model=None, **options):
    model = convnet() if model is None else model
    optimizer = WRAPPERS[wrapper](sgd(model))
    options = {"total_steps": STEPS, "updates": 5, "stop": 0.75, **options}
    return model, optimizer, CHEX(model, optimizer, sparsity=sparsity, **options)


def channels(method):
    return {name: int(k.sum()) for name, k in method.kept().items()}


def test_the_schedule_is_spread_over_the_exploration():
    _, _, method = begin()
    assert [t for t in range(STEPS) if method.due(t)] == [2, 5, 8, 11, 14]
    _, _, defaults = begin(total_steps=250 * 10, updates=90, stop=0.72)
    due = [t + 1 for t in range(2500) if defaults.due(t)]
    assert due == [20 * j for j in range(1, 91)]  # every 2 of 250 epochs, until epoch 180
    fractions = [defaults.regrown_fraction(j) for j in (0, 30, 45, 90)]
    assert fractions == pytest.approx([0.3, 0.225, 0.15, 0.0], abs=1e-15)
    assert fractions[-1] == 0


@pytest.mark.parametrize(("total", "updates"), [(1, 90), (3, 90), (20, 90), (7, 1)])
def test_a_short_training_still_ends_at_the_target(total, updates):
    model, optimizer, method = begin(total_steps=total, updates=updates, sparsity=0.6)
    for batch in images(total):
        advance(model, optimizer, batch)
    assert sum(channels(method).values()) == round(0.4 * 14)


def test_it_starts_with_the_filters_of_largest_norm():
    model = convnet()
    norms = {n: w.detach().abs().flatten(1).sum(1) for n, w in prunable(model).items()}
    _, _, method = begin(model=model, regrow=0.1)
    for layer, size in (("0", 6), ("3", 8)):
        kept = method.kept()[layer]
        assert kept.sum() == math.ceil(0.6 * size)
        largest = norms[f"{layer}.weight"].topk(int(kept.sum())).indices
        assert kept[largest].all()
    _, _, wide = begin(regrow=0.5)
    assert channels(wide) == {"0": 6, "3": 8}


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.5, 0.98])
def test_the_number_of_channels_is_exact_and_no_group_dies(sparsity):
    model, optimizer, method = begin(sparsity=sparsity)
    for batch in images(STEPS):
        advance(model, optimizer, batch)
    kept = channels(method)
    assert sum(kept.values()) == max(2, round((1 - sparsity) * 14))
    assert min(kept.values()) >= 1
    assert method.facts()["channels_kept"] == kept
    assert method.facts()["channels"] == {"0": 6, "3": 8}
    assert method.updates == 5


def test_the_structure_is_fixed_after_the_last_update():
    model, optimizer, method = begin()
    data = images(STEPS)
    for batch in data[:15]:
        advance(model, optimizer, batch)
    masks = method.masks.state_dict()
    for batch in data[15:]:
        advance(model, optimizer, batch)
    assert same_state(masks, method.masks.state_dict())


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_removed_channels_are_zero_everywhere_and_regrown_ones_as_they_were(wrapper):
    model, optimizer, method = begin(wrapper, regrow=0.5)
    last = {name: w.detach().clone() for name, w in prunable(convnet()).items()}
    old, choose = {}, method.choose

    def look_first(t):
        for name in method.masks:
            old[name] = method.masks[name]
            last[name] = torch.where(old[name], method.weight(name), last[name])
        return choose(t)

    method.choose = look_first
    returned = 0
    for batch in images(STEPS):
        old.clear()
        advance(model, optimizer, batch)
        for name, before in old.items():
            grown = method.masks[name] & ~before
            returned += int(grown.sum())
            assert last[name][grown].all()
            assert torch.equal(method.weight(name)[grown], last[name][grown])
            momentum = optimizer.state[method.masks.weights[name]]["momentum_buffer"]
            assert not momentum[grown].any()
        for name, weight in method.masks.weights.items():
            pruned = ~method.masks[name]
            assert not method.weight(name)[pruned].any()
            assert not weight[pruned].any()
            for buffer in optimizer.state[weight].values():
                if isinstance(buffer, torch.Tensor) and buffer.shape == weight.shape:
                    assert not buffer[pruned].any()
    assert returned > 0


def test_a_regrown_channel_brings_its_batch_norm_along():
    model, optimizer, method = begin(regrow=0.5, sparsity=0.6)
    data = images(STEPS)
    norm = model[1]
    removed = ~method.kept()["0"]
    while not removed.any():
        advance(model, optimizer, data[method.steps])
        removed = ~method.kept()["0"]
    first = int(removed.nonzero()[0])
    kept = {k: v[first].clone() for k, v in method.memory.items() if k.startswith("1.")}
    assert set(kept) == {"1.weight", "1.bias", "1.running_mean", "1.running_var"}
    assert torch.equal(kept["1.weight"], exact(optimizer, norm.weight)[first])
    # What happens to them while nobody reads the channel does not count.
    with torch.no_grad():
        norm.running_var[first] = 0.0
    original = method.choose

    def everything(t):
        return {n: torch.ones_like(m) for n, m in original(t).items()}

    method.choose = everything
    method.update(method.steps if method.due(method.steps) else 14)
    assert torch.equal(norm.running_var[first], kept["1.running_var"])
    assert torch.equal(norm.running_mean[first], kept["1.running_mean"])
    assert torch.equal(exact(optimizer, norm.weight)[first], kept["1.weight"])


def test_groups_share_the_channels_by_their_batch_norm_scales():
    model, _, method = begin("sgd", sparsity=0.5, updates=1, regrow=0.5)
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([3.0, -3.0, 0.1, 3.0, 3.0, 0.2]))
        model[4].weight.copy_(torch.tensor([2.0, 0.1, -2.0, 2.0, 0.1, 0.1, 0.1, 0.1]))
    method.update(14)
    assert channels(method) == {"0": 4, "3": 3}


def test_a_group_without_batch_norm_goes_by_its_filters():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))
    method = CHEX(model, sgd(model), sparsity=0.5, total_steps=4, updates=1, regrow=0.5)
    with torch.no_grad():
        model[0].weight[:6] *= 100
        model[2].weight[:2] *= 100
    method.update(2)
    assert channels(method) == {"0": 6, "2": 2}


def test_filters_are_kept_by_leverage():
    # Two nearly parallel long filters, and one short one in a direction of its own.
    model, _, method = begin("sgd", sparsity=0.5, updates=1, regrow=0.5)
    with torch.no_grad():
        weight = model[0].weight
        weight.zero_()
        flat = weight.view(6, 9)
        flat[0, 0], flat[1, 0], flat[2, 0] = 5.0, 5.0, 5.0
        flat[3, 1], flat[4, 2], flat[5, 3] = 4.0, 4.0, 4.0
        model[1].weight.copy_(torch.tensor([9.0, 9.0, 9.0, 9.0, 0.0, 0.0]))
        model[4].weight.copy_(torch.tensor([9.0, 9.0, 9.0] + [0.0] * 5))
    method.update(14)
    kept = method.kept()["0"]
    assert kept[3:].all()
    assert kept.sum() == 4


@given(
    seed=st.integers(0, 99), count=st.integers(2, 9), fan_in=st.integers(2, 9), k=st.integers(1, 9)
)
def test_leverage_scores(seed, count, fan_in, k):
    x = torch.randn(count, fan_in, generator=torch.Generator().manual_seed(seed))
    scores = leverage(x, k)
    # They are the diagonal of a projection of rank k.
    assert scores.sum() == pytest.approx(min(k, count, fan_in), abs=1e-4)
    assert (scores > -1e-5).all() and (scores < 1 + 1e-5).all()
    gram = x.double() @ x.double().T
    _, vectors = torch.linalg.eigh(gram)
    expected = vectors[:, -min(k, fan_in, count) :].square().sum(1)
    torch.testing.assert_close(scores.double(), expected, atol=1e-3, rtol=1e-3)


def test_novelty_is_the_distance_from_the_span():
    kept = torch.tensor([[1.0, 0.0, 0.0], [2.0, 0.0, 0.0]])  # of rank one only
    candidates = torch.tensor([[7.0, 3.0, 4.0], [5.0, 0.0, 0.0]])
    torch.testing.assert_close(novelty(candidates, kept), torch.tensor([5.0, 0.0]))
    full = novelty(torch.randn(4, 3), torch.randn(5, 3))
    torch.testing.assert_close(full, torch.zeros(4), atol=1e-5, rtol=0)


def test_regrowth_prefers_new_directions():
    # Eleven candidates, ten of them along the kept filter: the other is e^8 times as likely.
    drawn = 0
    for seed in range(20):
        model = nn.Sequential(nn.Linear(12, 12, bias=False), nn.ReLU(), nn.Linear(12, 2))
        with torch.no_grad():
            model[0].weight.copy_(torch.eye(12)[[0] * 11 + [1]] * 8)
            model[0].weight[:11] *= 2
        method = CHEX(
            model, sgd(model), sparsity=0.9, total_steps=9, updates=2, regrow=0.16, seed=seed
        )
        method.update(2)
        assert channels(method) == {"0": 2}
        drawn += bool(method.kept()["0"][11])
    assert drawn >= 18


def test_the_seed_decides_what_is_regrown():
    runs = []
    for seed in (0, 0, 1):
        model, optimizer, method = begin(seed=seed, sparsity=0.7)
        for batch in images(8):
            advance(model, optimizer, batch)
        runs.append(method.masks.state_dict())
    assert same_state(runs[0], runs[1])
    assert not same_state(runs[0], runs[2])


@pytest.mark.parametrize("stopped", [1, 3, 7, 14])
def test_resumed_it_ends_bit_identical(stopped):
    data = images(STEPS)
    model, optimizer, method = begin(regrow=0.5)
    for batch in data[:stopped]:
        advance(model, optimizer, batch)
    saved = through_disk([x.state_dict() for x in (model, optimizer, method)])
    kept = [x.state_dict() for x in (method,)]
    for batch in data[stopped:]:
        advance(model, optimizer, batch)
    assert same_state(saved[2], kept[0])  # a checkpoint in memory is not written to
    again, other, resumed = begin(regrow=0.5)
    for x, state in zip((again, other, resumed), saved, strict=True):
        x.load_state_dict(state)
    for batch in data[stopped:]:
        advance(again, other, batch)
    assert equal(model.state_dict().values(), again.state_dict().values())
    assert same_state(method.state_dict(), resumed.state_dict())


def test_weights_that_overflowed_end_no_update():
    model, _, method = begin("sgd")
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] = math.nan
        model[3].weight[0, 0, 0, 0] = math.inf
    method.update(2)
    assert method.updates == 1


def test_what_it_asks_for_is_the_channel_sparsity():
    assert CHEX.nominal_sparsity(METHODS.spec("chex", sparsity=0.7)) == 0.7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsity": 1.0}, "sparsity must be"),
        ({"updates": 0}, "updates in"),
        ({"updates": 10**9}, "updates in"),  # of which it would make a plan
        ({"stop": 1.5}, "stop in"),
        ({"regrow": -0.1}, "regrow in"),
        ({"model": nn.Sequential(nn.Linear(2, 2))}, "no channels"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(UserError, match=message):
        begin(**options)


def test_a_sparsity_that_would_leave_a_group_no_channel_is_said_to_be_missed():
    for sparsity, missed in ((0.5, 0.0), (0.7, 0.0), (0.9999, 12 / 14 - 0.9999)):
        model, optimizer, method = begin(sparsity=sparsity)
        for batch in images(STEPS):
            advance(model, optimizer, batch)
        assert method.missed(sparsity) == pytest.approx(missed)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_overflowed_end_the_run_by_its_loss_and_not_here(value):
    _, _, method = begin()
    with torch.no_grad():
        for p in method.model.parameters():
            p.fill_(value)
    for t in (2, 5, 8, 11, 14):
        method.update(t)
    assert sum(channels(method).values()) == 7
