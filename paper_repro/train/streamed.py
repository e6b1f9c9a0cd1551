"""Image classification with images that are read and decoded as they are needed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import overload

import torch
from torch import Tensor, nn

from paper_repro.config import RunConfig
from paper_repro.data import Normaliser, StreamedDataset
from paper_repro.data.loader import Loaded, Loader, usual_workers
from paper_repro.errors import UserError
from paper_repro.measure.accuracy import score
from paper_repro.sparse.method import BatchRequest
from paper_repro.train import TASKS
from paper_repro.train.classification import ImageClassification
from paper_repro.train.task import Batch

__all__ = ["StreamedClassification"]

_TEST_BATCH = 250  # images at once
_NAMED = 20  # broken images that are named; the others are counted


@TASKS.register("streamed-classification")
class StreamedClassification(ImageClassification):
    """Classification of images that do not fit into memory.

    Worker processes decode ahead while the device computes. An epoch's order and crops are drawn
    at its beginning as one permutation and one seed; a picture's own crop follows from that seed
    and its number, so that neither the number of workers nor that of ranks changes it.

    Curves count the pictures that could not be decoded so far as ``broken_images``, if any.

    Args:
        config: the run.
        data: its pictures, and the device to train on.

    Raises:
        UserError: fewer training images than a batch has.
    """

    def __init__(self, config: RunConfig, data: StreamedDataset) -> None:
        super().__init__(config, data, data.device)
        self._seed = 0
        self._ready: Batch | None = None
        self._made: Loader | None = None
        self._named = 0
        self._normalise = Normaliser(data.mean, data.std, data.size, self.device)

    @property
    def loader(self) -> Loader:
        """Made when it is needed, when the number of ranks is known."""
        if self._made is None:
            workers = self.data.workers
            if workers is None:
                workers = usual_workers(self.device, self.ranks.local_world)
            self._made = Loader(self.data, self.config.augment, workers)
        return self._made

    @property
    def normalise(self) -> Callable[[Tensor], Tensor]:
        return self._normalise

    def test_images(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        loaded = self.loader.load("test", rows.cpu())
        return loaded.images.to(self.device), loaded.labels.to(self.device)

    def begin_epoch(self, generator: torch.Generator) -> Sequence[Tensor]:
        device = generator.device
        order = torch.randperm(self.samples, generator=generator, device=device).cpu()
        seed = torch.randint(2**62, (), generator=generator, device=device)
        self._seed = int(seed)
        self._hits.zero_()
        size = self.config.batch_size
        batches = order[: self.steps_per_epoch * size].split(size)
        return _Epoch(self, [self.ranks.share(batch) for batch in batches])

    def stream(self, order: Sequence[Tensor]) -> Iterator[Tensor]:
        """Load the batches ``order`` one after another; each is ready when its index is given."""
        for loaded in self.loader.batches("train", order, self._seed):
            self._ready = self._batch(loaded)
            yield self._ready.index
        self._ready = None
        self._tell()

    def batch(self, index: Tensor) -> Batch:
        if self._ready is not None and self._ready.index is index:
            return self._ready
        return self._batch(self.loader.load("train", index.cpu(), self._seed))

    def _batch(self, loaded: Loaded) -> Batch:
        there = [
            value.to(self.device, non_blocking=True)
            for value in (loaded.images, loaded.labels, loaded.index)
        ]
        return Batch(self._normalise(there[0]), there[1], there[2])

    def training_metrics(self) -> dict[str, float]:
        metrics = super().training_metrics()
        # Each rank meets its own of an epoch, and of the next one others: those of all are counted.
        broken = len(set().union(*self.ranks.gathered(set(self.loader.broken))))
        return {**metrics, **({"broken_images": broken} if broken else {})}

    def scoring_batch(
        self, request: BatchRequest, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        rows = self.picks(torch.from_numpy(self.data.train.labels), request, generator)
        batch = self._batch(self.loader.load("train", rows))
        return batch.inputs, batch.target

    def scores(self, model: nn.Module, split: str) -> tuple[float, float]:
        rows = torch.arange(len(self.data.split(split))).split(_TEST_BATCH)
        seen = 0

        def batches() -> Iterator[tuple[Tensor, Tensor]]:
            nonlocal seen
            for loaded in self.loader.batches(split, self.ranks.rounds(rows)):
                batch = self._batch(loaded)
                seen += len(batch.target)
                if len(batch.target):
                    yield batch.inputs, batch.target

        sums = score(model, batches(), self.device)
        loss, correct = (self.ranks.total(value) for value in sums)
        n = int(self.ranks.total(torch.tensor(seen, device=self.device)))
        self._tell()
        if n == 0:
            raise UserError(f"none of {self.data.name}'s {split} images can be decoded")
        return float(loss) / n, 100.0 * int(correct) / n

    def _tell(self) -> None:
        """Name the broken pictures that were met since the last time."""
        broken = list(self.loader.broken.items())
        for name, why in broken[self._named : _NAMED]:
            print(f"left out, it cannot be decoded: {name} ({why})", file=sys.stderr)
        self._named = max(self._named, min(len(broken), _NAMED))


class _Epoch(Sequence[Tensor]):
    """An epoch's batches by their indices; going through them loads them, and a slice does not."""

    def __init__(self, task: StreamedClassification, order: Sequence[Tensor]) -> None:
        self.task = task
        self.order = order

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Tensor]:
        return self.task.stream(self.order)

    @overload
    def __getitem__(self, at: int) -> Tensor: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[Tensor]: ...

    def __getitem__(self, at: int | slice) -> Tensor | Sequence[Tensor]:
        return _Epoch(self.task, self.order[at]) if isinstance(at, slice) else self.order[at]
