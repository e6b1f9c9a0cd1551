"""Masks hold whatever the base optimizer does to a matrix."""

import pytest
import torch
from sparsetoys import WRAPPERS, check_zeros
from toys import advance, batches, mlp, train

from paper_repro.sparse import RigL
from paper_repro.sparse.masks import _ELEMENTWISE


class Stirring(torch.optim.SGD):
    """Moves every entry of a matrix by the others' too, as whitening optimizers do."""

    @torch.no_grad()
    def step(self, closure=None):
        loss = super().step(closure)
        for p in self.param_groups[0]["params"]:
            if p.dim() == 2:
                p += 0.01 * p.mean()
                self.state[p]["memory"] = torch.ones_like(p)
        return loss


def muon(model):
    matrices = [p for p in model.parameters() if p.dim() == 2]
    return torch.optim.Muon(matrices, lr=0.02, weight_decay=0.1)


def mixing(model):
    return Stirring(model.parameters(), lr=0.1)


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
@pytest.mark.parametrize("base", [muon, mixing])
def test_a_base_that_mixes_entries_moves_no_pruned_weight(base, wrap):
    model = mlp()
    optimizer = wrap(base(model))
    method = RigL(model, optimizer, sparsity=0.6, total_steps=40, delta_t=4)
    for batch in batches(11):
        before = model[0].weight.detach().clone()
        advance(model, optimizer, batch)
        check_zeros(model, optimizer, method.masks)
        assert not torch.equal(before, model[0].weight) or method.due(method.steps - 1)
    assert method.updates == 2
    assert all(weight[method.masks[name]].any() for name, weight in method.masks.weights.items())


def test_without_masks_muon_moves_them():
    # What the test above would show if nothing were enforced.
    model = mlp()
    optimizer = muon(model)
    off = torch.rand(8, 6) < 0.5
    with torch.no_grad():
        model[0].weight[off] = 0
    model(batches(1)[0][0]).square().sum().backward()
    model[0].weight.grad[off] = 0
    optimizer.step()
    assert model[0].weight[off].abs().max() > 1e-3


@pytest.mark.parametrize("kind", sorted(_ELEMENTWISE, key=lambda k: k.__name__))
def test_bases_that_are_trusted_leave_zeros_alone(kind, monkeypatch):
    """They are not masked after each step: that they need not be is what is tested."""
    model = mlp()
    optimizer = kind(model.parameters(), lr=0.01)
    method = RigL(model, optimizer, sparsity=0.6, total_steps=40, delta_t=5)
    advance(model, optimizer, batches(1)[0])
    monkeypatch.setattr(method.masks, "apply", lambda: None)  # but for topology updates
    for batch in batches(4, seed=1):
        advance(model, optimizer, batch)
        for name, weight in method.masks.weights.items():
            assert not weight[~method.masks[name]].any()
    assert method.updates == 0


def test_dense_weights_loaded_after_the_masks_are_sparse_after_a_step():
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    method = RigL(model, optimizer, sparsity=0.6, total_steps=40)
    model.load_state_dict(mlp(seed=4).state_dict())
    train(model, optimizer, batches(1))
    check_zeros(model, optimizer, method.masks)
