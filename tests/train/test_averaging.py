import pytest
import torch
from torch import nn
from toys import advance, batches, mlp, perturbation, same_state, weights

from paper_repro.errors import UserError
from paper_repro.optim import S2SAM
from paper_repro.sparse import Masks
from paper_repro.train.averaging import Average


def trained(epochs=5, last=3):
    """A sparse network under S2-SAM, its w after each epoch, and the average of the last."""
    model = mlp()
    optimizer = S2SAM(torch.optim.Adam(model.parameters(), lr=1e-2), rho=0.1)
    mask = torch.rand(8, 6, generator=torch.Generator().manual_seed(0)) > 0.5
    masks = Masks(model, optimizer, {"0.weight": mask})
    average = Average(model, optimizer, masks, last, epochs)
    seen = []
    for epoch in range(epochs):
        for batch in batches(3, epoch):
            advance(model, optimizer, batch)
        average.add(epoch)
        seen.append(weights(model, optimizer))
    return model, optimizer, masks, average, seen


def test_it_is_of_the_last_weights_w_and_not_of_u():
    model, optimizer, _, average, seen = trained()
    assert average.complete and perturbation(model, optimizer).any()
    optimizer.eval()
    own = [p.detach().clone() for p in model.parameters()]
    with average.in_place():
        for i, p in enumerate(model.parameters()):
            mean = torch.stack([epoch[i].double() for epoch in seen[2:]]).mean(0).float()
            assert torch.equal(p, mean)
    assert all(torch.equal(p, w) for p, w in zip(model.parameters(), own, strict=True))


def test_it_is_as_sparse_as_the_masks_at_the_end():
    model, optimizer, masks, average, _ = trained()
    moved = masks["0.weight"].roll(1, 1)  # as a topology update after the last epoch would
    masks.replace({"0.weight": moved})
    optimizer.eval()
    with average.in_place():
        assert not model[0].weight[~moved].any() and model[0].weight[moved].any()


def test_it_begins_with_the_last_epochs_and_goes_on_from_a_checkpoint():
    model, optimizer, masks, average, _ = trained(epochs=5, last=2)
    whole = average.state_dict()
    assert whole["count"] == 2
    again = Average(model, optimizer, masks, 4, 5)
    for epoch in range(3):
        again.add(epoch)
    assert not again.complete and again.count == 2
    other = Average(model, optimizer, masks, 4, 5)
    other.load_state_dict(again.state_dict())
    for one in (again, other):
        one.add(3)
        one.add(4)
    assert other.complete and same_state(again.state_dict(), other.state_dict())


def test_batch_norm_has_no_average():
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(UserError, match="without batch norm"):
        Average(model, optimizer, Masks(model, optimizer, {}), 2, 5)
