import numpy as np
import pytest
import torch
import torch.nn.functional as F
from subjects import subject
from torch.func import functional_call

from paper_repro.errors import UserError
from paper_repro.measure.landscape import Landscape
from paper_repro.measure.spectrum import spectrum


def hessian(trained, samples, seed):
    """The whole Hessian over the active parameters, entry by entry."""
    inputs, targets = trained.sample(samples, seed)
    named = {n: p.detach() for n, p in trained.model.named_parameters()}
    sizes = [p.numel() for p in named.values()]

    def loss(flat):
        parts = [x.reshape(p.shape) for x, p in zip(flat.split(sizes), named.values(), strict=True)]
        outputs = functional_call(trained.model, dict(zip(named, parts, strict=True)), (inputs,))
        return F.cross_entropy(outputs, targets)

    flat = torch.cat([p.flatten() for p in named.values()])
    full = torch.autograd.functional.hessian(loss, flat)
    active = torch.cat(
        [
            trained.masks.get(n, torch.ones_like(p, dtype=torch.bool)).flatten()
            for n, p in named.items()
        ]
    )
    return full[active][:, active], active


def test_products_are_those_of_the_whole_hessian():
    trained = subject()
    full, active = hessian(trained, 32, 1)
    landscape = Landscape(trained, 32, 1)
    v = torch.randn(len(active)) * active
    sizes = [w.numel() for w in landscape.weights.values()]
    along = {
        n: x.reshape(w.shape)
        for (n, w), x in zip(landscape.weights.items(), v.split(sizes), strict=True)
    }
    product = torch.cat([h.flatten() for h in landscape.curvature(along).values()])
    torch.testing.assert_close(product[active], full @ v[active], rtol=1e-4, atol=1e-5)


def test_ends_trace_and_density_are_those_of_the_whole_hessian():
    trained = subject()
    full, active = hessian(trained, 32, 1)
    eigenvalues = torch.linalg.eigvalsh(full).numpy()
    found = spectrum(trained, nodes=25, repeats=20, samples=32, seed=1)
    assert found["dimension"] == int(active.sum()) == len(eigenvalues)
    assert found["largest"] == pytest.approx(eigenvalues[-1], rel=1e-2)
    assert found["smallest"] == pytest.approx(eigenvalues[0], rel=0.1)
    error = found["trace_std"] / np.sqrt(20)
    assert found["trace"] == pytest.approx(eigenvalues.sum(), abs=4 * error)
    grid, density = np.array(found["grid"]), np.array(found["density"])
    assert np.trapezoid(density, grid) == pytest.approx(1.0, abs=0.05)
    middle = (eigenvalues[0] + eigenvalues[-1]) / 2
    above = np.trapezoid(density[grid > middle], grid[grid > middle])
    assert above == pytest.approx((eigenvalues > middle).mean(), abs=0.05)


@pytest.mark.parametrize("options", [{"repeats": 1}, {"nodes": 1}, {"nodes": 10_000}])
def test_bad_options_are_refused(options):
    with pytest.raises(UserError, match="a spectrum needs 2 repeats and 2 to"):
        spectrum(subject(), **{"samples": 8, **options})
