import pytest
import torch
from toys import BASES, convnet, images, train

from paper_repro.errors import UserError
from paper_repro.models import build
from paper_repro.optim import S2SAM
from paper_repro.sparse import MEST, layer_counts, prunable
from paper_repro.sparse.mest import stage_sparsities
from paper_repro.sparse.select import keep_largest


def begin(wrap=lambda base: base, network=convnet, **options):
    model = network()
    optimizer = wrap(BASES["momentum"](model.parameters()))
    options = {"sparsity": 0.5, "total_steps": 160, "distribution": "erk", **options}
    return model, optimizer, MEST(model, optimizer, **options)


@pytest.mark.parametrize(
    ("sparsity", "stages"),
    [
        (0.9, (0.92, 0.91)),
        (0.95, (0.97, 0.96)),
        (0.98, (0.982, 0.981)),
        (0.8, (0.84, 0.82)),
        (0.0, (0.2, 0.1)),
    ],
)
def test_stages(sparsity, stages):
    assert stage_sparsities(sparsity) == pytest.approx(stages)
    assert stage_sparsities(1 - (1 - sparsity)) == pytest.approx(stages)  # a last bit off


@pytest.mark.parametrize(("sparsity", "stages"), [(0.9, (0.92, 0.91)), (0.98, (0.982, 0.981))])
def test_the_papers_schedule(sparsity, stages):
    """Every 5 of 160 epochs; to .92 before epoch 100, .91 before epoch 130, then frozen."""
    steps_per_epoch = 10
    _, _, method = begin(
        network=lambda: build("resnet_digits", classes=10, channels=1, seed=0),
        sparsity=sparsity,
        total_steps=160 * steps_per_epoch,
        distribution="uniform",
    )
    due = [t + 1 for t in range(160 * steps_per_epoch) if method.due(t)]
    assert due == [5 * steps_per_epoch * k for k in range(1, 26)]
    for epochs, stage in ((5, 0), (95, 0), (100, 1), (125, 1)):
        method.target = method.lower[stage]  # so that growth adds nothing to what pruning leaves
        method.masks.replace({name: torch.ones_like(method.masks[name]) for name in method.masks})
        for mask in method.choose(epochs * steps_per_epoch - 1).values():
            assert int(mask.sum()) == max(1, round((1 - stages[stage]) * mask.numel()))


def test_starts_from_the_largest_weights():
    fresh, (model, _, method) = convnet(), begin(sparsity=0.7)
    counts = {n: k for n, k in layer_counts(fresh, 0.7, "erk").items() if n in method.masks}
    assert method.masks.counts() == counts
    assert 0 < len(counts) < 3  # the classifier comes out dense
    for name in method.masks:
        w = prunable(fresh)[name].detach()
        mask = method.masks[name]
        assert w[mask].abs().min() >= w[~mask].abs().max()
        assert torch.equal(prunable(model)[name].detach(), w * mask)


@pytest.mark.parametrize("wrap", [lambda base: base, lambda base: S2SAM(base, rho=2.0)])
@pytest.mark.parametrize("gradient_weight", [0.0, 10.0])
def test_prunes_the_smallest_scores_and_grows_at_random(wrap, gradient_weight):
    model, optimizer, method = begin(wrap, total_steps=32, gradient_weight=gradient_weight)
    choose = method.choose
    ever = {name: method.masks[name] for name in method.masks}

    def watched(t):
        lower = method.lower[0 if t + 1 < 20 else 1]
        expected = {}
        for name, p in method.masks.weights.items():
            score = method.weight(name).detach().abs() + gradient_weight * p.grad.abs()
            expected[name] = keep_largest(score, lower[name], method.masks[name])
        new = choose(t)
        for name, kept in expected.items():
            assert new[name][kept].all()
            assert int(new[name].sum()) == method.target[name] > lower[name]
            ever[name] |= new[name]
        return new

    method.choose = watched
    train(model, optimizer, images(32))
    assert method.updates == 25  # after each of the steps 1 to 25; 26 = 130/160 of 32 is no more
    assert all(mask.float().mean() > 0.9 for mask in ever.values())  # growth goes everywhere


def test_lower_counts_never_exceed_the_target():
    for distribution in ("uniform", "uniform-rigl", "erk"):
        for sparsity in (0.0, 0.1, 0.5, 0.9, 0.98, 0.999):
            _, _, method = begin(sparsity=sparsity, distribution=distribution)
            for lower in method.lower:
                assert all(1 <= lower[n] <= k for n, k in method.target.items())


@pytest.mark.parametrize(
    "options",
    [
        {"updates": 0},
        {"first_stop": 0.9, "second_stop": 0.8},
        {"second_stop": 1.1},
        {"gradient_weight": -1.0},
    ],
)
def test_bad_options(options):
    with pytest.raises(UserError, match="MEST needs updates"):
        begin(**options)
