import copy

import pytest
import torch
import torch.nn.functional as F
from toys import BASES, advance, backward, convnet, images, same_state, train

from paper_repro.errors import UserError
from paper_repro.sparse import METHODS, SNIP, Masks, prunable
from paper_repro.sparse.scoring import undisturbed, weight_gradients


def snip(model, batch, sparsity=0.7, **options):
    return SNIP(model, sparsity=sparsity, batch=batch, **options)


def test_masks_equal_a_reference_weight_by_weight():
    model, (x, y) = convnet(), images(1)[0]
    plain = convnet()
    F.cross_entropy(plain(x), y).backward()
    scores = {
        (name, i): abs(float(g) * float(w))
        for name, p in prunable(plain).items()
        for i, (w, g) in enumerate(zip(p.detach().flatten(), p.grad.flatten(), strict=True))
    }
    order = sorted(scores, key=lambda at: -scores[at])[: round(0.3 * len(scores))]
    masks = snip(model, (x, y)).masks
    got = {(name, i) for name in masks for i in masks[name].flatten().nonzero().flatten().tolist()}
    assert got == set(order)
    for name, w in prunable(plain).items():
        assert torch.equal(prunable(model)[name].detach(), w.detach() * masks[name])


@pytest.mark.parametrize("mode", ["batch", "running"])
def test_batch_norm_uses_the_statistics_of_its_mode_while_scoring(mode):
    model, (x, y) = convnet(), images(1)[0]
    with torch.no_grad():
        model[1].running_mean.fill_(0.3)
        model[1].running_var.fill_(2.0)
    plain = copy.deepcopy(model).train(mode == "batch")
    F.cross_entropy(plain(x), y).backward()
    scores = {n: (p * p.grad).abs() for n, p in prunable(plain).items()}
    largest = torch.cat([s.flatten() for s in scores.values()]).topk(
        sum(snip(copy.deepcopy(model), (x, y)).masks.counts().values())
    )
    before = copy.deepcopy(dict(model.named_buffers()))
    masks = snip(model, (x, y), batch_norm=mode).masks
    for name, score in scores.items():
        assert torch.equal(masks[name], score >= largest.values.min())
    assert model.training
    assert same_state(before, dict(model.named_buffers()))


def test_the_modes_choose_different_masks_and_old_records_had_the_batchs():
    masks = [
        snip(convnet(), images(1)[0], batch_norm=mode).masks.state_dict()
        for mode in ("batch", "running")
    ]
    assert not same_state(*masks)
    assert METHODS.before("snip") == {"batch_norm": "batch"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"batch_size": 0}, "SNIP needs batch_size >= 1, not 0"),
        ({"batch_size": -5}, "SNIP needs batch_size >= 1, not -5"),
        ({"batch_norm": "none"}, "SNIP's batch_norm is batch or running, not 'none'"),
    ],
)
def test_bad_options(options, said):
    with pytest.raises(UserError, match=said):
        snip(convnet(), images(1)[0], **options)
    with pytest.raises(UserError, match=said):
        SNIP.batch_request(METHODS.spec("snip", sparsity=0.9, **options))


def test_the_loss_can_be_another_one():
    x, y = images(1)[0]

    def loss(logits, labels):
        return logits[:, 0].sum()

    one = snip(convnet(), (x, y)).masks.state_dict()
    other = snip(convnet(), (x, y), loss_fn=loss).masks.state_dict()
    assert not same_state(one, other)


@pytest.mark.parametrize("training", [True, False])
def test_scoring_leaves_no_trace(training):
    model = convnet()
    model.insert(3, torch.nn.Dropout(0.3))  # draws from the global random state
    model.train(training)
    model[1].eval()  # a frozen layer in a training network
    backward(model, images(1, seed=4)[0])
    buffers = {n: b.clone() for n, b in model.named_buffers()}
    gradients = {n: (p.grad, p.grad.clone()) for n, p in model.named_parameters()}
    modes = [m.training for m in model.modules()]
    weights = copy.deepcopy(dict(model.named_parameters()))
    random = torch.get_rng_state()

    scores = weight_gradients(model, F.cross_entropy, images(1)[0])

    assert scores.keys() == prunable(model).keys()
    assert any(g.any() for g in scores.values())
    assert torch.equal(torch.get_rng_state(), random)
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(b, buffers[n]) for n, b in model.named_buffers())
    for name, p in model.named_parameters():
        assert torch.equal(p, weights[name])
        assert p.grad is gradients[name][0]
        assert torch.equal(p.grad, gradients[name][1])


def test_it_scores_in_training_mode_and_recovers_from_errors():
    model = convnet().eval()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(KeyError), undisturbed(model):
        assert all(m.training for m in model.modules())
        model(images(1)[0][0])
        assert not same_state(dict(before), dict(model.state_dict()))
        raise KeyError
    assert not model.training
    assert same_state(dict(before), dict(model.state_dict()))


def test_scoring_does_not_change_the_training_that_follows():
    """Nothing of it is left but the masks: a run with the same masks set by hand is the same."""
    one, two = convnet(), convnet()
    first, second = BASES["momentum"](one.parameters()), BASES["momentum"](two.parameters())
    masks = SNIP(one, first, sparsity=0.7, batch=images(1)[0]).masks.state_dict()
    Masks(two, second, masks)
    train(one, first, images(3))
    train(two, second, images(3))
    assert same_state(dict(one.state_dict()), dict(two.state_dict()))


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 0.995])
def test_exact_counts_also_when_all_scores_tie(sparsity):
    model = convnet()
    with torch.no_grad():
        for w in prunable(model).values():
            w.zero_()
    total = sum(w.numel() for w in prunable(model).values())
    kept = sum(snip(model, images(1)[0], sparsity).masks.counts().values())
    assert kept == round((1 - sparsity) * total)


def test_it_is_static():
    model = convnet()
    optimizer = BASES["momentum"](model.parameters())
    method = SNIP(model, optimizer, sparsity=0.8, batch=images(1)[0])
    masks = method.masks.state_dict()
    for batch in images(5):
        advance(model, optimizer, batch)
    assert same_state(masks, method.masks.state_dict())


def test_what_it_asks_of_the_loop():
    spec = METHODS.spec("snip", sparsity=0.9, batch_size=77)
    request = SNIP.batch_request(spec)
    assert (request.size, request.per_class) == (77, False)
    with pytest.raises(UserError, match="sparsity must be"):
        snip(convnet(), images(1)[0], sparsity=1.0)
