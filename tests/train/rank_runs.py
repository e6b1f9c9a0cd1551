"""Ranks for tests: a function in several processes that exchange tensors by gloo."""

import os
import socket

import torch
from workplaces import PROCESSES

from paper_repro.errors import UserError
from paper_repro.experiment.runs import execute
from paper_repro.train import Trainer
from paper_repro.train.ranks import failure_elsewhere, joined

__all__ = [
    "broken_off",
    "execute_and_save",
    "execute_in",
    "refusals",
    "together",
    "train_and_save",
    "train_apart",
]


def together(world, function, folder, *args, codes=(0, 0)):
    """``function(ranks, folder, *args)`` on ``world`` ranks; what each that ended well saved."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    processes = [
        PROCESSES.Process(target=_work, args=(rank, world, port, function, folder, *args))
        for rank in range(world)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(240)
        process.kill()
    assert [p.exitcode for p in processes] == list(codes[:world])
    well = [rank for rank in range(world) if codes[rank] == 0]
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in well]


def _work(rank, world, port, function, folder, *args):
    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world),
        LOCAL_WORLD_SIZE=str(world),
        MASTER_ADDR="localhost",
        MASTER_PORT=port,
    )
    with joined(torch.device("cpu")) as ranks:
        torch.save(function(ranks, folder, *args), folder / f"{rank}.pt")


def state(trainer):
    optimizer = trainer.optimizer.state_dict()["state"]
    return {
        "curve": trainer.curve,
        "model": trainer.model.state_dict(),
        "masks": trainer.method.masks.state_dict(),
        "optimizer": optimizer,
        **trainer.outcome(),
    }


def train_and_save(ranks, folder, config, data):
    trainer = Trainer(config, data, ranks=ranks)
    while not trainer.finished:
        trainer.run_epoch()
    return state(trainer)


def train_apart(ranks, folder, config, data, part):
    """Rank 1 goes astray after the first epoch; what the second one says."""
    trainer = Trainer(config, data, ranks=ranks)
    trainer.run_epoch()
    if ranks.rank == 1:
        with torch.no_grad():
            if part == "weights":
                next(trainer.model.parameters()).view(-1)[0] += 1e-6
            elif part == "buffers":
                trainer.model.bn1.running_mean[0] += 1e-6
            else:
                name = next(iter(trainer.method.masks))
                trainer.method.masks.replace({name: ~trainer.method.masks[name]})
    try:
        trainer.run_epoch()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def execute_and_save(ranks, folder, config, place, stop=None):
    told = []

    def progress(running, epoch):
        told.append(epoch)
        if epoch == stop:
            raise KeyboardInterrupt

    try:
        record = execute(config, place, progress)
    except KeyboardInterrupt:
        return told
    return told, record.body["accuracy"], record.body["environment"].get("ranks")


def broken_off(ranks, folder, error):
    """Rank 1 fails while rank 0 waits for it; what that one learns."""
    before = failure_elsewhere()
    ranks.total(torch.ones(1))  # it has looked
    if ranks.rank == 1:
        raise error
    try:
        ranks.total(torch.ones(1))
    except Exception as caught:
        return before, type(caught).__name__, failure_elsewhere()
    return None


def refusals(ranks, folder, cases):
    """What constructing trainers of (config, data) says, and what ``first`` passes on."""
    said = []
    for config, data in cases:
        try:
            Trainer(config, data, ranks=ranks)
            said.append("")
        except Exception as error:
            said.append(f"{type(error).__name__}: {error}")
    for error in (ValueError("oops"), type("Odd", (Exception,), {})()):
        try:
            ranks.first(lambda error=error: _raise(error))
        except Exception as caught:
            said.append(type(caught).__name__)
    said.append(ranks.first(lambda: {"rank": ranks.rank}))
    return said


def _raise(error):
    raise error


def execute_in(ranks, folder, configs, places):
    """What executing its own of some runs says on this rank."""
    try:
        return execute(configs[ranks.rank], places[ranks.rank]).status
    except UserError as error:
        return str(error)
