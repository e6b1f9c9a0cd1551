"""A training that is over leaves nothing behind in the process that goes on with the next one."""

import gc
import weakref

import pytest
from workplaces import tiny

from paper_repro import data as datasets
from paper_repro.optim import OPTIMIZERS
from paper_repro.sparse import METHODS
from paper_repro.train import Trainer


@pytest.mark.parametrize("graph", [False, True], ids=["plain", "graph"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_model_and_trainer_are_freed(optimizer, graph):
    freed(tiny(optimizer=OPTIMIZERS.spec(optimizer), epochs=1), graph)


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("lt", "lrr")])
def test_under_every_method(method):
    options = {"sparsity": 0.9} if "sparsity" in METHODS.defaults(method) else {}
    if "delta_t" in METHODS.defaults(method):
        options["delta_t"] = 1
    freed(tiny(method=METHODS.spec(method, **options), epochs=1))


def freed(config, graph=False):
    data = datasets.load("digits").prefix(96)
    trainer = Trainer(config, data, graph=graph)
    trainer.run_epoch()
    things = [weakref.ref(x) for x in (trainer, trainer.model, trainer.model.conv1.weight)]
    del trainer
    gc.collect()
    assert [thing() for thing in things] == [None] * 3
