"""What each corruption does to one image, with its strength as an argument.

Each takes uint8 [S, S, 3] and its constants and returns numbers in [0, 255]. They draw from numpy's
global random state, as the library's helpers do, and two of them from a seed of their own;
``generate`` sets both. They follow CIFAR-10-C (hendrycks/robustness), with two exceptions: motion
blur, also the snow's, is the library's, since the original's is ImageMagick's; and a spatter
without a drop leaves the image alone.
"""

from __future__ import annotations

import functools
import importlib.resources
import io
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
from imagecorruptions import corruptions as library
from PIL import Image
from scipy.ndimage import map_coordinates
from skimage import color
from skimage.filters import gaussian
from skimage.util import random_noise

__all__ = ["FUNCTIONS"]

Array = np.ndarray[Any, Any]
#: The pictures' share of their size at which frost is laid over images, and how many are drawn
#: from: the original has six and draws from five.
_FROSTS = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")
_FROST_SCALES = ((48, 0.2), (128, 0.3))


def _unit(image: Array) -> Array:
    return image / 255.0


def _byte(image: Array) -> Array:
    return np.clip(image, 0, 1) * 255


def gaussian_noise(image: Array, scale: float) -> Array:
    x = _unit(image)
    return _byte(x + np.random.normal(size=x.shape, scale=scale))


def shot_noise(image: Array, photons: float) -> Array:
    return _byte(np.random.poisson(_unit(image) * photons) / photons)


def impulse_noise(image: Array, amount: float, seed: int) -> Array:
    return _byte(random_noise(_unit(image), mode="s&p", rng=seed, amount=amount))


def speckle_noise(image: Array, scale: float) -> Array:
    x = _unit(image)
    return _byte(x + x * np.random.normal(size=x.shape, scale=scale))


def gaussian_blur(image: Array, sigma: float) -> Array:
    return _byte(gaussian(_unit(image), sigma=sigma, channel_axis=-1))


def glass_blur(image: Array, strength: Sequence[Any], seed: int) -> Array:
    sigma, reach, rounds = strength
    x: Array = np.asarray(gaussian(_unit(image), sigma=sigma, channel_axis=-1) * 255, np.uint8)
    height, width = image.shape[:2]
    x = library._shuffle_pixels_njit_glass_blur(height, width, x, (sigma, reach, rounds), seed)
    return _byte(gaussian(x / 255.0, sigma=sigma, channel_axis=-1))


def defocus_blur(image: Array, strength: Sequence[float]) -> Array:
    radius, alias = strength
    return _byte(cv2.filter2D(_unit(image), -1, library.disk(radius=radius, alias_blur=alias)))


def motion_blur(image: Array, strength: Sequence[float]) -> Array:
    radius, sigma = strength
    angle = np.random.uniform(-45, 45)
    return np.clip(library._motion_blur(image, radius=radius, sigma=sigma, angle=angle), 0, 255)


def _zoomed(image: Array, factor: float) -> Array:
    """The middle of the image, enlarged to the whole."""
    size = image.shape[0]
    large = library.clipped_zoom(image, factor)
    first = (large.shape[0] - size) // 2
    return large[first : first + size, first : first + size]


def zoom_blur(image: Array, factors: Sequence[float]) -> Array:
    x = _unit(image).astype(np.float32)
    total = x + sum(_zoomed(x, factor) for factor in factors)
    return _byte(total / (len(factors) + 1))


def fog(image: Array, strength: Sequence[float]) -> Array:
    amount, decay = strength
    x = _unit(image)
    height, width = x.shape[:2]
    side = library.next_power_of_2(max(height, width))
    mist = library.plasma_fractal(mapsize=side, wibbledecay=decay)[:height, :width, None]
    brightest = x.max()
    return _byte((x + amount * mist) * brightest / (brightest + amount))


@functools.cache
def _frost(name: str, scale: float) -> Array:
    with importlib.resources.as_file(
        importlib.resources.files("imagecorruptions") / "frost" / name
    ) as path:
        picture: Any = cv2.imread(str(path))
    resized: Array = cv2.resize(picture, (0, 0), fx=scale, fy=scale)
    return resized[..., ::-1]


def frost(image: Array, strength: Sequence[float]) -> Array:
    share, ice = strength
    size = image.shape[0]
    scale = next(s for limit, s in _FROST_SCALES if size < limit)
    picture = _frost(_FROSTS[np.random.randint(len(_FROSTS))], scale)
    y, x = (np.random.randint(0, picture.shape[axis] - size) for axis in (0, 1))
    return np.clip(share * image + ice * picture[y : y + size, x : x + size], 0, 255)


def snow(image: Array, strength: Sequence[float]) -> Array:
    mean, std, zoom, threshold, radius, sigma, share = strength
    x = _unit(image).astype(np.float32)
    flakes = _zoomed(np.random.normal(size=x.shape[:2], loc=mean, scale=std)[..., None], zoom)
    flakes = np.clip(np.where(flakes < threshold, 0, flakes).squeeze(-1), 0, 1)
    angle = np.random.uniform(-135, -45)
    flakes = library._motion_blur(flakes, radius=int(radius), sigma=sigma, angle=angle)
    flakes = (np.round(flakes * 255) / 255)[..., None]
    grey = cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)[..., None]
    x = share * x + (1 - share) * np.maximum(x, grey * 1.5 + 0.5)
    return _byte(x + flakes + np.rot90(flakes, k=2))


def spatter(image: Array, strength: Sequence[Any]) -> Array:
    mean, std, sigma, threshold, amount, mud = strength
    x = _unit(image).astype(np.float32)
    liquid = gaussian(np.random.normal(size=x.shape[:2], loc=mean, scale=std), sigma=sigma)
    liquid[liquid < threshold] = 0
    return _mud(x, liquid, threshold, amount) if mud else _water(x, liquid, amount)


def _water(x: Array, liquid: Array, amount: float) -> Array:
    drops = (liquid * 255).astype(np.uint8)
    distance = cv2.distanceTransform(255 - cv2.Canny(drops, 50, 150), cv2.DIST_L2, 5)
    _, distance = cv2.threshold(distance, 20, 20, cv2.THRESH_TRUNC)
    relief = cv2.equalizeHist(cv2.blur(distance, (3, 3)).astype(np.uint8))
    slope = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    relief = cv2.blur(cv2.filter2D(relief, cv2.CV_8U, slope), (3, 3)).astype(np.float32)
    light = drops * relief
    if light.max() > 0:
        light = light / light.max() * amount
    turquoise = np.array([175, 238, 238], np.float32) / 255
    # The original adds turquoise in BGR to what it takes for BGR and is RGB.
    return _byte(x + light[..., None] * turquoise)


def _mud(x: Array, liquid: Array, threshold: float, sigma: float) -> Array:
    cover = gaussian((liquid > threshold).astype(np.float32), sigma=sigma)
    cover[cover < 0.8] = 0
    brown = np.array([63, 42, 20], np.float32) / 255
    return _byte(x * (1 - cover[..., None]) + cover[..., None] * brown)


def contrast(image: Array, share: float) -> Array:
    x = _unit(image)
    mean = x.mean(axis=(0, 1), keepdims=True)
    return _byte((x - mean) * share + mean)


def brightness(image: Array, added: float) -> Array:
    return _in_hsv(image, 2, 1, added)


def saturate(image: Array, strength: Sequence[float]) -> Array:
    factor, added = strength
    return _in_hsv(image, 1, factor, added)


def _in_hsv(image: Array, channel: int, factor: float, added: float) -> Array:
    x = color.rgb2hsv(_unit(image))
    x[..., channel] = np.clip(x[..., channel] * factor + added, 0, 1)
    return _byte(color.hsv2rgb(x))


def jpeg_compression(image: Array, quality: int) -> Array:
    kept = io.BytesIO()
    Image.fromarray(image).save(kept, "JPEG", quality=quality)
    return np.asarray(Image.open(kept))


def pixelate(image: Array, share: float) -> Array:
    height, width = image.shape[:2]
    small = Image.fromarray(image).resize(
        (int(width * share), int(height * share)), Image.Resampling.BOX
    )
    return np.asarray(small.resize((width, height), Image.Resampling.BOX))


def elastic_transform(image: Array, strength: Sequence[float]) -> Array:
    size = image.shape[0]
    alpha, sigma, shift = (size * share for share in strength)
    x: Array = _unit(image).astype(np.float32)
    centre, arm = np.array([size, size], np.float32) // 2, size // 3
    corners = np.array(
        [centre + arm, [centre[0] + arm, centre[1] - arm], centre - arm], dtype=np.float32
    )
    moved = corners + np.random.uniform(-shift, shift, size=corners.shape).astype(np.float32)
    affine = cv2.getAffineTransform(corners, moved)
    x = cv2.warpAffine(x, affine, (size, size), borderMode=cv2.BORDER_REFLECT_101)
    dx, dy = (
        (
            gaussian(np.random.uniform(-1, 1, (size, size)), sigma, mode="reflect", truncate=3)
            * alpha
        )
        for _ in range(2)
    )
    columns, rows = np.meshgrid(np.arange(size), np.arange(size))
    where = np.stack([rows + dy, columns + dx])
    channels = [map_coordinates(x[..., c], where, order=1, mode="reflect") for c in range(3)]
    return _byte(np.stack(channels, axis=-1))


#: By name; ``glass_blur`` and ``impulse_noise`` take a ``seed`` too.
FUNCTIONS: Mapping[str, Callable[..., Array]] = MappingProxyType(
    {
        f.__name__: f
        for f in (
            gaussian_noise,
            shot_noise,
            impulse_noise,
            defocus_blur,
            glass_blur,
            motion_blur,
            zoom_blur,
            snow,
            frost,
            fog,
            brightness,
            contrast,
            elastic_transform,
            pixelate,
            jpeg_compression,
            speckle_noise,
            gaussian_blur,
            spatter,
            saturate,
        )
    }
)
