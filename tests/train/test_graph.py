"""A recorded and replayed step trains as the plain one does, and nothing in it reads a number back.

CUDA graphs cannot run here. ``Recording`` stands in for them: it notes each operator of a step
with the tensors that it works on, and a replay runs the same operators on the same memory,
without a line of the step's Python. Whatever a CUDA graph would freeze, it freezes too.
"""

import dataclasses
import types

import pytest
import torch
from graph_runs import CASES, config, fuse, noise, result, run
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map
from toys import same_state

from paper_repro.optim import OPTIMIZERS
from paper_repro.train import Trainer
from paper_repro.train.graph import CAPTURABLE, GraphedStep

READS_BACK = (
    "_local_scalar_dense",
    "item",
    "nonzero",
    "masked_select",
    "unique",
    "equal",
    "is_nonzero",
    "_to_copy",  # a tensor made on the host and sent over
    "lift_fresh",
)


class Recording(TorchDispatchMode):
    """The operators of one run of ``body``; ``replay`` runs them again on the same tensors."""

    def __init__(self, body):
        super().__init__()
        self.operators = []
        before = [t.clone() for t in STATE]
        with self:
            body()
        # A capture launches nothing: take back what the operators did.
        for tensor, old in zip(STATE, before, strict=True):
            tensor.copy_(old)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.split("::")[1]
        if name in READS_BACK and not (name == "_to_copy" and harmless(args, kwargs)):
            raise AssertionError(f"the step waits for the device in {name}")
        out = func(*args, **(kwargs or {}))
        # Aliases that autograd knows nothing of: what is repeated is memory's contents alone.
        self.operators.append(tree_map(alias, (func, args, kwargs or {}, out)))
        return out

    @torch.no_grad()
    def replay(self):
        for func, args, kwargs, out in self.operators:
            again = func(*args, **kwargs)
            if any(r.alias_info is not None for r in func._schema.returns):
                continue  # a view of memory that is there already, or a change in place
            for kept, new in zip(tree_iter(out), tree_iter(again), strict=True):
                if isinstance(kept, torch.Tensor):
                    kept.copy_(new)


def alias(value):
    return value.detach() if isinstance(value, torch.Tensor) else value


def harmless(args, kwargs):
    """A conversion between types where the tensor is."""
    return (kwargs or {}).get("device", args[0].device) == args[0].device


STATE = []


def recorded(body):
    return Recording(body).replay


def state_tensors(trainer):
    """Every tensor that a step may change, and that a capture must therefore not."""
    state = [*trainer.model.parameters(), *trainer.model.buffers()]
    state += [p.grad for p in trainer.model.parameters() if p.grad is not None]
    for values in trainer.optimizer.state.values():
        state += [t for t in values.values() if isinstance(t, torch.Tensor)]
    return [t.detach() for t in state] + [trainer.within.loss_sum, trainer.task._hits]


def graphed(config, data, capture=recorded):
    trainer = Trainer(config, data, graph=True)
    assert trainer._graphed is not None

    def captured(body):
        STATE[:] = state_tensors(trainer)
        return capture(body)

    trainer._graphed.capture = captured
    return trainer


@pytest.mark.parametrize(("method", "options", "optimizer"), CASES)
def test_a_replayed_step_trains_bit_identically(method, options, optimizer):
    data, c = noise(), config(method, optimizer, **options)
    replayed = graphed(c, data)
    plain = fuse(Trainer(c, data))
    assert same_state(run(replayed), run(plain))
    assert replayed._graphed._replay is not None


def test_replays_run_none_of_the_steps_python():
    calls = []
    trainer = graphed(config(), noise())
    build = trainer._graphed.build
    trainer._graphed.build = lambda index: calls.append(1) or build(index)
    run(trainer)
    assert len(calls) == 4  # three warm-up steps and the capture


@pytest.mark.parametrize("optimizer", ["s2sam", "sam"])
def test_a_radius_that_sets_in_late_reaches_the_replayed_steps(optimizer):
    data = noise()
    c = dataclasses.replace(config(optimizer=optimizer), rho_start=0.5)
    replayed, plain = graphed(c, data), fuse(Trainer(c, data))
    ended = run(replayed)
    assert same_state(ended, run(plain))
    assert not same_state(
        ended["model"], run(fuse(Trainer(config(optimizer=optimizer), data)))["model"]
    )
    assert replayed._graphed._replay is not None


def test_half_precision_is_replayed_too():
    data, c = noise(), config(precision="bf16")
    assert same_state(run(graphed(c, data)), run(fuse(Trainer(c, data))))


@pytest.mark.parametrize("optimizer", sorted(CAPTURABLE))
def test_without_graphs_the_same_code_runs_eagerly(optimizer):
    data, c = noise(), config(optimizer=optimizer)
    assert same_state(run(Trainer(c, data, graph=True)), run(fuse(Trainer(c, data))))


def test_fused_and_foreach_sgd_agree_to_rounding():
    data, c = noise(), config()
    fused, plain = run(Trainer(c, data, graph=True), 1), run(Trainer(c, data), 1)
    for name, weight in plain["model"].items():
        torch.testing.assert_close(fused["model"][name], weight, rtol=1e-3, atol=1e-4)


def test_a_resumed_run_is_recorded_anew_and_ends_bit_identical():
    data, c = noise(), config("rigl", "s2sam", delta_t=5)
    whole = run(graphed(c, data))
    first = graphed(c, data)
    run(first, 2)
    second = graphed(c, data)
    run(second, 1)  # has a recording, on tensors that loading replaces
    second.load_state_dict(first.state_dict())
    assert same_state(run(second), whole)


def test_evaluation_and_diagnostics_between_epochs_do_not_disturb_a_recording():
    data, c = noise(), config("mest", "s2sam", updates=12)
    replayed = graphed(c, data)
    for _ in range(c.epochs):
        replayed.run_epoch()
        replayed.evaluate()
        replayed.optimizer.eval()
        replayed.optimizer.train()
    assert same_state(result(replayed), run(fuse(Trainer(c, data))))


def test_the_gradients_of_an_eager_step_come_to_lie_where_the_recording_has_them():
    data, c = noise(), config("rigl", "s2sam", delta_t=5)
    trainer = graphed(c, data)
    plain = fuse(Trainer(c, data))
    for t, (index, same) in enumerate(zip(trainer.begin_epoch(), plain.begin_epoch(), strict=True)):
        trainer.step(index)
        plain.step(same)
        for p, q in zip(trainer.model.parameters(), plain.model.parameters(), strict=True):
            assert torch.equal(p.grad, q.grad), t
    recorded_at = {id(g) for _, g in trainer._graphed._gradients}
    assert {id(p.grad) for p in trainer.model.parameters()} == recorded_at


def test_an_optimizer_that_replaces_its_state_cannot_be_replayed(monkeypatch):
    """The recording freezes what a CUDA graph would: MSAM's factor, for one."""
    monkeypatch.setattr("paper_repro.train.trainer.CAPTURABLE", CAPTURABLE | {"msam"})
    data, c = noise(), config(optimizer="msam")
    assert not same_state(run(graphed(c, data)), run(fuse(Trainer(c, data))))


def test_other_optimizers_take_the_plain_step():
    for name in set(OPTIMIZERS) - CAPTURABLE:
        assert Trainer(config(optimizer=name), noise(), graph=True)._graphed is None


def test_a_step_that_reads_a_number_back_is_found_out():
    """The recording's own alarm works."""
    trainer = graphed(config(), noise())
    count = trainer._graphed.count
    trainer._graphed.count = lambda closure: (count(closure), float(closure.loss))
    with pytest.raises(AssertionError, match="waits for the device"):
        run(trainer)


def test_a_learning_rate_left_on_the_host_would_be_noticed():
    """The schedule reaches the replayed steps: a recording with one frozen rate differs."""
    data, c = noise(), config()
    frozen = graphed(c, data)
    graph = frozen._graphed
    inner = graph._inner

    def stuck(self, closure=None):
        for group in frozen.optimizer.param_groups:
            group["lr"] = 0.1
        inner(closure)

    frozen.method.replace_step(types.MethodType(stuck, graph))
    assert not same_state(run(frozen), run(fuse(Trainer(c, data))))


def test_the_step_is_a_graphed_step_only_on_request():
    assert Trainer(config(), noise())._graphed is None
    assert isinstance(Trainer(config(), noise(), graph=True)._graphed, GraphedStep)
