"""Processes that train one run together, each on its share of every batch."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from paper_repro.errors import UserError

__all__ = [
    "ALONE",
    "Apart",
    "Ranks",
    "current",
    "failure_elsewhere",
    "joined",
    "launched",
    "local_device",
]

T = TypeVar("T")


#: Under which a rank that fails leaves its reason, for those whose exchanges break off then.
_FAILED = "paper_repro/failed"
_store: dist.Store | None = None


class Apart(RuntimeError):
    """Ranks that must hold the same weights and masks do not: a fault of the program."""


@dataclass(frozen=True)
class Ranks:
    """This process among those of a run; methods with no other word on it are called by all.

    Attributes:
        rank: of this process, from 0.
        world: how many there are.
        local_world: how many of them are on this machine.
    """

    rank: int = 0
    world: int = 1
    local_world: int = 1

    @property
    def alone(self) -> bool:
        return self.world == 1

    @property
    def leads(self) -> bool:
        """Whether this is the one that writes files."""
        return self.rank == 0

    def share(self, batch: Tensor) -> Tensor:
        """This rank's rows of a global batch, whose length the number of ranks must divide."""
        return batch if self.alone else batch.chunk(self.world)[self.rank]

    def rounds(self, batches: Sequence[T]) -> Sequence[T]:
        """This rank's of some batches that are scored, no matter by whom; called by any."""
        return batches[self.rank :: self.world]

    def total(self, value: Tensor) -> Tensor:
        """The sum over ranks; alone the value itself."""
        if self.alone:
            return value
        summed = value.clone()
        dist.all_reduce(summed)
        return summed

    def gathered(self, value: T) -> list[T]:
        """What every rank has, in their order, on each of them; it is pickled on its way."""
        if self.alone:
            return [value]
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, value)
        return found

    def first(self, make: Callable[[], T]) -> T:
        """What ``make()`` gives on rank 0, on every rank.

        Raises:
            UserError: the one that it raises there, of its own kind, on every rank.
        """
        if self.alone:
            return make()
        told: list[Any] = [None, None]
        failure: BaseException | None = None
        if self.leads:
            try:
                told[0] = make()
            except BaseException as error:  # the others would wait for ever
                failure = error
                told[1] = error if isinstance(error, UserError) else UserError("rank 0 failed")
        dist.broadcast_object_list(told, src=0)
        if failure is not None:
            raise failure
        if told[1] is not None:
            raise told[1]
        result: T = told[0]
        return result

    def check_alike(self, given: Mapping[str, str]) -> None:
        """Compare what each rank was given, by what it is called in an error message.

        Raises:
            UserError: on every rank, naming one that was given something else than rank 0.
        """
        everywhere = self.gathered(dict(given))
        for rank, theirs in enumerate(everywhere):
            for name, value in theirs.items():
                if value != everywhere[0].get(name):
                    raise UserError(f"rank {rank} has other {name} than rank 0")

    def check(self, tensors: Mapping[str, Tensor], when: str) -> None:
        """Compare tensors bit for bit over all ranks, by checksums.

        Args:
            tensors: that must be equal, by name.
            when: the moment, in the words of an error message.

        Raises:
            Apart: on every rank, naming what differs.
        """
        if self.alone:
            return
        mine = {name: _digest(tensor) for name, tensor in tensors.items()}
        all_of_them = self.gathered(mine)
        for rank, theirs in enumerate(all_of_them):
            names = {**all_of_them[0], **theirs}
            apart = [n for n in names if all_of_them[0].get(n) != theirs.get(n)]
            if apart:
                raise Apart(
                    f"{when} rank {rank} differs from rank 0 in {len(apart)} of {len(names)} "
                    f"tensors, {apart[0]} first"
                )


#: The one process of an ordinary run.
ALONE = Ranks()


def _digest(tensor: Tensor) -> bytes:
    plain = tensor.detach().cpu().contiguous()
    digest = hashlib.blake2b(repr((plain.dtype, tuple(plain.shape))).encode(), digest_size=16)
    digest.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.digest()


def current() -> Ranks:
    """The ranks that :func:`joined` has brought together; :data:`ALONE` outside of it."""
    if not (dist.is_available() and dist.is_initialized()):
        return ALONE
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return Ranks(dist.get_rank(), dist.get_world_size(), local)


def local_device() -> int:
    """The number of this process on its machine, as ``torchrun`` has it."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def launched() -> int:
    """How many processes ``torchrun`` started for this run; 1 without it."""
    text = os.environ.get("WORLD_SIZE", "1")
    if not text.isdigit() or int(text) < 1:
        raise UserError(f"WORLD_SIZE is {text!r}, not a number of processes")
    return int(text)


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """Inside, the processes that ``torchrun`` started can exchange tensors.

    By NCCL on CUDA devices, each process its own, else by gloo. Without ``torchrun`` nothing is
    set up, and the ranks are :data:`ALONE`.

    Raises:
        UserError: ``torchrun``'s environment is incomplete.
    """
    if launched() == 1:
        yield ALONE
        return
    lacking = [n for n in ("RANK", "MASTER_ADDR", "MASTER_PORT") if n not in os.environ]
    if lacking:
        raise UserError(
            f"WORLD_SIZE is set but {lacking[0]} is not; start several processes by torchrun"
        )
    if device.type == "cuda":
        torch.cuda.set_device(device)
    global _store
    _store, rank, world = next(iter(dist.rendezvous("env://")))
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=_store, rank=rank, world_size=world)
    try:
        yield current()
    except Exception as error:
        with contextlib.suppress(RuntimeError):  # the store went with the rank that holds it
            if failure_elsewhere() is None:
                _store.set(_FAILED, json.dumps([rank, isinstance(error, UserError), _said(error)]))
        raise
    finally:
        dist.destroy_process_group()
        _store = None


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"


def failure_elsewhere() -> Exception | None:
    """Why another rank failed, if one did: what this one sees of it is a broken connection.

    A :class:`UserError` where it was one there.
    """
    if _store is None or not _store.check([_FAILED]):
        return None
    rank, users, said = json.loads(_store.get(_FAILED))
    return (UserError if users else RuntimeError)(f"rank {rank}: {said}")
