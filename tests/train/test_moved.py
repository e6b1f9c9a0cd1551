"""A training that goes on on another kind of device, whose generators' states it cannot take."""

import copy

import pytest
import torch
from graph_runs import config, noise, run
from toys import same_state

from paper_repro.optim import OPTIMIZERS
from paper_repro.sparse import METHODS
from paper_repro.train import Trainer

#: So that topology updates, which may draw, come after the move.
OFTEN = {
    "granet": {"delta_t": 2},
    "mest": {"updates": 9},
    "rigl": {"delta_t": 5},
    "set": {"period": 7},
}
SIZE = torch.Generator().get_state().shape


def foreign(state):
    """The state with every generator's as CUDA has it: 16 bytes, a seed and an offset."""
    if isinstance(state, dict):
        return {key: foreign(value) for key, value in state.items()}
    if isinstance(state, torch.Tensor) and state.dtype == torch.uint8 and state.shape == SIZE:
        return state[:16].clone()
    return state


def moved(settings):
    data = noise()
    begun = Trainer(settings, data)
    begun.run_epoch()
    state = foreign(begun.state_dict())
    state["global_generator"] = torch.get_rng_state()  # the processor's own on every machine
    state["device_type"] = "cuda"
    ends = []
    for seed in (1, 2):
        there = Trainer(settings, data)
        there.generator.manual_seed(seed)  # what it would have drawn must not matter
        there.load_state_dict(copy.deepcopy(state))
        ends.append(run(there))
    assert there.epoch == settings.epochs and same_state(*ends)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_any_optimizer_goes_on_and_always_alike(optimizer):
    moved(config("random", optimizer))


@pytest.mark.parametrize("method", [m for m in METHODS if m not in ("lt", "lrr", "dense")])
def test_any_method_goes_on_and_always_alike(method):
    moved(config(method, "sgd", **OFTEN.get(method, {})))
