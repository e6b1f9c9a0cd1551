"""Corrupted copies of images, made once and kept."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from paper_repro.data.cache import cached_as
from paper_repro.data.corrupted.constants import SEVERITIES, TYPES, strengths
from paper_repro.errors import UserError

__all__ = ["corrupt", "corrupted"]

_FORMAT = 1  # raise it whenever the same images would come out differently
_SMALLEST = 32  # pixels; what is smaller is enlarged, corrupted and reduced again
_OWN_SEED = frozenset({"glass_blur", "impulse_noise"})


def corrupted(name: str, images: np.ndarray, seed: int, folder: Path | None) -> np.ndarray:
    """A type's five severities of some images, uint8 [5, N, H, W, C], made or as they were made.

    Args:
        name: of the corruption.
        images: uint8 [N, S, S, C] with one or three channels.
        seed: of the noise, a stream of its own for each image, type and severity.
        folder: where they are kept, by the images' content; None keeps nothing.

    Raises:
        UserError: an unknown type.
    """
    if name not in TYPES:
        raise UserError(f"unknown corruption {name!r}; known are {', '.join(TYPES)}")

    def make() -> dict[str, np.ndarray]:
        return {"images": np.stack([corrupt(name, s, images, seed) for s in SEVERITIES])}

    if folder is None:
        return make()["images"]
    content = hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest()
    benchmark, table = strengths(_edge(images)[0])
    constants = None if table is None else [repr(c) for c in table[name]]
    what = [_FORMAT, name, benchmark, constants, list(images.shape), content, seed]
    key = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]
    return cached_as(folder / f"{name}-{key}.npz", make)["images"]


def corrupt(name: str, severity: int, images: np.ndarray, seed: int = 0) -> np.ndarray:
    """One severity of a type, uint8 [N, H, W, C]; numpy's random state is left as it was.

    Images of fewer than 32 pixels are enlarged by a whole factor, so that blurs and drops have
    their size relative to the object, and reduced by averages; grey ones are taken for coloured
    and averaged over the channels.
    """
    size, factor = _edge(images)
    channels = images.shape[3]
    out = np.empty_like(images)
    kind, level = TYPES.index(name), SEVERITIES.index(severity)
    with _random_state_kept():
        for i, image in enumerate(images):
            own = np.random.SeedSequence([seed, kind, level, i]).generate_state(2)
            np.random.seed(int(own[0]))
            large = image.repeat(factor, 0).repeat(factor, 1)
            rgb = np.ascontiguousarray(np.broadcast_to(large, (size, size, 3)))
            found = _one(name, severity, rgb, int(own[1])).astype(np.uint8)  # cut off, as there
            if channels == 1 or factor > 1:
                found = _reduced(found, factor, channels)
            out[i] = found
    return out


def _edge(images: np.ndarray) -> tuple[int, int]:
    """The edge in pixels at which images are corrupted, and its multiple of their own."""
    height, width, channels = images.shape[1:]
    if height != width or channels not in (1, 3) or images.dtype != np.uint8:
        raise ValueError(f"corruptions are for square uint8 images, not {images.shape}")
    factor = -(-_SMALLEST // height)
    return height * factor, factor


def _one(name: str, severity: int, image: np.ndarray, seed: int) -> np.ndarray:
    try:  # here, since it takes two seconds and not all that read images need it
        from paper_repro.data.corrupted.functions import FUNCTIONS
    except ImportError as error:
        raise UserError(
            f"corruptions need the experiments' packages ({error}): pip install "
            "'paper-repro[experiments]'"
        ) from error
    own = {"seed": seed} if name in _OWN_SEED else {}
    _, table = strengths(image.shape[0])
    if table is not None:
        return FUNCTIONS[name](image, table[name][severity - 1], **own)
    from imagecorruptions import corruption_dict
    from PIL import Image

    found: np.ndarray = np.asarray(corruption_dict[name](Image.fromarray(image), severity, **own))
    return found


def _reduced(image: np.ndarray, factor: int, channels: int) -> np.ndarray:
    size = image.shape[0] // factor
    blocks = image.reshape(size, factor, size, factor, 3).mean(axis=(1, 3))
    if channels == 1:
        blocks = blocks.mean(axis=2, keepdims=True)
    reduced: np.ndarray = np.round(blocks).astype(np.uint8)
    return reduced


@contextlib.contextmanager
def _random_state_kept() -> Iterator[None]:
    state = np.random.get_state()
    try:
        yield
    finally:
        np.random.set_state(state)
