"""What arrives of a perturbation, against plain versions of rounding and of the measures."""

from __future__ import annotations

import math
import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from toys import advance, batches, convnet, images, mlp

from paper_repro.config import PRECISIONS
from paper_repro.errors import UserError
from paper_repro.measure.effective_perturbation import (
    ROUNDINGS,
    Share,
    effective_perturbation,
)
from paper_repro.optim import MSAM, S2SAM, SAM
from paper_repro.sparse import Random

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False).filter(
    lambda x: x == 0 or 1e-30 < abs(x) < 1e30
)


def plainly(x: float, bits: int, even: bool) -> float:
    """x to ``bits`` significant bits, to nearest; ties to even or away from zero."""
    if x == 0:
        return x
    fraction, exponent = math.frexp(abs(x))
    scaled = math.ldexp(fraction, bits)
    down = math.floor(scaled)
    rest = scaled - down
    up = rest > 0.5 or (rest == 0.5 and (not even or down % 2 == 1))
    return math.copysign(math.ldexp(down + up, exponent - bits), x)


PLAIN = {
    "float32": lambda x: x,
    "tf32": lambda x: plainly(x, 11, even=False),
    "bf16": lambda x: plainly(x, 8, even=True),
}


@pytest.mark.parametrize("precision", PLAIN)
@given(x=FLOATS)
def test_rounding_against_arithmetic_on_one_number(precision: str, x: float) -> None:
    assert float(ROUNDINGS[precision](torch.tensor([x]))) == PLAIN[precision](x)


@pytest.mark.parametrize("precision, bits", [("tf32", 13), ("bf16", 16)])
@given(high=st.integers(0, 2**10 - 1), exponent=st.integers(60, 190))
def test_rounding_of_ties(precision: str, bits: int, high: int, exponent: int) -> None:
    pattern = (exponent << 23) | (high << 13)
    pattern = (pattern & ~((1 << bits) - 1)) | 1 << (bits - 1)  # half way between two numbers
    (x,) = struct.unpack("<f", struct.pack("<I", pattern))
    assert float(ROUNDINGS[precision](torch.tensor([x]))) == PLAIN[precision](x)


@pytest.mark.parametrize("precision", ROUNDINGS)
def test_what_is_no_number_stays_what_it_is(precision: str) -> None:
    odd = torch.tensor([math.inf, -math.inf, math.nan, 0.0, -0.0])
    rounded = ROUNDINGS[precision](odd)
    assert torch.equal(rounded[:2], odd[:2]) and rounded[2].isnan()
    assert torch.equal(torch.signbit(rounded[3:]), torch.signbit(odd[3:]))


def test_bf16_is_autocasts_own_rounding() -> None:
    layer = nn.Linear(50, 1, bias=False)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        seen = layer(torch.eye(50)).float()
    assert torch.equal(seen.T, ROUNDINGS["bf16"](layer.weight.detach()))


def test_every_precision_of_a_run_has_its_rounding() -> None:
    assert set(ROUNDINGS) == set(PRECISIONS)


def plain_share(w: list[float], u: list[float], kept: list[bool], precision: str) -> Share:
    """The measures, one weight at a time."""
    rounded = PLAIN[precision]
    pairs = [(b - a, rounded(b) - rounded(a)) for a, b, k in zip(w, u, kept, strict=True) if k]
    dot = sum(e * f for e, f in pairs)
    wanted, arriving = (math.sqrt(sum(pair[i] ** 2 for pair in pairs)) for i in (0, 1))
    return Share(
        len(pairs),
        sum(f != 0 for _, f in pairs) / len(pairs) if pairs else 0.0,
        dot / (wanted * arriving) if wanted * arriving > 0 else 0.0,
        arriving / wanted if wanted > 0 else 0.0,
    )


def close(one: Share, other: Share) -> bool:
    return one.active == other.active and all(
        getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-9)
        for name in ("changed", "cosine", "ratio")
    )


@pytest.mark.parametrize("precision", PRECISIONS)
@given(seed=st.integers(0, 2**16), log_rho=st.floats(-6, 0))
def test_an_explicit_epsilon_against_the_plain_measures(
    precision: str, seed: int, log_rho: float
) -> None:
    model = mlp(seed)
    g = torch.Generator().manual_seed(seed)
    named = dict(model.named_parameters())
    epsilon = {n: 10**log_rho * torch.randn(p.shape, generator=g) for n, p in named.items()}
    masks = {"0.weight": torch.rand(named["0.weight"].shape, generator=g) < 0.5}
    found = effective_perturbation(model, epsilon=epsilon, masks=masks, precision=precision)
    assert set(found.layers) == {"0.weight", "2.weight"}  # not the biases
    everything: tuple[list[float], list[float], list[bool]] = ([], [], [])
    for name, share in found.layers.items():
        w = named[name].detach()
        kept = masks.get(name, torch.ones_like(w, dtype=torch.bool))
        own = (w.flatten().tolist(), (w + epsilon[name]).flatten().tolist())
        assert close(share, plain_share(*own, kept.flatten().tolist(), precision))
        for whole, part in zip(everything, (*own, kept.flatten().tolist()), strict=True):
            whole.extend(part)
    assert close(found.overall, plain_share(*everything, precision))


@given(seed=st.integers(0, 2**16), rho=st.floats(0.001, 1.0))
def test_float32_loses_nothing_and_fewer_bits_lose_more(seed: int, rho: float) -> None:
    model = convnet(seed)
    optimizer = S2SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=rho)
    advance(model, optimizer, images(1, seed)[0])
    full, tf32, bf16 = (
        effective_perturbation(model, optimizer, precision=p).overall for p in PRECISIONS
    )
    assert full.cosine == pytest.approx(1) and full.ratio == pytest.approx(1)
    assert full.changed >= tf32.changed >= bf16.changed
    assert full.cosine + 1e-9 >= tf32.cosine >= bf16.cosine - 1e-3


@pytest.mark.parametrize("wrapper", [S2SAM, MSAM])
def test_an_optimizers_own_perturbation_is_what_its_parameters_stand_off(wrapper: type) -> None:
    model = convnet()
    base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    optimizer = wrapper(base, rho=0.3)
    method = Random(model, optimizer, sparsity=0.5, distribution="uniform-rigl", seed=0)
    for batch in images(3):
        advance(model, optimizer, batch)
    u = {n: p.detach().clone() for n, p in model.named_parameters()}
    found = effective_perturbation(model, optimizer, masks=method.masks)
    optimizer.eval()
    epsilon = {n: u[n] - p.detach() for n, p in model.named_parameters()}
    explicit = effective_perturbation(model, epsilon=epsilon, masks=method.masks)
    assert close(found.overall, explicit.overall) and 0 < found.overall.changed < 1
    masked = {n: m for n, m in method.masks.state_dict().items()}
    assert all(found.layers[n].active == int(m.sum()) for n, m in masked.items())
    # At w nothing stands off.
    assert effective_perturbation(model, optimizer).overall == Share(
        sum(share.active for share in effective_perturbation(model, optimizer).layers.values()),
        0.0,
        0.0,
        0.0,
    )


def test_measuring_changes_nothing() -> None:
    model = mlp()
    optimizer = S2SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.05)
    advance(model, optimizer, batches(1)[0])
    before = [p.detach().clone() for p in model.parameters()]
    effective_perturbation(model, optimizer, precision="bf16")
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_bad_input_is_one_sentence() -> None:
    model = mlp()
    with pytest.raises(UserError, match="unknown precision 'fp8'; known are float32, tf32, bf16"):
        effective_perturbation(model, epsilon={}, precision="fp8")
    with pytest.raises(UserError, match="needs an optimizer or an epsilon"):
        effective_perturbation(model)
    sam = SAM(torch.optim.SGD(model.parameters(), lr=0.1))
    assert effective_perturbation(model, sam).overall.changed == 0  # it stands at w between steps
    empty = effective_perturbation(nn.ReLU(), epsilon={})
    assert empty.overall == Share(0, 0.0, 0.0, 0.0) and not empty.layers
