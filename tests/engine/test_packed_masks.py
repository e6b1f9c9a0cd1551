"""PackedMasks are Masks to a method and to an optimizer: the same numbers, stored packed."""

import copy
import gc

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import CLASSES, SIZE, batch, masks_for, resnet

from paper_repro.engine import SparseNet, attach
from paper_repro.errors import UserError
from paper_repro.optim import MSAM, S2SAM, SAM, LookSAM, exact
from paper_repro.sparse import (
    METHODS,
    Magnitude,
    Masks,
    RigL,
    SparseMethod,
    export_weights,
    save_weights,
)

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


def trained(net, optimizer, steps=3, seed=0):
    for i in range(steps):
        optimizer.zero_grad()
        images, labels = batch(seed=seed + i)
        F.cross_entropy(net.train()(images), labels).backward()
        optimizer.step()


def at_w(net, optimizer):
    return net.layout.unpack_all(exact(optimizer, net.flat).clone())


def same_weights(found, wanted):
    return all(torch.equal(found[name], w) for name, w in wanted.items())


@pytest.mark.parametrize("name", ["sgd", "s2sam"])
def test_what_was_trained_is_exported_after_detach_too(name):
    model, optimizer, method, net = pair(name, masks_for(resnet()))[1]
    trained(net, optimizer)
    wanted = at_w(net, optimizer)
    method.detach()
    assert same_weights(dict(model.named_parameters()), wanted)
    assert same_weights(export_weights(model, optimizer), wanted)
    trained(net, optimizer)  # the net goes on, and so does what is exported
    assert not same_weights(wanted, at_w(net, optimizer))
    assert same_weights(export_weights(model, optimizer), at_w(net, optimizer))


def test_a_net_keeps_masks_that_nothing_else_does():
    model = resnet()
    optimizer = S2SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.05)
    net = attach(model, optimizer, Magnitude(model, None, sparsity=0.8), (3, SIZE, SIZE), 20)
    gc.collect()
    trained(net, optimizer)
    assert same_weights(export_weights(model), at_w(net, optimizer))


def test_a_net_of_ones_own_masks_is_exported_and_written_back_at_w():
    model = resnet()
    net = SparseNet(model, masks_for(model), image=(3, SIZE, SIZE), batch=20)
    optimizer = S2SAM(torch.optim.SGD(net.parameters(), lr=0.1), rho=0.05)
    trained(net, optimizer)
    wanted, parameters = at_w(net, optimizer), dict(model.named_parameters())
    assert same_weights(export_weights(model, optimizer), wanted)
    net.write_back()
    assert same_weights(parameters, net.layout.unpack_all(net.flat))
    assert not same_weights(parameters, wanted)
    net.write_back(optimizer=optimizer)
    assert same_weights(parameters, wanted)


def test_what_others_did_to_the_model_is_exported_or_refused_but_not_overwritten():
    model, optimizer, _, net = pair("sgd", masks_for(resnet()))[1]
    trained(net, optimizer)
    net.write_back()
    with torch.no_grad():
        model.fc.weight.fill_(1)
    assert (export_weights(model)["fc.weight"] == 1).all()
    with torch.no_grad():
        net.flat.add_(1)
    with pytest.raises(UserError, match="something else wrote to the model"):
        export_weights(model)
    net.write_back()
    assert not (export_weights(model)["fc.weight"] == 1).all()


def rigl(packed, seed=0, **options):
    model = resnet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    options = {"sparsity": 0.8, "total_steps": 100, "delta_t": 2, "seed": seed, **options}
    method = RigL(model, optimizer, **options)
    net = attach(model, optimizer, method, (3, SIZE, SIZE), 20) if packed else model
    return model, optimizer, method, net


@pytest.mark.parametrize("to_none", [True, False])
def test_gradients_of_micro_batches_add_up_where_masks_grow_by_them(to_none):
    sides = [rigl(packed) for packed in (False, True)]
    name = "stages.0.0.conv1.weight"
    for t in range(3):
        for _, _, _, net in sides:
            for k in range(4):  # the third one is larger than what there is memory for
                images, labels = batch(50 if k == 2 else 20, seed=10 * t + k)
                (F.cross_entropy(net(images), labels) / 4).backward()
        ones, twos = (method.gradient(name) for _, _, method, _ in sides)
        assert torch.allclose(ones, twos, rtol=1e-3, atol=1e-6)
        assert (twos[~sides[1][2].masks[name]] != 0).any() == (t == 2)
        for _, optimizer, _, _ in sides:
            optimizer.step()
            optimizer.zero_grad(set_to_none=to_none)
        assert not sides[1][2].gradient(name).any()
    dense, packed = (method.masks.state_dict() for _, _, method, _ in sides)
    assert sides[0][2].updates == 1 and same_weights(dense, packed)


def test_dense_gradients_are_added_to_those_of_before():
    """Left from steps with closed masks, as where nobody calls zero_grad()."""
    sides = [rigl(packed) for packed in (False, True)]
    for seed in range(3):
        for _, optimizer, _, net in sides:
            images, labels = batch(seed=seed)
            F.cross_entropy(net(images), labels).backward()
            if seed < 2:
                optimizer.step()
    for name in sides[0][2].masks:
        ones, twos = (method.gradient(name) for _, _, method, _ in sides)
        assert torch.allclose(ones, twos, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("net_first", [True, False])
def test_usual_state_dicts_restore_the_network(net_first):
    side = rigl(True)
    trained(side[3], side[1], 7)
    assert side[2].updates >= 2
    states = copy.deepcopy((side[3].state_dict(), side[1].state_dict()))
    images, _ = batch(seed=9)
    other = rigl(True, seed=1)
    for i in (0, 1) if net_first else (1, 0):
        (other[3] if i == 0 else other[1]).load_state_dict(states[i])
    assert torch.equal(other[3].eval()(images), side[3].eval()(images))
    assert same_weights(other[2].masks.state_dict(), side[2].masks.state_dict())
    for one in (side, other):
        trained(one[3], one[1], 4, seed=20)
    assert torch.equal(side[3].flat, other[3].flat)


def test_a_state_dict_may_have_another_number_of_weights():
    models = resnet(), resnet(1)
    one, two = (
        SparseNet(model, masks_for(model, density), image=(3, SIZE, SIZE), batch=20)
        for model, density in zip(models, (0.4, 0.2), strict=True)
    )
    images, _ = batch()
    one(images)
    two.load_state_dict(one.state_dict())
    assert torch.equal(one.eval()(images), two.eval()(images))


def test_a_state_dict_that_does_not_fit_is_refused():
    side = rigl(True)
    trained(side[3], side[1], 1)
    elsewhere = rigl(True, seed=1)[3].state_dict()
    with pytest.raises(UserError, match=r"engine\.checkpoint\.load"):
        side[3].load_state_dict(elsewhere)
    model = resnet()
    net = SparseNet(model, {}, image=(3, SIZE, SIZE), batch=20)
    with pytest.raises(UserError, match="masks are of other layers"):
        net.load_state_dict(elsewhere)
    wrong = copy.deepcopy(elsewhere)
    next(iter(wrong["_extra_state"]["active"].values()))[1] = 10**6
    with pytest.raises(UserError, match="of another shape"):
        rigl(True)[3].load_state_dict(wrong)
    with pytest.raises(RuntimeError, match="_extra_state"):
        net.load_state_dict({"flat": net.flat.detach()})
