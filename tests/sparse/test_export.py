"""The trained network at w, in one call, and masks as sparse tensor cores want them."""

import pytest
import torch
from torch import nn
from toys import batches, convnet, equal, images, mlp, same_state, snapshot, train, weights

from paper_repro.errors import UserError
from paper_repro.optim import MSAM, S2SAM, evaluating
from paper_repro.sparse import (
    METHODS,
    Magnitude,
    Random,
    RigL,
    export_weights,
    groups_of,
    prunable,
    save_weights,
)
from paper_repro.sparse.select import keep_in_groups


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


@pytest.mark.parametrize("wrap", [S2SAM, MSAM, lambda base: base], ids=["s2sam", "msam", "sgd"])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_the_exported_weights_are_w_and_training_goes_on_as_if_nothing_was(wrap, mode):
    model = convnet()
    optimizer = wrap(sgd(model))
    method = RigL(model, optimizer, sparsity=0.6, total_steps=24, delta_t=4)
    train(model, optimizer, images(9))
    if mode == "eval" and hasattr(optimizer, "eval"):
        optimizer.eval()
    before = snapshot(model, optimizer)
    exported = export_weights(model, optimizer)
    assert same_state(before, snapshot(model, optimizer))
    assert list(exported) == list(model.state_dict())
    if wrap is not MSAM:  # whose w is there to rounding
        named = dict(zip(dict(model.named_parameters()), weights(model, optimizer), strict=True))
        assert all(torch.equal(exported[name], w) for name, w in named.items())
    for name, mask in method.masks.state_dict().items():
        assert not exported[name][~mask].any() and exported[name][mask].any()
    fresh = convnet(seed=5)
    fresh.load_state_dict(exported)
    exported["0.weight"].fill_(9.0)  # copies
    assert same_state(before, snapshot(model, optimizer))


def test_what_is_around_the_model_does_not_show_in_the_names():
    class Around(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

    model = mlp()
    assert list(export_weights(Around(model))) == list(model.state_dict())
    assert list(export_weights(torch.compile(model))) == list(model.state_dict())


def test_evaluating_is_what_was_before_afterwards():
    model = mlp()
    optimizer = S2SAM(sgd(model), rho=0.5)
    train(model, optimizer, batches(3))
    u, w = [p.detach().clone() for p in model.parameters()], weights(model, optimizer)
    with pytest.raises(KeyError), evaluating(optimizer):
        assert equal(w, model.parameters())
        raise KeyError
    assert equal(u, model.parameters())
    optimizer.eval()
    with evaluating(optimizer):
        assert equal(w, model.parameters())
    assert not optimizer.param_groups[0]["train_mode"]
    with evaluating(None):
        pass


def test_files(tmp_path):
    model = mlp()
    optimizer = S2SAM(sgd(model), rho=0.5)
    train(model, optimizer, batches(3))
    save_weights(tmp_path / "w.pt", model, optimizer)
    assert same_state(
        dict(torch.load(tmp_path / "w.pt", weights_only=True)), export_weights(model, optimizer)
    )
    with pytest.raises(UserError, match="no regular file"):
        save_weights(tmp_path, model, optimizer)
    safetensors = pytest.importorskip("safetensors.torch")
    save_weights(tmp_path / "w.safetensors", model, optimizer)
    loaded = safetensors.load_file(tmp_path / "w.safetensors")
    assert same_state(loaded, export_weights(model, optimizer))


def test_a_safetensors_file_without_safetensors_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "safetensors.torch", None)
    with pytest.raises(UserError, match="pip install safetensors"):
        save_weights(tmp_path / "w.safetensors", mlp())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", [Magnitude, Random])
@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (1, 2)])
def test_n_of_m(kind, n, m):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3), nn.Conv2d(6, 8, 1), nn.Flatten(), nn.Linear(8, 16)
    )
    model.append(nn.Linear(16, 3))
    dense = {name: w.detach().clone() for name, w in prunable(model).items()}
    method = kind(model, sgd(model), sparsity=1 - n / m, distribution=f"{n}:{m}")
    # The stem and the classifier stay dense, and six channels are no multiple of four.
    assert list(method.masks) == ["1.weight", *(["2.weight"] if m == 2 else []), "4.weight"]
    for name, mask in method.masks.state_dict().items():
        along = mask.movedim(1, -1).reshape(-1, m)
        assert (along.sum(1) == n).all()
        if kind is Magnitude:
            size = dense[name].abs().movedim(1, -1).reshape(-1, m)
            kept = torch.where(along, size, torch.inf).amin(1)
            assert (kept >= torch.where(along, -torch.inf, size).amax(1)).all()
    assert method.missed(1 - n / m) == 0.0


def test_n_of_m_breaks_ties_by_place():
    assert keep_in_groups(torch.ones(2, 8), 2, 4).tolist() == [[True, True, False, False] * 2] * 2


def test_n_of_m_that_cannot_be():
    model = convnet()
    for options, sentence in (
        ({"sparsity": 0.9, "distribution": "2:4"}, "of sparsity 0.5, not 0.9"),
        ({"sparsity": 0.5, "distribution": "4:2"}, "n below m"),
        ({"sparsity": 0.5, "distribution": "2:4:6"}, "unknown distribution"),
    ):
        with pytest.raises(UserError, match=sentence):
            Magnitude(model, sgd(model), **options)
    for name in ("rigl", "set", "mest", "dsr"):
        steps = {"steps_per_epoch": 2} if name == "set" else {}
        with pytest.raises(UserError, match="not within groups"):
            METHODS[name](
                model, sgd(model), sparsity=0.5, distribution="2:4", total_steps=9, **steps
            )
    assert groups_of("uniform") is None
