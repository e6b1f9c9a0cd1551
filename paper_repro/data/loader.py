"""Read, decode, crop and mirror pictures in worker processes, the same whoever does it."""

from __future__ import annotations

import io
import multiprocessing
import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paper_repro.data.streamed import StreamedDataset
from paper_repro.errors import UserError

__all__ = ["Loaded", "Loader", "close_loaders", "decode", "usual_workers"]

_MOST_WORKERS = 16


@dataclass
class Loaded:
    """One batch as it comes from a worker.

    Attributes:
        index: int64 [B], which pictures of the split these are.
        images: uint8 [B, H, W, 3].
        labels: int64 [B].
        broken: names of pictures that could not be decoded, each with the reason.
    """

    index: Tensor
    images: Tensor
    labels: Tensor
    broken: list[tuple[str, str]]

    def pin_memory(self) -> Loaded:
        """In page-locked memory, from which a GPU copies while it computes."""
        return Loaded(
            self.index.pin_memory(), self.images.pin_memory(), self.labels.pin_memory(), self.broken
        )


@dataclass(frozen=True)
class _Request:
    """A batch to make: a split's name, pictures, and the seed of their crops (None: centre)."""

    split: str
    rows: list[int]
    seed: int | None


def usual_workers(device: torch.device, processes: int = 1) -> int:
    """Worker processes of one training process among ``processes`` on a machine.

    Beside an accelerator the processor's cores are free to decode. On a CPU the training itself
    uses them all, and pictures are decoded between its steps.
    """
    if device.type == "cpu":
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(_MOST_WORKERS, (cores or 1) // processes))


def decode(data: bytes) -> Any:
    """An RGB Pillow image of a file's bytes; greyscale, CMYK and palettes are converted.

    Raises:
        Exception: nearly any, on damaged bytes.
    """
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGB")


class Loader:
    """Turns requests for pictures into uint8 batches, in order.

    The crop and mirroring of picture i are a function of the epoch's seed and i alone, so that
    batches are the same with any number of workers and on any rank.

    Args:
        data: whose pictures.
        augment: False takes the centre of training pictures too.
        workers: processes; 0 decodes in this one.
    """

    def __init__(self, data: StreamedDataset, augment: bool, workers: int) -> None:
        if workers < 0:
            raise UserError(f"workers must be at least 0, not {workers}")
        self.data = data
        self.workers = workers
        #: Every picture that could not be decoded so far, with the reason.
        self.broken: dict[str, str] = {}
        self._source = _Source(data, augment)
        self._order: list[_Request] = []
        self._loader: Any = None
        _loaders.add(self)

    def close(self) -> None:
        """End the processes; batches that are asked for afterwards start new ones."""
        under_way = getattr(self._loader, "_iterator", None)
        self._loader = None
        if under_way is not None:
            under_way._shutdown_workers()  # DataLoader itself ends them when it is collected

    def batches(
        self, split: str, order: Sequence[Tensor], seed: int | None = None
    ) -> Iterator[Loaded]:
        """The batches ``order`` (int64 [B] each) of a split.

        Args:
            split: ``train``, ``test`` or ``spare``.
            order: which pictures each batch has.
            seed: of the epoch's crops; None for the centre. Where a picture of an augmented batch
                is broken and to be skipped, the next sound one takes its place; else it is left
                out of its batch.

        Raises:
            UserError: a picture cannot be decoded and is not to be skipped.
        """
        requests = [_Request(split, rows.tolist(), seed) for rows in order]
        if self.workers == 0 or not requests:
            for request in requests:
                yield self._checked(self._source(request))
            return
        self._order[:] = requests
        if self._loader is None:
            self._loader = self._processes()
        for loaded in self._loader:
            yield self._checked(loaded)

    def load(self, split: str, rows: Tensor, seed: int | None = None) -> Loaded:
        """One batch, made in this process."""
        return self._checked(self._source(_Request(split, rows.tolist(), seed)))

    def _processes(self) -> Any:
        fork = "fork" in multiprocessing.get_all_start_methods()
        return torch.utils.data.DataLoader(
            self._source,
            sampler=self._order,  # filled anew for each call, so that the processes stay
            batch_size=None,
            num_workers=self.workers,
            persistent_workers=True,
            pin_memory=self.data.device.type == "cuda",
            generator=torch.Generator(),  # or it moves the global one, which networks draw from
            # Workers compute nothing on a device, and a fork shares the index of a large data set.
            multiprocessing_context="fork" if fork else None,
        )

    def _checked(self, loaded: Loaded) -> Loaded:
        broken = dict(loaded.broken)
        self.broken.update(broken)
        if broken and not self.data.skip_broken:
            name, why = next(iter(broken.items()))
            several = len(broken) > 1
            count, first = (f"{len(broken)} images", "first ") if several else ("an image", "")
            raise UserError(
                f"{self.data.name} has {count} in a batch that cannot be decoded, {first}{name} "
                f"({why}); mend the copy, or do without such images by --skip-broken"
            )
        return loaded


_loaders: weakref.WeakSet[Loader] = weakref.WeakSet()


def close_loaders() -> None:
    """End the worker processes of all loaders: of a run that has ended some may linger in cycles
    of references, or in the traceback of what ended it."""
    for loader in list(_loaders):
        loader.close()


class _Source(torch.utils.data.Dataset):
    """What a worker holds: reads and transforms the pictures of a request."""

    def __init__(self, data: StreamedDataset, augment: bool) -> None:
        self.data = data
        self.augment = augment
        self._transforms: tuple[Callable[[Any], Any], Callable[[Any], Any]] | None = None

    def __getitem__(self, request: _Request) -> Loaded:
        return self(request)

    def __call__(self, request: _Request) -> Loaded:
        if self._transforms is None:
            self._transforms = _transforms(self.data, self.augment)
        state = torch.get_rng_state()  # v2 transforms draw from the global generator
        try:
            return self._batch(request)
        finally:
            torch.set_rng_state(state)

    def _batch(self, request: _Request) -> Loaded:
        assert self._transforms is not None
        transform = self._transforms[request.seed is None]
        pictures = self.data.split(request.split)
        broken: list[tuple[str, str]] = []
        rows, images = [], []
        for row in request.rows:
            found = self._sound(request, row, broken)
            if found is None:
                continue
            row, image = found
            if request.seed is not None:
                torch.default_generator.manual_seed(_seed(request.seed, row))
            rows.append(row)
            images.append(np.asarray(transform(image)))
        size = self.data.size
        stacked = np.stack(images) if images else np.empty((0, size, size, 3), np.uint8)
        return Loaded(
            torch.tensor(rows, dtype=torch.int64),
            torch.from_numpy(stacked),
            torch.from_numpy(pictures.labels[rows]),
            broken,
        )

    def _sound(
        self, request: _Request, row: int, broken: list[tuple[str, str]]
    ) -> tuple[int, Any] | None:
        """A picture, or for one that is broken the next sound one (in training) or None."""
        pictures = self.data.split(request.split)
        for step in range(len(pictures) if request.seed is not None else 1):
            at = (row + step) % len(pictures)
            try:
                return at, decode(pictures.encoded(at))
            except Exception as error:  # decoders raise nearly anything on damaged bytes
                why = str(error).strip().split("\n")[0] or type(error).__name__
                # Pillow names the stream that it read from, which says nothing.
                why = "it is no image" if "cannot identify" in why else why
                broken.append((pictures.name(at), why))
                if not self.data.skip_broken:
                    return None
        return None


def _seed(epoch: int, row: int) -> int:
    return int(np.random.SeedSequence((epoch, row)).generate_state(1, np.uint64)[0])


def _transforms(
    data: StreamedDataset, augment: bool
) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Of training and of test pictures: from a Pillow image to one of the data's size."""
    from paper_repro.vision import transforms

    v2 = transforms()
    test = v2.Compose([v2.Resize(data.resize), v2.CenterCrop(data.size)])
    if not augment:
        return test, test
    crop = v2.RandomResizedCrop(data.size, scale=data.scale)
    return v2.Compose([crop, v2.RandomHorizontalFlip()]) if data.flip else crop, test
