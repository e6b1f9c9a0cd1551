"""The corrupted test sets as their authors published them, where the user has them.

CIFAR-10-C and CIFAR-100-C are arrays: ``CIFAR-10-C/fog.npy`` holds the whole test set at severity
1, then 2, and so on, uint8 [5 N, 32, 32, 3], and ``labels.npy`` the labels in the same order.
Tiny-ImageNet-C and ImageNet-C are folders of pictures: ``Tiny-ImageNet-C/fog/3/n01443537/*.JPEG``,
ImageNet-C's under a folder for the group (``ImageNet-C/weather/fog/...``) or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from paper_repro.data.corrupted.constants import SEVERITIES, TYPES
from paper_repro.errors import UserError

__all__ = ["FOLDERS", "Published", "find"]

#: Where to look, by data set.
FOLDERS = {
    "cifar10": "CIFAR-10-C",
    "cifar100": "CIFAR-100-C",
    "tinyimagenet20": "Tiny-ImageNet-C",
    "imagenet": "ImageNet-C",
}
_PICTURES = frozenset({".jpeg", ".jpg", ".png"})


class Published:
    """One published test set.

    Args:
        folder: that holds it.
        classes: how many the network tells apart.
        size: of an image in pixels, as the network sees it.
        names: of the classes' folders, in the order of the labels; None for all of the folders
            that there are, sorted.

    Raises:
        UserError: it is incomplete.
    """

    def __init__(
        self, folder: Path, classes: int, size: int, names: Sequence[str] | None = None
    ) -> None:
        self.folder, self.classes, self.size, self.names = folder, classes, size, names
        self.arrays = (folder / "labels.npy").exists()
        missing = [name for name in TYPES if not self._place(name).exists()]
        if missing:
            raise UserError(f"{folder} lacks {', '.join(missing)}: the copy is incomplete")

    def _place(self, name: str) -> Path:
        if self.arrays:
            return self.folder / f"{name}.npy"
        grouped = sorted(self.folder.glob(f"*/{name}"))
        return grouped[0] if grouped else self.folder / name

    def read(self, name: str, severity: int, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Images, uint8 [N, S, S, 3], and labels, int64 [N], of one type and severity.

        Args:
            name: of the corruption.
            severity: 1 to 5.
            rows: which images of the test set, in its own order: the arrays' or, of pictures,
                by class and then by name.

        Raises:
            UserError: a file is damaged or not what it should be.
        """
        return (self._array if self.arrays else self._pictures)(name, severity, rows)

    def _array(self, name: str, severity: int, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        path = self._place(name)
        try:
            images = np.load(path, mmap_mode="r", allow_pickle=False)
            labels = np.load(self.folder / "labels.npy", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"{path} or labels.npy beside it cannot be read: {error}") from error
        n, left = divmod(len(labels), len(SEVERITIES))
        if images.shape != (len(labels), self.size, self.size, 3) or images.dtype != np.uint8:
            raise UserError(
                f"{path} is {images.dtype} {images.shape}, not uint8 "
                f"{(len(labels), self.size, self.size, 3)} as labels.npy has it"
            )
        if left or not n or labels.min() < 0 or labels.max() >= self.classes:
            raise UserError(f"{self.folder / 'labels.npy'} is not five times a test set's labels")
        self._check(path, n, rows)
        picked = (severity - 1) * n + rows
        return np.ascontiguousarray(images[picked]), labels[picked].astype(np.int64)

    def _pictures(
        self, name: str, severity: int, rows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        from PIL import Image

        place = self._place(name) / str(severity)
        there = sorted(p.name for p in place.glob("*") if p.is_dir()) if place.is_dir() else []
        names = self.names or there
        if len(names) != self.classes or not set(names) <= set(there):
            raise UserError(
                f"{place} should hold a folder for each of {self.classes} classes, "
                f"and holds {len(there)}"
            )
        paths = [
            (path, label)
            for label, wnid in enumerate(names)
            for path in sorted((place / wnid).iterdir())
            if path.suffix.lower() in _PICTURES
        ]
        self._check(place, len(paths), rows)
        chosen = [paths[row] for row in rows]
        images = np.empty((len(chosen), self.size, self.size, 3), np.uint8)
        for i, (path, _) in enumerate(chosen):
            try:
                with Image.open(path) as picture:
                    rgb = np.asarray(picture.convert("RGB"))
                images[i] = rgb
            except (OSError, ValueError) as error:
                raise UserError(
                    f"{path} is no picture of {self.size} x {self.size} pixels: {error}"
                ) from error
        return images, np.array([label for _, label in chosen], np.int64)

    def _check(self, place: Path, n: int, rows: np.ndarray) -> None:
        if rows.max() >= n:
            raise UserError(f"{place} has {n} images, too few for number {rows.max()}")


def find(
    dataset: str, root: Path | None, classes: int, size: int, names: Sequence[str] | None = None
) -> Published:
    """The published test set for a data set, in ``root`` or one level below.

    Raises:
        UserError: there is none, or it is incomplete.
    """
    name = FOLDERS.get(dataset)
    if name is None:
        raise UserError(f"nothing was published for {dataset}; there is {', '.join(FOLDERS)}")
    for folder in () if root is None else (root / name, root / dataset / name):
        if folder.is_dir():
            return Published(folder, classes, size, names)
    raise UserError(
        f"the published {name} is not in {root or 'the data folder'} (--data or PAPER_REPRO_DATA)"
    )
