"""PackedMasks are Masks to a method and to an optimizer: the same numbers, stored packed."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import CLASSES, SIZE, batch, masks_for, resnet

from paper_repro.engine import attach
from paper_repro.errors import UserError
from paper_repro.optim import MSAM, S2SAM, SAM, LookSAM, exact
from paper_repro.sparse import METHODS, Masks, SparseMethod, export_weights, save_weights

OPTIMIZERS = {
    "sgd": lambda base: base,
    "s2sam": lambda base: S2SAM(base, rho=0.05),
    "sam": lambda base: SAM(base, rho=0.05),
    "msam": lambda base: MSAM(base, rho=0.3),
    "looksam": lambda base: LookSAM(base, rho=0.05, k=2),
}


class Given(SparseMethod):
    """Whatever masks it is given."""

    def __init__(self, model, optimizer, masks):
        super().__init__(model, optimizer)
        self.masks = Masks(model, optimizer, masks)


def pair(name, masks, seed=0):
    """One network twice, by PyTorch under masks and packed."""
    sides = []
    for packed in (False, True):
        model = resnet(seed)
        base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2)
        optimizer = OPTIMIZERS[name](base)
        method = Given(model, optimizer, masks)
        net = attach(model, optimizer, method, (3, SIZE, SIZE), 20) if packed else None
        sides.append((model, optimizer, method, net))
    return sides


def views(model, optimizer, net):
    """Parameters, their gradients, and all of the optimizer's state of their shape, by name."""
    found = {}
    if net is None:
        for name, p in model.named_parameters():
            found[name, "u"], found[name, "w"] = p.detach(), exact(optimizer, p).detach()
            if p.grad is not None:
                found[name, "grad"] = p.grad
            for key, value in optimizer.state.get(p, {}).items():
                if isinstance(value, torch.Tensor) and value.shape == p.shape:
                    found[name, key] = value
        return found
    vectors = {"u": net.flat, "w": exact(optimizer, net.flat)}
    if net.flat.grad is not None:
        vectors["grad"] = net.flat.grad
    for key, value in optimizer.state.get(net.flat, {}).items():
        if isinstance(value, torch.Tensor) and value.shape == net.flat.shape:
            vectors[key] = value
    for key, vector in vectors.items():
        for name, value in net.layout.unpack_all(vector).items():
            found[name, key] = value
    return found


def same(dense, packed):
    ones, twos = views(*dense[:2], None), views(*packed[:2], packed[3])
    assert ones.keys() == twos.keys()
    for key, value in ones.items():
        assert torch.equal(value, twos[key]), key
    assert dense[2].masks.counts() == packed[2].masks.counts()
    for overall in (False, True):
        assert dense[2].masks.sparsity(overall) == packed[2].masks.sparsity(overall)


def step(side, gradients):
    """One step with given gradients, the same ones at each of the optimizer's passes."""
    model, optimizer, _, net = side
    parameters = dict(model.named_parameters())

    def closure():
        optimizer.zero_grad()
        # Backward passes do this: so hooks see the gradients.
        if net is None:
            sum((p * gradients[n]).sum() for n, p in parameters.items()).backward()
        else:
            (net.flat * net.layout.pack(gradients)).sum().backward()
        return torch.zeros(())

    if isinstance(optimizer, SAM | LookSAM):
        optimizer.step(closure)
    else:
        closure()
        optimizer.step()


def powers(shape, g):
    """Powers of two: their products and short sums are exact in any order."""
    signs = torch.randint(2, shape, generator=g) * 2.0 - 1
    return signs * 2.0 ** torch.randint(-3, 1, shape, generator=g)


def moved(mask, kind, g):
    luck = torch.rand(mask.shape, generator=g)
    if kind == "prune":
        return mask & (luck < 0.7)
    if kind == "grow":
        return mask | (luck < 0.2)
    if kind == "swap":
        return (mask & (luck < 0.7)) | (~mask & (luck < 0.2))
    return {"empty": torch.zeros_like(mask), "full": torch.ones_like(mask)}[kind]


@given(
    st.sampled_from(sorted(OPTIMIZERS)),
    st.lists(
        st.sampled_from(["step", "prune", "grow", "swap", "empty", "full", "eval", "save"]),
        min_size=3,
        max_size=10,
    ),
    st.integers(0, 2**31),
)
@settings(max_examples=30)
def test_any_life_of_masks_leaves_the_same_numbers(name, events, seed):
    g = torch.Generator().manual_seed(seed)
    masks = masks_for(resnet(), seed=seed)
    dense, packed = sides = pair(name, masks)
    same(dense, packed)
    for event in ["step", *events, "step"]:
        if event == "step":
            shapes = {n: p.shape for n, p in dense[0].named_parameters()}
            # A single nonzero gradient: norms are then sums of one number, in any order.
            gradients = {n: torch.zeros(s) for n, s in shapes.items()}
            layer = sorted(shapes)[int(torch.randint(len(shapes), (), generator=g))]
            spot = int(torch.randint(gradients[layer].numel(), (), generator=g))
            gradients[layer].view(-1)[spot] = powers((1,), g)[0]
            gradients["fc.bias"] += 0.5
            for side in sides:
                step(side, gradients)
        elif event == "eval":
            for _, optimizer, _, _ in sides:
                if hasattr(optimizer, "eval"):
                    optimizer.eval()
            same(dense, packed)
            for _, optimizer, _, _ in sides:
                if hasattr(optimizer, "train"):
                    optimizer.train()
        elif event == "save":
            for side in sides:
                state = copy.deepcopy(side[1].state_dict())
                side[1].load_state_dict(state)
        else:
            chosen = sorted(masks)[: int(torch.randint(1, len(masks), (), generator=g))]
            now = {n: dense[2].masks[n] for n in chosen}
            new = {n: moved(m, event, g) for n, m in now.items()}
            changed = [side[2].masks.replace(new) for side in sides]
            assert changed[0] == changed[1] == sum(int((new[n] != now[n]).sum()) for n in new)
        same(dense, packed)


def test_what_masks_say_of_themselves():
    masks = masks_for(resnet())
    dense, packed = (side[2].masks for side in pair("sgd", masks))
    assert list(dense) == list(packed) and len(dense) == len(packed) == len(masks)
    assert "conv1.weight" not in packed and next(iter(masks)) in packed
    with pytest.raises(KeyError):
        packed["conv1.weight"]
    assert dense.densities() == packed.densities()
    for name, mask in packed.state_dict().items():
        assert torch.equal(mask, masks[name]) and torch.equal(packed[name], masks[name])
    name = next(iter(masks))
    with pytest.raises(UserError, match="other layers"):
        packed.load_state_dict({name: masks[name]})
    with pytest.raises(UserError, match="another shape"):
        packed.load_state_dict({**masks, name: masks[name][:1]})


DYNAMIC = [
    "set", "dsr", "rigl", "mest", "mest-ems", "granet", "set-itop", "rigl-itop", "chase",
]  # fmt: skip


@pytest.mark.parametrize("name", DYNAMIC)
def test_dynamic_methods_move_the_same_masks(name):
    """Given the same weights and gradients, dense ones where they ask for them."""
    total = 24
    options = {"sparsity": 0.7, "delta_t": 3, "updates": 6}
    known = METHODS.defaults(name)
    spec = METHODS.spec(name, **{k: v for k, v in options.items() if k in known})
    sides = []
    for packed in (False, True):
        model = resnet()
        optimizer = S2SAM(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), rho=0.05)
        method = METHODS.build(
            spec, model=model, optimizer=optimizer, total_steps=total, steps_per_epoch=4, seed=0
        )
        net = attach(model, optimizer, method, (3, SIZE, SIZE), 20) if packed else None
        sides.append((model, optimizer, method, net))
    dense, packed = sides
    g = torch.Generator().manual_seed(1)
    shapes = {n: p.shape for n, p in dense[0].named_parameters()}
    for t in range(total):
        gradients = {n: torch.randn(s, generator=g) for n, s in shapes.items()}
        net = packed[3]
        opened = [side[2].masks.open for side in sides]
        assert opened[0] == opened[1], t
        for n, p in dense[0].named_parameters():
            p.grad = gradients[n].clone()
            if n in dense[2].masks and not opened[0]:
                p.grad *= dense[2].masks[n]
        net.flat.grad = net.layout.pack(gradients)
        net.dense_is_fresh = opened[1]
        net.dense = {n: gradients[n] for n in packed[2].masks}
        for _, optimizer, _, _ in sides:
            optimizer.step()
        for n in dense[2].masks:
            assert torch.equal(dense[2].masks[n], packed[2].masks[n]), (t, n)
        # Norms over all weights are summed in another order: go on from the same numbers.
        with torch.no_grad():
            net.flat.copy_(net.layout.pack(dict(dense[0].named_parameters())))
            for key in packed[1].state[net.flat]:
                of = {n: dense[1].state[p].get(key) for n, p in dense[0].named_parameters()}
                if all(isinstance(v, torch.Tensor) for v in of.values()):
                    packed[1].state[net.flat][key].copy_(net.layout.pack(of))
    assert dense[2].facts() == packed[2].facts()
    assert dense[2].updates >= 2 and dense[2].moved > 0


def test_rigl_computes_dense_gradients_at_its_updates_only():
    model = resnet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    method = METHODS.build(
        METHODS.spec("rigl", sparsity=0.7, delta_t=3),
        model=model, optimizer=optimizer, total_steps=30, steps_per_epoch=5, seed=0,
    )  # fmt: skip
    net = attach(model, optimizer, method, (3, SIZE, SIZE), 20)
    images, labels = batch()
    fresh = []
    for _ in range(8):
        before = {n: method.masks[n] for n in method.masks}
        plain = _dense_gradients(net, images, labels) if method.masks.open else {}
        torch.nn.functional.cross_entropy(net(images), labels).backward()
        fresh.append(net.dense_is_fresh)
        for name in plain:
            found = method.gradient(name)
            assert torch.allclose(found, plain[name], rtol=1e-3, atol=1e-5)
            assert (found[~before[name]] != 0).any()
        optimizer.step()
        optimizer.zero_grad()
    assert fresh == [False, False, False, True, False, False, True, False]
    assert CLASSES == 5


def _dense_gradients(net, images, labels):
    """By PyTorch, in float64."""
    net.write_back()
    model = copy.deepcopy(net.model).double()
    torch.nn.functional.cross_entropy(model(images.double()), labels).backward()
    return {n: p.grad.float() for n, p in model.named_parameters() if n in net.layout.active}


@pytest.mark.parametrize("name", ["sgd", "s2sam"])
def test_what_is_exported_and_finalized_is_what_the_engine_trained(name, tmp_path):
    masks = masks_for(resnet(), 0.1)
    model, optimizer, method, net = pair(name, masks)[1]
    for _ in range(3):
        optimizer.zero_grad()
        images, labels = batch()
        torch.nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()
    wanted = {
        key: net.layout.unpack(exact(optimizer, net.flat), key).detach()
        for key, _ in model.named_parameters()
    }
    before = {key: p.detach().clone() for key, p in resnet().named_parameters()}
    assert any(not torch.equal(w, before[key]) for key, w in wanted.items())
    exported = export_weights(model, optimizer)
    save_weights(tmp_path / "weights.pt", model, optimizer)
    saved = torch.load(tmp_path / "weights.pt", weights_only=True)
    copied = copy.deepcopy(model)  # another model, which nothing trains elsewhere
    torch.nn.init.zeros_(next(copied.parameters()))
    assert not next(iter(export_weights(copied).values())).any()
    final = dict(method.finalize().named_parameters())
    for key, w in wanted.items():
        for found in (exported[key], saved[key], final[key]):
            assert torch.equal(found, w), key
    # From here on the model is its own again.
    with torch.no_grad():
        next(model.parameters()).zero_()
    assert not next(iter(export_weights(model).values())).any()
