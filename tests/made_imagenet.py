"""Tiny made-up copies of ImageNet in the layouts that users have."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from paper_repro.data.imagenet import Kind, find

__all__ = ["KIND", "WNIDS", "jpeg", "load", "picture", "write_shard", "write_shards", "write_tree"]

WNIDS = ("n01440764", "n01443537", "n02110341")
#: Three classes of four training and two test images, shown at 16 x 16 pixels.
KIND = Kind(
    name="imagenet",
    classes=3,
    train=12,
    test=6,
    mean=(0.5, 0.4, 0.3),
    std=(0.2, 0.3, 0.25),
    size=16,
    resize=20,
    scale=(0.3, 1.0),
)


def picture(seed, height=24, width=30):
    """Smooth colours, as JPEG keeps them; uint8 [H, W, 3]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def jpeg(pixels, mode="RGB", kind="JPEG"):
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, kind, quality=95)
    return stream.getvalue()


def write_tree(folder):
    for split, count in (("train", 4), ("val", 2)):
        for label, wnid in enumerate(WNIDS):
            (folder / split / wnid).mkdir(parents=True)
            for i in range(count):
                seed = 100 * label + i + (50 if split == "val" else 0)
                (folder / split / wnid / f"{wnid}_{i}.JPEG").write_bytes(jpeg(picture(seed)))
    return folder


def write_shard(path, encoded, labels, rows=3):
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [None if e is None else {"bytes": e, "path": "x.JPEG"} for e in encoded]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(cells, kind), "label": pa.array(labels, pa.int64())})
    pq.write_table(table, path, row_group_size=rows)


def write_shards(folder):
    """The pictures of :func:`write_tree`, the training images in two shards."""
    train = [(jpeg(picture(100 * c + i)), c) for i in range(4) for c in range(3)]
    test = [(jpeg(picture(100 * c + i + 50)), c) for i in range(2) for c in range(3)]
    write_shard(folder / "train-00000-of-00002.parquet", *zip(*train[:7], strict=True))
    write_shard(folder / "train-00001-of-00002.parquet", *zip(*train[7:], strict=True))
    write_shard(folder / "validation-00000-of-00001.parquet", *zip(*test, strict=True))
    return folder


def load(root, cache, workers=None, skip_broken=False, kind=KIND):
    return find(kind, root, cache, workers, skip_broken)
