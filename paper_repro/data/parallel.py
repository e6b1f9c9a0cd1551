"""Parallel text in the schema of the Hugging Face hub, encoded and kept by its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from paper_repro.data import hub
from paper_repro.data.bpe import BPE
from paper_repro.data.cache import cached, given_folder, user_cache
from paper_repro.data.pairs import PairDataset, PairSplit, Sentences
from paper_repro.data.parquet import batches, shards
from paper_repro.errors import UserError

__all__ = ["encoded", "find", "from_texts", "read"]

Texts = list[tuple[str, str]]
_SPLITS = ("train", "validation", "test")
_FORMAT = 2  # raise it whenever the same text would be encoded differently


def find(
    name: str,
    folders: Sequence[str],
    root: Path | None,
    hint: str,
    repositories: Sequence[str] = (),
) -> Path:
    """The folder that holds a data set's ``train-*.parquet``, ``validation-*`` and ``test-*``.

    Looked for in ``root`` or ``PAPER_REPRO_DATA``, then in the user's cache, each time in the
    subfolders ``folders`` and in the folder itself, each time in the hub's layouts too; at last in
    the hub's own cache (:func:`paper_repro.data.hub.copies`).

    Raises:
        UserError: it is not there, or incomplete; ``hint`` says where it can be had.
    """
    given = given_folder(root)
    places = [p for p in (given, user_cache()) if p is not None]
    configurations = [Path(below).name for below in folders]

    def whole(folder: Path) -> Path | None:
        there = {split: bool(shards(folder, split)) for split in _SPLITS}
        if all(there.values()):
            return folder
        if any(there.values()) and folder.name in {Path(f).name for f in folders}:
            lacking = ", ".join(f"{split}-*.parquet" for split in _SPLITS if not there[split])
            raise UserError(f"{folder} lacks {lacking}: the copy is incomplete")
        return None

    for place in places:
        usual = (*(place / below for below in folders), place)
        for folder in (*usual, *hub.copies(place, repositories, configurations)):
            if whole(folder):
                return folder
    if found := hub.own(whole, repositories, configurations):
        return found
    raise UserError(
        f"{name} was not found in {' and '.join(map(str, places))}: put train-*.parquet, "
        f"validation-*.parquet and test-*.parquet with a column `translation` of {{de, en}} into "
        f"a folder {folders[0]} ({hint}), and give the folder that holds it as --data or "
        "PAPER_REPRO_DATA; the smoke profile (--profile smoke) needs no data"
    )


def read(files: Sequence[Path], source: str, target: str) -> Texts:
    """The pairs of parquet files with a column ``translation`` of a text by language.

    Raises:
        UserError: naming the file, if it is damaged or does not have this schema.
    """
    import pyarrow as pa

    found: Texts = []
    for file in files:
        try:
            texts: list[list[str | None]] = [[], []]
            for batch in batches(file, ["translation"]):
                column = batch.column("translation")
                for side, language in zip(texts, (source, target), strict=True):
                    side += column.field(language).to_pylist()
        except (pa.ArrowException, OSError, KeyError, AttributeError, TypeError) as error:
            first = str(error).strip().split("\n")[0] or type(error).__name__
            raise UserError(
                f"{file} is damaged or has no column `translation` of {{{source}, {target}}}: "
                f"{first}"
            ) from error
        if any(text is None for side in texts for text in side):
            raise UserError(f"{file} has a row without a text")
        found += zip(*texts, strict=True)
    return found


def encoded(
    name: str,
    folder: Path,
    cache: Path | None,
    *,
    source: str,
    target: str,
    vocabulary: int,
    longest: int = 250,
    **search: Any,
) -> PairDataset:
    """The pairs of a folder, with a vocabulary trained on the training text.

    Vocabulary and tokens are kept on disk under a name made of each split's files' content and of
    the settings, so that they are made once, and never from other text.

    Args:
        name: of the data set.
        folder: with the three splits.
        cache: where tokens are kept; by default in the user's cache.
        source: language to translate from, as in the files.
        target: to translate into.
        vocabulary: tokens of the joint vocabulary.
        longest: tokens, the end counted; training pairs with a longer side are left out, and
            those with an empty one.
        search: ``beam`` and ``length_penalty``.
    """
    files = {split: shards(folder, split) for split in _SPLITS}
    settings = [_FORMAT, name, source, target, vocabulary, longest]
    key = hashlib.sha256(json.dumps(settings).encode())
    for which in _SPLITS:
        # A file may be moved to another split.
        key.update(json.dumps([which, len(files[which])]).encode())
        for file in files[which]:
            with file.open("rb") as opened:
                key.update(hashlib.file_digest(opened, "sha256").digest())

    def make() -> dict[str, np.ndarray]:
        texts = {split: read(files[split], source, target) for split in _SPLITS}
        data = from_texts(name, texts, vocabulary, longest)
        arrays = {
            "bpe": np.frombuffer(data.bpe.description.encode(), np.uint8),
            "left_out": np.array(data.left_out),
        }
        for split in _SPLITS:
            for side in ("source", "target"):
                sentences: Sentences = getattr(getattr(data, split), side)
                arrays[f"{split}_{side}_tokens"] = sentences.tokens.numpy()
                arrays[f"{split}_{side}_ends"] = sentences.ends.numpy()
        return arrays

    place = cache or user_cache() / "decoded"
    arrays = cached(f"{name}-tokens-{key.hexdigest()[:16]}", [], place, make)

    def kept_split(which: str) -> PairSplit:
        sides = [
            Sentences(
                torch.from_numpy(arrays[f"{which}_{side}_tokens"]),
                torch.from_numpy(arrays[f"{which}_{side}_ends"]),
            )
            for side in ("source", "target")
        ]
        texts = () if which == "train" else read(files[which], source, target)
        return PairSplit(sides[0], sides[1], tuple(texts))

    return PairDataset(
        name=name,
        train=kept_split("train"),
        validation=kept_split("validation"),
        test=kept_split("test"),
        bpe=BPE(arrays["bpe"].tobytes().decode()),
        left_out=int(arrays["left_out"]),
        **search,
    )


def from_texts(
    name: str, texts: dict[str, Texts], vocabulary: int, longest: int = 250, **search: Any
) -> PairDataset:
    """The data set that pairs of text make: vocabulary from the training text, and tokens.

    Args:
        name: of the data set.
        texts: (source, target) by split: train, validation, test.
        vocabulary: tokens of the joint vocabulary.
        longest: as in :func:`encoded`.
        search: ``beam`` and ``length_penalty``.

    Raises:
        UserError: a split without a pair.
    """
    for which in _SPLITS:
        if not texts[which]:
            raise UserError(f"{name} has no {which} pairs")
    bpe = BPE.train((text for pair in texts["train"] for text in pair), vocabulary)

    def split(which: str) -> PairSplit:
        pairs = texts[which]
        sides = [Sentences.of(bpe.encode([pair[side] for pair in pairs])) for side in (0, 1)]
        if which != "train":
            return PairSplit(sides[0], sides[1], tuple(pairs))
        # An end is a token too.
        fits = [(side.lengths > 1) & (side.lengths <= longest) for side in sides]
        keep = fits[0] & fits[1]
        if not keep.any():
            raise UserError(f"{name} has no training pair of 2 to {longest} tokens")
        return PairSplit(sides[0].kept(keep), sides[1].kept(keep))

    train = split("train")
    return PairDataset(
        name=name,
        train=train,
        validation=split("validation"),
        test=split("test"),
        bpe=bpe,
        left_out=len(texts["train"]) - len(train),
        **search,
    )
